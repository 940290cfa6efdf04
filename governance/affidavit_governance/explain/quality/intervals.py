"""Means and ratios of means over explained rows, with 95 % intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affidavit.interfaces.model import Metric
from affidavit_governance.explain.estimators.intervals import student_95


def ratio_of_means(numerators: ArrayLike, denominators: ArrayLike | None = None) -> Metric:
    """``sum(numerators) / sum(denominators)`` over rows, with Student's interval of the linearised ratio (Cochran 1977, section 6.4).

    A ratio of means is not thrown by single rows whose own denominator is near zero, as a mean of ratios is. Without denominators it is
    the mean.

    Parameters
    ----------
    numerators, denominators
        One number a row; the denominators' sum is above zero.
    """
    above = np.asarray(numerators, dtype=np.float64)
    below = np.ones(len(above)) if denominators is None else np.asarray(denominators, dtype=np.float64)
    ratio = float(above.sum() / below.sum())
    if len(above) < 2:
        return Metric(ratio)
    rest: NDArray[np.float64] = (above - ratio * below) / below.mean()
    half = student_95(len(above) - 1) * float(np.sqrt((rest**2).sum() / (len(above) - 1) / len(above)))
    return Metric(ratio, ratio - half, ratio + half)
