"""A running model: hooks on its modules, nonlinearities in its passes, and what they feed.

Verbs alone import it. hooks and sites observe, recorder keeps one state for each measure and layer, probes know what a
measure keeps, device has its twins on accelerators. Inside sources this room imports layers alone.
A new nonlinearity is a row of the table in `nonlinearities`: how the arguments of its calls give the linear pieces.
"""
