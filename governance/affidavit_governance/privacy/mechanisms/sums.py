"""Sums over rows that one record can move only so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def grouped(rows: Floats, groups: NDArray[np.int64] | None, number: int) -> Floats:
    """Sum of the rows of each group, shape number × columns. Rows of groups outside 0..number-1 count nowhere."""
    if groups is None:
        return np.asarray(rows.sum(axis=0, keepdims=True))
    known = (groups >= 0) & (groups < number)
    return np.stack([np.bincount(groups[known], weights=column[known], minlength=number) for column in rows.T], axis=1)
