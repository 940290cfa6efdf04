"""Shapley values of a cooperative game: exact by enumeration, or sampled by antithetic permutations with error bars.

Sources: Shapley 1953; Castro, Gómez, Tejada 2009 (permutation sampling); Mitchell, Cooper, Frank, Holmes 2022 (antithetic permutations);
Covert, Lee 2021 (pairing is exact on games without interactions above order two).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError

Game = Callable[[NDArray[np.bool_]], NDArray[np.float64]]
"""Takes coalitions × players (true: the player is in) and gives one value a coalition."""

Family = Callable[[NDArray[np.bool_], NDArray[np.int64]], NDArray[np.float64]]
"""The same for several games at once: the second argument says which game each coalition is played in."""

DEFAULT_BUDGET = 2**16
"""Coalitions evaluated where the caller names no budget: up to 16 players are enumerated."""

_CHUNK = 2**14
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
        Half-width of the 95 % interval of each value, from the spread between pairs of orders; None where the values are exact. A
        contribution so rare that no sampled order showed it is outside what the interval can say.
    evaluations
        Coalitions evaluated.
    """

    values: NDArray[np.float64]
    base: float
    total: float
    errors: NDArray[np.float64] | None
    evaluations: int


def shapley_values(game: Game, players: int | Sequence[object], budget: int | None = None, *, seed: int = 0) -> NDArray[np.float64]:
    """Shapley values of `game`, one a player: exact when 2ⁿ coalitions fit `budget`, sampled otherwise.

    Parameters
    ----------
    game
        Takes a boolean array (coalitions × players) and gives the value of each coalition.
    players
        How many players there are, or the players themselves.
    budget
        Coalitions that may be evaluated; default 65 536. Sampling needs at least ``4 n - 2``.
    seed
        Of the sampled permutations.

    Raises
    ------
    UsageError
        The budget is too small.
    InvalidInput
        The game gives another number of values than it was asked for, or one that is not finite.
    """
    return estimate_shapley(game, players, budget, seed=seed).values


def estimate_shapley(game: Game, players: int | Sequence[object], budget: int | None = None, *, seed: int = 0) -> Shapley:
    """The same as `shapley_values`, with base, total and error bars."""
    count = players if isinstance(players, int) else len(players)
    budget = DEFAULT_BUDGET if budget is None else budget
    if count < 0:
        raise UsageError(f"A game cannot have {count} players.")
    if count < budget.bit_length() and 2**count <= budget:
        return _enumerate(game, count)
    if budget < 4 * count - 2:
        hint = f"Give at least {4 * count - 2}, so that there is an error bar."
        raise UsageError(f"A budget of {budget} coalitions is too small for {count} players.", hint=hint)
    pairs = (budget - 2) // (2 * (count - 1))
    return _permutations(lambda coalitions, _: game(coalitions), count, 1, pairs, np.random.default_rng(seed))


