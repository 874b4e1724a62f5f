"""The strengths of a model's nodes, from a traced run: what every affine call's links weigh, in and out."""
