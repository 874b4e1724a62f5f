"""Sums over the paths of a traced run: a forward pass of counts, or of |weight|^q, instead of activations.

`engine` walks the run (order, memory, views, writes). counts, norm and strengths each add what an operation does to
their sums; the engines of norm and strengths are given their tables of rules. Verbs import the three; inside sources
this room imports traced alone.
A new operation is a row of netassay.algebra.operations, then, where the default for its form is wrong, of the tables in
counts, norm.rules and strengths.rules.
"""
