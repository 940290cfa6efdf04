"""Interactions of two players in a cooperative game: exact by enumeration, or sampled with error bars.

The matrix of Shapley interaction values (Lundberg et al. 2020, "From local explanations to global understanding with explainable AI for
trees", Methods): off the diagonal half of the Shapley interaction index of Grabisch and Roubens (1999, "An axiomatic approach to the concept of
interaction among players in cooperative games"), so that the two places of a pair share it; on the diagonal what is left of each player's
Shapley value. It is symmetric, and each row sums to its player's value.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit_governance.explain.estimators.enumeration import fits
from affidavit_governance.explain.estimators.games import CHUNK, Family, Game, evaluate
from affidavit_governance.explain.estimators.intervals import student_95

LEAST_COVERS = 2
"""Samples of every pair without which there is no spread between them."""


@dataclass(frozen=True, slots=True)
class Interactions:
    """Interactions of the pairs of players.

    Attributes
    ----------
    pairs
        Players × players, symmetric: half of each pair's interaction index; the diagonal is zero.
    errors
        Half-width of the 95 % interval of each; None where they are exact.
    evaluations
        Coalitions evaluated.
    """

    pairs: NDArray[np.float64]
    errors: NDArray[np.float64] | None
    evaluations: int

    def matrix(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The pairs with what is left of the players' Shapley values on the diagonal, so that each row sums to its player's value."""
        whole: NDArray[np.float64] = self.pairs + np.diag(values - self.pairs.sum(axis=1))
        return whole


def interaction_values(game: Game, players: int) -> Interactions:
    """The interactions of all pairs, from all 2ⁿ coalitions.

    Parameters
    ----------
    game
        Takes a boolean array (coalitions × players) and gives the value of each coalition.

    Raises
    ------
    InvalidInput
        The game gives another number of values than it was asked for, or one that is not finite.
    """
    codes = np.arange(2**players)
    value = np.empty(len(codes))
    for start in range(0, len(codes), CHUNK):
        part = codes[start : start + CHUNK]
        value[part] = evaluate(game, (part[:, None] >> np.arange(players) & 1).astype(bool))
    size = np.bitwise_count(codes).astype(np.int64)
    weight = np.array([1 / (2 * (players - 1) * comb(players - 2, s)) for s in range(players - 1)])
    pairs = np.zeros((players, players))
    for second in range(players):
        for first in range(second):
            # Axes: higher players, the second, those between, the first, lower ones.
            shape = (-1, 2, 2 ** (second - first - 1), 2, 2**first)
            cube, others = value.reshape(shape), size.reshape(shape)[:, 0, :, 0]
            together = cube[:, 1, :, 1] - cube[:, 1, :, 0] - cube[:, 0, :, 1] + cube[:, 0, :, 0]
            pairs[first, second] = pairs[second, first] = (weight[others] * together).sum()
    return Interactions(pairs, None, len(codes))


def estimate_interactions(game: Family, players: int, games: int, budget: int, *, seed: int = 0) -> Interactions:
    """The interactions of all pairs in the mean of several games over the same players, such as one game for each background row.

    Exact where all coalitions of all games fit the budget. Else orders are sampled in covers: sets of orders in which every two players stand
    side by side once (Walecki's paths, shuffled), each forwards and backwards. Swapping two neighbours shows what they do together given those
    before them, and over random orders that is the interaction index. Each cover belongs to one game; they take turns in a random order.

    Parameters
    ----------
    game
        Takes coalitions × players and, for each coalition, the number of the game; gives the value of each.
    budget
        Single values that may be asked for.

    Raises
    ------
    UsageError
        The budget is too small for two covers.
    InvalidInput
        As in `interaction_values`.
    """
    if players < 2:
        return Interactions(np.zeros((players, players)), None, 0)
    if fits(players, games, budget):
        exact = interaction_values(_mean(game, games), players)
        return Interactions(exact.pairs, None, exact.evaluations * games)
    cost = cover_cost(players)
    if budget < LEAST_COVERS * cost:
        raise UsageError(
            f"A budget of {budget} is too small for the interactions of {players} players.", hint=f"Give at least {LEAST_COVERS * cost}."
        )
    generator = np.random.default_rng(seed)
    count = budget // cost
    which = np.concatenate([generator.permutation(games) for _ in range(-(-count // games))])[:count]
    covers = np.empty((count, players, players))
    asked = 0
    for place, number in enumerate(which):
        covers[place], cost = _cover(game, int(number), generator.permutation(players))
        asked += cost
    half = student_95(count - 1) * np.sqrt(covers.var(axis=0, ddof=1) / count)
    return Interactions(covers.mean(axis=0), half, asked)


def smallest_interaction_budget(players: int, games: int) -> int:
    """Values of the least estimate."""
    least = LEAST_COVERS * cover_cost(players)
    return games * 2**players if players < 2 or fits(players, games, least) else least


def cover_cost(players: int) -> int:
    """Values that one cover asks for at most: the paths' prefixes and the same with the next two players swapped, both ways, and both ends."""
    paths = len(_paths(players))
    return 2 + paths * 2 * (2 * players - 2)


def _mean(game: Family, games: int) -> Game:
    number = np.arange(games)

    def mean(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        values = evaluate(game, np.repeat(coalitions, games, axis=0), np.tile(number, len(coalitions)))
        means: NDArray[np.float64] = values.reshape(-1, games).mean(axis=1)
        return means

    return mean


def _paths(players: int) -> NDArray[np.int64]:
    """Orders in which every two players are neighbours in exactly one: Walecki's decomposition of the complete graph into zigzag paths.

    It needs an even number. An odd one gets a player more, who is then left out; those that only meet over the gap are not neighbours.
    """
    even = players + players % 2
    zigzag = np.empty(even, dtype=np.int64)
    zigzag[::2], zigzag[1::2] = np.arange(even // 2), np.arange(even - 1, even // 2 - 1, -1)
    return (zigzag + np.arange(even // 2)[:, None]) % even


def _cover(game: Family, number: int, relabelled: NDArray[np.int64]) -> tuple[NDArray[np.float64], int]:
    """One sample of every pair's value, players × players, from the orders of one cover of one game, and how many values it took."""
    players = len(relabelled)
    paths = _paths(players)
    pairs = np.zeros((players, players))
    asked: list[NDArray[np.bool_]] = []
    places: list[tuple[int, int]] = []
    for path in np.concatenate([paths, paths[:, ::-1]]):
        beside = (path[:-1] < players) & (path[1:] < players)
        for at in np.flatnonzero(beside):
            before = relabelled[path[:at][path[:at] < players]]
            first, second = int(relabelled[path[at]]), int(relabelled[path[at + 1]])
            four = np.zeros((4, players), dtype=bool)
            four[:, before] = True
            four[[1, 3], first] = four[[2, 3], second] = True
            asked.append(four)
            places.append((first, second))
    coalitions, inverse = np.unique(np.concatenate(asked), axis=0, return_inverse=True)
    values = evaluate(game, coalitions, np.full(len(coalitions), number))[inverse.ravel()].reshape(-1, 4)
    together = (values[:, 3] - values[:, 1] - values[:, 2] + values[:, 0]) / 4  # half the index, the mean of both ways
    first, second = np.array(places).T
    np.add.at(pairs, (first, second), together)
    np.add.at(pairs, (second, first), together)
    return pairs, len(coalitions)
