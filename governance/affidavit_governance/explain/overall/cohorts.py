"""Cohorts: whether a model's explanations of some rows differ from its explanations of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Metric
from affidavit.interfaces.schema import FieldType
from affidavit_governance.explain.quality.intervals import ratio_of_means

SMALL = 30
"""Rows below which a cohort is flagged: intervals of means lean on their number, and a mean over few people tells of each of them."""

RESAMPLES = 999
"""Reassignments of rows to cohorts in the test; the smallest p-value is one thousandth."""

_ROUNDING = 1e-12
"""Relative differences below this are made by arithmetic."""

_MOST = 50
"""Cohorts at most: a field with more values has no groups."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """One group of explained rows.

    Attributes
    ----------
    name
        The field's value or bin, or the name it was given.
    small
        Whether it has fewer than `SMALL` rows.
    mean, mean_absolute
        φ and |φ| by player, with 95 % intervals over rows; without an interval for a single row.
    player
        The player in which the cohort differs most from the rows outside it.
    statistic
        How far that player's mean φ or mean |φ| lies from all rows', in standard errors of as many rows drawn at random; None where the
        cohort or the rest has fewer than two rows.
    p
        Of the hypothesis that explanations have nothing to do with any of the cohorts, adjusted for all cohorts and players together.
    """

    name: str
    rows: int
    small: bool
    mean: Mapping[str, Metric]
    mean_absolute: Mapping[str, Metric]
    player: str | None = None
    statistic: float | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Cohorts:
    """All cohorts of one question.

    Attributes
    ----------
    by
        The field, or ``"masks"``.
    most_different
        The name of the cohort with the largest statistic; None where none could be tested. Look at its `p` before believing it.
    tests
        Comparisons that the p-values are adjusted for: tested cohorts × players × two means.
    """

    by: str
    output: str
    cohorts: tuple[Cohort, ...]
    most_different: str | None
    tests: int
    resamples: int
    seed: int

    def __getitem__(self, name: str) -> Cohort:
        for cohort in self.cohorts:
            if cohort.name == name:
                return cohort
        raise UsageError(f"There is no cohort '{name}'.", hint=f"Cohorts: {', '.join(cohort.name for cohort in self.cohorts)}.")

    def __len__(self) -> int:
        return len(self.cohorts)

    def to_json(self) -> dict[str, Any]:
        """All figures. Names of cohorts are values of the field; the figures of small cohorts tell of few rows."""
        return {
            "by": self.by,
            "output": self.output,
            "most_different": self.most_different,
            "tests": self.tests,
            "resamples": self.resamples,
            "seed": self.seed,
            "cohorts": [
                {
                    "name": cohort.name,
                    "rows": cohort.rows,
                    "small": cohort.small,
                    "mean": {player: metric.to_json() for player, metric in cohort.mean.items()},
                    "mean_absolute": {player: metric.to_json() for player, metric in cohort.mean_absolute.items()},
                    "player": cohort.player,
                    "statistic": cohort.statistic,
                    "p": cohort.p,
                }
                for cohort in self.cohorts
            ],
        }


def cohorts(
    explanation: Explanation,
    data: Dataset,
    by: str | Sequence[bool] | NDArray[np.bool_] | Mapping[str, Sequence[bool] | NDArray[np.bool_]],
    *,
    bins: Sequence[float] | None = None,
    seed: int = 0,
) -> Cohorts:
    """Mean attributions by cohort, and which cohort's differ most from the rest.

    The test reassigns the rows to the cohorts at random and compares each statistic with the largest of all cohorts and players under each
    reassignment (max-T of Westfall and Young 1993, single step), so that looking at many groups finds no difference where there is none in
    more than 5 % of questions. It treats rows as exchangeable: repeated rows of one person would make it too sure.

    Parameters
    ----------
    data
        The explained rows, in their order. A protected field that is no input of the model may stand in it.
    by
        A field: each category is a cohort, numbers are cut at `bins`, default at their quartiles; rows without a value are a cohort.
        Or a boolean for each row: ``"in"`` and ``"out"``. Or such masks by name; they may overlap.
    bins
        Inner edges of a number's bins; a value on an edge belongs to the bin above it.

    Raises
    ------
    InvalidInput
        Attributions were withheld by the release, so that their means are not known.
    UsageError
        The rows are not as many as explained ones, a mask does not fit, or there are too many groups.
    """
    if len(data) != len(explanation):
        raise UsageError(f"{len(explanation)} rows were explained, and {len(data)} are there to group them by.", hint="Pass the explained rows.")
    values = np.asarray(explanation.values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InvalidInput("Some attributions are withheld, so their means over cohorts are not known.", hint="Use the policy's release: full.")
    masks = _masks(data, by, bins)
    statistics, players, p = compare(values, np.stack(list(masks.values())), seed=seed)
    found = tuple(
        Cohort(
            name=name,
            rows=int(mask.sum()),
            small=int(mask.sum()) < SMALL,
            mean=_means(explanation.players, values[mask]),
            mean_absolute=_means(explanation.players, abs(values[mask])),
            player=explanation.players[players[place]] if np.isfinite(statistics[place]) else None,
            statistic=float(statistics[place]) if np.isfinite(statistics[place]) else None,
            p=float(p[place]) if np.isfinite(p[place]) else None,
        )
        for place, (name, mask) in enumerate(masks.items())
    )
    tested = np.flatnonzero(np.isfinite(statistics))
    return Cohorts(
        by=by if isinstance(by, str) else "masks",
        output=explanation.output,
        cohorts=found,
        most_different=found[tested[np.argmax(statistics[tested])]].name if len(tested) else None,
        tests=len(tested) * values.shape[1] * 2,
        resamples=RESAMPLES,
        seed=seed,
    )


def compare(
    values: NDArray[np.float64], masks: NDArray[np.bool_], *, seed: int, resamples: int = RESAMPLES
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """For each mask its largest statistic, the column that it is of, and its p-value, adjusted over masks and columns.

    The statistic is the distance of the mean inside the mask from the mean of all rows, in standard errors of a mean of as many rows drawn
    at random without replacement. Those do not change from one reassignment to the next, so a small mask has no wild statistics.

    Parameters
    ----------
    values
        Rows × columns. Means of the values and of their sizes are both compared.
    masks
        Masks × rows. One with fewer than two rows inside or outside is not tested: NaN.
    """
    both = np.concatenate([values, abs(values)], axis=1)
    centred = both - both.mean(axis=0)
    spread = centred.std(axis=0, ddof=1) if len(both) > 1 else np.zeros(both.shape[1])
    # A column that is constant but for rounding differs nowhere.
    columns = centred / np.where(spread > _ROUNDING * abs(both).max(axis=0, initial=0.0), spread, np.inf)
    inside = masks.sum(axis=1)
    tested = (inside >= 2) & (len(values) - inside >= 2)
    statistics, p = np.full(len(masks), np.nan), np.full(len(masks), np.nan)
    leading = np.zeros(len(masks), dtype=np.int64)
    if not tested.any():
        return statistics, leading, p
    inside = inside[tested]
    error = np.sqrt(1 / inside - 1 / len(values))  # of a mean of rows drawn without replacement, in standard deviations
    weights = masks[tested] / inside[:, None] / error[:, None]
    own = abs(weights @ columns)
    statistics[tested] = own.max(axis=1)
    leading[tested] = own.argmax(axis=1) % values.shape[1]
    generator = np.random.default_rng(seed)
    exceeded = np.ones(len(inside))
    for _ in range(resamples):
        largest = abs(weights @ columns[generator.permutation(len(columns))]).max()
        exceeded += largest >= statistics[tested] * (1 - _ROUNDING)
    p[tested] = exceeded / (resamples + 1)
    return statistics, leading, p


def _means(players: Sequence[str], values: NDArray[np.float64]) -> dict[str, Metric]:
    return {player: ratio_of_means(values[:, place]) for place, player in enumerate(players)} if len(values) else {}


# -- who belongs where --------------------------------------------------------------------------------------------------------------------


def _masks(data: Dataset, by: Any, bins: Sequence[float] | None) -> dict[str, NDArray[np.bool_]]:
    if isinstance(by, str):
        masks = _of_field(data, by, bins)
    else:
        if bins is not None:
            raise UsageError("Bins are for cohorts by a field of numbers.")
        given = by if isinstance(by, Mapping) else {"in": by}
        masks = {str(name): _mask(name, mask, len(data)) for name, mask in given.items()}
        if not isinstance(by, Mapping):
            masks["out"] = ~masks["in"]
    if isinstance(by, str):
        masks = {name: mask for name, mask in masks.items() if mask.any()}
    empty = [name for name, mask in masks.items() if not mask.any()]
    if empty or not masks:
        raise UsageError(f"Cohort '{empty[0]}' has no rows." if empty else "There are no cohorts.")
    if len(masks) > _MOST:
        raise UsageError(f"There are {len(masks)} cohorts, more than {_MOST}.", hint="Give masks by name, or group the field's values.")
    return masks


def _mask(name: Any, given: Any, rows: int) -> NDArray[np.bool_]:
    mask = np.asarray(given)
    if mask.dtype != bool or mask.shape != (rows,):
        raise UsageError(f"The mask '{name}' must be one boolean for each of the {rows} rows.")
    return mask


def _of_field(data: Dataset, name: str, bins: Sequence[float] | None) -> dict[str, NDArray[np.bool_]]:
    field = data.schema[name]
    if field.type is FieldType.TENSOR:
        raise UsageError(f"'{name}' holds tensors, which make no cohorts.", hint="Give masks by name.")
    if field.type is FieldType.NUMERIC:
        return _binned(data.to_numpy(name), bins)
    if bins is not None:
        raise UsageError(f"'{name}' holds no numbers, so it takes no bins.")
    texts = np.array(data.to_text(name), dtype=object)
    masks = {str(text): texts == text for text in sorted({text for text in texts if text is not None})}
    return {**masks, _unused("missing", masks): np.array([text is None for text in texts])}


def _binned(numbers: NDArray[np.float64], bins: Sequence[float] | None) -> dict[str, NDArray[np.bool_]]:
    known = numbers[np.isfinite(numbers)]
    if bins is None:
        edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="inverted_cdf")) if len(known) else np.empty(0)
        edges = edges[edges > known.min(initial=np.inf)]
    else:
        edges = np.asarray(bins, dtype=np.float64)
        if edges.ndim != 1 or not len(edges) or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise UsageError("Bins must be numbers in ascending order.")
    place = np.searchsorted(edges, numbers, side="right")
    between = [f"{low:.15g} to {high:.15g}" for low, high in pairwise(edges)]
    names = [f"below {edges[0]:.15g}", *between, f"from {edges[-1]:.15g}"] if len(edges) else ["all"]
    masks = {name: np.isfinite(numbers) & (place == number) for number, name in enumerate(names)}
    return {**masks, "missing": ~np.isfinite(numbers)}


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else f"{name} value"
