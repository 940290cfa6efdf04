"""Fields as players, alone or in groups: an absent one takes its value from a background row (the interventional game)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.columns import numeric_array, plain_array, plain_type, tensor_shape, text_array
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.explain.case import Score
from affidavit_governance.explain.estimators.partition import Hierarchy
from affidavit_governance.explain.players.base import Block, Coalitions
from affidavit_governance.explain.players.encoded import Encoded, open_encoded
from affidavit_governance.explain.players.grouping import Grouping


class FieldBlock(Block):
    """Fields whose values move by index, never by arithmetic, so that strings, dates and gaps go through the same door as numbers.

    Attributes
    ----------
    codes, background_codes
        Rows × fields: the place of each value in its field's pool of distinct values.
    pools
        For each field its distinct values, as an Arrow array.
    """

    uses_background = True

    def __init__(self, data: Dataset, background: Dataset, grouping: Grouping) -> None:
        self.players = grouping.names
        self.fields = grouping.fields
        self.schema = data.schema.select(self.fields)
        self._player = np.array([grouping.player_of(name) for name in self.fields], dtype=np.int64)
        self.pools: list[Any] = []
        known, own = [], []
        for name in self.fields:
            pool, codes = _codes(_joined(background.column(name), data.column(name), data.schema[name]))
            self.pools.append(pool)
            known.append(codes[: len(background)])
            own.append(codes[len(background) :])
        self.background_codes = np.stack(known, axis=1)
        self.codes = np.stack(own, axis=1)
        self._data, self._background = data, background
        self._values = [data.to_list(name) if data.schema[name].type is not FieldType.TENSOR else [None] * len(data) for name in self.fields]

    def active(self, row: int) -> NDArray[np.int64]:
        """The players that differ from some background row; the others move no answer whoever else is in, and their attributions are exactly zero."""
        differs = (self.codes[row] != self.background_codes).any(axis=0)
        return np.unique(self._player[differs])

    def encoded(self, score: Score) -> Encoded | None:
        """The model's own matrix, where it answers mixtures of its rows as it answers tables."""
        player_of = dict(zip(self.fields, self._player.tolist(), strict=True))
        return open_encoded(score, self._data, self._background, player_of, self._mixed)

    def _mixed(self, coalitions: Coalitions, reference: NDArray[np.int64]) -> Dataset:
        """One mixture of each explained row, by coalitions of all players and background rows."""
        return self.dataset(np.where(coalitions[:, self._player], self.codes, self.background_codes[reference]))

    def hierarchy(self, row: int) -> Hierarchy:
        """No groups: the order of columns says nothing about them."""
        return list(range(len(self.active(row))))

    def decode(self, codes: NDArray[np.int64]) -> dict[str, Any]:
        """Columns from codes, rows × fields."""
        pools = zip(self.fields, self.pools, strict=True)
        return {name: pool.take(pa.array(codes[:, index], type=pa.int64())) for index, (name, pool) in enumerate(pools)}

    def dataset(self, codes: NDArray[np.int64]) -> Dataset:
        """Rows from codes, for a model that has no other fields."""
        return Dataset(pa.table(self.decode(codes)), self.schema, name="coalitions")

    def mixture(self, row: int, places: NDArray[np.int64]) -> Dataset:
        """Rows in which each player has the values of the background row that `places` (rows × players) names, or its own where that is -1."""
        chosen = places[:, self._player]
        field = np.arange(len(self.fields))
        return self.dataset(np.where(chosen < 0, self.codes[row], self.background_codes[chosen, field]))

    def columns(self, row: int, coalitions: Coalitions, reference: NDArray[np.int64]) -> Mapping[str, Any]:
        return self.decode(np.where(coalitions[:, self._player], self.codes[row], self.background_codes[reference]))

    def labels(self, row: int) -> list[Any]:
        labels: list[Any] = [None] * len(self.players)
        counts = np.bincount(self._player, minlength=len(self.players))
        for values, player in zip(self._values, self._player, strict=True):
            labels[player] = values[row] if counts[player] == 1 else None
        return labels


def _joined(background: Any, rows: Any, field: Field) -> Any:
    """The background's values and the rows' in one column.

    A field type covers several Arrow types, and the rows of a request need not have the one that training saw: whole numbers may stand
    beside numbers with fractions, dates beside timestamps. Each pair then takes the form in which models read the field.
    """
    if background.type != rows.type:
        background, rows = _common_form(background, field), _common_form(rows, field)
    return pa.chunked_array([*background.chunks, *rows.chunks], type=rows.type)


def _common_form(column: Any, field: Field) -> Any:
    if field.type is FieldType.TENSOR:
        numbers = np.ascontiguousarray(numeric_array(column, field))
        return pa.chunked_array([pa.FixedShapeTensorArray.from_numpy_ndarray(numbers)])
    if field.type is FieldType.NUMERIC:
        return column.cast(plain_type(column.type)).cast(pa.float64(), safe=False)
    if field.type is FieldType.DATETIME:
        return column.cast(plain_type(column.type)).cast(pa.timestamp("us"), safe=False)
    return text_array(column, field)


def _codes(column: Any) -> tuple[Any, NDArray[np.int64]]:
    """Distinct values and the code of each row; equal values share a code where Arrow can compare them, gaps have one of their own."""
    values = column.combine_chunks()
    if tensor_shape(values.type) is not None:
        return values, np.arange(len(values))
    encoded = plain_array(values).dictionary_encode(null_encoding="encode")
    return encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
