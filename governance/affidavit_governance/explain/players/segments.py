"""Where a series is cut into segments: equal lengths, or at quiet places near those."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WINDOWS = 16
"""Energy is smoothed over a window of this part of a segment: shorter, and a cut falls on a zero crossing in the middle of a vowel."""


def equal_cuts(length: int, count: int) -> NDArray[np.int64]:
    """The first place of each of `count` segments whose lengths differ by one at most."""
    return -(-np.arange(count) * length // count)


def quiet_cuts(energy: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The first place of each of `count` segments, each cut at the place of least smoothed energy within a third of a segment of the equal cut.

    Parameters
    ----------
    energy
        Shape length, the squared signal.

    Of several equally quiet places the one nearest to the equal cut is taken, so that silence is cut evenly.
    """
    length = len(energy)
    equal = equal_cuts(length, count)
    reach = length // (3 * count)
    window = max(1, length // (count * _WINDOWS)) | 1
    total = np.concatenate([[0.0], np.cumsum(energy)])
    low = np.maximum(np.arange(length) - window // 2, 0)
    high = np.minimum(np.arange(length) + window // 2 + 1, length)
    smooth = (total[high] - total[low]) / (high - low)
    starts = equal.copy()
    for index in range(1, count):
        near = np.arange(max(equal[index] - reach, 1), min(equal[index] + reach + 1, length))
        # Running sums leave rounding noise where the signal is silent, which must not decide.
        quiet = np.flatnonzero(smooth[near] <= smooth[near].min() + 1e-12 * total[-1])
        starts[index] = near[quiet[np.argmin(abs(near[quiet] - equal[index]))]]
    return starts
