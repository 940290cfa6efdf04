"""The fingerprint of a data set: SHA-256 over a canonical form of its names, logical types, validity and values.

The canonical form forgets how Arrow happens to hold the data: chunks, row groups, slices, dictionaries, run-end encoding, 32- or 64-bit
offsets, views, and whatever bytes lie under a missing value. It also forgets differences that a CSV file and a Parquet file of the same
data may have:

- integers of every width are one type, as are floats of every width (a float32 is hashed as the float64 that it equals);
- a NaN is a missing value, as everywhere in Affidavit;
- timestamps of every unit are one type (with or without a time zone are two; which zone does not matter, the instant does);
- decimals differ by scale, not by precision.

It keeps the difference between an integer and a float column, between ``-0.0`` and ``0.0``, between an empty string and a missing one,
and the order of rows and columns. Inside tensors the element type counts and is hashed as it is, for a CSV file cannot hold one and
pictures would grow eightfold.

Version 1. Each column is a node with a few streams of little-endian bytes: positions of missing values, values, lengths. Each stream is
hashed on its own, so that it does not matter where the batches were cut. The fingerprint is the SHA-256 of the header line, the number of
columns, and for each column its name and logical type (each preceded by its length), its number of rows and the digests of its streams.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pyarrow as pa

from affidavit.errors import InvalidInput
from affidavit.interfaces.columns import plain_array, plain_type

HEADER = b"affidavit dataset fingerprint 1\n"
_LENGTH = struct.Struct("<Q")

if sys.byteorder != "little":  # pragma: no cover  # no big-endian machine to try it on
    raise ImportError("Fingerprints are defined over little-endian values, and this machine is big-endian.")


def fingerprint(batches: Iterable[pa.RecordBatch]) -> str:
    """Hex SHA-256 of the canonical form of `batches`, which are read once and not kept.

    Raises
    ------
    InvalidInput
        There is no batch, or two batches differ in names or logical types.
    """
    nodes: list[_Node] = []
    schema: pa.Schema | None = None
    heads: list[bytes] = []
    for batch in batches:
        if batch.schema is not schema and batch.schema != schema:
            schema = batch.schema
            changed = [_head(name, kind) for name, kind in zip(schema.names, schema.types, strict=True)]
            if heads and changed != heads:
                raise InvalidInput("The batches of one data set differ in column names or types.", hint="Give the source explicit column types.")
            if not heads:
                heads = changed
                nodes = [_node(kind) for kind in schema.types]
        for node, column in zip(nodes, batch.columns, strict=True):
            node.update(column)
    if schema is None:
        raise InvalidInput("Data without any batch has no fingerprint.")
    parts = [HEADER, _LENGTH.pack(len(nodes))]
    for head, node in zip(heads, nodes, strict=True):
        parts.append(head)
        node.encode(parts)
    return hashlib.sha256(b"".join(parts)).hexdigest()


class _Node:
    """One column, or one level of a nested column: rows, positions of missing values, and what the subclass adds."""

    __slots__ = ("missing", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.missing = hashlib.sha256()

    def update(self, values: pa.Array) -> None:
        values = plain_array(values)
        if values.null_count:
            absent = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
            self.missing.update((absent + self.rows).data)
            self.add(values.drop_null())
        else:
            self.add(values)
        self.rows += len(values)

    def add(self, values: pa.Array) -> None:
        """Take in the values that are there."""

    def encode(self, parts: list[bytes]) -> None:
        parts.append(_LENGTH.pack(self.rows) + self.missing.digest())


class _Integers(_Node):
    """Whole numbers, booleans, dates, times of day and durations: as 64 bits, or as they are (`exact`)."""

    __slots__ = ("exact", "high", "present", "values")

    def __init__(self, exact: bool) -> None:
        super().__init__()
        self.exact = exact
        self.present = 0
        self.values = hashlib.sha256()
        self.high = hashlib.sha256()

    def add(self, values: pa.Array) -> None:
        kind = values.type
        if pa.types.is_boolean(kind):
            values = values.cast(pa.uint8())
        elif pa.types.is_date64(kind):
            values = values.cast(pa.date32()).view(pa.int32())
        elif not pa.types.is_integer(kind):
            values = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
        numbers = values.to_numpy(zero_copy_only=False)
        if pa.types.is_uint64(values.type) and len(numbers) and numbers.max() > np.iinfo(np.int64).max:
            # beyond int64 the bits look like a negative number: a second stream says which of the present values they are
            self.high.update((np.flatnonzero(numbers > np.iinfo(np.int64).max) + self.present).data)
        self.present += len(numbers)
        self.values.update(numbers if self.exact else numbers.astype(np.int64, copy=False))

    def encode(self, parts: list[bytes]) -> None:
        super().encode(parts)
        parts += (self.values.digest(), self.high.digest())


class _Floats(_Node):
    """Floats, where NaN is missing: as float64, or as they are (`exact`)."""

    __slots__ = ("exact", "values")

    def __init__(self, exact: bool) -> None:
        super().__init__()
        self.exact = exact
        self.values = hashlib.sha256()

    def update(self, values: pa.Array) -> None:
        numbers = plain_array(values).to_numpy(zero_copy_only=False)  # nulls come out as NaN
        rows = len(numbers)
        if rows and np.isnan(numbers.min()):
            absent = np.isnan(numbers)
            self.missing.update((np.flatnonzero(absent) + self.rows).data)
            numbers = numbers[~absent]
        self.values.update(numbers if self.exact else numbers.astype(np.float64, copy=False))
        self.rows += rows

    def encode(self, parts: list[bytes]) -> None:
        super().encode(parts)
        parts.append(self.values.digest())


class _Decimals(_Node):
    """Decimals as 256-bit integers; the scale stands in the type's name."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        super().__init__()
        self.values = hashlib.sha256()

    def add(self, values: pa.Array) -> None:
        wide = values.cast(pa.decimal256(76, values.type.scale))
        if len(wide):
            self.values.update(memoryview(wide.buffers()[1])[wide.offset * 32 : (wide.offset + len(wide)) * 32])

    def encode(self, parts: list[bytes]) -> None:
        super().encode(parts)
        parts.append(self.values.digest())


