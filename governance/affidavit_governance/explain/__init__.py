"""Explanations: which input moved an answer by how much, checked against the model's own answer."""

from affidavit_governance.explain.estimators.shapley import Shapley, estimate_mean_shapley, estimate_shapley, shapley_values

__all__ = ["Shapley", "estimate_mean_shapley", "estimate_shapley", "shapley_values"]
