"""Equivalence classes: the rows that nobody can tell apart by their quasi-identifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.frames import as_table

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Values:
    """One column as numbers: which of its distinct values each row has.

    Missing values (null, or not a number) are one value of their own, below all others.

    Attributes
    ----------
    codes
        Which value each row has, in the values' order.
    distinct
        The distinct values in order, a missing one first.
    ordered
        Whether the order means something: numbers, dates and times. Booleans, text and the rest are categories.
    """

    codes: NDArray[np.int64]
    distinct: pa.Array
    ordered: bool

    @property
    def has_missing(self) -> bool:
        """Whether the first of `distinct` stands for what is missing."""
        return len(self.distinct) > 0 and not self.distinct[0].is_valid


@dataclass(frozen=True, eq=False, slots=True)
class Classes:
    """The equivalence classes of a table, numbered in the order of their quasi-identifiers' values.

    Attributes
    ----------
    columns
        The quasi-identifiers.
    of_row
        The class of each row.
    sizes
        The rows of each class.
    first
        The first row of each class: its quasi-identifiers are the class's.
    """

    columns: tuple[str, ...]
    of_row: NDArray[np.int64]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sizes)

    def rows(self, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of the rows of the given classes."""
        wanted = np.zeros(len(self), dtype=np.bool_)
        wanted[classes] = True
        return np.flatnonzero(wanted[self.of_row])


def read_column(data: Any, name: str) -> pa.ChunkedArray:
    """One column of a `Dataset`, an Arrow table, a frame or a dict. Raises UsageError for an unknown name, InvalidInput for a double one."""
    if isinstance(data, Dataset):
        return data.column(name)
    table = as_table(data)
    if name not in table.column_names:
        raise UsageError(f"There is no column '{name}'.{nearest(name, table.column_names)}")
    if table.column_names.count(name) > 1:
        raise InvalidInput(f"There are {table.column_names.count(name)} columns '{name}'.", hint="Rename or drop all but one.")
    return table.column(name)


def values_of(data: Any, name: str) -> Values:
    """The values of one column as numbers.

    Raises
    ------
    UsageError
        No such column.
    InvalidInput
        The column holds lists, structures or the like.
    """
    return encode(read_column(data, name), name)


def encode(column: pa.ChunkedArray, name: str) -> Values:
    """The values of `column` as numbers; `name` is what messages call it. Errors as in `values_of`."""
    kind = column.type.storage_type if isinstance(column.type, pa.BaseExtensionType) else column.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_nested(kind) or pa.types.is_interval(kind):
        raise InvalidInput(f"Column '{name}' has the Arrow type {column.type}, whose values cannot be compared.", hint="Drop it, or take it apart.")
    plain = column.cast(kind)
    if pa.types.is_floating(kind):
        numbers = plain.cast(pa.float64())
        # Not-a-number is missing too, and minus zero is zero.
        plain = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), pc.add(numbers, 0.0))
    encoded = plain.combine_chunks().dictionary_encode("encode")
    if isinstance(encoded, pa.ChunkedArray):  # of an empty column, and in some releases of Arrow of any
        encoded = encoded.combine_chunks()
    dictionary = encoded.dictionary
    order = pc.array_sort_indices(dictionary, null_placement="at_start").to_numpy()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    ordered = any(is_kind(kind) for is_kind in _ORDERED)
    return Values(rank[encoded.indices.to_numpy()], dictionary.take(pa.array(order)), ordered)


_ORDERED = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal)


def equivalence_classes(data: Any, quasi_identifiers: Sequence[str]) -> Classes:
    """The classes of rows that share all `quasi_identifiers`; a missing value is a value of its own, equal to other missing ones.

    Raises
    ------
    UsageError
        No quasi-identifier, an unknown one, or one twice.
    InvalidInput
        No rows, or a column whose values cannot be compared.
    """
    names = tuple(quasi_identifiers)
    if not names or len(set(names)) < len(names) or isinstance(quasi_identifiers, str):
        raise UsageError("Name one quasi-identifier or more, each once.")
    return group([values_of(data, name) for name in names], names)


def group(values: Sequence[Values], names: tuple[str, ...]) -> Classes:
    """The classes of rows that share the codes of all columns. Raises InvalidInput where there are no rows."""
    if len(values[0].codes) == 0:
        raise InvalidInput("There are no rows to look at.")
    key, count = values[0].codes, len(values[0].distinct)
    for column in values[1:]:
        key, count = _dense(key * len(column.distinct) + column.codes, count * len(column.distinct))
    _, first, of_row, sizes = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    return Classes(names, of_row.reshape(-1).astype(np.int64), sizes.astype(np.int64), first.astype(np.int64))


def one_class(rows: int) -> Classes:
    """All rows as one class: what they are where no quasi-identifier is left. Raises InvalidInput where there are no rows."""
    if rows == 0:
        raise InvalidInput("There are no rows to look at.")
    return Classes((), np.zeros(rows, dtype=np.int64), np.array([rows]), np.zeros(1, dtype=np.int64))


def _dense(key: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], int]:
    """The same partition with numbers from 0 without gaps, so that products of many columns stay small."""
    if count <= 4 * len(key):  # counting is quicker than sorting where there is room
        used = np.bincount(key, minlength=count) > 0
        return (np.cumsum(used) - 1)[key], int(used.sum())
    found, inverse = np.unique(key, return_inverse=True)
    return inverse.reshape(-1), len(found)