class _Timestamps(_Node):
    """Moments as whole seconds since 1970 and nanoseconds beyond, so that the unit does not matter and nothing overflows."""

    __slots__ = ("nanoseconds", "seconds")

    def __init__(self) -> None:
        super().__init__()
        self.seconds = hashlib.sha256()
        self.nanoseconds = hashlib.sha256()

    def add(self, values: pa.Array) -> None:
        ticks_a_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[values.type.unit]
        ticks = values.view(pa.int64()).to_numpy(zero_copy_only=False)
        seconds = ticks // ticks_a_second
        self.seconds.update(seconds)
        self.nanoseconds.update((ticks - seconds * ticks_a_second) * (10**9 // ticks_a_second))

    def encode(self, parts: list[bytes]) -> None:
        super().encode(parts)
        parts += (self.seconds.digest(), self.nanoseconds.digest())


class _Bytes(_Node):
    """Strings and binary: lengths, and all bytes in one run."""

    __slots__ = ("content", "lengths")

    def __init__(self) -> None:
        super().__init__()
        self.lengths = hashlib.sha256()
        self.content = hashlib.sha256()

    def add(self, values: pa.Array) -> None:
        kind = values.type
        if pa.types.is_fixed_size_binary(kind):
            values = values.cast(pa.large_binary())
            kind = values.type
        if not len(values):
            return
        wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
        _, offsets, content = values.buffers()
        edges = np.frombuffer(offsets, dtype=np.int64 if wide else np.int32)[values.offset : values.offset + len(values) + 1]
        self.lengths.update(np.diff(edges).astype(np.int64, copy=False).data)
        if edges[-1] > edges[0]:
            self.content.update(memoryview(content)[int(edges[0]) : int(edges[-1])])

    def encode(self, parts: list[bytes]) -> None:
        super().encode(parts)
        parts += (self.lengths.digest(), self.content.digest())


class _Lists(_Node):
    """Lists of one type: their lengths (unless all have one), and the node of all their elements."""

    __slots__ = ("elements", "lengths")

    def __init__(self, element: pa.DataType, *, fixed: bool) -> None:
        super().__init__()
        self.lengths = None if fixed else hashlib.sha256()
        self.elements = _node(element, exact=fixed)

    def add(self, values: pa.Array) -> None:
        if self.lengths is not None:
            if not pa.types.is_map(values.type):
                values = values.cast(pa.large_list(values.type.value_type))
            self.lengths.update(np.diff(values.offsets.to_numpy()).astype(np.int64, copy=False))
        self.elements.update(values.flatten() if not pa.types.is_map(values.type) else _map_entries(values))

    def encode(self, parts: list[bytes]) -> None:
        super().encode(parts)
        if self.lengths is not None:
            parts.append(self.lengths.digest())
        self.elements.encode(parts)


def _map_entries(values: pa.MapArray) -> pa.Array:
    first, last = values.offsets[0].as_py(), values.offsets[-1].as_py()
    return pa.StructArray.from_arrays([values.keys, values.items], names=["key", "value"]).slice(first, last - first)


class _Structs(_Node):
    """Structs: a node for each member, over the rows that are there."""

    __slots__ = ("members",)

    def __init__(self, kind: pa.StructType) -> None:
        super().__init__()
        self.members = [_node(kind.field(place).type) for place in range(kind.num_fields)]

    def add(self, values: pa.Array) -> None:
        for node, member in zip(self.members, values.flatten(), strict=True):
            node.update(member)

    def encode(self, parts: list[bytes]) -> None:
        super().encode(parts)
        for node in self.members:
            node.encode(parts)


def _node(kind: pa.DataType, *, exact: bool = False) -> _Node:
    kind = plain_type(kind)
    if pa.types.is_null(kind):
        return _Node()
    if pa.types.is_floating(kind):
        return _Floats(exact)
    if pa.types.is_decimal(kind):
        return _Decimals()
    if pa.types.is_timestamp(kind):
        return _Timestamps()
    if _is_bytes(kind) or _is_string(kind):
        return _Bytes()
    if pa.types.is_fixed_size_list(kind):
        return _Lists(kind.value_type, fixed=True)
    if pa.types.is_map(kind):
        return _Lists(_map_struct(kind), fixed=False)
    if _is_list(kind):
        return _Lists(kind.value_type, fixed=False)
    if pa.types.is_struct(kind):
        return _Structs(kind)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or (pa.types.is_temporal(kind) and not pa.types.is_interval(kind)):
        return _Integers(exact and pa.types.is_integer(kind))
    raise InvalidInput(f"Columns of the Arrow type {kind} cannot be fingerprinted.", hint="Leave the column out or convert it.")


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _map_struct(kind: pa.MapType) -> pa.StructType:
    return pa.struct([("key", kind.key_type), ("value", kind.item_type)])


@lru_cache(maxsize=4096)
def _head(name: str, kind: pa.DataType) -> bytes:
    """A column's name and logical type, each preceded by its length."""
    return b"".join(_LENGTH.pack(len(text)) + text for text in (name.encode(), _type_name(kind).encode()))


def _type_name(kind: pa.DataType, *, exact: bool = False) -> str:
    """The logical type in words; two Arrow types of one name hold the same values."""
    if isinstance(kind, pa.FixedShapeTensorType):
        order = "" if kind.permutation is None else f" permuted {list(kind.permutation)}"
        return f"tensor {list(kind.shape)}{order} of {_type_name(kind.value_type, exact=True)}"
    kind = plain_type(kind)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return str(kind) if exact else "integer" if pa.types.is_integer(kind) else "float"
    if pa.types.is_decimal(kind):
        return f"decimal of scale {kind.scale}"
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamp with zone"
    if pa.types.is_date(kind):
        return "date"
    if _is_string(kind):
        return "string"
    if _is_bytes(kind):
        return "binary"
    if pa.types.is_fixed_size_list(kind):
        return f"tensor [{kind.list_size}] of {_type_name(kind.value_type, exact=True)}"
    if pa.types.is_map(kind):
        return f"list of {_type_name(_map_struct(kind))}"
    if _is_list(kind):
        return f"list of {_type_name(kind.value_type)}"
    if pa.types.is_struct(kind):
        members = [kind.field(place) for place in range(kind.num_fields)]
        return "struct " + ", ".join(f"{member.name!r}: {_type_name(member.type)}" for member in members) + ";"
    return str(kind)
