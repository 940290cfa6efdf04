"""Players: who takes part in the game of one explained row, and what a coalition of them looks like as rows of the model's own input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import FieldType, Schema
from affidavit_governance.explain.case import Score
from affidavit_governance.explain.estimators.partition import Hierarchy
from affidavit_governance.explain.estimators.shapley import Family, Game
from affidavit_governance.explain.players.asking import Once
from affidavit_governance.explain.players.encoded import Encoded
from affidavit_governance.explain.players.nesting import neighbours

ROWS_AT_ONCE = 2**15
"""Rows in one call of the model: enough to spread its overhead, few enough to stay in cache."""

NUMBERS_AT_ONCE = 2**25
"""Numbers in one call of the model, 256 MiB as float64: pictures and sound are wide, and the model's own layers are wider still."""

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
    width
        Numbers in one row of its columns, which tells how many rows fit one call of the model.
    """

    players: tuple[str, ...]
    fields: tuple[str, ...]
    uses_background: bool = False
    width: int = 1

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

    def encoded(self, score: Score) -> Encoded | None:
        """A faster way to ask `score` for coalitions, where these players are all there are and the model offers one."""
        return None

    def hierarchy(self, row: int) -> Hierarchy:
        """Groups within groups of the active players, each named by its place in `active`: halves of neighbours, unless a block knows better."""
        return neighbours([0.0] * len(self.active(row)))


class Players:
    """The players of a case: blocks side by side.

    Attributes
    ----------
    names
        Of all players, in the order of the blocks.
    copies
        Background rows that stand for one coalition, whose mean is its value; one where no block uses the background.
    details
        Who the players are where they are not plain fields, as options that give the same players again.
    rows_at_once
        Rows in one call of the model. It depends on the columns alone, never on the rows, so that a row's numbers do not depend on its neighbours.
    """

    def __init__(self, schema: Schema, blocks: Sequence[Block], background_rows: int, details: Mapping[str, Any] | None = None) -> None:
        self.schema = schema
        self.blocks = tuple(blocks)
        self.names = tuple(name for block in blocks for name in block.players)
        self.copies = background_rows if any(block.uses_background for block in blocks) else 1
        self.details = dict(details or {})
        self.rows_at_once = max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // max(1, sum(block.width for block in blocks))))
        self._start = np.concatenate([[0], np.cumsum([len(block.players) for block in blocks])])
        self._road: tuple[Score, Encoded | None] | None = None

    def rows(self, row: int, coalitions: Coalitions, reference: NDArray[np.int64]) -> Dataset:
        """The input row of each coalition (rows × all players) of explained row `row`, against the background row that `reference` names."""
        columns: dict[str, Any] = {}
        for block, start in zip(self.blocks, self._start, strict=False):
            columns.update(block.columns(row, coalitions[:, start : start + len(block.players)], reference))
        return Dataset(pa.table({field.name: columns[field.name] for field in self.schema}), self.schema, name="coalitions")

    def active(self, row: int) -> NDArray[np.int64]:
        """The players that row `row` has, as places in `names`."""
        return np.concatenate([start + block.active(row) for block, start in zip(self.blocks, self._start, strict=False)]).astype(np.int64)

    def hierarchies(self, row: int) -> list[Hierarchy]:
        """For each block the groups within groups of its active players, each named by its place in `active`."""
        starts = np.concatenate([[0], np.cumsum([len(block.active(row)) for block in self.blocks])]).tolist()
        return [shifted(block.hierarchy(row), start) for block, start in zip(self.blocks, starts, strict=False)]

    def labels(self, row: int) -> list[Any]:
        """The value of each player in row `row`, for pictures."""
        return [label for block in self.blocks for label in block.labels(row)]

    def family(self, row: int, score: Score, *, estimate: bool = False) -> Family:
        """The score of each coalition of the active players of row `row`, against the background row that the second argument names.

        With `estimate`, values that only serve an estimate with error bars may come in single precision.
        """
        active = self.active(row)
        encoded = self._encoded(score)
        if encoded is not None and encoded.fits[row]:
            return encoded.family(row, active, estimate=estimate)
        fields = list(self.schema)
        ask = Once(score) if self.copies == 1 and len(fields) == 1 and fields[0].type is FieldType.TEXT else score

        def value(coalitions: Coalitions, reference: NDArray[np.int64]) -> NDArray[np.float64]:
            full = np.zeros((len(coalitions), len(self.names)), dtype=bool)
            full[:, active] = coalitions
            step = self.rows_at_once
            parts = [ask(self.rows(row, full[s : s + step], reference[s : s + step])) for s in range(0, len(full), step)]
            return np.concatenate(parts or [np.empty(0)])

        return value

    def rows_in_threads(self, score: Score) -> bool:
        """Whether several explained rows at once are quicker than one after the other: where the model's answers are pieces too small to share."""
        encoded = self._encoded(score)
        return encoded is not None and not encoded.in_threads and bool(encoded.fits.all())

    def _encoded(self, score: Score) -> Encoded | None:
        """Checked against the model once for each score."""
        if self._road is None or self._road[0] is not score:
            self._road = (score, self.blocks[0].encoded(score) if len(self.blocks) == 1 else None)
        return self._road[1]

    def game(self, row: int, score: Score) -> Game:
        """The mean score of each coalition of the active players of row `row` over the background rows."""
        family = self.family(row, score)
        step = max(1, self.rows_at_once // self.copies)

        def value(coalitions: Coalitions) -> NDArray[np.float64]:
            means = []
            for start in range(0, len(coalitions), step):
                part = coalitions[start : start + step]
                scores = family(np.repeat(part, self.copies, axis=0), np.tile(np.arange(self.copies), len(part)))
                means.append(scores.reshape(len(part), self.copies).mean(axis=1))
            return np.concatenate(means or [np.empty(0)])

        return value


def shifted(hierarchy: Hierarchy, start: int) -> Hierarchy:
    """The same hierarchy of players whose numbers begin at `start`."""
    return hierarchy + start if isinstance(hierarchy, int) else [shifted(part, start) for part in hierarchy]
