"""shap's TreeExplainer on encoded columns, with the thresholds that its float32 loses put right."""

from __future__ import annotations

from typing import Any

import numpy as np
import shap
from numpy.typing import NDArray

from affidavit.interfaces.model import EncodedView
from affidavit_governance.explain.case import Case

LIBRARY = f"shap {shap.__version__}"

FAILURES = (ValueError, TypeError, NotImplementedError, AssertionError, AttributeError, IndexError)
"""What the library raises on estimators that it does not read."""


def shap_columns(view: EncodedView, case: Case, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Attributions (rows × encoded columns) and the base.

    Parameters
    ----------
    weights
        How the estimator's outputs make the number that is explained.
    """
    matrix = view.encode(case.data)
    if not len(matrix):
        return np.empty((0, matrix.shape[1])), 0.0
    if case.options.own["game"] == "interventional":
        background = view.encode(case.background)
        explainer = shap.TreeExplainer(view.estimator, data=background, feature_perturbation="interventional", model_output="raw")
        explainer.data, matrix = _by_rank(explainer.model, background, matrix)
    else:
        explainer = shap.TreeExplainer(view.estimator, feature_perturbation="tree_path_dependent", model_output="raw")
        (matrix,) = _by_rank(explainer.model, matrix)
    values = np.asarray(explainer.shap_values(matrix, check_additivity=False), dtype=np.float64)
    base = np.atleast_1d(np.asarray(explainer.expected_value, dtype=np.float64))
    values = values if values.ndim == 3 else values[:, :, None]
    if values.shape[2] != len(weights):
        raise ValueError(f"{values.shape[2]} outputs, where {len(weights)} were due")
    return values @ weights, float(base @ weights)


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
