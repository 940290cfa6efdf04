"""Integrals of slopes along straight paths from reference points to an explained point, refined where they do not add up.

Along a path, each player's slope integrates to what the player adds (Aumann and Shapley 1974; integrated gradients: Sundararajan, Taly and Yan
2017). Over all players these integrals give the difference of the path's ends, which is known: so each piece of a path says by itself how far
its integral is off, and pieces that are off are halved. A kink, such as ReLU makes, is closed in on at one more piece for each halving.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NODES = 5
"""Gauss-Legendre points of a piece, exact to degree nine; an odd number, so that one of them is the middle, where a piece is halved."""

SHORTEST = 2.0**-40
"""Pieces are not halved further: what is left of a kink there is rounding."""

Slopes = Callable[[NDArray[np.int64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Takes path numbers and positions from 0 to 1; gives the value at each point, and points × players: each player's share of the slope there."""

_at, _weight = np.polynomial.legendre.leggauss(NODES)
_AT, _WEIGHT = (_at + 1) / 2, _weight / 2


@dataclass(frozen=True, slots=True)
class Integrals:
    """What players add along paths.

    Attributes
    ----------
    values
        Paths × players.
    off
        For each path, the sum over its pieces of how far each is off, without sign.
    points
        Points at which slopes were asked.
    """

    values: NDArray[np.float64]
    off: NDArray[np.float64]
    points: int


def path_integrals(slopes: Slopes, starts: NDArray[np.float64], end: float, points: int, tolerance: float) -> Integrals:
    """Integrate each player's slope along each path.

    Parameters
    ----------
    starts, end
        The value at the start of each path, and at the end that they share.
    points
        At how many points slopes may be asked; at least `NODES` for each path.
    tolerance
        How far the mean over the paths may be off before pieces are halved, in the units of the values.
    """
    paths = len(starts)
    path, low, high = np.arange(paths), np.zeros(paths), np.ones(paths)
    first, last = np.asarray(starts, dtype=np.float64), np.full(paths, float(end))
    middle, values = _pieces(slopes, path, low, high)
    spent = paths * NODES
    while True:
        off = abs(last - first - values.sum(axis=1))
        worst = _worst(off, high - low, tolerance * paths)[: (points - spent) // (2 * NODES)]
        if not len(worst):
            break
        cut = (low[worst] + high[worst]) / 2
        both = np.concatenate([path[worst], path[worst]])
        lows, highs = np.concatenate([low[worst], cut]), np.concatenate([cut, high[worst]])
        halves_middle, halves = _pieces(slopes, both, lows, highs)
        spent += len(both) * NODES
        kept = np.setdiff1d(np.arange(len(path)), worst)
        first = np.concatenate([first[kept], first[worst], middle[worst]])
        last = np.concatenate([last[kept], middle[worst], last[worst]])
        path, low, high = np.concatenate([path[kept], both]), np.concatenate([low[kept], lows]), np.concatenate([high[kept], highs])
        middle, values = np.concatenate([middle[kept], halves_middle]), np.concatenate([values[kept], halves])
    total = np.zeros((paths, values.shape[1]))
    np.add.at(total, path, values)
    left: NDArray[np.float64] = np.bincount(path, weights=off, minlength=paths).astype(np.float64)
    return Integrals(total, left, spent)


def _pieces(
    slopes: Slopes, path: NDArray[np.int64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The value in the middle of each piece, and what each player adds along it."""
    at = low[:, None] + (high - low)[:, None] * _AT
    value, slope = slopes(np.repeat(path, NODES), at.reshape(-1))
    along = np.einsum("k,nkp->np", _WEIGHT, slope.reshape(len(path), NODES, -1))
    return value.reshape(-1, NODES)[:, NODES // 2], along * (high - low)[:, None]


def _worst(off: NDArray[np.float64], length: NDArray[np.float64], allowed: float) -> NDArray[np.int64]:
    """The pieces that are off most, so many that the others together stay within half of what is allowed."""
    if off.sum() <= allowed:
        return np.empty(0, dtype=np.int64)
    order = np.argsort(-off, kind="stable")
    rest = off.sum() - np.cumsum(off[order])
    worst = order[: int((rest > allowed / 2).sum()) + 1]
    return worst[length[worst] > SHORTEST]
