"""The service that evaluation asks: group figures of one model on one data set, by protected column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from affidavit.errors import UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Predictions
from affidavit.interfaces.schema import Role
from affidavit.policy import FairnessPolicy
from affidavit_governance.fairness.groups import group_labels
from affidavit_governance.fairness.metrics import GroupMetrics, group_means, group_metrics


def assess(data: Dataset, predictions: Predictions, truth: ArrayLike, policy: FairnessPolicy) -> dict[str, Any]:
    """Compare the groups of each protected column: those that the policy names, and those with the role `protected`.

    Parameters
    ----------
    data
        The rows that were predicted, with their protected columns.
    predictions, truth
        The model's answers and the right ones (labels as text, or numbers), one a row.
    policy
        Protected columns, favourable class (default: the last class), and bins.

    Returns
    -------
    JSON by protected column, each ``{"favourable": …, "groups": {label: figures}, "gaps": {name: {"value", "low", "high"}},
    "small_groups": [labels]}``. Classes have the gaps ``selection_rate_gap``, ``true_positive_rate_gap``, ``false_positive_rate_gap`` and
    ``impact_ratio``, numbers ``mean_prediction_gap``. A gap that cannot be measured has the value null.

    Raises
    ------
    UsageError
        The policy names a column or class that does not exist, or the lengths differ.
    """
    names = _protected(data, policy)
    answers = np.asarray(truth)
    if not len(data) == len(predictions) == len(answers):
        raise UsageError(f"There are {len(data)} rows, {len(predictions)} predictions and {len(answers)} right answers.")
    favourable = _favourable(predictions, policy)
    result: dict[str, Any] = {}
    for name in names:
        groups = group_labels(data, name, policy.bins.get(name))
        if favourable is None:
            metrics = group_means(predictions.values, groups)
        else:
            metrics = group_metrics(answers, predictions.values, groups, favourable=favourable)
        result[name] = {"favourable": favourable, **metrics.to_json(), "small_groups": _small(metrics)}
    return result


def _protected(data: Dataset, policy: FairnessPolicy) -> list[str]:
    for line, columns in (("fairness.protected", policy.protected), ("fairness.bins", tuple(policy.bins))):
        for name in columns:
            if name not in data.schema:
                raise UsageError(
                    f"The policy's {line} names the column '{name}', which data set '{data.name}' lacks.{nearest(name, data.schema.names)}",
                    hint=f"Columns: {', '.join(data.schema.names)}.",
                )
    by_role = [field.name for field in data.schema.with_role(Role.PROTECTED)]
    names = list(dict.fromkeys([*policy.protected, *by_role]))
    for name in policy.bins:
        if name not in names:
            raise UsageError(f"The policy's fairness.bins names '{name}', which is not protected.", hint="Add it to fairness.protected.")
    return names


def _favourable(predictions: Predictions, policy: FairnessPolicy) -> str | None:
    """The class that counts as selected; None for numbers."""
    if not predictions.classes:
        if policy.favourable is not None:
            raise UsageError("The policy's fairness.favourable names a class, and the model predicts numbers.", hint="Remove the line.")
        return None
    favourable = predictions.classes[-1] if policy.favourable is None else policy.favourable
    if favourable not in predictions.classes:
        raise UsageError(
            f"The policy's fairness.favourable names the class '{favourable}', which does not exist.{nearest(favourable, predictions.classes)}",
            hint=f"Classes: {', '.join(predictions.classes)}.",
        )
    return favourable


def _small(metrics: GroupMetrics) -> list[str]:
    return [label for label, figures in metrics.groups.items() if figures.small]
