"""What the cells of a column say, whatever their Arrow type: one byte string for values that compare equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.encryption import ragged
from affidavit_governance.masking.operators.arrays import is_bytes, is_text, missing

if TYPE_CHECKING:
    from affidavit.interfaces.schema import Field

_SAMPLE = 1000
_RUN = 1 << 15
_CHUNK_BYTES = 1 << 30
"""A string array counts its bytes with 32 bits, so a longer result comes in several chunks."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The values of a column as byte strings, and where they stand.

    Attributes
    ----------
    values
        UTF-8, or any bytes where the column holds bytes. No nulls. Each distinct value once where values repeat, else in the order of the rows.
    rows
        For each row the position in `values`, null where the value is missing; None where `values` are the rows.
    """

    values: pa.LargeBinaryArray
    rows: pa.Array | None

    def spread(self, masked: pa.Array, kind: pa.DataType | None = None) -> pa.ChunkedArray:
        """`masked`, one for each of `values`, back in the rows, as strings unless another type is asked for. Missing values stay missing."""
        wanted = pa.string() if kind is None else kind
        narrow = wanted.value_type if pa.types.is_dictionary(wanted) else wanted
        if self.rows is None:
            chunks = [part.cast(narrow) for part in _cut(masked)]
        else:
            chunks = [masked.take(self.rows)] if not is_text(masked.type) else [part.cast(narrow) for part in _cut_take(masked, self.rows)]
        column = pa.chunked_array(chunks, type=None if chunks else narrow)
        return column.cast(wanted) if column.type != wanted else column

    def positions(self, count: int) -> pa.Array:
        """`rows`, written out where it is None."""
        return pa.array(np.arange(count)) if self.rows is None else self.rows


def contents_of(column: pa.ChunkedArray, field: Field, verb: str) -> Contents:
    """Read a column.

    Parameters
    ----------
    verb
        What cannot be done with values that have no content, for the error.

    Raises
    ------
    UsageError
        The column holds nested values, or values of an extension type.
    InvalidInput
        Its text is not UTF-8.
    """
    kind = column.type
    if pa.types.is_nested(kind) or isinstance(kind, pa.ExtensionType):
        raise UsageError(f"Column '{field.name}' has the Arrow type {kind}; {verb} needs plain values.", hint="Use redact or drop.")
    if pa.types.is_dictionary(kind):
        codes, distinct = _used(*_unified(column))
        inner = contents_of(pa.chunked_array([distinct], type=kind.value_type), field, verb)
        # A dictionary may hold nulls too.
        return Contents(inner.values, codes if inner.rows is None else inner.rows.take(codes))
    if is_text(kind) or is_bytes(kind):
        raw = pa.concat_arrays([_binary(chunk, field) for chunk in column.chunks]) if column.num_chunks else pa.array([], pa.large_binary())
        if not _repeats(raw):
            return _without_nulls(raw)
        encoded = raw.dictionary_encode()
        return Contents(encoded.dictionary, encoded.indices)
    encoded = column.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    written = _written(encoded.dictionary, field)
    inner = _without_nulls(written)
    # 1 and 1.0, or NaN with different bits, have one content, so positions are looked up once more.
    rows = encoded.indices if inner.rows is None else inner.rows.take(encoded.indices)
    return Contents(inner.values, rows)


def utf8(contents: Contents, field: Field, verb: str) -> pa.Array:
    """The values as strings.

    Raises
    ------
    InvalidInput
        A value is not UTF-8.
    """
    try:
        return contents.values.cast(pa.large_string())
    except pa.ArrowInvalid:
        raise InvalidInput(f"Column '{field.name}' holds bytes that are not UTF-8 text; {verb} needs text.", hint="Use redact or drop.") from None


def in_rows(column: pa.ChunkedArray, field: Field, verb: str, change: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    """`change` made of the distinct texts of a column, in its rows; text columns keep their type, others become strings."""
    contents = contents_of(column, field, verb)
    return contents.spread(change(utf8(contents, field, verb)), text_type(column.type))


def text_type(kind: pa.DataType) -> pa.DataType:
    """The type of a masked column: the same for text in any layout, a string for all else."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not is_text(value):
        return pa.string()
    # The result may have more distinct values than the index type of the dictionary counts, so it is widened.
    return pa.dictionary(pa.int32(), pa.large_string() if pa.types.is_large_string(value) else pa.string()) if value is not kind else kind


