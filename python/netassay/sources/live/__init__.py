"""A running model: hooks on its modules, nonlinearities in its passes, and what they feed."""
