"""Weights at rest: files, state_dicts and modules as named tensors, read one at a time.

`checkpoint.open_checkpoint` is the door; sources.chain and verbs use it. Inside sources this room imports layers alone.
A new file format is a module with a `tensors.Source` (which tensors there are, and their values) that `paths` chooses
by the file's first bytes; which tensors are weights, and what they are called, `judge` and `names` decide for all.
"""
