"""Checks of masking operators."""
