"""Permutation importance (Breiman 2001; Fisher, Rudin, Dominici 2019): how much worse a model gets without what a player tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import GlobalExplanation
from affidavit.interfaces.model import Metric, Model, Predictions
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Options
from affidavit_governance.explain.estimators.intervals import student_95
from affidavit_governance.explain.overall.losses import METRICS, Truth
from affidavit_governance.explain.overall.losses import Metric as Measured
from affidavit_governance.explain.overall.opening import Whole
from affidavit_governance.explain.players.base import ROWS_AT_ONCE

REPEATS = 10
"""Shuffles of each player where the caller names no budget."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Importance:
    """Importance of each player: `values` and the half-widths of their 95 % intervals, in units of the metric."""

    values: Floats
    errors: Floats | None


def u_importance(own: Floats, shuffled: Floats, donors: NDArray[np.int64]) -> tuple[float, float]:
    """Mean rise of the loss, and the half-width of its 95 % interval.

    The rise of a row's loss when another row lends it a value is the kernel of a U-statistic of order two. Its variance comes from what a
    row adds to it as taker and as lender (Hoeffding's projection).

    Parameters
    ----------
    own
        The loss of each row.
    shuffled
        Repeats × rows: the loss with another row's value.
    donors
        In the same shape, the row that lent it; each repeat is a permutation.
    """
    rows = len(own)
    rise = shuffled - own
    mean = float(rise.mean())
    lender = np.zeros(rows)
    np.add.at(lender, donors.reshape(-1), rise.reshape(-1))
    influence = rise.mean(axis=0) + lender / len(shuffled) - 2 * mean
    return mean, student_95(rows - 1) * float(np.sqrt((influence**2).sum() / (rows - 1) / rows))


