"""Membership inference: how well an attacker who sees a model's probabilities tells its training rows from others.

Pure functions turn confidences into scores (LiRA: Carlini et al. 2022, "Membership Inference Attacks From First Principles"; RMIA: Zarifzadeh et
al. 2024, "Low-Cost High-Power Membership Inference Attacks") and scores into rates at low false-positive rates with exact intervals.
`attack_membership` trains the reference models that the scores need.

Its figures are computed from training rows without noise. They are an internal test and no private release: an ε does not cover them, and a
budget is not charged for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import JSON
from affidavit.interfaces.model import Metric, Model, Predictions
from affidavit.interfaces.training import Training
from affidavit.metrics import roc_curve

Method = Literal["rmia", "lira"]
Predict = Callable[[Dataset], Predictions]
Floats = NDArray[np.float64]

FALSE_POSITIVE_RATES = (0.001, 0.01)
"""Where an attack is judged: one that is sure of a few members is worse than one that is better than chance for all."""

LEAST = 1e-6
"""Confidences are held this far off 0 and 1, where forests and trees put them and logarithms end."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """An attack at the lowest threshold whose false-positive rate is at most `limit`; intervals are Clopper-Pearson, 95 %.

    With few non-members, `limit` may allow none of them: the false-positive rate is then only known to lie in its interval.
    """

    limit: float
    threshold: float
    true_positive_rate: Metric
    false_positive_rate: Metric

    def to_json(self) -> dict[str, JSON]:
        """The point as a JSON object."""
        return {
            "limit": self.limit,
            "threshold": self.threshold,
            "true_positive_rate": self.true_positive_rate.to_json(),
            "false_positive_rate": self.false_positive_rate.to_json(),
        }


@dataclass(frozen=True, slots=True)
class MembershipReport:
    """What an attack found.

    Attributes
    ----------
    method
        ``"rmia"``, ``"lira"``, or what the scores' maker calls it.
    members, non_members, references
        Numbers of rows, and of reference models.
    auc
        Area under the ROC curve with a 95 % interval (DeLong et al. 1988): 0.5 is chance.
    points
        At each of the low false-positive rates.
    curve
        False- and true-positive rates, one for each different score.
    """

    method: str
    members: int
    non_members: int
    references: int
    auc: Metric
    points: tuple[OperatingPoint, ...]
    curve: tuple[Floats, Floats] = field(repr=False)

    def to_json(self) -> dict[str, JSON]:
        """The record, without the curve."""
        return {
            "version": 1,
            "method": self.method,
            "members": self.members,
            "non_members": self.non_members,
            "references": self.references,
            "auc": self.auc.to_json(),
            "points": [point.to_json() for point in self.points],
            "private": False,
        }

    def plot(self, path: str | Path, *, epsilon: float | None = None, delta: float = 0.0) -> None:
        """Draw the ROC curve on logarithmic axes to a PNG or SVG file, with the bound that (ε, δ) sets where `epsilon` is given."""
        from affidavit_governance.privacy.attacks.plots import plot_membership

        plot_membership(self, path, epsilon=epsilon, delta=delta)


# -- scores ----------------------------------------------------------------------------------------------------------------------------------


def rmia(target: Floats, references: Floats) -> Floats:
    """log of p(x | target) / p(x): how much surer the target is of each row than models in general are.

    RMIA's score is the share of a population whose ratio lies below the row's by a factor γ. It grows with the ratio, so the ratio gives
    the same ROC curve, and without the ties at 1 that hide the low false-positive rates.

    Parameters
    ----------
    target
        Shape rows: the target's probability of each row's true class.
    references
        Shape models × rows, of reference models that were trained with and without each row equally often.
    """
    usual = _within(references).mean(axis=0)
    return np.asarray(np.log(_within(target)) - np.log(usual), dtype=np.float64)


def lira(target: Floats, references: Floats, trained_on: NDArray[np.bool_]) -> Floats:
    """Log-likelihood ratio of "trained on" to "not trained on" for each row's logit confidence, both Gaussian.

    The variances are shared by all rows, as the paper does for few reference models.

    Parameters
    ----------
    target, references
        As for `rmia`.
    trained_on
        Shape models × rows: which reference models were trained on which rows; each row in at least one and not in all.
    """
    if trained_on.all(axis=0).any() or not trained_on.any(axis=0).all():
        raise UsageError("A row is in all or in none of the reference models' training rows, so LiRA has nothing to compare it with.")
    found, levels = _logit(target), _logit(references)
    score = np.zeros(len(target))
    for group, sign in ((trained_on, 1.0), (~trained_on, -1.0)):
        mean = np.where(group, levels, 0.0).sum(axis=0) / group.sum(axis=0)
        spare = max(1, int(group.sum()) - levels.shape[1])  # a mean was estimated for each row
        variance = float(np.square(np.where(group, levels - mean, 0.0)).sum()) / spare + LEAST
        score += sign * (-0.5 * np.log(variance) - (found - mean) ** 2 / (2 * variance))
    return score


def _within(confidence: Floats) -> Floats:
    return np.clip(confidence, LEAST, 1 - LEAST)


def _logit(confidence: Floats) -> Floats:
    inside = _within(confidence)
    return np.asarray(np.log(inside) - np.log1p(-inside), dtype=np.float64)


# -- rates -----------------------------------------------------------------------------------------------------------------------------------


def largest_true_positive_rate(false_positive_rate: Floats, epsilon: float, delta: float = 0.0) -> Floats:
    """The highest true-positive rate that any attack can have on an (ε, δ)-private model (Kairouz, Oh and Viswanath 2015, theorem 2.1)."""
    rate = np.asarray(false_positive_rate, dtype=np.float64)
    low, high = np.exp(epsilon) * rate + delta, 1 - np.exp(-epsilon) * (1 - delta - rate)
    return np.asarray(np.clip(np.minimum(low, high), 0.0, 1.0), dtype=np.float64)


def assess(
    scores: Floats, member: NDArray[np.bool_], *, method: str, references: int = 0, limits: Sequence[float] = FALSE_POSITIVE_RATES
) -> MembershipReport:
    """Rates at low false-positive rates, AUC and ROC curve of membership scores, higher for members.

    Parameters
    ----------
    scores, member
        Shape rows.
    limits
        False-positive rates.

    Raises
    ------
    UsageError
        There are no members or no non-members, or a score is not finite.
    """
    inside, outside = scores[member], np.sort(scores[~member])
    if not len(inside) or not len(outside) or not np.isfinite(scores).all():
        raise UsageError("An attack is judged on finite scores of members and of non-members; one of these is absent.")
    points = []
    for limit in limits:
        allowed = min(len(outside) - 1, int(limit * len(outside) + 1e-9))  # the last digit of 0.01 × 300 must not cost one
        threshold = float(outside[len(outside) - 1 - allowed])
        points.append(
            OperatingPoint(
                limit, threshold, _share(int((inside > threshold).sum()), len(inside)), _share(int((outside > threshold).sum()), len(outside))
            )
        )
    return MembershipReport(method, len(inside), len(outside), references, _area(inside, outside), tuple(points), roc_curve(member, scores))


def _share(hits: int, count: int) -> Metric:
    """A rate with its Clopper-Pearson interval."""
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, count - hits)) if hits < count else 1.0
    return Metric(hits / count, low, high)


def _area(inside: Floats, outside: Floats) -> Metric:
    """AUC with DeLong's interval; where one group is wholly above the other, which leaves no variance, with that of independent pairs."""
    from scipy.stats import norm

    above = _placements(inside, outside)
    value = float(above.mean())
    if value in (0.0, 1.0):
        pairs = _share(round(value) * min(len(inside), len(outside)), min(len(inside), len(outside)))
        return Metric(value, pairs.low, pairs.high)
    below = _placements(outside, inside)
    variance = sum(float(part.var(ddof=1)) / len(part) if len(part) > 1 else 0.25 for part in (above, below))
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * variance**0.5
    return Metric(value, max(0.0, value - half), min(1.0, value + half))


