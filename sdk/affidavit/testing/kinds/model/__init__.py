"""Checks of model types."""
