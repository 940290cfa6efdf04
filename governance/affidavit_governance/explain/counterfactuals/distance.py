"""How far rows lie apart, and how near a row lies to the data: pure functions of coordinates.

A coordinate is a number for an ordered field, NaN where it is missing, and a code for a category.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 5
"""Neighbours whose mean distance says how dense the data are at a place: one alone would take a repeated row for a dense region."""

_TIE = 1e-12
"""Distances that differ by less are equal: sums of the same terms in another order."""

Coordinates = NDArray[np.float64]


def robust_spread(values: NDArray[np.float64]) -> float:
    """A standard deviation that few outliers do not move: 1.4826 times the median absolute deviation of the known values.

    Where over half the values are equal that is zero; then it is the mean absolute deviation from the median, times √(π/2). Both factors
    make it the standard deviation of a normal distribution. Zero for constant or no values.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0
    deviation = abs(known - np.median(known))
    return float(1.4826 * np.median(deviation) or np.sqrt(np.pi / 2) * deviation.mean())


def field_distance(first: Coordinates, second: Coordinates, scale: float | None) -> NDArray[np.float64]:
    """The distance in one field, elementwise: |first - second| / scale of an ordered one, else 0 or 1 (Gower 1971, with a robust scale).

    Parameters
    ----------
    scale
        Of an ordered field; None for a category. A missing value is as far from a known one as two categories are from each other.
    """
    if scale is None:
        return np.asarray(first != second, dtype=np.float64)
    gaps = np.isnan(first).astype(np.int8) + np.isnan(second)
    with np.errstate(invalid="ignore"):
        apart: NDArray[np.float64] = np.where(gaps == 0, abs(first - second) / scale, gaps % 2)
    return apart


def distances(rows: Coordinates, reference: Coordinates, scales: list[float | None]) -> NDArray[np.float64]:
    """Rows × reference rows: the sum of the distances in all fields. Both arrays are rows × fields."""
    total = np.zeros((len(rows), len(reference)))
    for field, scale in enumerate(scales):
        total += field_distance(rows[:, field, None], reference[None, :, field], scale)
    return total


class Density:
    """How near rows lie to reference rows, as a share: the local-outlier question in the form of an empirical p-value.

    A row's remoteness is its mean distance to the nearest reference rows. Its plausibility is the share of the reference rows that are at
    least as remote from the others (conformal novelty detection with a k-nearest-neighbour score: Laxhammar and Falkman 2010).
    """

    @property
    def rows(self) -> int:
        """Reference rows."""
        return len(self._reference)

    def __init__(self, reference: Coordinates, scales: list[float | None]) -> None:
        self._reference = reference
        self._scales = scales
        self._count = min(NEIGHBOURS, max(1, len(reference) - 1))
        own = distances(reference, reference, scales)
        np.fill_diagonal(own, np.inf)
        self._remoteness = self._nearest_mean(own) if len(reference) > 1 else np.zeros(len(reference))

    def plausibility(self, rows: Coordinates) -> NDArray[np.float64]:
        """Between 0, farther out than any reference row, and 1; shape rows."""
        if not len(self._reference):
            return np.zeros(len(rows))
        remoteness = self._nearest_mean(distances(rows, self._reference, self._scales))
        share: NDArray[np.float64] = (self._remoteness[None, :] >= remoteness[:, None] - _TIE).mean(axis=1)
        return share

    def _nearest_mean(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        nearest: NDArray[np.float64] = np.partition(distance, self._count - 1, axis=1)[:, : self._count].mean(axis=1)
        return nearest
