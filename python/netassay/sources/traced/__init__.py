"""A run that is followed without computing: its graph, its calls and their names.

`graph.trace` is the door for passes and verbs; `tracing` alone knows torch.export and torch.fx, and `factory` makes
models for the command line. Inside sources this room imports layers alone.
A new operation needs nothing here: what it does is a row of netassay.algebra.operations.
"""
