"""A run that is followed without computing: its graph, its calls and their names."""
