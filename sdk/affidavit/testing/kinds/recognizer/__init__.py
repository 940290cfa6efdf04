"""Checks of a recognizer of personal data."""
