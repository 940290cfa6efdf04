"""Points that fill the unit cube more evenly than random ones: shifted lattices, arrays only.

Sources: Sloan, Joe 1994 (lattice rules); Sloan, Reztsov 2002 (one component after the other); Cranley, Patterson 1976 (random shift).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TRIES = 16
"""Candidates for each component: 30 bring the error down by another twentieth, for twice the time."""

_THIRD_ORDER = 0.5
"""Weight of three columns together against two: without it the last columns of 30 are chosen by pairs alone and repeat each other."""


def shifted_lattice(points: int, columns: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Points × columns in [0, 1): a rank-one lattice under a random shift.

    Each column holds one point in each of `points` equal strata, and the generating vector is the best of random candidates for pairs and
    triples of columns, so that interactions of two players average out as well. Each point on its own is uniform, so means over the points
    are unbiased; another generator draws other points.
    """
    index = np.arange(points)
    lattice = np.empty((points, columns))
    singles, pairs = np.zeros(points), np.zeros(points)
    for column in range(columns):
        best = np.inf
        for multiplier in _coprime(points, _TRIES if column else 1, generator):
            place = index * multiplier % points / points
            kernel = 6 * (place * place - place) + 1  # the Bernoulli polynomial of degree two, scaled to a variance near one
            score = float(((singles + _THIRD_ORDER * pairs) * kernel).mean())
            if score < best:
                best, chosen, kernel_chosen = score, place, kernel
        lattice[:, column] = chosen
        pairs += singles * kernel_chosen
        singles += kernel_chosen
    return (lattice + generator.random(columns)) % 1.0


def _coprime(points: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Some multipliers that have no divisor in common with `points`, so that a column visits every stratum."""
    known: list[int] = []
    while len(known) < count:
        drawn = generator.integers(1, points, size=4 * count) if points > 2 else np.ones(count, dtype=np.int64)
        known += drawn[np.gcd(drawn, points) == 1].tolist()
    return np.array(known[:count], dtype=np.int64)
