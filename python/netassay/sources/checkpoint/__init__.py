"""Weights at rest: checkpoints, state_dicts and modules as named tensors."""
