"""Path norms: a forward pass of |weight|^q over a traced run."""
