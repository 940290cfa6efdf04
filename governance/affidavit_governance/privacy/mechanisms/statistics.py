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

_MAGNITUDES = 4.0 ** np.arange(-10, 21)
EDGES: Floats = np.concatenate([-_MAGNITUDES[::-1], _MAGNITUDES])
"""Edges of the first histogram: powers of four of both signs, from a millionth to a trillion; what lies beyond counts in the last bin.

Wider bins hold more records each; narrower ones would drown in noise where a few hundred records spread over both signs.
"""

ZERO_BIN = len(_MAGNITUDES) - 1
FINE_BINS = 32
NARROW_SHARE = 0.7
"""Share of the records in a few standing-out bins from which these alone count; else the values are spread, and every bin counts."""


def center_and_scale(columns: Floats, release: Release) -> tuple[Floats, Floats, int]:
    """Mean and standard deviation of each column, within the range where most of it lies.

    A histogram over powers of four finds the range: the hull of the bins whose noisy counts stand out from noise. A second one over 32 equal
    bins of that range gives the moments; values outside count in its end bins. Columns of which no bin but zero's stands out get 0 and 1.

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
    """Counts over 32 equal bins between `low` and `high` of each column, values outside in the end bins; shape columns × 32."""
    with np.errstate(invalid="ignore", over="ignore"):
        position = np.nan_to_num((columns - low) / (high - low) * FINE_BINS)
    return _counts(np.clip(np.floor(position), 0, FINE_BINS - 1).astype(np.int64), np.isfinite(columns), FINE_BINS)


def _counts(bins: NDArray[np.int64], present: NDArray[np.bool_], number: int) -> Floats:
    columns = bins.shape[1]
    flat = (bins + number * np.arange(columns))[present]
    return np.bincount(flat, minlength=columns * number).reshape(columns, number).astype(np.float64)


def find_range(noisy: Floats, deviation: float) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Ends of the bins that stand out from noise, and whether there are any besides zero's, by column."""
    bins = noisy.shape[1]
    kept = _standing_out(noisy, deviation)
    seen = np.asarray(np.delete(kept, ZERO_BIN, axis=1).any(axis=1))
    first, last = kept.argmax(axis=1), bins - 1 - kept[:, ::-1].argmax(axis=1)
    return np.where(seen, EDGES[first], -1.0), np.where(seen, EDGES[last + 1], 1.0), seen


def moments(noisy: Floats, deviation: float, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of noisy counts over equal bins, each count at its bin's middle.

    Where a few bins hold nearly all, the others' noise is left out: it would hide how narrow the column is. The scale is at least that of
    values spread over one bin, and for spread columns, whose variance the noise may even turn negative, a sixteenth of the range.
    """
    width = (high - low) / FINE_BINS
    middles = low[:, None] + width[:, None] * (np.arange(FINE_BINS) + 0.5)
    kept: Floats = np.where(_standing_out(noisy, deviation), noisy, 0.0)
    narrow = np.asarray(kept.sum(axis=1) > NARROW_SHARE * np.maximum(noisy.sum(axis=1), deviation))
    weights = np.where(narrow[:, None], kept, noisy)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), deviation)
    center = np.clip((weights * middles).sum(axis=1), low, high)
    variance = (weights * (middles - center[:, None]) ** 2).sum(axis=1)
    least = np.where(narrow, width**2 / 12.0, ((high - low) / 16.0) ** 2)
    return center, np.sqrt(np.maximum(variance, least))


def _standing_out(noisy: Floats, deviation: float) -> NDArray[np.bool_]:
    """Counts above √(2 ln 100 m) deviations: among m empty bins that happens once in more than a hundred times.

    One stray bin at the far end would make a column's range, and with it the column, useless.
    """
    kept: NDArray[np.bool_] = noisy > deviation * np.sqrt(2.0 * np.log(100.0 * noisy.shape[1]))
    return kept
