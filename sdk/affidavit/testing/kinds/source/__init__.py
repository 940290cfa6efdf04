"""Checks of a place that data sets come from."""
