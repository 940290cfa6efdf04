"""Simple models that stand for a complicated one: around one row, or as a whole."""
