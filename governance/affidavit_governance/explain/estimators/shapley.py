"""Shapley values of a cooperative game: exact by enumeration where that fits the budget, by leverage regression where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit_governance.explain.estimators.enumeration import enumerated, enumerated_mean, fits
from affidavit_governance.explain.estimators.games import DEFAULT_BUDGET, Family, Game, Shapley
from affidavit_governance.explain.estimators.leverage import by_leverage

__all__ = ["DEFAULT_BUDGET", "Family", "Game", "Shapley", "estimate_mean_shapley", "estimate_shapley", "shapley_values"]


def shapley_values(game: Game, players: int | Sequence[object], budget: int | None = None, *, seed: int = 0) -> NDArray[np.float64]:
    """Shapley values of `game`, one a player: exact when 2ⁿ coalitions fit `budget`, sampled otherwise.

    Parameters
    ----------
    game
        Takes a boolean array (coalitions × players) and gives the value of each coalition.
    players
        How many players there are, or the players themselves.
    budget
        Coalitions that may be evaluated; default 65 536. Sampling needs at least ``2 n + 6``.
    seed
        Of the sampled coalitions.

    Raises
    ------
    UsageError
        The budget is too small.
    InvalidInput
        The game gives another number of values than it was asked for, or one that is not finite.
    """
    return estimate_shapley(game, players, budget, seed=seed).values


def estimate_shapley(game: Game, players: int | Sequence[object], budget: int | None = None, *, seed: int = 0) -> Shapley:
    """The same as `shapley_values`, with base, total, error bars and covariance."""
    count = players if isinstance(players, int) else len(players)
    budget = DEFAULT_BUDGET if budget is None else budget
    if count < 0:
        raise UsageError(f"A game cannot have {count} players.")
    if fits(count, 1, budget):
        return enumerated(game, count)
    return by_leverage(lambda coalitions, _: game(coalitions), count, 1, budget, seed=seed)


def estimate_mean_shapley(game: Family, players: int, games: int, budget: int, *, seed: int = 0) -> Shapley:
    """Shapley values of the mean of several games over the same players, such as one game for each background row.

    Parameters
    ----------
    game
        Takes coalitions × players and, for each coalition, the number of the game (from 0); gives the value of each.
    games
        How many games there are.
    budget
        Single values that may be asked for; sampling needs at least two for each game and ``2 n + 4`` more.

    Raises
    ------
    UsageError, InvalidInput
        As in `shapley_values`.
    """
    if fits(players, games, budget):
        return enumerated_mean(game, players, games)
    return by_leverage(game, players, games, budget, seed=seed)