def estimate_mean_shapley(game: Family, players: int, games: int, budget: int, *, seed: int = 0) -> Shapley:
    """Shapley values of the mean of several games over the same players, such as one game for each background row.

    Each game gets orders of its own, so that a budget buys many more of them than where every coalition is put to all games; and each gets
    as many as the others, so that base and total are the exact means.

    Parameters
    ----------
    game
        Takes coalitions × players and, for each coalition, the number of the game (from 0); gives the value of each.
    games
        How many games there are.
    budget
        Single values that may be asked for; sampling needs at least ``2 n`` for each game. With less than ``4 n - 2`` for each, the
        intervals count the differences between games as error too: they are wider than they need be.

    Raises
    ------
    UsageError, InvalidInput
        As in `shapley_values`.
    """
    if players < 30 and games * 2**players <= budget:
        number = np.arange(games)

        def mean(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
            step = max(1, _CHUNK // games)
            parts = [coalitions[start : start + step] for start in range(0, len(coalitions), step)]
            values = [_evaluate(game, np.repeat(part, games, axis=0), np.tile(number, len(part))) for part in parts]
            means: NDArray[np.float64] = np.concatenate(values).reshape(-1, games).mean(axis=1)
            return means

        exact = _enumerate(mean, players)
        return replace(exact, evaluations=exact.evaluations * games)
    if budget < games * 2 * players:
        hint = f"Give at least {games * 2 * players}."
        raise UsageError(f"A budget of {budget} is too small for {players} players in {games} games.", hint=hint)
    pairs = (budget // games - 2) // (2 * (players - 1))
    return _permutations(game, players, games, pairs, np.random.default_rng(seed))


def _evaluate(game: Callable[..., NDArray[np.float64]], coalitions: NDArray[np.bool_], *which: NDArray[np.int64]) -> NDArray[np.float64]:
    values = np.asarray(game(coalitions, *which), dtype=np.float64)
    if values.shape != (len(coalitions),):
        raise InvalidInput(f"The game was asked for {len(coalitions)} values and gave an array of shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InvalidInput(f"The game gave {int((~np.isfinite(values)).sum())} values that are not finite numbers.")
    return values


def _enumerate(game: Game, players: int) -> Shapley:
    """Evaluate every coalition; coalition number c holds player i where bit i of c is set."""
    bits = np.arange(players)
    value = np.empty(2**players)
    size = np.empty(2**players, dtype=np.int64)
    for start in range(0, len(value), _CHUNK):
        codes = np.arange(start, min(start + _CHUNK, len(value)))
        coalitions = (codes[:, None] >> bits & 1).astype(bool)
        value[codes] = _evaluate(game, coalitions)
        size[codes] = coalitions.sum(axis=1)
    weight = np.array([1 / (players * comb(players - 1, s)) for s in range(players)])
    values = np.empty(players)
    for player in range(players):
        pairs = value.reshape(-1, 2, 2**player)
        others = size.reshape(-1, 2, 2**player)[:, 0]
        values[player] = (weight[others] * (pairs[:, 1] - pairs[:, 0])).sum()
    return Shapley(values, float(value[0]), float(value[-1]), None, len(value))


def _permutations(game: Family, players: int, games: int, pairs: int, generator: np.random.Generator) -> Shapley:
    """Average the marginal contributions along random orders, `pairs` for each game, each taken forwards and backwards.

    A pair of orders costs 2 (n - 1) coalitions besides the empty and the grand one, and adds up exactly; an interaction of two players
    falls to each of them once in a pair, so that only interactions of order three and more leave an error.
    """
    number = np.arange(games)
    ends = _evaluate(game, np.repeat([[False] * players, [True] * players], games, axis=0), np.tile(number, 2)).reshape(2, games)
    which = np.repeat(number, pairs)
    step = max(1, _CHUNK // (2 * (players - 1)))
    samples = np.empty((games * pairs, players))
    for start in range(0, len(which), step):
        each = which[start : start + step]
        order = generator.permuted(np.tile(np.arange(players), (len(each), 1)), axis=1)
        rank = np.argsort(np.stack([order, order[:, ::-1]], axis=1), axis=2)
        chain = rank[:, :, None, :] < np.arange(1, players)[None, None, :, None]
        value = np.empty((len(each), 2, players + 1))
        value[:, :, 0], value[:, :, -1] = ends[:, each, None]
        asked = _evaluate(game, chain.reshape(-1, players), np.repeat(each, 2 * (players - 1)))
        value[:, :, 1:-1] = asked.reshape(len(each), 2, players - 1)
        marginal = np.take_along_axis(np.diff(value, axis=2), rank, axis=2)
        samples[start : start + step] = marginal.mean(axis=1)
    base, total = ends.mean(axis=1)
    evaluations = 2 * games + len(which) * 2 * (players - 1)
    return Shapley(samples.mean(axis=0), float(base), float(total), _half_widths(samples.reshape(games, pairs, players)), evaluations)


def _half_widths(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """95 % half-widths of the mean over games × pairs × players: from the spread within games where there are several pairs in each."""
    games, pairs, _ = samples.shape
    if pairs > 1:
        variance, freedom = samples.var(axis=1, ddof=1).mean(axis=0), games * (pairs - 1)
    else:
        variance, freedom = samples[:, 0].var(axis=0, ddof=1), games - 1
    half: NDArray[np.float64] = _student_95(freedom) * np.sqrt(variance / (games * pairs))
    return half


def _student_95(freedom: int) -> float:
    """Two-sided 95 % point of Student's t: a table for few degrees of freedom, then Fisher's expansion (error below 0.003)."""
    if freedom <= 4:
        return (12.7062, 4.3027, 3.1824, 2.7764)[freedom - 1]
    z = 1.959964
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
