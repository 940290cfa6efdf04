"""Exact values for tree ensembles through shap: `tree`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import shap
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import EncodedView, Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options, relative_residual
from affidavit_governance.explain.planner import model_only, tree_unfit
from affidavit_governance.explain.players.fields import FieldBlock

TREE_TOLERANCE = 1e-6
"""Relative residual from which shap's tree values are not believed and the model itself is asked instead."""

_DETAILS = {"library": f"shap {shap.__version__}", "game": "encoded columns, summed by field"}


class Tree(Explainer):
    """shap's interventional TreeExplainer on the encoded columns, summed to fields. Options: label, seed, report.

    The players of the game are the encoded columns: where a field has several, their sum adds up but is not the value of the field as one
    player, as `exact` gives it.

    Each row is checked against the model's own answer; where shap does not add up, enumeration or sampling takes over and the
    record says so.
    """

    type = "tree"
    accepts = ACCEPTS

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options)
        reason = tree_unfit(model)
        if reason:
            raise UsageError(f"Method 'tree' does not fit: {reason}.")
        view = model.encoded_view()
        case = Case.open(model, data, background, read, log_odds=view.output == "log-odds")
        players = case.grouping.names
        try:
            columns, base = _tree_shap(view, case)
        except (ValueError, TypeError, NotImplementedError, AssertionError, AttributeError) as error:
            return self._fall_back(case, background, f"shap's TreeExplainer raised {type(error).__name__}", options)
        block = FieldBlock(case.data, case.background, case.grouping)
        inputs = [block.labels(row) for row in range(len(case.data))]
        values = columns @ case.grouping.membership(view.players)
        found = case.record(self.type, players, values, base, inputs=inputs, exact=True, details=_DETAILS)
        worst = float(relative_residual(found).max(initial=0.0))
        if worst > TREE_TOLERANCE:
            return self._fall_back(case, background, f"shap's TreeExplainer missed the model's answer by {worst:.1e}", options)
        read.report(Progress(len(case.data), len(case.data), "explaining"))
        return found

    def _fall_back(self, case: Case, background: Dataset, why: str, options: dict[str, Any]) -> Explanation:
        explainer = model_only(case.data, case.background)
        found = explainer.explain(case.score.model, case.data, background, **options)
        assert isinstance(found, Explanation)
        return replace(found, details={**found.details, "fallback": f"{why}; '{explainer.type}' was used instead"})


def _tree_shap(view: EncodedView, case: Case) -> tuple[NDArray[np.float64], float]:
    """Attributions (rows × encoded columns) and the base, for the explained class."""
    background, matrix = view.encode(case.background), view.encode(case.data)
    if not len(matrix):
        return np.empty((0, matrix.shape[1])), 0.0
    explainer = shap.TreeExplainer(view.estimator, data=background, feature_perturbation="interventional", model_output="raw")
    explainer.data, matrix = _by_rank(explainer.model, background, matrix)
    values = np.asarray(explainer.shap_values(matrix, check_additivity=False), dtype=np.float64)
    base = np.atleast_1d(np.asarray(explainer.expected_value, dtype=np.float64))
    classes, label = case.score.model.fitted.classes, case.score.label
    if values.ndim == 3:
        column = classes.index(label) if label is not None else 0
        return values[:, :, column], float(base[column])
    if not classes or label == classes[-1]:
        return values, float(base[0])
    if view.output == "probability":
        raise ValueError("one column of probabilities for two classes")
    return -values, -float(base[0])


def _by_rank(trees: Any, *matrices: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Replace thresholds by their rank within the feature, and values by how many thresholds lie below them.

    shap keeps thresholds as float32, so that a value halfway between two training values, where thresholds lie, goes the wrong way, and
    the attributions no longer add up. ``x <= t`` holds exactly where the rank of x is at most that of t, and ranks survive float32.
    """
    ranked = [matrix.astype(trees.input_dtype).astype(np.float64) for matrix in matrices]
    thresholds = np.array(trees.thresholds, dtype=np.float64)
    splits = np.asarray(trees.children_left) >= 0
    for feature in np.unique(np.asarray(trees.features)[splits]):
        nodes = splits & (trees.features == feature)
        known, rank = np.unique(thresholds[nodes], return_inverse=True)
        thresholds[nodes] = rank
        for matrix in ranked:
            column = matrix[:, feature]
            matrix[:, feature] = np.where(np.isnan(column), np.nan, np.searchsorted(known, column, side="left"))
    trees.thresholds = thresholds
    return ranked
