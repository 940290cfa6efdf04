"""Losses and scores of a model, with what each row adds to them: arrays in, arrays out.

Sources: DeLong, DeLong, Clarke-Pearson 1988 (ROC-AUC); Gneiting, Raftery 2007 (log loss, Brier score).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit.interfaces.model import Predictions

_SURE = float(np.finfo(np.float64).eps)
"""Probabilities are held off zero and one by so much before they become logarithms."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Truth:
    """What was to be predicted.

    Attributes
    ----------
    codes
        Column of the true class of each row, -1 for one that is no class of the model; empty for regression.
    values
        The true numbers; empty for classification.
    positive
        The column of the explained class.
    """

    codes: NDArray[np.int64]
    values: Floats
    positive: int = 0


Measure = Callable[[Truth, Predictions], Floats]
"""One number a row whose mean is the loss, or the score; for ROC-AUC and R² the rest of it is each row's influence."""


def log_loss(truth: Truth, predictions: Predictions) -> Floats:
    """Negative log-probability (nats) of the true class."""
    loss: Floats = -np.log(np.clip(_of_truth(truth, predictions), _SURE, 1.0))
    return loss


def brier(truth: Truth, predictions: Predictions) -> Floats:
    """Squared distance of the probabilities from the truth; half of it for two classes."""
    probability = _probabilities(predictions)
    distance: Floats = np.square(probability - (truth.codes[:, None] == np.arange(probability.shape[1]))).sum(axis=1)
    return distance / 2 if probability.shape[1] == 2 else distance


def accuracy(truth: Truth, predictions: Predictions) -> Floats:
    """One where the label is right."""
    place = {label: column for column, label in enumerate(predictions.classes)}
    told = np.array([place.get(str(label), -2) for label in predictions.values])
    right: Floats = (told == truth.codes).astype(np.float64)
    return right


def roc_auc(truth: Truth, predictions: Predictions) -> Floats:
    """The area under the ROC curve of the explained class against the rest, plus each row's influence on it (DeLong's components)."""
    score = _probabilities(predictions)[:, truth.positive]
    positive = truth.codes == truth.positive
    above, below = _placements(score[positive], score[~positive]), 1 - _placements(score[~positive], score[positive])
    area, rows = float(above.mean()), len(score)
    found = np.full(rows, area)
    found[positive] += (above - area) * rows / positive.sum()
    found[~positive] += (below - area) * rows / (~positive).sum()
    return found


def _placements(scores: Floats, others: Floats) -> Floats:
    """For each score the share of `others` below it, ties counting half."""
    ordered = np.sort(others)
    share: Floats = (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2 / len(others)
    return share


def squared_error(truth: Truth, predictions: Predictions) -> Floats:
    """Squared distance from the true number."""
    squared: Floats = np.square(np.asarray(predictions.values, dtype=np.float64) - truth.values)
    return squared


def absolute_error(truth: Truth, predictions: Predictions) -> Floats:
    """Distance from the true number."""
    distance: Floats = np.abs(np.asarray(predictions.values, dtype=np.float64) - truth.values)
    return distance


def r2(truth: Truth, predictions: Predictions) -> Floats:
    """One less squared error over the rows' own variance."""
    return 1 - squared_error(truth, predictions) / float(np.var(truth.values))


def _probabilities(predictions: Predictions) -> Floats:
    assert predictions.probabilities is not None
    return np.asarray(predictions.probabilities, dtype=np.float64)


def _of_truth(truth: Truth, predictions: Predictions) -> Floats:
    probability = _probabilities(predictions)
    told: Floats = np.where(truth.codes >= 0, probability[np.arange(len(probability)), truth.codes], 0.0)
    return told


@dataclass(frozen=True, slots=True)
class Metric:
    """A measure by name.

    Attributes
    ----------
    higher_is_better
        Importance is what a shuffled player takes away from a score, or adds to a loss.
    """

    measure: Measure
    higher_is_better: bool
    classifies: bool
    needs_probabilities: bool = False


METRICS = {
    "log_loss": Metric(log_loss, False, True, True),
    "brier": Metric(brier, False, True, True),
    "accuracy": Metric(accuracy, True, True),
    "roc_auc": Metric(roc_auc, True, True, True),
    "mse": Metric(squared_error, False, False),
    "mae": Metric(absolute_error, False, False),
    "r2": Metric(r2, True, False),
}
