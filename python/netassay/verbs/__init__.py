"""Verbs take a source of numbers (a model, a checkpoint) through the measures to a Report."""