def _placements(values: Floats, others: Floats) -> Floats:
    """For each value the share of `others` below it, ties counting half."""
    ordered = np.sort(others)
    return np.asarray((np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(others)))


# -- the attack on a model -------------------------------------------------------------------------------------------------------------------


def same_type(model: Model) -> Callable[[Dataset, int], Predict]:
    """Trains models of `model`'s type and parameters, without privacy and outside of any workspace."""
    made, params = type(model), model.params.model_dump()
    return lambda data, seed: made(**params).fit(data, Training(seed=seed)).predict


def attack_membership(
    predict: Predict,
    members: Dataset,
    non_members: Dataset,
    *,
    train: Callable[[Dataset, int], Predict],
    references: int = 8,
    method: Method = "rmia",
    seed: int = 0,
) -> MembershipReport:
    """Attack a model, private or not, through its class probabilities only.

    Each reference model is trained on half of all rows, so that every row is in half of the models.

    Parameters
    ----------
    predict
        The target: ``model.predict``, or ``functools.partial(workspace.predict, model)`` for a governed one.
    members, non_members
        Rows that the target was trained on, as it saw them (masked), and others of the same origin that it was not: rows that differ
        otherwise, say in time, are told apart without any leak.
    train
        Trains a reference model on rows with a seed, and gives its predictions: `same_type` of the target, or
        ``lambda data, seed: partial(workspace.predict, workspace.train("tabular.forest", data, seed=seed))``, which a workspace governs,
        charges and records like any other training.
    references
        Number of reference models, even; a few are enough for ``"rmia"``.
    method
        ``"rmia"``, or ``"lira"``, which wants more reference models.

    Raises
    ------
    UsageError
        The number of reference models is odd or below two; the target gives no probabilities, or the data sets have other columns.
    """
    if references < 2 or references % 2:
        raise UsageError(f"{references} reference models do not leave every row out of half of them.", hint="Give an even number.")
    if members.schema.names != non_members.schema.names:
        raise UsageError("Members and non-members have different columns.")
    if not len(members) or not len(non_members):
        raise UsageError("An attack needs members and non-members.")
    # The roots stay, so that a `train` that charges a budget charges the right one.
    pool = Dataset(
        pa.concat_tables([members.table, non_members.table.cast(members.table.schema)]),
        members.schema,
        name="pool",
        roots=members.roots | non_members.roots,
    )
    target = _confidences(predict(pool), pool)
    random = np.random.default_rng(seed)
    trained_on = np.zeros((references, len(pool)), dtype=np.bool_)
    for first in range(0, references, 2):
        trained_on[first, random.permutation(len(pool))[: len(pool) // 2]] = True
        trained_on[first + 1] = ~trained_on[first]
    levels = np.stack([_confidences(train(pool.take(np.flatnonzero(rows)), seed + number)(pool), pool) for number, rows in enumerate(trained_on)])
    scores = rmia(target, levels) if method == "rmia" else lira(target, levels, trained_on)
    return assess(scores, np.arange(len(pool)) < len(members), method=method, references=references)


def _confidences(predictions: Predictions, data: Dataset) -> Floats:
    """The probability of each row's true class; 0 for a class that the model has never seen."""
    if predictions.probabilities is None:
        raise UsageError("Membership is inferred from class probabilities, and this model gives none.", hint="Use a type with 'probabilities'.")
    field = data.schema.target
    if field is None:
        raise InvalidInput("The rows have no target column, so the probability of the truth is unknown.")
    place = {label: column for column, label in enumerate(predictions.classes)}
    columns = np.array([place.get(str(label), -1) for label in data.to_text(field.name)])
    chosen = predictions.probabilities[np.arange(len(data)), columns]
    return np.where(columns < 0, 0.0, chosen)
