"""How well a model did: metrics with 95 % bootstrap intervals, and curves to draw. Pure numpy; no workspace needed.

Every metric is written once, for rows that carry weights: a resample of the bootstrap is a row of weights that says how often each data row
was drawn, and the plain metric is the row of ones. So a thousand resamples cost a few matrix products instead of a thousand loops.

In the ``_*`` functions `weights` has shape resamples × rows, and the result one value a resample, NaN where the metric is undefined there
(a resample without positives has no ROC-AUC).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.model import Evaluation, Metric, Predictions, Task

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Measure = Callable[[Floats, NDArray[np.int64]], Floats]

CURVE_POINTS = 200
CALIBRATION_BINS = 10
BAG_ROWS = 5_000
BAG_ROWS_MULTICLASS = 2_000
BLOCK_CELLS = 2_000_000
_SURE = float(np.finfo(np.float64).eps)


def evaluate(
    predictions: Predictions,
    truth: NDArray[Any],
    *,
    task: Task,
    classes: Sequence[str] = (),
    data_name: str = "data",
    positive: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure predictions against the truth.

    Classification gives ``accuracy``, ``balanced_accuracy`` and ``f1`` (of the positive class for two classes, macro average for more), and,
    where there are probabilities, ``roc_auc`` and ``pr_auc`` (one against the rest, macro average, for more than two classes), ``log_loss``,
    ``brier`` and ``expected_calibration_error``. Regression gives ``mae``, ``rmse`` and ``r2``. A metric that the rows leave undefined, such as
    ROC-AUC where the truth holds one class, is left out.

    Intervals are percentile bootstrap intervals over rows, not stratified: class shares vary as they would in another sample. Resamples in
    which a metric is undefined are left out of its interval. Beyond 5,000 rows (2,000 for more than two classes, each of which costs its own
    ranking) the resamples are drawn, at full size, from one random bag of so many rows, and centred on the metric of all rows (Kleiner et
    al. 2014, "A scalable bootstrap for massive data", with one bag).

    Parameters
    ----------
    truth
        Labels as text, or numbers; shape n. A label that is no class of the model counts as wrongly predicted.
    classes
        The model's classes, in the order of the probability columns.
    positive
        The class that ``f1``, ``roc_auc`` and the curves are about, for two classes; default: the last.
    bootstrap
        Number of resamples; 0 for no intervals.

    Raises
    ------
    UsageError
        `positive` is no class.
    InvalidInput
        There are no rows, the lengths differ, or truth or predictions hold missing or infinite values.
    """
    rows = len(truth)
    if rows == 0 or rows != len(predictions):
        raise InvalidInput(f"There are {len(predictions)} predictions for {rows} rows of '{data_name}'.", hint="Evaluate at least one row.")
    curves: dict[str, dict[str, list[float]]] = {}
    if task.classifies:
        measures, curves = _classification(predictions, np.asarray(truth, dtype=np.str_), task, tuple(classes), positive)
    else:
        measures = _regression(_finite(truth, "truth"), _finite(predictions.values, "predictions"))
    limit = BAG_ROWS_MULTICLASS if task is Task.MULTICLASS else BAG_ROWS
    metrics = _with_intervals(measures, rows, bootstrap, seed, limit)
    return Evaluation(task=task, rows=rows, data=data_name, metrics=metrics, curves=curves)


# -- the metrics on their own --------------------------------------------------------------------------------------------------------------


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """The share of rows whose label is right."""
    return float(np.mean(np.asarray(truth) == np.asarray(predicted)))


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """The mean recall of the classes in `truth`."""
    codes, answers, names = _encode(truth, predicted)
    return float(_balanced_accuracy(_ones(codes), codes, answers, len(names))[0])


def f1(truth: ArrayLike, predicted: ArrayLike, *, positive: str | None = None) -> float:
    """The harmonic mean of precision and recall of `positive`, or, for None, its mean over all classes in `truth` or `predicted`."""
    codes, answers, names = _encode(truth, predicted)
    return float(_f1(_ones(codes), codes, answers, len(names), None if positive is None else names.index(positive))[0])


