"""Attributions from a model's gradients."""
