"""Arrow tables and batches from whatever people hold: frames, dicts of columns, streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from affidavit.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from affidavit.interfaces.dataset import BatchStream


def as_table(data: Any) -> pa.Table:
    """An Arrow table from a table, a dict of columns, or anything with ``__arrow_c_stream__``.

    Raises
    ------
    InvalidInput
        A column mixes types, or columns differ in length. Arrow's own message would quote a value.
    UsageError
        The object is no data set.
    """
    if isinstance(data, pa.Table):
        return _contiguous(data)
    if not isinstance(data, Mapping) and not hasattr(data, "__arrow_c_stream__"):
        raise UsageError(
            f"An object of type {type(data).__name__} is no data set.",
            hint="Pass a path, an Arrow table, a pandas or Polars frame, or a dict of columns.",
        )
    try:
        return _contiguous(pa.table(dict(data)) if isinstance(data, Mapping) else pa.table(data))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise InvalidInput(
            f"The {type(data).__name__} cannot be read as a table{_culprit(data)}.",
            hint="Each column needs values of one type, and all columns the same length.",
        ) from None


def _culprit(data: Any) -> str:
    """Which column Arrow stumbles on, without its message."""
    names = list(data if isinstance(data, Mapping) else getattr(data, "columns", ()))
    if len(set(names)) < len(names):
        return ": two columns have one name"
    for name in names:
        try:
            pa.array(data[name])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return f": column '{name}' mixes types that do not go together"
    return ""


def refuse_empty(table: pa.Table, name: str) -> None:
    """Raise InvalidInput where there are no rows or no columns; `name` is what people call the data set."""
    if table.num_columns == 0 or table.num_rows == 0:
        raise InvalidInput(f"Data set '{name}' has {table.num_columns} columns and {table.num_rows} rows: there is nothing to work with.")


def first_rows(batches: Iterable[pa.RecordBatch], rows: int) -> pa.Table:
    """The first batches that together have `rows` rows or more, or all of them."""
    first, count = [], 0
    for batch in batches:
        first.append(batch)
        count += batch.num_rows
        if count >= rows:
            break
    return pa.Table.from_batches(first) if first else pa.table({})


def _contiguous(table: pa.Table) -> pa.Table:
    """The table without view types, which Polars exports and on which Arrow can neither filter nor take."""
    from affidavit.interfaces.columns import plain_array, plain_type  # here, as it loads Arrow's functions, which many commands do without

    for position, member in enumerate(table.schema):
        values = member.type.value_type if pa.types.is_dictionary(member.type) else member.type
        if pa.types.is_string_view(values) or pa.types.is_binary_view(values):
            chunks = [plain_array(chunk) for chunk in table.column(position).chunks]
            column = pa.chunked_array(chunks, type=plain_type(member.type))
            table = table.set_column(position, member.name, column if values == member.type else column.dictionary_encode())
    return table


def contiguous_stream(stream: BatchStream) -> BatchStream:
    """The same batches without view types."""

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in stream():
            yield from _contiguous(pa.Table.from_batches([batch])).to_batches()

    return batches