def _unified(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Codes and dictionary of a dictionary column, whose chunks may each have a dictionary of their own."""
    codes: list[pa.Array] = []
    dictionaries: list[pa.Array] = []
    count = 0
    for chunk in column.chunks:
        codes.append(pc.add(chunk.indices.cast(pa.int64()), count))
        dictionaries.append(chunk.dictionary)
        count += len(chunk.dictionary)
        if len(dictionaries) > 1 and dictionaries[-1].equals(dictionaries[0]):
            dictionaries.pop()
            count -= len(chunk.dictionary)
            codes[-1] = chunk.indices.cast(pa.int64())
    empty = pa.array([], column.type.value_type)
    return (
        pa.concat_arrays(codes) if codes else pa.array([], pa.int64()),
        pa.concat_arrays(dictionaries) if dictionaries else empty,
    )


def _used(codes: pa.Array, distinct: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Without the dictionary's values that no row has: a vault is not to keep them, and nothing is to be refused for them."""
    valid = pc.is_valid(codes).to_numpy(zero_copy_only=False)
    plain = pc.fill_null(codes, 0).to_numpy(zero_copy_only=False)
    used = np.zeros(len(distinct), dtype=np.bool_)
    used[plain[valid]] = True
    if used.all():
        return codes, distinct
    places = np.cumsum(used) - 1
    return pa.array(places[plain] if len(distinct) else plain, mask=~valid), distinct.filter(pa.array(used))


def _binary(array: pa.Array, field: Field) -> pa.Array:
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    try:
        if is_text(array.type):
            array.validate(full=True)
        return array.cast(pa.large_binary())
    except pa.ArrowInvalid:
        raise InvalidInput(f"Column '{field.name}' holds text that is not UTF-8.", hint="Read it as bytes, or mend the source.") from None


def _repeats(values: pa.Array) -> bool:
    """Whether values repeat enough for looking at each once to be worth finding them, judged by a sample."""
    if len(values) <= _SAMPLE:
        return len(values) > 0
    picked = values.take(pa.array(np.linspace(0, len(values) - 1, _SAMPLE).astype(np.int64)))
    if pc.count_distinct(picked).as_py() < _SAMPLE // 2:
        return True
    # Ten thousand values among a million show few repetitions in a thin sample, so a longer run of neighbours is looked at as well.
    run = values.slice(0, _RUN)
    return bool(pc.count_distinct(run).as_py() < len(run) // 2)


def _without_nulls(values: pa.Array) -> Contents:
    if values.null_count == 0:
        return Contents(values, None)
    valid = pc.is_valid(values).to_numpy(zero_copy_only=False)
    return Contents(values.drop_null(), pa.array(np.cumsum(valid) - 1, mask=~valid))


def _written(values: pa.Array, field: Field) -> pa.Array:
    """Numbers, truth values, dates and times as text."""
    if pa.types.is_integer(values.type):
        return values.cast(pa.large_string()).cast(pa.large_binary())
    try:
        return pa.array([canonical(value) for value in _objects(values)], pa.large_binary())
    except (ValueError, OverflowError):
        raise InvalidInput(f"Column '{field.name}' holds a value of type {values.type} that cannot be written as text.") from None


def _objects(values: pa.Array) -> list[Any]:
    if not pa.types.is_timestamp(values.type) or values.type.unit != "ns":
        plain: list[Any] = values.to_pylist()
        return plain
    # Python's datetime ends at microseconds; what is finer is written behind it.
    ticks = values.cast(pa.int64()).to_numpy(zero_copy_only=False) if values.null_count == 0 else pc.fill_null(values.cast(pa.int64()), 0).to_numpy()
    shown: list[Any] = pc.floor_temporal(values, unit="microsecond").cast(pa.timestamp("us", values.type.tz)).to_pylist()
    rest = ticks % 1000
    if not rest.any():
        return shown
    return [
        v if v is None or not r else str(v.replace(microsecond=0))[:19] + f".{t % 10**9:09d}" + str(v.replace(microsecond=0))[19:]
        for v, r, t in zip(shown, rest.tolist(), ticks.tolist(), strict=True)
    ]


def canonical(value: Any) -> bytes | None:
    """One byte string for values that compare equal; None for a missing one."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, (float, Decimal)) and value == value // 1:
        value = int(value)
    if isinstance(value, Decimal):
        value = f"{value.normalize():f}"
    return str(value).encode()


def _cut(values: pa.Array) -> list[pa.Array]:
    """Parts of a large string array that each fit into a string array."""
    if not (pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)):
        return [values]
    at = ragged.offsets(values)
    parts = []
    first = 0
    while first < len(values):
        last = max(int(np.searchsorted(at, at[first] + _CHUNK_BYTES, side="right")) - 1, first + 1)
        part = values.slice(first, last - first)
        # Cut out by copy, because a later part's positions would not fit into 32 bits.
        parts.append(part if len(part) == len(values) else ragged.build(ragged.content(part), ragged.lengths(part), values.type))
        first = last
    return parts


def _cut_take(values: pa.Array, rows: pa.Array) -> list[pa.Array]:
    """`values` taken by `rows`, in parts that each fit into a string array."""
    if len(values) == 0:
        return [pa.nulls(len(rows), values.type)]
    longest = max(int(pc.max(pc.binary_length(values)).as_py() or 0), 1)
    step = max(_CHUNK_BYTES // longest, 1)
    return [values.take(rows.slice(first, step)) for first in range(0, len(rows), step)]


def subjects_of(column: pa.ChunkedArray, subjects: pa.ChunkedArray | None, field: Field, name: str) -> Contents:
    """Whose each row is.

    Raises
    ------
    UsageError
        Nobody said whose the rows are.
    InvalidInput
        A row with a value has no subject.
    """
    if subjects is None:
        raise UsageError(
            f"Column '{field.name}': '{name}' needs to know whose each row is.", hint="Name the column of the subject in its setting 'subject'."
        )
    if len(subjects) != len(column):
        raise UsageError(f"Column '{field.name}' has {len(column)} rows, and {len(subjects)} subjects were given for them.")
    found = contents_of(subjects, field, "a subject")
    absent = int((missing(subjects) & ~missing(column)).sum())
    if absent:
        raise InvalidInput(
            f"Column '{field.name}': {absent} of {len(column)} rows have a value and no subject, so '{name}' cannot mask them.",
            hint="Fill in the subject, or use an operator without one.",
        )
    return found
