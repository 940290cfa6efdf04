"""Group figures as pure functions: arrays in, records out.

Intervals are 95 % percentile bootstraps (Efron and Tibshirani 1993, chapter 13) within each group, so that group sizes stay as they
are. A bootstrap knows only the rows it has: in a small group it is too narrow, which is why such groups are flagged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.model import Metric

SMALL_GROUP = 30
"""Below this many rows a group's figures are flagged as small: the usual bound under which a normal approximation is not trusted."""
REPLICATES = 2000
_INTERVAL = (2.5, 97.5)
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")


@dataclass(frozen=True, slots=True)
class ImpactRatio:
    """Selection rates by group, and each rate divided by the highest.

    Attributes
    ----------
    rates
        Share selected, by group.
    ratios
        Rate ÷ highest rate, by group; NaN where nobody at all was selected.
    counts
        Rows, by group.
    """

    rates: Mapping[str, float]
    ratios: Mapping[str, float]
    counts: Mapping[str, int]

    @property
    def minimum(self) -> float:
        """The lowest ratio: the figure that the four-fifths rule (29 CFR 1607.4 D) compares with 0.8."""
        return min(self.ratios.values())


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """What one group gets.

    Attributes
    ----------
    count
        Rows.
    small
        Fewer than 30 rows: read the figures with care.
    rates
        By name; None where the group holds no row of the kind that the rate divides by.
    """

    count: int
    small: bool
    rates: Mapping[str, Metric | None]


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """Figures by group, and the gaps between groups.

    Attributes
    ----------
    groups
        By label, sorted.
    gaps
        ``…_gap`` is the highest minus the lowest defined rate, ``impact_ratio`` the lowest selection rate divided by the highest.
        None where fewer than two groups have the rate, or nobody was selected: there is then nothing to compare.
    """

    groups: Mapping[str, GroupFigures]
    gaps: Mapping[str, Metric | None]

    def to_json(self) -> dict[str, Any]:
        """Groups and gaps as a JSON object; what is undefined has the value null."""
        groups = {
            label: {"count": figures.count, "small": figures.small, **{name: _json(metric) for name, metric in figures.rates.items()}}
            for label, figures in self.groups.items()
        }
        return {"groups": groups, "gaps": {name: _json(metric) for name, metric in self.gaps.items()}}


def impact_ratio(selected: ArrayLike, group: ArrayLike) -> ImpactRatio:
    """Selection rate and impact ratio of each group, as New York City's rule on hiring tools defines them (6 RCNY 5-301).

    Parameters
    ----------
    selected
        Shape n, true (or 1) where the row was selected.
    group
        Shape n, the label of each row's group; a missing one belongs to the group ``"missing"``.

    Raises
    ------
    UsageError
        The arrays are empty or of different lengths, or `selected` holds something else than true and false.
    """
    chosen = np.asarray(selected)
    if chosen.dtype != np.bool_:
        if not np.isin(chosen, (0, 1)).all():
            raise UsageError("'selected' must hold true and false only.")
        chosen = chosen.astype(np.bool_)
    names, index = _group_index(group, len(chosen))
    counts = np.bincount(index, minlength=len(names))
    rates = np.bincount(index, weights=chosen, minlength=len(names)) / counts
    highest = rates.max()
    ratios = rates / highest if highest > 0 else np.full(len(names), np.nan)
    return ImpactRatio(
        dict(zip(names, rates.tolist(), strict=True)),
        dict(zip(names, ratios.tolist(), strict=True)),
        dict(zip(names, counts.tolist(), strict=True)),
    )


