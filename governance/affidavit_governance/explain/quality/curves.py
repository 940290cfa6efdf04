"""Deletion and insertion curves: how fast the answer falls when players leave, strongest first, and rises when they come.

Sources: Samek, Binder, Montavon, Lapuschkin, Müller 2017 (deletion against random orders); Petsiuk, Das, Saenko 2018 (both curves, the area
under each). An absent player looks as in the game that the attributions explain, so tables take background values.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.estimators.shapley import Game

MOST_STEPS = 16
"""Steps along a curve at most; with more players several come or leave at once."""

_TIED = 1e-9
"""Attributions closer than this, relative to the row's largest, are tied: rounding alone must not give an order."""

_STILL = 1e-12
"""Answers closer than this, relative to their size, are the same: sums of the same numbers in another order differ by as much."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Areas under the curves of one row, in units of the explained output.

    Attributes
    ----------
    deletion, insertion
        With the players in the order of their attributions, largest first.
    floor
        The mean area with the players in random orders; the same for deletion and insertion, since each order is taken backwards too.
    spread
        The largest difference between any two answers seen along the curves; zero where it is no more than rounding.
    """

    deletion: float
    insertion: float
    floor: float
    spread: float

    @property
    def deletion_gap(self) -> float:
        """How much faster than in a random order the answer falls."""
        return self.floor - self.deletion

    @property
    def insertion_gap(self) -> float:
        """How much faster than in a random order the answer rises."""
        return self.insertion - self.floor


def tied_groups(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of each value among the distinct ones, largest first; tied values share a place."""
    order = np.argsort(-values, kind="stable")
    steps = -np.diff(values[order]) > _TIED * abs(values).max(initial=0.0)
    places = np.empty(len(values), dtype=np.int64)
    places[order] = np.concatenate([[0], np.cumsum(steps)]) if len(values) else order
    return places


def curves(game: Game, values: NDArray[np.float64], draws: int, generator: np.random.Generator) -> Curves:
    """Measure the curves of one row's attributions against random orders.

    Ties are broken by each of the random orders in turn, so that attributions which are all equal get the floor's own orders, and gaps of
    exactly zero.

    Parameters
    ----------
    values
        One attribution a player of `game`.
    draws
        Random orders; each is taken backwards too.
    """
    count = len(values)
    drawn = np.array([generator.permutation(count) for _ in range(draws)], dtype=np.int64).reshape(draws, count)
    random = np.concatenate([drawn, drawn[:, ::-1]])
    groups = tied_groups(values)
    own = np.array([order[np.argsort(groups[order], kind="stable")] for order in random]) if groups.max(initial=0) < count - 1 else None
    chosen = own if own is not None else np.argsort(groups)[None, :]
    areas, spread = _areas(game, np.concatenate([random, chosen, chosen[:, ::-1]]))
    floor, insertion, deletion = np.split(areas, [len(random), len(random) + len(chosen)])
    return Curves(_mean(deletion), _mean(insertion), _mean(floor), spread)


def _mean(areas: NDArray[np.float64]) -> float:
    """The mean, summed exactly: the floor's orders stand in another sequence than their reverses, and must give the same number."""
    return fsum(areas) / len(areas)


def _areas(game: Game, orders: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """The area under the curve of each order (players come in from the first to the last), and the spread of all answers.

    Leaving in an order from the first to the last goes through the same coalitions as coming in the order backwards.
    """
    count = orders.shape[1]
    sizes = np.unique(np.linspace(0, count, min(count, MOST_STEPS) + 1).round().astype(np.int64))
    place = np.argsort(orders, axis=1)
    coalitions = place[:, None, :] < sizes[None, :, None]
    distinct, which = np.unique(coalitions.reshape(-1, count), axis=0, return_inverse=True)
    answers = game(distinct)
    heights = answers[which].reshape(len(orders), len(sizes))
    areas = (heights[:, 1:] + heights[:, :-1]) @ np.diff(sizes / count) / 2
    spread = float(answers.max() - answers.min())
    return areas, spread if spread > _STILL * float(abs(answers).max()) else 0.0
