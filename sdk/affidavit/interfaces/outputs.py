"""What an explanation explains: the named output of a model's answers as numbers, and how far attributions are from adding up to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Predictions

PROBABILITY_FLOOR = 1e-15
"""Probabilities are clipped here before they become log-odds; closer to 0 and 1 a float64 holds no digits."""

LOG_RATIO = "centred log-ratio"
"""The output that scores of several classes behind a softmax explain."""

Row = NDArray[np.float64]


def explained_output(output: str, predictions: Predictions) -> Row | None:
    """The number that `output` names for each row; None where there is none.

    Outputs are ``"value"``, ``"probability of x"``, ``"log-odds of x"`` and ``"centred log-ratio of x"``.
    """
    if output == "value":
        return None if predictions.classes else np.asarray(predictions.values, dtype=np.float64)
    kind, _, label = output.partition(" of ")
    if predictions.probabilities is None or label not in predictions.classes or kind not in {"probability", "log-odds", LOG_RATIO}:
        return None
    column = predictions.classes.index(label)
    probability = np.asarray(predictions.probabilities, dtype=np.float64)
    if kind == "probability":
        return probability[:, column].copy()
    if kind == LOG_RATIO:
        logs = np.log(np.maximum(probability, np.finfo(np.float64).tiny))
        ratio: Row = logs[:, column] - logs.mean(axis=1)
        return ratio
    # The other classes' sum keeps the digits that 1 - p loses near one.
    other = np.delete(probability, column, axis=1).sum(axis=1)
    odds: Row = np.log(np.clip(probability[:, column], PROBABILITY_FLOOR, 1)) - np.log(np.clip(other, PROBABILITY_FLOOR, 1))
    return odds


def relative_residual(explanation: Explanation) -> Row:
    """Each row's additivity residual relative to the output's scale, less what float64 cannot hold.

    The scale is the largest of base, prediction and summed attributions; probabilities and log-odds have at least the scale one. A
    log-odds read from a probability has an error of machine epsilon over the smaller probability, and none above the clip can be told.
    """
    spread = abs(explanation.values).sum(axis=1)
    scale = np.maximum.reduce([abs(explanation.base), abs(explanation.predicted), spread])
    residual = explanation.residual
    if explanation.output != "value":
        scale = np.maximum(scale, 1.0)
    if explanation.output.startswith("log-odds"):
        limit = -np.log(PROBABILITY_FLOOR)
        total = explanation.base + explanation.values.sum(axis=1)
        saturated = (abs(explanation.predicted) >= limit - 1e-6) & (explanation.predicted * total > 0) & (abs(total) >= limit - 1e-6)
        resolution = 4 * np.finfo(np.float64).eps * (1 + np.exp(np.minimum(abs(explanation.predicted), limit)))
        residual = np.where(saturated, 0.0, np.maximum(residual - resolution, 0.0))
    relative: Row = residual / np.where(scale > 0, scale, 1.0)
    return relative
