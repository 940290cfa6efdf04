"""Exact Shapley values (Shapley 1953) by evaluating every coalition."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.estimators.games import CHUNK, Family, Game, Shapley, evaluate


def enumerated(game: Game, players: int) -> Shapley:
    """Evaluate all 2ⁿ coalitions; coalition number c holds player i where bit i of c is set."""
    bits = np.arange(players)
    value = np.empty(2**players)
    size = np.empty(2**players, dtype=np.int64)
    for start in range(0, len(value), CHUNK):
        codes = np.arange(start, min(start + CHUNK, len(value)))
        coalitions = (codes[:, None] >> bits & 1).astype(bool)
        value[codes] = evaluate(game, coalitions)
        size[codes] = coalitions.sum(axis=1)
    weight = np.array([1 / (players * comb(players - 1, s)) for s in range(players)])
    values = np.empty(players)
    for player in range(players):
        pairs = value.reshape(-1, 2, 2**player)
        others = size.reshape(-1, 2, 2**player)[:, 0]
        values[player] = (weight[others] * (pairs[:, 1] - pairs[:, 0])).sum()
    return Shapley(values, float(value[0]), float(value[-1]), None, len(value))


def enumerated_mean(game: Family, players: int, games: int) -> Shapley:
    """The same for the mean of several games over the same players."""
    number = np.arange(games)
    step = max(1, CHUNK // games)

    def mean(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        parts = [coalitions[start : start + step] for start in range(0, len(coalitions), step)]
        values = [evaluate(game, np.repeat(part, games, axis=0), np.tile(number, len(part))) for part in parts]
        means: NDArray[np.float64] = np.concatenate(values).reshape(-1, games).mean(axis=1)
        return means

    exact = enumerated(mean, players)
    return replace(exact, evaluations=exact.evaluations * games)


def fits(players: int, games: int, budget: int) -> bool:
    """Whether `budget` values pay for every coalition in every game."""
    return players < budget.bit_length() and games * 2**players <= budget
