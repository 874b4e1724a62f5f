"""Where numbers come from: running modules, their layers, tensors on other devices."""
