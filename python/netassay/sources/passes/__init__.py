"""Sums over the paths of a traced run: a forward pass of counts, or of |weight|^q, instead of activations."""

from netassay.sources.passes.counts import count_paths
from netassay.sources.passes.norm.norm import path_norm

__all__ = ["count_paths", "path_norm"]
