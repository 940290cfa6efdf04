"""The cells of players: what LIME counts as being like the explained row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from affidavit.interfaces.schema import FieldType
from affidavit_governance.explain.players.fields import FieldBlock
from affidavit_governance.explain.players.grouping import Grouping

_ORDERED = frozenset({FieldType.NUMERIC, FieldType.DATETIME})

Places = NDArray[np.int64]


class Cells:
    """For each player the cell of each row: its fields' quartile bins (numbers and dates, a bin more for gaps) and categories, all together.

    Attributes
    ----------
    background, own
        Rows × players: the number of the cell.
    """

    def __init__(self, block: FieldBlock, grouping: Grouping) -> None:
        ordered = [field.type in _ORDERED for field in block.schema]
        bins = [_bins(pool, block.background_codes[:, column], ordered[column]) for column, pool in enumerate(block.pools)]
        ranks = [_ranks(pool, ordered[column]) for column, pool in enumerate(block.pools)]
        player_of = np.array([grouping.player_of(name) for name in block.fields])
        codes = np.concatenate([block.background_codes, block.codes])
        self._count = len(block.background_codes)
        cells, values, order = [], [], []
        for player in range(len(block.players)):
            columns = np.flatnonzero(player_of == player)
            cells.append(_numbered(np.stack([bins[c][codes[:, c]] for c in columns], axis=1)))
            values.append(_numbered(codes[:, columns]))
            order.append(ranks[columns[0]][codes[:, columns[0]]])
        both = np.stack(cells, axis=1)
        self.background, self.own = both[: self._count], both[self._count :]
        self._values, self._order = np.stack(values, axis=1), np.stack(order, axis=1)

    def pools(self, row: int) -> list[tuple[Places, Places]]:
        """For each player the places of values inside row `row`'s cell and outside it, in the order of its first field.

        A place is a background row, or -1 for the row's own value, which is always inside. Where the cell holds the whole background, the
        background rows with another value are outside; where there is none of these either, nothing is.
        """
        pools = []
        for player in range(self.own.shape[1]):
            value, order = self._values[:, player], self._order[:, player]
            at = self._count + row
            inside = self.background[:, player] == self.own[row, player]
            if inside.all():
                inside = value[: self._count] == value[at]
            like = np.append(np.flatnonzero(inside), -1)
            ranks = np.where(like < 0, order[at], order[like])
            unlike = np.flatnonzero(~inside)
            pools.append((like[np.argsort(ranks, kind="stable")], unlike[np.argsort(order[unlike], kind="stable")]))
        return pools


def _numbered(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _ranks(pool: Any, ordered: bool) -> NDArray[np.int64]:
    rank = np.arange(len(pool))
    if ordered:
        rank[pc.sort_indices(pool).to_numpy()] = np.arange(len(pool))
    return rank


def _bins(pool: Any, background: NDArray[np.int64], ordered: bool) -> NDArray[np.int64]:
    """The bin of each code: 0 to 3 between the background's quartiles and 4 for a gap, or the code itself where values have no order."""
    if not ordered:
        return np.arange(len(pool))
    gap = pc.is_null(pool, nan_is_null=True).to_numpy(zero_copy_only=False)
    rank = _ranks(pool, ordered)
    present = rank[background][~gap[background]]
    edges = np.quantile(present, [0.25, 0.5, 0.75], method="lower") if len(present) else np.zeros(3)
    bins: NDArray[np.int64] = np.where(gap, 4, np.searchsorted(edges, rank, side="left"))
    return bins
