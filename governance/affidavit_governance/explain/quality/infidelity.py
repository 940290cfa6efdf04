"""Infidelity: how far attributions are from the changes of the answer that they should add up to (Yeh, Hsieh, Suggala, Inouye, Ravikumar 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.estimators.shapley import Game


@dataclass(frozen=True, slots=True)
class Infidelity:
    """Of one row, in squared units of the explained output.

    Attributes
    ----------
    value
        The mean over random sets of players of ``(sum of their attributions - fall of the answer without them)²``.
    floor
        The mean of the same with the row's attributions dealt to its players at random.
    """

    value: float
    floor: float


def infidelity(game: Game, values: NDArray[np.float64], sets: int, deals: int, generator: np.random.Generator) -> Infidelity:
    """Measure one row. The perturbation is the removal of a set of players, drawn by size first, so that small and large sets count alike.

    Parameters
    ----------
    values
        One attribution a player of `game`.
    sets
        Sets of players removed.
    deals
        Random deals of the attributions for the floor.
    """
    count = len(values)
    sizes = generator.integers(1, count + 1, size=sets)
    removed = generator.permuted(np.tile(np.arange(count), (sets, 1)), axis=1) < sizes[:, None]
    distinct, which = np.unique(np.concatenate([np.ones((1, count), dtype=bool), ~removed]), axis=0, return_inverse=True)
    answers = game(distinct)[which.reshape(-1)]
    falls = answers[0] - answers[1:]
    dealt = np.stack([values, *(values[generator.permutation(count)] for _ in range(deals))])
    found = ((dealt @ removed.T - falls) ** 2).mean(axis=1)
    return Infidelity(float(found[0]), float(found[1:].mean()))
