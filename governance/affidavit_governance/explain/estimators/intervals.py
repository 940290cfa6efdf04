"""Intervals of estimated values: Student's t, variances that players lend each other, skewness, and the covariance that stands for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NORMAL_95 = 1.959964
"""Two-sided 95 % point of the normal distribution."""

_PRIOR = 2
"""Degrees of freedom that the players' common variance counts for, at most as many as the sample has: fewer leave votes uncovered, more
narrow the intervals of the players with the largest variances."""

_STRETCH = 2.0
"""An interval is made at most so many times wider for skewness: beyond that the expansion in powers of the sample size says nothing."""


_FEW = np.log((12.7062, 4.3027, 3.1824, 2.7764, 2.5706))
"""Logarithms of the two-sided 95 % points of Student's t with one to five degrees of freedom: all but a line in one over those."""


def student_95(freedom: float) -> float:
    """Two-sided 95 % point of Student's t: from a table up to five degrees of freedom, then by Fisher's expansion.

    The error is below 0.003; between the whole numbers of the table below 3 %.
    """
    if freedom <= len(_FEW):
        return float(np.exp(np.interp(-1 / freedom, -1 / np.arange(1.0, len(_FEW) + 1), _FEW)))
    z = NORMAL_95
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def widened(covariance: NDArray[np.float64], freedom: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """The covariance of the normal distribution whose 95 % intervals are Student's with `freedom` degrees of freedom, all or each value's."""
    wider = np.array([student_95(each) for each in np.atleast_1d(freedom)]) / NORMAL_95
    wide: NDArray[np.float64] = covariance * np.outer(wider, wider)
    return wide


def half_widths(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """95 % half-widths of values with this (widened) covariance."""
    half: NDArray[np.float64] = NORMAL_95 * np.sqrt(np.diag(covariance))
    return half


def moderated(covariance: NDArray[np.float64], freedom: int) -> tuple[NDArray[np.float64], int]:
    """The covariance of a sample over players, shrunk toward the players' common variance, and its degrees of freedom then.

    A player who matters in few orders shows no spread in most small samples; what the others show says how much may have been missed. The
    variances become those of Smyth (2004, "Linear models and empirical Bayes methods", section 4) with a fixed number of degrees of
    freedom for the prior. What it is shrunk toward is the covariance of equal players whose values have a known sum, so that the
    variance of the sum stays zero.

    Parameters
    ----------
    covariance
        Players × players, two players or more; each sample's sum over players is the same.
    freedom
        Of `covariance`.
    """
    players, prior = len(covariance), min(_PRIOR, freedom)
    alike = (np.eye(players) - 1 / players) * np.trace(covariance) / (players - 1)
    return (freedom * covariance + prior * alike) / (freedom + prior), freedom + prior


def stretches(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many times wider than Student's t the intervals of the means of skewed samples are, one number a player, from 1 to 2.

    The second-order Cornish-Fisher expansion of the studentised mean (Hall 1992, "The Bootstrap and Edgeworth Expansion", section 2.6) has
    the term ``γ² (z⁴ + 2 z² - 3) / (18 n)`` for the skewness γ, relative to z. As with the variances, players lend each other their
    third moments; the square that normal samples show by chance is taken off.

    Parameters
    ----------
    samples
        Samples × players.
    """
    spread = samples - samples.mean(axis=0)
    covariance, freedom = moderated(spread.T @ spread / (len(samples) - 1), len(samples) - 1)
    prior = freedom - (len(samples) - 1)
    third = abs((spread**3).mean(axis=0))
    third = ((len(samples) - 1) * third + prior * third.mean()) / freedom
    variance = np.diag(covariance)
    square = np.divide(third**2, variance**3, out=np.zeros_like(third), where=variance**3 > 0)
    counted = len(samples) + prior
    z = NORMAL_95
    relative = (z**4 + 2 * z**2 - 3) / 18 / counted
    wider: NDArray[np.float64] = np.minimum(1 + relative * np.maximum(square - 6 / counted, 0), _STRETCH)
    return wider
