"""Sums over the paths of a traced run: a forward pass of counts, or of |weight|^q, instead of activations."""
