"""Players: who takes part in the game of one explained row, and what a coalition of them looks like as rows of the model's own input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Schema
from affidavit_governance.explain.case import Score
from affidavit_governance.explain.estimators.shapley import Family, Game

ROWS_AT_ONCE = 2**15
"""Rows in one call of the model: enough to spread its overhead, few enough to stay in cache."""

Coalitions = NDArray[np.bool_]


class Block(ABC):
    """The players of one field, or of several that are masked in the same way.

    Attributes
    ----------
    players
        Their names. They say fields and positions, never values: records hold no input.
    fields
        The columns that the block makes.
    uses_background
        Whether an absent player takes its value from a background row, so that each coalition stands for one row each.
    """

    players: tuple[str, ...]
    fields: tuple[str, ...]
    uses_background: bool = False

    @abstractmethod
    def columns(self, row: int, coalitions: Coalitions, reference: NDArray[np.int64]) -> Mapping[str, Any]:
        """The Arrow column of each field, one element for each coalition of explained row `row`.

        Parameters
        ----------
        coalitions
            Rows × the block's players; true: the player is in.
        reference
            For each coalition the background row from which absent players take their values.
        """

    @abstractmethod
    def labels(self, row: int) -> list[Any]:
        """The value of each player in row `row`, for pictures; None where there is none to show."""

    def active(self, row: int) -> NDArray[np.int64]:
        """The players that row `row` has: a short text has fewer words than a long one."""
        return np.arange(len(self.players))


class Players:
    """The players of a case: blocks side by side.

    Attributes
    ----------
    names
        Of all players, in the order of the blocks.
    copies
        Background rows that stand for one coalition, whose mean is its value; one where no block uses the background.
    """

    def __init__(self, schema: Schema, blocks: Sequence[Block], background_rows: int) -> None:
        self.schema = schema
        self.blocks = tuple(blocks)
        self.names = tuple(name for block in blocks for name in block.players)
        self.copies = background_rows if any(block.uses_background for block in blocks) else 1
        self._start = np.concatenate([[0], np.cumsum([len(block.players) for block in blocks])])

    def rows(self, row: int, coalitions: Coalitions, reference: NDArray[np.int64]) -> Dataset:
        """The input row of each coalition (rows × all players) of explained row `row`, against the background row that `reference` names."""
        columns: dict[str, Any] = {}
        for block, start in zip(self.blocks, self._start, strict=False):
            columns.update(block.columns(row, coalitions[:, start : start + len(block.players)], reference))
        return Dataset(pa.table({field.name: columns[field.name] for field in self.schema}), self.schema, name="coalitions")

    def active(self, row: int) -> NDArray[np.int64]:
        """The players that row `row` has, as places in `names`."""
        return np.concatenate([start + block.active(row) for block, start in zip(self.blocks, self._start, strict=False)]).astype(np.int64)

    def labels(self, row: int) -> list[Any]:
        """The value of each player in row `row`, for pictures."""
        return [label for block in self.blocks for label in block.labels(row)]

    def family(self, row: int, score: Score) -> Family:
        """The score of each coalition of the active players of row `row`, against the background row that the second argument names."""
        active = self.active(row)

        def value(coalitions: Coalitions, reference: NDArray[np.int64]) -> NDArray[np.float64]:
            full = np.zeros((len(coalitions), len(self.names)), dtype=bool)
            full[:, active] = coalitions
            starts = range(0, len(full), ROWS_AT_ONCE)
            return np.concatenate(
                [score(self.rows(row, full[s : s + ROWS_AT_ONCE], reference[s : s + ROWS_AT_ONCE])) for s in starts] or [np.empty(0)]
            )

        return value

    def game(self, row: int, score: Score) -> Game:
        """The mean score of each coalition of the active players of row `row` over the background rows."""
        family = self.family(row, score)
        step = max(1, ROWS_AT_ONCE // self.copies)

        def value(coalitions: Coalitions) -> NDArray[np.float64]:
            means = []
            for start in range(0, len(coalitions), step):
                part = coalitions[start : start + step]
                scores = family(np.repeat(part, self.copies, axis=0), np.tile(np.arange(self.copies), len(part)))
                means.append(scores.reshape(len(part), self.copies).mean(axis=1))
            return np.concatenate(means or [np.empty(0)])

        return value
