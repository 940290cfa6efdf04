"""Items of a history as players: an absent one is padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.columns import LARGEST_WHOLE
from affidavit.interfaces.dataset import Dataset
from affidavit_governance.explain.players.base import Block, Coalitions
from affidavit_governance.explain.players.regions import tensor_column

PADDING = 0.0
"""The item number that stands for no item."""


class ItemBlock(Block):
    """Players are the positions of a history, a tensor field of item numbers, that hold an item. The background is the empty history.

    An absent item leaves padding in its place, so that the others keep their positions. Names say positions, not items.

    Raises
    ------
    UsageError
        The tensor has more than one axis.
    InvalidInput
        A history holds what is no item number.
    """

    def __init__(self, data: Dataset, field: str) -> None:
        self.fields = (field,)
        self._type = data.column(field).type
        self._items: NDArray[np.float64] = data.to_numpy(field)
        if self._items.ndim != 2:
            shape = "×".join(str(length) for length in self._items.shape[1:])
            raise UsageError(f"A history is a list of item numbers, and '{field}' has shape {shape}.")
        missing = np.asarray(np.isnan(self._items).all(axis=1))
        known = self._items[~missing]
        if not ((known >= 0) & (known < LARGEST_WHOLE) & (known == np.floor(known))).all():
            raise InvalidInput(f"The history '{field}' holds what is no item number.", hint="Item numbers are whole; 0 is padding.")
        # A missing history has no items: the model sees it as it is, whoever is absent.
        self._held: NDArray[np.bool_] = (self._items != PADDING) & ~missing[:, None]
        self.width = self._items.shape[1]
        self.players = tuple(f"{field} [{position + 1}]" for position in range(self.width))

    def active(self, row: int) -> NDArray[np.int64]:
        return np.flatnonzero(self._held[row])

    def columns(self, row: int, coalitions: Coalitions, reference: NDArray[np.int64]) -> Mapping[str, Any]:
        kept = np.where(coalitions | ~self._held[row], self._items[row], PADDING)
        return {self.fields[0]: tensor_column(kept, self._type)}

    def labels(self, row: int) -> list[Any]:
        return [int(item) if held else None for item, held in zip(self._items[row], self._held[row], strict=True)]
