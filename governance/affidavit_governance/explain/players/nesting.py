"""Hierarchies of players that stand in a row or in a plane, for Owen values: neighbours share a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.estimators.partition import Hierarchy

LEAST_SHARE = 1 / 3
"""A group is cut where each side keeps this share of it at least, so that the tree stays flat: each level doubles the contexts of what is below."""


def neighbours(breaks: Sequence[float]) -> Hierarchy:
    """Cut a row of players into two, and each side again, down to single ones.

    The cut is the strongest break near the middle; among equal ones it is the one nearest to the middle.

    Parameters
    ----------
    breaks
        For each player how strong the break before it is: 0 within a phrase, more between phrases. The first one's does not count.
    """
    return _cut(0, len(breaks), breaks) if breaks else []


def _cut(start: int, stop: int, breaks: Sequence[float]) -> Hierarchy:
    count = stop - start
    if count == 1:
        return start
    least = max(1, int(np.ceil(count * LEAST_SHARE)))
    where = range(start + least, stop - least + 1) if 2 * least <= count else range(start + count // 2, start + count // 2 + 1)
    middle = start + count / 2
    at = min(where, key=lambda place: (-breaks[place], abs(place - middle), place))
    return [_cut(start, at, breaks), _cut(at, stop, breaks)]


def halves(places: NDArray[np.float64]) -> Hierarchy:
    """Cut players in a plane into two equal halves along the side on which they reach farther, and each half again.

    Parameters
    ----------
    places
        Players × coordinates: the centre of each.
    """

    def cut(players: NDArray[np.int64]) -> Hierarchy:
        if len(players) == 1:
            return int(players[0])
        reach = np.ptp(places[players], axis=0)
        ordered = players[np.argsort(places[players, int(np.argmax(reach))], kind="stable")]
        middle = (len(players) + 1) // 2
        return [cut(ordered[:middle]), cut(ordered[middle:])]

    return cut(np.arange(len(places))) if len(places) else []