class PermutationImportance(Explainer):
    """How much the loss rises when a player's values are lent by other rows. The data need the target.

    In each repeat every row takes the player's values of one other row, never its own and never of the same row twice; with as many repeats
    as there are other rows, the result is the exact average over all pairs. The fields of a group move together. Intervals cover both the
    rows and the repeats. What importance says is how much *this model* relies on a player, given all the others: of two fields that tell the
    same, each may look unimportant.

    Options besides the common ones: ``metric`` (``log_loss``, ``brier``, ``accuracy``, ``roc_auc`` for classes; ``mse``, ``mae``, ``r2`` for
    numbers) and ``budget``, ``seconds``, ``width`` for the model as a whole.
    """

    type = "permutation-importance"
    scope = "model"
    accepts = ACCEPTS

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> GlobalExplanation:
        read = Options.read(self.type, options, sampled=True, own={"metric": None})
        whole = Whole.open(model, data, read, self.type)
        name, metric = _metric(whole, read.own["metric"])
        truth = _truth(whole)
        players, rows = whole.grouping.names, len(whole.data)
        own = metric.measure(truth, _predict(whole, whole.data))
        order = whole.generator("order").permutation(rows)
        smallest = rows * (1 + len(players))

        def attempt(limit: int) -> Importance:
            repeats = min((limit - rows) // (rows * len(players)), rows - 1)
            found = []
            for place, player in enumerate(players):
                found.append(_one(whole, metric, truth, own, whole.grouping.members[player], _donors(order, repeats)))
                read.report(Progress(place + 1, len(players), "shuffling"))
            values, errors = np.array(found).T
            return Importance(-values if metric.higher_is_better else values, errors)

        read.check_listed(1)
        budget = read.row_budget(0, rows * (1 + REPEATS * len(players)))
        if budget.rows < smallest:
            hint = f"Give at least {smallest}, or pass fewer rows."
            raise UsageError(f"A budget of {budget.rows} model rows is too small for {rows} rows and {len(players)} players.", hint=hint)
        everything = rows * (1 + (rows - 1) * len(players))
        found, cost = budget.spend(smallest, attempt, most=everything)
        assert found.errors is not None
        repeats = min((cost - rows) // (rows * len(players)), rows - 1)
        importance = {
            player: Metric(float(value), float(value - error), float(value + error))
            for player, value, error in zip(players, found.values, found.errors, strict=True)
        }
        details = {"metric": name, "score": float(own.mean()), "repeats": repeats, "exact": repeats == rows - 1, "rows_spent": [cost]}
        return whole.record(rows, importance=importance, details=details)


def _donors(order: NDArray[np.int64], repeats: int) -> NDArray[np.int64]:
    """Repeats × rows: in repeat r each row takes from the row r + 1 places on in a random circle."""
    donors = np.empty((repeats, len(order)), dtype=np.int64)
    for shift in range(repeats):
        donors[shift, order] = np.roll(order, -(shift + 1))
    return donors


def _one(whole: Whole, metric: Measured, truth: Truth, own: Floats, fields: Sequence[str], donors: NDArray[np.int64]) -> tuple[float, float]:
    """The rise of the measure where `fields` come from `donors`, and its half-width."""
    table, shuffled = whole.data.table, []
    at_once = max(1, ROWS_AT_ONCE // len(own))
    for start in range(0, len(donors), at_once):
        part = donors[start : start + at_once]
        lent = pa.array(part.reshape(-1))
        kept = pa.array(np.tile(np.arange(len(own)), len(part)))
        mixed = pa.table({name: table.column(name).take(lent if name in fields else kept) for name in table.column_names})
        predictions = _predict(whole, Dataset(mixed, whole.data.schema))
        for repeat in range(len(part)):
            rows = slice(repeat * len(own), (repeat + 1) * len(own))
            shuffled.append(metric.measure(truth, _slice(predictions, rows)))
    return u_importance(own, np.array(shuffled), donors)


def _slice(predictions: Predictions, rows: slice) -> Predictions:
    probabilities = None if predictions.probabilities is None else predictions.probabilities[rows]
    return Predictions(predictions.values[rows], predictions.classes, probabilities)


def _predict(whole: Whole, data: Dataset) -> Predictions:
    """The model's answers, counted and checked."""
    whole.score.rows += len(data)
    predictions = whole.score.model.predict(data)
    numbers = predictions.values if not predictions.classes else predictions.probabilities
    if numbers is not None and not np.isfinite(np.asarray(numbers, dtype=np.float64)).all():
        raise InvalidInput(f"Model type '{whole.score.model.type}' gave answers that are not finite numbers.")
    return predictions


def _metric(whole: Whole, name: object) -> tuple[str, Measured]:
    classifies = whole.score.model.fitted.task.classifies
    known = [key for key, metric in METRICS.items() if metric.classifies == classifies]
    chosen = known[0] if name is None else str(name)
    if chosen not in known:
        kind = "classes" if classifies else "numbers"
        raise UsageError(f"There is no metric '{chosen}' for a model of {kind}.{nearest(chosen, known)}", hint=f"Metrics: {', '.join(known)}.")
    metric = METRICS[chosen]
    if metric.needs_probabilities and whole.score.model.predict(whole.data.head(1)).probabilities is None:
        message = f"Model type '{whole.score.model.type}' gives labels only, so it has no {chosen}."
        raise InvalidInput(message, hint="Pass metric='accuracy'.")
    return chosen, metric


def _truth(whole: Whole) -> Truth:
    """The target of the rows.

    Raises
    ------
    UsageError
        The data do not have it.
    InvalidInput
        It is missing in some rows, or holds one class only where two are needed.
    """
    signature = whole.score.model.fitted
    if signature.target not in whole.given.schema:
        hint = "Pass data with the target, or method='shapley-importance', which needs none."
        raise UsageError(f"Permutation importance needs the target '{signature.target}', which the data do not have.", hint=hint)
    if not signature.task.classifies:
        values = np.asarray(whole.given.to_numpy(signature.target), dtype=np.float64)
        if not np.isfinite(values).all():
            raise InvalidInput(f"The target '{signature.target}' is missing in {int((~np.isfinite(values)).sum())} rows.", hint="Leave them out.")
        if whole.options.own["metric"] == "r2" and np.ptp(values) == 0:
            raise InvalidInput(f"The target '{signature.target}' is the same in all rows, so there is no R².", hint="Pass metric='mse'.")
        return Truth(np.empty(0, dtype=np.int64), values)
    labels = whole.given.to_text(signature.target)
    missing = sum(label is None for label in labels)
    if missing:
        raise InvalidInput(f"The target '{signature.target}' is missing in {missing} rows.", hint="Leave them out.")
    place = {label: column for column, label in enumerate(signature.classes)}
    codes = np.array([place.get(str(label), -1) for label in labels], dtype=np.int64)
    positive = place[str(whole.score.label)]
    if whole.options.own["metric"] == "roc_auc" and (codes == positive).mean() in (0.0, 1.0):
        raise InvalidInput("ROC-AUC needs rows of the explained class and others.", hint="Pass other rows, or another metric.")
    return Truth(codes, np.empty(0), positive)
