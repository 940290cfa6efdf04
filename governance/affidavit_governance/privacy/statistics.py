"""Centre and scale of columns from two noisy histograms; the noise is the caller's.

Every record adds one count per column to a histogram, or none where the value is missing. Over d columns released together one record
therefore moves the counts by at most √d (L2), whatever its values are. The bins of the first histogram are fixed; those of the second
follow from the first one's noisy counts alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Release = Callable[[Floats], tuple[Floats, float]]
"""Adds noise to counts (columns × bins) and tells its standard deviation."""

_MAGNITUDES = 2.0 ** np.arange(-20, 41)
EDGES: Floats = np.concatenate([-_MAGNITUDES[::-1], _MAGNITUDES])
"""Edges of the first histogram: powers of two of both signs, from a millionth to a trillion; what lies beyond counts in the last bin."""

FINE_BINS = 16
"""Bins of the second histogram. More would resolve more and hold fewer records each, so that noise drowned them."""


def center_and_scale(columns: Floats, release: Release) -> tuple[Floats, Floats, int]:
    """Mean and standard deviation of each column, within the range where most of it lies.

    A histogram over powers of two finds the range: the hull of the bins whose noisy counts stand out from noise. A second one over 16 equal
    bins of that range gives the moments; values outside count in its end bins. Columns of which no bin stands out get 0 and 1.

    Parameters
    ----------
    columns
        Rows × columns; NaN and infinities are missing.
    release
        Called twice; nothing else reads the counts.

    Returns
    -------
    tuple
        Centres, positive scales, and the number of columns of which nothing could be seen.
    """
    noisy, deviation = release(log_histogram(columns))
    low, high, seen = find_range(noisy, deviation)
    noisy, deviation = release(uniform_histogram(columns, low, high))
    center, scale = moments(noisy, deviation, low, high)
    return np.where(seen, center, 0.0), np.where(seen, scale, 1.0), int((~seen).sum())


def log_histogram(columns: Floats) -> Floats:
    """Counts over the intervals of `EDGES`, shape columns × (edges − 1); values beyond the ends count in the end bins."""
    bins = len(EDGES) - 1
    return _counts(np.clip(np.searchsorted(EDGES, columns, side="right") - 1, 0, bins - 1), np.isfinite(columns), bins)


def uniform_histogram(columns: Floats, low: Floats, high: Floats) -> Floats:
    """Counts over 16 equal bins between `low` and `high` of each column, values outside in the end bins; shape columns × 16."""
    with np.errstate(invalid="ignore", over="ignore"):
        position = np.nan_to_num((columns - low) / (high - low) * FINE_BINS)
    return _counts(np.clip(np.floor(position), 0, FINE_BINS - 1).astype(np.int64), np.isfinite(columns), FINE_BINS)


def _counts(bins: NDArray[np.int64], present: NDArray[np.bool_], number: int) -> Floats:
    columns = bins.shape[1]
    flat = (bins + number * np.arange(columns))[present]
    return np.bincount(flat, minlength=columns * number).reshape(columns, number).astype(np.float64)


def find_range(noisy: Floats, deviation: float) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Ends of the bins that stand out from noise, and whether there are any, by column."""
    bins = noisy.shape[1]
    kept = _standing_out(noisy, deviation)
    seen = kept.any(axis=1)
    first, last = kept.argmax(axis=1), bins - 1 - kept[:, ::-1].argmax(axis=1)
    return np.where(seen, EDGES[first], -1.0), np.where(seen, EDGES[last + 1], 1.0), seen


def moments(noisy: Floats, deviation: float, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of noisy counts over equal bins, each count at its bin's middle.

    Bins that do not stand out from noise are left out, and thin tails with them; the scale is at least that of values spread over one bin.
    """
    kept: Floats = np.where(_standing_out(noisy, deviation), noisy, 0.0)
    weights = np.where(kept.sum(axis=1, keepdims=True) > 0, kept, 1.0)
    weights /= weights.sum(axis=1, keepdims=True)
    width = (high - low) / FINE_BINS
    middles = low[:, None] + width[:, None] * (np.arange(FINE_BINS) + 0.5)
    center = (weights * middles).sum(axis=1)
    variance = (weights * (middles - center[:, None]) ** 2).sum(axis=1) + width**2 / 12.0
    return center, np.sqrt(variance)


def _standing_out(noisy: Floats, deviation: float) -> NDArray[np.bool_]:
    """Counts above √(2 ln m) deviations: on average the largest of m empty bins stays below that, and one stray bin would spoil a range."""
    kept: NDArray[np.bool_] = noisy > deviation * np.sqrt(2.0 * np.log(noisy.shape[1]))
    return kept
