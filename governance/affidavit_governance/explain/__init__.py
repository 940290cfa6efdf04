"""Explanations: which input moved an answer by how much, checked against the model's own answer."""

from affidavit_governance.explain.estimators.interactions import estimate_interactions, interaction_values
from affidavit_governance.explain.estimators.partition import estimate_owen, owen_values
from affidavit_governance.explain.estimators.shapley import Shapley, estimate_mean_shapley, estimate_shapley, shapley_values
from affidavit_governance.explain.methods.tags import explain_tag
from affidavit_governance.explain.overall.cohorts import cohorts
from affidavit_governance.explain.release.reasons import reason_codes

__all__ = [
    "Shapley",
    "cohorts",
    "estimate_interactions",
    "estimate_mean_shapley",
    "estimate_owen",
    "estimate_shapley",
    "explain_tag",
    "interaction_values",
    "owen_values",
    "reason_codes",
    "shapley_values",
]
