"""Where numbers come from, in four rooms.

layers and patterns name the modules of a model and stand below the rooms checkpoint (weights at rest), live (a running
model) and traced (a run followed without computing), which do not know each other. passes push sums through a traced
run, and chain says which layers of a model or of a checkpoint follow each other; both stand above. A module imports
what is further down, or its own room.
"""
