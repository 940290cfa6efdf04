"""Fairness: how a model treats groups of people, with intervals. Pure functions on arrays, and the service that evaluation uses."""

from affidavit_governance.fairness.assess import assess
from affidavit_governance.fairness.groups import bin_labels
from affidavit_governance.fairness.metrics import GroupFigures, GroupMetrics, ImpactRatio, group_means, group_metrics, impact_ratio

__all__ = ["GroupFigures", "GroupMetrics", "ImpactRatio", "assess", "bin_labels", "group_means", "group_metrics", "impact_ratio"]
