"""Checks of deployment targets."""
