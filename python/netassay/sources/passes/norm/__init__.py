"""Path norms: a forward pass of |weight|^q over a traced run, refused where an operation has no rule."""
