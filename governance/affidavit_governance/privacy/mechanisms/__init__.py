"""Differentially private releases besides gradient steps."""
