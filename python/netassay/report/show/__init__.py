"""Renderers: text, grids and tables of a report. They know cells, not measures."""
