"""Cooperative games, and what an estimate of their Shapley values says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput

Game = Callable[[NDArray[np.bool_]], NDArray[np.float64]]
"""Takes coalitions × players (true: the player is in) and gives one value a coalition."""

Family = Callable[[NDArray[np.bool_], NDArray[np.int64]], NDArray[np.float64]]
"""The same for several games at once: the second argument says which game each coalition is played in."""

DEFAULT_BUDGET = 2**16
"""Coalitions evaluated where the caller names no budget: up to 16 players are enumerated."""

CHUNK = 2**14
"""Coalitions handed to the game at a time, so that 2ⁿ of them never stand in memory together."""


@dataclass(frozen=True, slots=True)
class Shapley:
    """Shapley values with what they rest on.

    Attributes
    ----------
    values
        One a player.
    base, total
        Value of the empty and of the grand coalition; ``base + values.sum()`` is `total`.
    errors
        Half-width of the 95 % interval of each value, from the spread between sampled pairs; None where the values are exact. A contribution
        so rare that no sampled coalition showed it is outside what the interval can say.
    evaluations
        Coalitions evaluated.
    covariance
        Players × players: of the normal distribution that has the same 95 % intervals, widened where few samples make the spread itself
        uncertain; None where the values are exact.
    """

    values: NDArray[np.float64]
    base: float
    total: float
    errors: NDArray[np.float64] | None
    evaluations: int
    covariance: NDArray[np.float64] | None = None


def evaluate(game: Callable[..., NDArray[np.float64]], coalitions: NDArray[np.bool_], *which: NDArray[np.int64]) -> NDArray[np.float64]:
    """The values of `coalitions`, one finite number each. Raises InvalidInput where the game gives anything else."""
    values = np.asarray(game(coalitions, *which), dtype=np.float64)
    if values.shape != (len(coalitions),):
        raise InvalidInput(f"The game was asked for {len(coalitions)} values and gave an array of shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InvalidInput(f"The game gave {int((~np.isfinite(values)).sum())} values that are not finite numbers.")
    return values
