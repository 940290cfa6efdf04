"""Maskers: what a coalition of players looks like as rows of the model's own input.

A masker knows its players and builds, for one explained row and a batch of coalitions, the rows that the model must answer; `game` turns
that into a cooperative game. Values move by index, never by arithmetic, so strings, dates, gaps and images go through the same door.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.columns import numeric_array, plain_array, plain_type, tensor_shape, text_array
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.explain.base import Score
from affidavit_governance.explain.shapley import Family, Game

_ROWS_AT_ONCE = 2**15
"""Rows in one call of the model: enough to spread its overhead, few enough to stay in cache."""

Coalitions = NDArray[np.bool_]


class Masker(ABC):
    """Turns coalitions of players into rows."""

    players: tuple[str, ...]
    copies: int
    """Rows that stand for one coalition; their mean is its value."""

    @abstractmethod
    def rows(self, row: int, coalitions: Coalitions) -> Dataset:
        """The input rows of each coalition of row `row`, `copies` for each, in order."""

    @abstractmethod
    def labels(self, row: int) -> list[Any]:
        """The value of each player in row `row`, for plots."""

    def active(self, row: int) -> NDArray[np.int64]:
        """The players that row `row` has."""
        return np.arange(len(self.players))

    def game(self, row: int, score: Score) -> Game:
        """The mean score of each coalition of the active players of row `row`."""
        active = self.active(row)

        def value(coalitions: Coalitions) -> NDArray[np.float64]:
            full = np.zeros((len(coalitions), len(self.players)), dtype=bool)
            full[:, active] = coalitions
            step = max(1, _ROWS_AT_ONCE // self.copies)
            parts = [score(self.rows(row, full[start : start + step])) for start in range(0, len(full), step)]
            means: NDArray[np.float64] = np.concatenate(parts).reshape(len(full), self.copies).mean(axis=1)
            return means

        return value


class FieldMasker(Masker):
    """Players are fields; an absent field takes its value from each background row in turn (the interventional game)."""

    def __init__(self, data: Dataset, background: Dataset) -> None:
        self.players = data.schema.names
        self.copies = len(background)
        self.schema = data.schema
        self.pools: list[Any] = []
        known, own = [], []
        for name in self.players:
            pool, codes = _codes(_joined(background.column(name), data.column(name), data.schema[name]))
            self.pools.append(pool)
            known.append(codes[: self.copies])
            own.append(codes[self.copies :])
        self.background_codes = np.stack(known, axis=1)
        self.codes = np.stack(own, axis=1)
        self._values = [data.to_list(name) if data.schema[name].type is not FieldType.TENSOR else [None] * len(data) for name in self.players]

    def decode(self, codes: NDArray[np.int64]) -> Dataset:
        """Rows from codes (rows × fields)."""
        columns = [pool.take(pa.array(codes[:, index], type=pa.int64())) for index, pool in enumerate(self.pools)]
        return Dataset(pa.table(columns, names=list(self.players)), self.schema, name="coalitions")

    def rows(self, row: int, coalitions: Coalitions) -> Dataset:
        mixed = np.where(coalitions[:, None, :], self.codes[row], self.background_codes[None])
        return self.decode(mixed.reshape(-1, len(self.players)))

    def single_game(self, row: int, score: Score) -> Family:
        """The score of a coalition of row `row` against one background row, which the second argument names."""

        def value(coalitions: Coalitions, which: NDArray[np.int64]) -> NDArray[np.float64]:
            mixed = np.where(coalitions, self.codes[row], self.background_codes[which])
            return np.concatenate([score(self.decode(mixed[start : start + _ROWS_AT_ONCE])) for start in range(0, len(mixed), _ROWS_AT_ONCE)])

        return value

    def labels(self, row: int) -> list[Any]:
        return [values[row] for values in self._values]


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


class WordMasker(Masker):
    """Players are the words of the text fields; an absent word is left out. A long text is cut into runs of words.

    Names of players say positions, not words: records hold no text. The background is the text without any of its words.
    """

    copies = 1

    def __init__(self, data: Dataset, limit: int = 48) -> None:
        self.schema = data.schema
        self._data = data
        self._fields = [field.name for field in data.schema if field.type is FieldType.TEXT]
        self._runs = [[_runs(text or "", limit // len(self._fields)) for text in data.to_list(name)] for name in self._fields]
        longest = [max((len(runs) for runs in column), default=0) for column in self._runs]
        self._start = np.concatenate([[0], np.cumsum(longest)])
        self.players = tuple(f"{name} [{position + 1}]" for name, count in zip(self._fields, longest, strict=True) for position in range(count))

    def active(self, row: int) -> NDArray[np.int64]:
        return np.concatenate([start + np.arange(len(column[row])) for start, column in zip(self._start, self._runs, strict=False)]).astype(np.int64)

    def rows(self, row: int, coalitions: Coalitions) -> Dataset:
        table = self._data.table.take(pa.array(np.full(len(coalitions), row)))
        for name, start, column in zip(self._fields, self._start, self._runs, strict=False):
            runs = column[row]
            texts = [" ".join(run for run, inside in zip(runs, kept, strict=True) if inside) for kept in coalitions[:, start : start + len(runs)]]
            index = table.column_names.index(name)
            table = table.set_column(index, name, pa.array(texts, type=table.column(index).type))
        return Dataset(table, self.schema, name="coalitions")

    def labels(self, row: int) -> list[Any]:
        labels: list[Any] = [None] * len(self.players)
        for start, column in zip(self._start, self._runs, strict=False):
            labels[start : start + len(column[row])] = column[row]
        return labels


def _runs(text: str, limit: int) -> list[str]:
    words: Sequence[str] = re.findall(r"\S+", text)
    if len(words) <= limit:
        return list(words)
    return [" ".join(part) for part in np.array_split(np.array(words, dtype=object), limit)]


class RegionMasker(Masker):
    """Players are the cells of a grid over each tensor field; an absent cell shows the background's mean there.

    A tensor with one long axis (sound, a series) is cut into ``grid²`` segments, one with two or three (an image) into ``grid × grid`` cells.
    """

    copies = 1

    def __init__(self, data: Dataset, background: Dataset, grid: int) -> None:
        self.schema = data.schema
        self._table = data.table
        self._tensors: list[NDArray[np.float64]] = []
        self._means: list[NDArray[np.float64]] = []
        self._cells: list[NDArray[np.int64]] = []
        names: list[str] = []
        for field in data.schema:
            values = data.to_numpy(field.name)
            cells = _cells(values.shape[1:], grid)
            self._tensors.append(values)
            self._means.append(np.nanmean(background.to_numpy(field.name), axis=0))
            self._cells.append(cells + len(names))
            names += [f"{field.name} {place}" for place in _places(values.shape[1:], grid)]
        self.players = tuple(names)

    def rows(self, row: int, coalitions: Coalitions) -> Dataset:
        columns = []
        for index, (values, mean, cells) in enumerate(zip(self._tensors, self._means, self._cells, strict=True)):
            mixed = np.where(coalitions[:, cells], values[row], mean)
            columns.append(_tensor_column(mixed, self._table.column(index).type))
        return Dataset(pa.table(columns, names=self._table.column_names), self.schema, name="coalitions")

    def labels(self, row: int) -> list[Any]:
        return [None] * len(self.players)


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    """The axes to cut: all that are longer than a colour channel, the first two at most."""
    return ([axis for axis, length in enumerate(shape) if length > 4] or list(range(len(shape))))[:2]


def _sides(shape: tuple[int, ...], grid: int) -> list[tuple[int, int]]:
    axes = _long_axes(shape)
    return [(axis, min(shape[axis], grid if len(axes) == 2 else grid**2)) for axis in axes]


def _cells(shape: tuple[int, ...], grid: int) -> NDArray[np.int64]:
    """The cell number of each element of a tensor."""
    number = np.zeros(shape, dtype=np.int64)
    for axis, parts in _sides(shape, grid):
        place = np.arange(shape[axis]) * parts // shape[axis]
        number = number * parts + place.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return number


def _places(shape: tuple[int, ...], grid: int) -> list[str]:
    parts = [count for _, count in _sides(shape, grid)]
    return [f"[{', '.join(str(i + 1) for i in np.unravel_index(cell, parts))}]" for cell in range(int(np.prod(parts)))]


def _tensor_column(values: NDArray[np.float64], kind: pa.DataType) -> Any:
    """A tensor column from rows × shape, with the elements of `kind`; whole-number pixels are rounded."""
    element: Any = plain_type(kind)
    while pa.types.is_fixed_size_list(element):
        element = element.value_type
    whole = pa.types.is_integer(element)
    return pa.FixedShapeTensorArray.from_numpy_ndarray((np.rint(values) if whole else values).astype(element.to_pandas_dtype(), order="C"))
