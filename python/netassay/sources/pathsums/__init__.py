"""Sums over the paths of a traced run: a forward pass of counts, or of |weight|^q, instead of activations."""

from netassay.sources.pathsums.counts import count_paths
from netassay.sources.pathsums.norm import path_norm

__all__ = ["count_paths", "path_norm"]
