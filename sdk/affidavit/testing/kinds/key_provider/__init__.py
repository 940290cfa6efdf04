"""Checks of key providers."""