def group_metrics(
    truth: ArrayLike, predicted: ArrayLike, group: ArrayLike, *, favourable: str, bootstrap: int = REPLICATES, seed: int = 0
) -> GroupMetrics:
    """Selection rate, true and false positive rate of each group, and the gaps between groups.

    Parameters
    ----------
    truth, predicted
        Shape n, class labels.
    group
        Shape n, labels; a missing one belongs to the group ``"missing"``.
    favourable
        The label that counts as selected, and as positive.
    bootstrap
        Replicates of the intervals; 0 leaves the intervals out.
    seed
        The same seed gives the same intervals.

    Raises
    ------
    UsageError
        The arrays are empty or of different lengths.
    """
    positive, selected = np.asarray(truth) == favourable, np.asarray(predicted) == favourable
    names, index = _group_index(group, len(selected))
    if positive.shape != selected.shape:
        raise UsageError("'truth' and 'predicted' must have one value for each row.")
    # Each row is in one of four cells of its group; resampling rows is drawing the four counts from a multinomial.
    cells = np.bincount(index * 4 + positive * 2 + selected, minlength=len(names) * 4).reshape(len(names), 4)
    rng = np.random.default_rng(seed)
    draws = np.stack([rng.multinomial(row.sum(), row / row.sum(), size=bootstrap) for row in cells], axis=1)
    point, replicates = _rates(cells), _rates(draws)
    groups = {}
    for place, name in enumerate(names):
        rates = {rate: _metric(point[rate][place], replicates[rate][:, place]) for rate in RATES}
        count = int(cells[place].sum())
        groups[name] = GroupFigures(count, count < SMALL_GROUP, rates)
    gaps = {f"{rate}_gap": _metric(_gap(point[rate][None])[0], _gap(replicates[rate])) for rate in RATES}
    gaps["impact_ratio"] = _metric(_lowest_ratio(point[RATES[0]][None])[0], _lowest_ratio(replicates[RATES[0]]))
    return GroupMetrics(groups, gaps)


def group_means(predicted: ArrayLike, group: ArrayLike, *, bootstrap: int = REPLICATES, seed: int = 0) -> GroupMetrics:
    """Mean prediction of each group, and the gap between the highest and the lowest, for a model that predicts numbers.

    Parameters and errors as in `group_metrics`; InvalidInput where a prediction is not finite.
    """
    values = np.asarray(predicted, dtype=np.float64)
    names, index = _group_index(group, len(values))
    if not np.isfinite(values).all():
        raise InvalidInput("A prediction is not a finite number.", hint="Look at the model's inputs.")
    rng = np.random.default_rng(seed)
    parts = [values[index == place] for place in range(len(names))]
    point = np.array([part.mean() for part in parts])
    # One replicate at a time: all at once would need replicates × rows numbers in memory.
    draws = np.empty((bootstrap, len(parts)))
    for line in draws:
        line[:] = [part[rng.integers(0, len(part), len(part))].mean() for part in parts]
    groups = {
        name: GroupFigures(len(part), len(part) < SMALL_GROUP, {"mean_prediction": _metric(point[place], draws[:, place])})
        for place, (name, part) in enumerate(zip(names, parts, strict=True))
    }
    return GroupMetrics(groups, {"mean_prediction_gap": _metric(_gap(point[None])[0], _gap(draws))})


def _group_index(group: ArrayLike, rows: int) -> tuple[list[str], NDArray[np.intp]]:
    """Group labels in order, and each row's position among them."""
    labels = np.asarray(group, dtype=object)
    if labels.ndim != 1 or len(labels) != rows:
        raise UsageError(f"'group' must have one label for each of the {rows} rows.")
    if rows == 0:
        raise UsageError("There are no rows to compare groups on.")
    missing = np.array([label is None or label != label for label in labels])  # only NaN differs from itself
    text = np.where(missing, "missing", labels).astype(np.str_)
    names, index = np.unique(text, return_inverse=True)
    return names.tolist(), index


def _rates(cells: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The three rates from counts (… × 4: neither, selected only, positive only, both); NaN where the divisor is zero."""
    neither, false_positive, missed, both = np.moveaxis(cells.astype(np.float64), -1, 0)
    return {
        "selection_rate": _divide(false_positive + both, neither + false_positive + missed + both),
        "true_positive_rate": _divide(both, both + missed),
        "false_positive_rate": _divide(false_positive, false_positive + neither),
    }


def _divide(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def _gap(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Highest minus lowest defined rate of each line (replicates × groups); NaN with fewer than two."""
    defined = ~np.isnan(rates)
    highest = np.where(defined, rates, -np.inf).max(axis=1)
    lowest = np.where(defined, rates, np.inf).min(axis=1)
    return np.where(defined.sum(axis=1) >= 2, highest - lowest, np.nan)


def _lowest_ratio(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = rates.max(axis=1) if rates.shape[1] >= 2 else np.zeros(len(rates))
    return _divide(rates.min(axis=1), highest)


def _metric(value: float, replicates: NDArray[np.float64]) -> Metric | None:
    if np.isnan(value):
        return None
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return Metric(float(value))
    low, high = np.percentile(defined, _INTERVAL)
    return Metric(float(value), float(low), float(high))


def _json(metric: Metric | None) -> dict[str, float | None]:
    return {"value": None, "low": None, "high": None} if metric is None else metric.to_json()
