"""Shapley values from sampled orders of the players, each taken forwards and backwards.

Sources: Castro, Gómez, Tejada 2009 (permutation sampling); Mitchell, Cooper, Frank, Holmes 2022 (antithetic permutations); Smyth 2004 and
Hall 1992 for the intervals, see `intervals.moderated` and `intervals.stretches`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit_governance.explain.estimators.games import CHUNK, Family, Shapley, evaluate
from affidavit_governance.explain.estimators.intervals import half_widths, moderated, stretches, widened


def least_budget(players: int, games: int) -> int:
    """Values that one pair of orders in each game takes, or two pairs where there is one game, so that there is a spread."""
    return 4 * players - 2 if games == 1 else games * 2 * players


def by_permutations(game: Family, players: int, games: int, budget: int, *, seed: int = 0) -> Shapley:
    """Average the marginal contributions along random orders; each game gets orders of its own, and as many as the others.

    A pair of orders costs 2 (n - 1) coalitions besides the empty and the grand one, and adds up exactly; an interaction of two players
    falls to each of them once in a pair, so that only interactions of order three and more leave an error.

    The intervals come from the spread between pairs of orders: players lend each other a part of it, so that one who matters in few orders
    is not thought certain, and they are wider where it is skewed. With less than ``4 n - 2`` values for each of several games, they count
    the differences between games as error too: they are wider than they need be.

    Parameters
    ----------
    game
        Takes coalitions × players and, for each coalition, the number of the game (from 0); gives the value of each.
    games
        How many games there are; the values are those of their mean.
    budget
        Single values that may be asked for.

    Raises
    ------
    UsageError
        The budget is below `least_budget`.
    """
    if players < 2 or budget < least_budget(players, games):
        least = min(least_budget(players, games), games * 2**players) if players < 30 else least_budget(players, games)
        what = f"A budget of {budget} coalitions is too small for {players} players" + (f" in {games} games." if games > 1 else ".")
        raise UsageError(what, hint=f"Give at least {least}, so that there is an error bar.")
    pairs = (budget // games - 2) // (2 * (players - 1))
    generator = np.random.default_rng(seed)
    number = np.arange(games)
    ends = evaluate(game, np.repeat([[False] * players, [True] * players], games, axis=0), np.tile(number, 2)).reshape(2, games)
    which = np.repeat(number, pairs)
    step = max(1, CHUNK // (2 * (players - 1)))
    samples = np.empty((games * pairs, players))
    for start in range(0, len(which), step):
        each = which[start : start + step]
        order = generator.permuted(np.tile(np.arange(players), (len(each), 1)), axis=1)
        rank = np.argsort(np.stack([order, order[:, ::-1]], axis=1), axis=2)
        chain = rank[:, :, None, :] < np.arange(1, players)[None, None, :, None]
        value = np.empty((len(each), 2, players + 1))
        value[:, :, 0], value[:, :, -1] = ends[:, each, None]
        asked = evaluate(game, chain.reshape(-1, players), np.repeat(each, 2 * (players - 1)))
        value[:, :, 1:-1] = asked.reshape(len(each), 2, players - 1)
        marginal = np.take_along_axis(np.diff(value, axis=2), rank, axis=2)
        samples[start : start + step] = marginal.mean(axis=1)
    base, total = ends.mean(axis=1)
    covariance = _covariance(samples.reshape(games, pairs, players))
    evaluations = 2 * games + len(which) * 2 * (players - 1)
    return Shapley(samples.mean(axis=0), float(base), float(total), half_widths(covariance), evaluations, covariance)


def _covariance(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of the mean over games × pairs × players: from the spread within games where there are several pairs in each."""
    games, pairs, players = samples.shape
    centre = samples.mean(axis=1, keepdims=True) if pairs > 1 else samples.mean(axis=0, keepdims=True)
    spread = (samples - centre).reshape(-1, players)
    freedom = games * (pairs - 1) if pairs > 1 else games - 1
    covariance, freedom = moderated(spread.T @ spread / freedom, freedom)
    wider = stretches(samples.reshape(-1, players))  # over all games: two pairs in a game are always symmetric about their mean
    return widened(covariance / (games * pairs), freedom) * np.outer(wider, wider)
