"""How sure the order of attributions is: the probability that it survives resampling, and ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.estimators.intervals import NORMAL_95

TOP = 5
"""Players whose order is judged where nobody says how many: as many as a reader takes in."""

EQUAL = 1e-9
"""Exact values this near to each other, relative to the largest, are equal: their sums are no more exact than that."""

_DRAWS = 4000
"""Resampled orders; a probability is then known to 0.015 at worst."""


@dataclass(frozen=True, slots=True)
class Stability:
    """How sure the order of the players of one row by the size of their values is.

    Attributes
    ----------
    probability
        That the same `k` players would stand first, in the same order, with other coalitions drawn; 1 for exact values.
    ties
        Groups of players of which at least one is among the first `k`, and no two of a group can be told apart: the 95 % interval of the
        difference of their sizes has zero in it. A player may be in several groups: being tied is not transitive.
    """

    probability: float
    ties: list[list[int]]


def stability(values: NDArray[np.float64], covariance: NDArray[np.float64] | None = None, k: int = TOP, *, seed: int = 0) -> Stability:
    """Judge the order of `values` by size.

    Parameters
    ----------
    covariance
        Players × players, as in `Shapley`; None where the values are exact.
    k
        How many players from the top must keep their places.
    seed
        Of the resampled orders, drawn from the normal distribution around the values.
    """
    order = np.argsort(-abs(values), kind="stable")
    size = abs(values)[order]
    k = min(k, len(values))
    if covariance is None:
        margin = np.full((len(values), len(values)), EQUAL * size.max(initial=0.0))
        return Stability(1.0, _ties(order, size, margin, k))
    sign = np.where(values < 0, -1.0, 1.0)[order]
    spread = (covariance[np.ix_(order, order)] * np.outer(sign, sign)).astype(np.float64)
    variance = np.diag(spread)
    margin = NORMAL_95 * np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * spread, 0.0))
    scale, axes = np.linalg.eigh(spread)
    drawn = np.random.default_rng(seed).standard_normal((_DRAWS, len(values))) * np.sqrt(np.maximum(scale, 0.0))
    resampled = abs(size + drawn @ axes.T)
    first = resampled[:, :k]
    kept = (first[:, :-1] >= first[:, 1:]).all(axis=1)
    if 0 < k < len(values):
        kept &= first[:, -1] >= resampled[:, k:].max(axis=1)
    return Stability(float(kept.mean()), _ties(order, size, np.maximum(margin, EQUAL * size.max(initial=0.0)), k))


def _ties(order: NDArray[np.int64], size: NDArray[np.float64], margin: NDArray[np.float64], k: int) -> list[list[int]]:
    """The longest runs of neighbours in the order of which no two differ by more than their margin, from each of the first `k`."""
    tied = size[:, None] - size[None, :] <= margin
    runs: list[list[int]] = []
    reached = 0
    for first in range(k):
        end = first + 1
        while end < len(order) and tied[first:end, end].all():
            end += 1
        if end > first + 1 and end > reached:
            runs.append(order[first:end].tolist())
            reached = end
    return runs


def as_details(judged: Sequence[Stability], names: Sequence[Sequence[str]], k: int = TOP) -> dict[str, Any]:
    """What an explanation's details say under ``stability``: `k`, and for each row the probability and the ties by the players' names.

    Parameters
    ----------
    names
        For each row the names of the players that were judged.
    """
    ties = [[[own[place] for place in group] for group in each.ties] for each, own in zip(judged, names, strict=True)]
    return {"k": k, "probability": [each.probability for each in judged], "ties": ties}
