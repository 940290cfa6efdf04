"""What follows from a release although it was withheld: base and attributions add up to the prediction, and an order bounds what it leaves out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SAME = 1e-9
"""A value is known when its bounds are this close, relative to the row's scale."""


def bounds_given_sum(low: NDArray[np.float64], high: NDArray[np.float64], total: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The tightest bounds on each of several numbers that lie between `low` and `high` and add up to `total`; bounds may be infinite."""
    least = np.maximum(low, total - _sum_of_others(high))
    most = np.minimum(high, total - _sum_of_others(low))
    return least, most


def recoverable(low: NDArray[np.float64], high: NDArray[np.float64], withheld: NDArray[np.bool_], total: float) -> int:
    """How many of the withheld numbers of a row follow from the rest, to 1e-9 of the row's scale.

    Parameters
    ----------
    low, high
        What the release says of each number by itself; the same for a released number.
    total
        What they add up to: prediction less base.
    """
    least, most = bounds_given_sum(low, high, total)
    known = np.concatenate([low[np.isfinite(low)], high[np.isfinite(high)], [total]])
    scale = float(abs(known).max())
    return int((withheld & (most - least <= _SAME * scale)).sum())


def _sum_of_others(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each number the sum of all others, infinite where one of those is."""
    endless = ~np.isfinite(numbers)
    finite = np.where(endless, 0.0, numbers)
    sign = float(numbers[endless][0]) if endless.any() else 0.0
    others: NDArray[np.float64] = np.where(endless.sum() - endless > 0, sign, finite.sum() - finite)
    return others