def roc_auc(positive: ArrayLike, score: ArrayLike) -> float:
    """The chance that a random positive row scores above a random negative one, ties counting half; NaN where either is absent."""
    flags, values = np.asarray(positive, dtype=bool), np.asarray(score, dtype=np.float64)
    return float(_roc_auc(_ones(values), flags, _Ranking(values))[0])


def roc_curve(positive: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """False and true positive rates, from (0, 0) to (1, 1), one point for each different score."""
    flags, values = np.asarray(positive, dtype=bool), np.asarray(score, dtype=np.float64)
    hits, misses = _Ranking(values).cumulative(_ones(values), flags)
    return _from_zero(misses[0] / misses[0, -1]), _from_zero(hits[0] / hits[0, -1])


def average_precision(positive: ArrayLike, score: ArrayLike) -> float:
    """The area under the precision-recall curve as a sum of steps, without interpolation; NaN where nothing is positive."""
    flags, values = np.asarray(positive, dtype=bool), np.asarray(score, dtype=np.float64)
    return float(_average_precision(_ones(values), flags, _Ranking(values))[0])


def precision_recall_curve(positive: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """Recall and precision for each different score, from the highest threshold to the lowest."""
    flags, values = np.asarray(positive, dtype=bool), np.asarray(score, dtype=np.float64)
    hits, misses = _Ranking(values).cumulative(_ones(values), flags)
    return hits[0] / hits[0, -1], hits[0] / (hits[0] + misses[0])


def log_loss(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """The mean negative log-probability (nats) of the true class.

    Parameters
    ----------
    truth
        Column numbers of the true classes; -1 for a class that has no column.
    probabilities
        Shape rows × classes. Probabilities are held off 0 and 1 by the float64 epsilon, 2.2e-16.
    """
    return float(_row_log_loss(np.asarray(truth, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)).mean())


def brier(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """The mean squared distance of probabilities from the truth: between 0 and 1 for two classes, 0 and 2 for more (Brier 1950).

    Parameters as in `log_loss`.
    """
    return float(_row_brier(np.asarray(truth, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)).mean())


def calibration_curve(positive: ArrayLike, score: ArrayLike, bins: int = CALIBRATION_BINS) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Mean predicted probability, observed share and number of rows of each non-empty bin, for `bins` bins of equal width."""
    flags, values = np.asarray(positive, dtype=np.float64), np.asarray(score, dtype=np.float64)
    place = _bins(values, bins)
    count = np.bincount(place, minlength=bins)
    used = count > 0
    predicted = np.bincount(place, values, minlength=bins)[used] / count[used]
    observed = np.bincount(place, flags, minlength=bins)[used] / count[used]
    return predicted, observed, count[used].astype(np.int64)


def expected_calibration_error(positive: ArrayLike, score: ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """The mean distance between predicted and observed over bins of equal width, weighted by rows (Naeini et al. 2015; Guo et al. 2017)."""
    flags, values = np.asarray(positive, dtype=np.float64), np.asarray(score, dtype=np.float64)
    return float(_calibration_error(_ones(values), flags, values, bins)[0])


def mean_absolute_error(truth: ArrayLike, predicted: ArrayLike) -> float:
    """The mean distance, in the target's unit."""
    return float(np.mean(np.abs(np.asarray(truth, dtype=np.float64) - np.asarray(predicted, dtype=np.float64))))


def root_mean_squared_error(truth: ArrayLike, predicted: ArrayLike) -> float:
    """The root of the mean squared distance, in the target's unit."""
    return float(np.sqrt(np.mean(np.square(np.asarray(truth, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)))))


def r2(truth: ArrayLike, predicted: ArrayLike) -> float:
    """The share of the target's variance that is explained; NaN where the target is constant."""
    values, answers = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    return float(_r2(_ones(values), values - values.mean(), np.square(values - answers))[0])


# -- weighted forms ------------------------------------------------------------------------------------------------------------------------


def _ones(like: NDArray[Any]) -> Floats:
    return np.ones((1, len(like)))


def _encode(truth: ArrayLike, predicted: ArrayLike, known: Sequence[str] = ()) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Labels as numbers: those of `known` first, then whatever else appears."""
    labels = np.concatenate([np.asarray(truth, dtype=np.str_), np.asarray(predicted, dtype=np.str_)])
    found, inverse = np.unique(labels, return_inverse=True)
    names = [*known, *(str(name) for name in found if str(name) not in set(known))]
    position = {name: number for number, name in enumerate(names)}
    codes = np.array([position[str(name)] for name in found], dtype=np.int64)[inverse.reshape(-1)]
    half = len(labels) // 2
    return codes[:half], codes[half:], names


def _confusion(weights: Floats, codes: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> tuple[Floats, Floats, Floats]:
    """Rows that are of a class, that are predicted as it, and both; resamples × classes each."""
    every = np.arange(classes)
    of_class = (codes[:, None] == every).astype(np.float64)
    predicted = (answers[:, None] == every).astype(np.float64)
    return weights @ of_class, weights @ predicted, weights @ (of_class * predicted)


def _balanced_accuracy(weights: Floats, codes: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> Floats:
    actual, _, right = _confusion(weights, codes, answers, classes)
    return _mean_where(right / np.maximum(actual, 1), actual > 0)


def _f1(weights: Floats, codes: NDArray[np.int64], answers: NDArray[np.int64], classes: int, positive: int | None) -> Floats:
    actual, predicted, right = _confusion(weights, codes, answers, classes)
    either = actual + predicted
    scores = 2 * right / np.maximum(either, 1)
    return scores[:, positive] if positive is not None else _mean_where(scores, either > 0)


def _mean_where(values: Floats, counted: NDArray[np.bool_]) -> Floats:
    mean: Floats = (values * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return mean


class _Ranking:
    """Rows by falling score, with the places where the score changes."""

    def __init__(self, score: Floats) -> None:
        self.order = np.argsort(-score, kind="stable")
        ordered = score[self.order]
        self.starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))

    def cumulative(self, weights: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Positives and negatives among the rows of at least each different score; resamples × scores."""
        ordered, flags = weights[:, self.order], positive[self.order]
        hits, every = np.cumsum(ordered * flags, axis=1), np.cumsum(ordered, axis=1)
        ends = np.append(self.starts[1:], len(flags)) - 1
        return hits[:, ends], (every - hits)[:, ends]


def _roc_auc(weights: Floats, positive: NDArray[np.bool_], ranking: _Ranking) -> Floats:
    hits, misses = ranking.cumulative(weights, positive)
    steps = np.diff(misses, axis=1, prepend=0.0)
    # each negative counts the positives above it, and half of those beside it
    before = np.concatenate([np.zeros((len(hits), 1)), hits[:, :-1]], axis=1)
    pairs = hits[:, -1] * misses[:, -1]
    return _ratio((steps * (before + hits) / 2).sum(axis=1), pairs)


def _average_precision(weights: Floats, positive: NDArray[np.bool_], ranking: _Ranking) -> Floats:
    hits, misses = ranking.cumulative(weights, positive)
    precision = hits / np.maximum(hits + misses, 1)
    return _ratio((np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1), hits[:, -1])


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    result = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


def _row_log_loss(codes: NDArray[np.int64], probabilities: Floats) -> Floats:
    chosen = np.where(codes >= 0, probabilities[np.arange(len(codes)), codes], 0.0)
    loss: Floats = -np.log(np.clip(chosen, _SURE, 1 - _SURE))
    return loss


def _row_brier(codes: NDArray[np.int64], probabilities: Floats) -> Floats:
    classes = probabilities.shape[1]
    distance: Floats = np.square(probabilities - (codes[:, None] == np.arange(classes))).sum(axis=1) + (codes < 0)
    return distance / 2 if classes == 2 else distance


def _bins(score: Floats, bins: int) -> NDArray[np.int64]:
    place: NDArray[np.int64] = np.clip((score * bins).astype(np.int64), 0, bins - 1)
    return place


def _calibration_error(weights: Floats, positive: Floats, score: Floats, bins: int) -> Floats:
    member = (_bins(score, bins)[:, None] == np.arange(bins)).astype(np.float64)
    gaps: Floats = np.abs(weights @ (member * (score - positive)[:, None])).sum(axis=1) / weights.sum(axis=1)
    return gaps


def _r2(weights: Floats, centred: Floats, squared_error: Floats) -> Floats:
    spread = weights @ np.square(centred) - np.square(weights @ centred) / weights.sum(axis=1)
    # rounding leaves a constant target a little spread
    spread[spread <= 1e-12 * max(float(np.square(centred).sum()), np.finfo(np.float64).tiny)] = 0.0
    return 1 - _ratio(weights @ squared_error, spread)


# -- what belongs to a task ----------------------------------------------------------------------------------------------------------------


def _finite(values: ArrayLike, what: str) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    bad = int((~np.isfinite(numbers)).sum())
    if bad:
        raise InvalidInput(f"The {what} hold {bad} missing or infinite values.", hint="Evaluate rows that have a value.")
    return numbers


def _regression(truth: Floats, predicted: Floats) -> dict[str, Measure]:
    error = truth - predicted
    absolute, squared, centre = np.abs(error), np.square(error), truth.mean()
    return {
        "mae": lambda weights, rows: weights @ absolute[rows] / weights.sum(axis=1),
        "rmse": lambda weights, rows: np.sqrt(weights @ squared[rows] / weights.sum(axis=1)),
        "r2": lambda weights, rows: _r2(weights, truth[rows] - centre, squared[rows]),
    }


def _classification(
    predictions: Predictions, truth: NDArray[np.str_], task: Task, classes: tuple[str, ...], positive: str | None
) -> tuple[dict[str, Measure], dict[str, dict[str, list[float]]]]:
    binary = task is Task.BINARY
    if binary and positive is not None and positive not in classes:
        raise UsageError(f"The positive class '{positive}' does not exist.{nearest(positive, classes)}", hint=f"Classes: {', '.join(classes)}.")
    codes, answers, names = _encode(truth, predictions.values, classes)
    chosen = (classes.index(positive) if positive is not None else len(classes) - 1) if binary else None
    right = (codes == answers).astype(np.float64)
    measures: dict[str, Measure] = {
        "accuracy": lambda weights, rows: weights @ right[rows] / weights.sum(axis=1),
        "balanced_accuracy": lambda weights, rows: _balanced_accuracy(weights, codes[rows], answers[rows], len(names)),
        "f1": lambda weights, rows: _f1(weights, codes[rows], answers[rows], len(names), chosen),
    }
    if predictions.probabilities is None:
        return measures, {}
    probabilities = _finite(predictions.probabilities, "probabilities")
    known = np.where(codes < len(classes), codes, -1)
    losses, distances = _row_log_loss(known, probabilities), _row_brier(known, probabilities)
    ranked = [chosen] if chosen is not None else [column for column in range(len(classes)) if (known == column).any()]
    if chosen is not None:
        confidence, observed = probabilities[:, chosen], (known == chosen).astype(np.float64)
    else:
        confidence, observed = probabilities.max(axis=1), (probabilities.argmax(axis=1) == known).astype(np.float64)
    measures |= {
        "roc_auc": lambda weights, rows: _over_classes(_roc_auc, weights, known[rows], probabilities[rows], ranked),
        "pr_auc": lambda weights, rows: _over_classes(_average_precision, weights, known[rows], probabilities[rows], ranked),
        "log_loss": lambda weights, rows: weights @ losses[rows] / weights.sum(axis=1),
        "brier": lambda weights, rows: weights @ distances[rows] / weights.sum(axis=1),
        "expected_calibration_error": lambda weights, rows: _calibration_error(weights, observed[rows], confidence[rows], CALIBRATION_BINS),
    }
    return measures, _curves(observed, confidence, ranking=chosen is not None)


def _over_classes(
    measure: Callable[[Floats, NDArray[np.bool_], _Ranking], Floats],
    weights: Floats,
    codes: NDArray[np.int64],
    probabilities: Floats,
    columns: Sequence[int],
) -> Floats:
    """Each class against the rest, averaged; classes that a resample leaves undefined do not count in it."""
    scores = np.stack([measure(weights, codes == column, _Ranking(probabilities[:, column])) for column in columns], axis=1)
    defined = np.isfinite(scores)
    mean = _mean_where(np.where(defined, scores, 0.0), defined)
    return np.where(defined.any(axis=1), mean, np.nan)


def _curves(observed: Floats, confidence: Floats, *, ranking: bool) -> dict[str, dict[str, list[float]]]:
    predicted, share, rows = calibration_curve(observed, confidence)
    curves = {"calibration": {"predicted": predicted.tolist(), "observed": share.tolist(), "rows": [float(count) for count in rows]}}
    if not ranking or not observed.any():
        return curves
    recall, precision = precision_recall_curve(observed, confidence)
    kept = _thin(recall, precision)
    curves["precision_recall"] = {"recall": recall[kept].tolist(), "precision": precision[kept].tolist()}
    if not observed.all():
        fpr, tpr = roc_curve(observed, confidence)
        kept = _thin(fpr, tpr)
        curves["roc"] = {"fpr": fpr[kept].tolist(), "tpr": tpr[kept].tolist()}
    return curves


def _from_zero(values: Floats) -> Floats:
    return np.concatenate([[0.0], values])


def _thin(x: Floats, y: Floats) -> NDArray[np.int64]:
    """At most 200 points at even distances along the curve, both ends among them."""
    if len(x) <= CURVE_POINTS:
        return np.arange(len(x))
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    wanted = np.searchsorted(along, np.linspace(0, along[-1], CURVE_POINTS))
    wanted[-1] = len(x) - 1
    return np.unique(np.minimum(wanted, len(x) - 1))


# -- bootstrap -----------------------------------------------------------------------------------------------------------------------------


def _with_intervals(measures: Mapping[str, Measure], rows: int, resamples: int, seed: int, limit: int) -> dict[str, Metric]:
    everything = np.arange(rows)
    values = {name: float(measure(np.ones((1, rows)), everything)[0]) for name, measure in measures.items()}
    values = {name: value for name, value in values.items() if np.isfinite(value)}
    if resamples == 0 or rows < 2:
        return {name: Metric(value) for name, value in values.items()}
    random = np.random.default_rng(seed)
    bag = everything if rows <= limit else np.sort(random.choice(rows, limit, replace=False))
    drawn: dict[str, list[Floats]] = {name: [] for name in values}
    for weights in _resamples(random, rows, len(bag), resamples):
        for name in values:
            drawn[name].append(measures[name](weights, bag))
    metrics = {}
    for name, value in values.items():
        sample = np.concatenate(drawn[name])
        sample = sample[np.isfinite(sample)]
        shift = 0.0 if len(bag) == rows else value - float(measures[name](np.ones((1, len(bag))), bag)[0])
        if len(sample) < resamples / 2 or not np.isfinite(shift):
            metrics[name] = Metric(value)
            continue
        low, high = np.quantile(sample, [0.025, 0.975]) + shift
        # a shifted end must not leave the metric's range, such as an accuracy above 1
        metrics[name] = Metric(value, max(float(low), min(value, float(sample.min()))), min(float(high), max(value, float(sample.max()))))
    return metrics


def _resamples(random: np.random.Generator, rows: int, bag: int, resamples: int) -> Iterator[Floats]:
    """How often each row of the bag is drawn when `rows` rows are drawn from it with replacement; blocks of resamples × bag."""
    block = max(1, BLOCK_CELLS // bag)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        yield random.multinomial(rows, np.full(bag, 1 / bag), size=count).astype(np.float64)
