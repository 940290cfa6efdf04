"""Shapley values and interactions of tree ensembles, exact, for players that are groups of columns.

The work is done once for each distinct pattern of conditions that a row fails on the way to a leaf, not once for each row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.trees.ensemble import Ensemble
from affidavit_governance.explain.trees.games import InterventionalLeaves, PathDependentLeaves, pair_places
from affidavit_governance.explain.trees.paths import SLOTS_AT_ONCE, Patterns, distinct, lone_leaves, packed_turns, path_blocks

ROWS_AT_ONCE = 256
"""Explained rows that are taken together; with the size of a block it bounds memory."""

PAIR_VALUES_AT_ONCE = 2**24
"""Twice the values of pairs that stand in memory together."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TreeValues:
    """Attributions of rows to players.

    Attributes
    ----------
    values
        Rows × players.
    base
        The score for no known player; ``base + values.sum(1)`` is the raw score.
    interactions
        Rows × players × players, symmetric; a row of the matrix sums to its value. None where they were not asked for.
    """

    values: Numbers
    base: float
    interactions: Numbers | None


def interventional_values(
    ensemble: Ensemble, player_of_column: NDArray[np.int64], players: int, rows: Numbers, background: Numbers, *, interactions: bool = False
) -> TreeValues:
    """Shapley values of the mean game over background rows, whose values the absent players take.

    Exact for the whole model: players are groups of columns, so that the result is what enumerating coalitions of the groups gives.

    Parameters
    ----------
    player_of_column
        For each matrix column the number of its player, from 0.
    players
        How many there are; one without a column gets zero.
    rows, background
        Rows × columns.

    References
    ----------
    Lundberg and others, From local explanations to global understanding with explainable AI for trees, 2020; Laberge, Pequignot,
    Understanding interventional TreeSHAP, 2022; patterns: Nadel, Wettenstein, From decision trees to Boolean logic, 2025.
    """
    return _sum_over_leaves(ensemble, player_of_column, players, rows, background, interactions)


def path_dependent_values(
    ensemble: Ensemble, player_of_column: NDArray[np.int64], players: int, rows: Numbers, *, interactions: bool = False
) -> TreeValues:
    """Shapley values where an absent player goes both ways at its splits, by the share of training rows that went each way.

    It approximates the conditional expectation, by what the tree's own splits know of it, and needs no background.

    References
    ----------
    Lundberg, Erion, Lee, Consistent individualized feature attribution for tree ensembles, 2018.
    """
    return _sum_over_leaves(ensemble, player_of_column, players, rows, None, interactions)


def _sum_over_leaves(
    ensemble: Ensemble, player_of_column: NDArray[np.int64], players: int, rows: Numbers, background: Numbers | None, interactions: bool
) -> TreeValues:
    values = np.zeros((len(rows), players))
    pairs = np.zeros((len(rows), players, players)) if interactions else None
    base = ensemble.offset
    for trees in ensemble.parts():
        games = _games(trees, player_of_column, background)
        base += lone_leaves(trees) + sum(game.base for game in games)
        widest = max((game.block.players.shape[1] for game in games), default=1)
        step = max(1, min(ROWS_AT_ONCE, PAIR_VALUES_AT_ONCE // (SLOTS_AT_ONCE * widest))) if interactions else ROWS_AT_ONCE
        for start in range(0, len(rows), step):
            some = slice(start, min(start + step, len(rows)))
            turns = packed_turns(trees, rows[some])
            for game in games:
                patterns = game.block.patterns(turns, some.stop - start)
                _add(values[some], game.values(patterns), patterns, game.block.players)
                if pairs is not None:
                    first, second = pair_places(patterns.count)
                    cells = game.block.players[:, first] * players + game.block.players[:, second]
                    _add(pairs[some].reshape(-1, players**2), game.interactions(patterns), patterns, cells)
    if pairs is not None:
        pairs += pairs.transpose(0, 2, 1)
        place = np.arange(players)
        pairs[:, place, place] = values - pairs.sum(axis=2)
    return TreeValues(values, base, pairs)


def _games(
    trees: Ensemble, player_of_column: NDArray[np.int64], background: Numbers | None
) -> list[InterventionalLeaves] | list[PathDependentLeaves]:
    """The games of the leaves of some trees, block by block."""
    blocks = path_blocks(trees, player_of_column)
    if background is None:
        return [PathDependentLeaves(block) for block in blocks]
    turns = packed_turns(trees, background)
    return [InterventionalLeaves(block, block.patterns(turns, len(background))) for block in blocks]


def _add(total: Numbers, found: Numbers, patterns: Patterns, cells: NDArray[np.int64]) -> None:
    """Add what each pattern gives to the rows that have it: to `total` (rows × cells), where `cells` (leaves × columns of `found`) says."""
    place, number = distinct(cells, total.shape[1])
    known = np.empty(number, dtype=np.int64)
    known[place] = cells
    given: NDArray[np.bool_] = (found != 0).any(axis=1)
    leaf, row = np.nonzero(given[patterns.of])
    index = row[:, None] * number + place[leaf]
    weight = found[patterns.of[leaf, row]]
    # bincount adds one after the other, so that a row's sum does not depend on the rows beside it.
    sums: Numbers = np.bincount(index.reshape(-1), weight.reshape(-1), len(total) * number).astype(np.float64)
    total[:, known] += sums.reshape(len(total), number)
