"""Choosing rows: cleaning and splitting.

Random order comes from the raw 64-bit output of PCG64, keyed by the seed through numpy's SeedSequence. Numpy guarantees both streams for
good (NEP 19), unlike the distributions on top of them, so a seed gives the same split with every version and on every machine.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.columns import numeric_array, plain_type, text_array
from affidavit.interfaces.schema import FieldType, Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from affidavit.interfaces.dataset import Dataset

MISSING = ("keep", "drop", "fill")


def random_order(rows: int, seed: int) -> NDArray[np.int64]:
    """A permutation of `rows` indices that follows from `seed` alone."""
    order: NDArray[np.int64] = np.argsort(np.random.PCG64(seed).random_raw(rows), kind="stable")
    return order


# -- clean ---------------------------------------------------------------------------------------------------------------------------------


def clean(data: Dataset, *, duplicates: bool = True, missing: str = "keep") -> Dataset:
    """Drop repeated rows (all columns equal; the first stays) and treat missing values. Reads all rows into memory.

    Raises
    ------
    UsageError
        `missing` is not ``"keep"``, ``"drop"`` or ``"fill"``.
    InvalidInput
        No row would be left, or a column to fill has no value at all.
    """
    if missing not in MISSING:
        raise UsageError(f"missing='{missing}' is unknown.", hint=f"Use one of: {', '.join(MISSING)}.")
    table = data.table
    keep = np.ones(table.num_rows, dtype=bool)
    if duplicates:
        keep &= _first_of_its_kind(table)
    repeated = int(table.num_rows - keep.sum())
    dropped = 0
    if missing == "drop":
        complete = np.ones(table.num_rows, dtype=bool)
        for field in data.schema:
            if field.role in (Role.FEATURE, Role.TARGET):
                complete &= ~_missing(table.column(field.name))
        dropped = int((keep & ~complete).sum())
        keep &= complete
    if not keep.any():
        raise InvalidInput(f"Cleaning data set '{data.name}' would leave no row.", hint="Fill missing values instead of dropping rows.")
    table = table.filter(pa.array(keep))
    filled: dict[str, int] = {}
    if missing == "fill":
        table, filled = _fill(table, data)
    return data.derive(table, data.schema, "clean", duplicates=repeated, dropped=dropped, filled=filled)


def _missing(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    absent = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    found: NDArray[np.bool_] = absent.to_numpy().astype(bool)
    return found


def _first_of_its_kind(table: pa.Table) -> NDArray[np.bool_]:
    """True for each row that no earlier row equals. Nested columns, which Arrow cannot group by, are compared by SHA-256."""
    keys = []
    for column in table.columns:
        kind = plain_type(column.type)
        if pa.types.is_nested(kind):
            digests = [hashlib.sha256(repr(value).encode()).digest() for value in _python_values(column)]
            keys.append(pa.chunked_array([pa.array(digests, pa.binary(32))]))
        else:
            keys.append(column.cast(kind))
    names = [str(position) for position in range(len(keys))]
    rows = pa.array(np.arange(table.num_rows))
    first = pa.table([*keys, rows], names=[*names, "row"]).group_by(names, use_threads=False).aggregate([("row", "min")])
    keep = np.zeros(table.num_rows, dtype=bool)
    keep[first.column("row_min").to_numpy()] = True
    return keep


def _python_values(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = []
    for chunk in column.chunks:
        values += (chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk).to_pylist()
    return values


def _fill(table: pa.Table, data: Dataset) -> tuple[pa.Table, dict[str, int]]:
    """Median for numbers and dates, the commonest value (the first in order among equals) for everything else but tensors and free text."""
    filled: dict[str, int] = {}
    for position, field in enumerate(data.schema):
        column = table.column(position)
        count = int(_missing(column).sum())
        if field.role is not Role.FEATURE or not count:
            continue
        if field.type is FieldType.TENSOR:
            raise InvalidInput(f"Column '{field.name}' misses {count} tensors, which have no median.", hint="Use missing='drop'.")
        if count == len(column):
            raise InvalidInput(f"Column '{field.name}' has no value to fill from.", hint="Leave the column out.")
        if field.type is FieldType.NUMERIC:
            column = column.cast(plain_type(column.type))
            median = float(np.nanmedian(numeric_array(column, field)))
            # the median of integers may have a fraction: the column then becomes float
            kind = column.type if pa.types.is_integer(column.type) and median == np.floor(median) else pa.float64()
            column = column.cast(kind)
            absent = pc.is_null(column, nan_is_null=True)
            column = pc.if_else(absent, pa.scalar(median, pa.float64()).cast(kind), column)
        else:
            column = column.cast(plain_type(column.type))
            column = pc.fill_null(column, _commonest(column))
        table = table.set_column(position, field.name, column)
        filled[field.name] = count
    return table, filled


def _commonest(column: pa.ChunkedArray) -> pa.Scalar:
    counts = pa.table({"value": column.drop_null()}).group_by("value", use_threads=False).aggregate([("value", "count")])
    return counts.sort_by([("value_count", "descending"), ("value", "ascending")]).column("value")[0]


# -- split ---------------------------------------------------------------------------------------------------------------------------------


def split(
    data: Dataset,
    *,
    test: float = 0.25,
    seed: int = 0,
    stratify: bool = False,
    group: str | None = None,
    time: str | None = None,
) -> tuple[Dataset, Dataset]:
    """Split into train and test rows, each in the order of the data; see `Dataset.split`. Streamed data stays streamed.

    - Random: `test` of the rows, rounded to the nearest number.
    - Stratified: each class gives its share by the largest remainder method, so that the test part has exactly the rounded number of rows;
      a class with at least two rows stands in both parts.
    - By group: whole groups in random order, as many as come nearest to the share; rows without a group are one group.
    - By time: the latest rows; the cut moves to the nearest place where the time changes, so that equal times are never parted.

    Raises
    ------
    UsageError
        An unknown column, a share outside (0, 1), or two ways to split at once.
    InvalidInput
        A part would be empty, a class has one row only, or the time is missing somewhere.
    """
    if not isinstance(test, (int, float)) or isinstance(test, bool) or not 0 < test < 1:
        raise UsageError(f"test={test!r} is no share.", hint="Give a number between 0 and 1, such as 0.25.")
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise UsageError(f"seed={seed!r} is no seed.", hint="Give a whole number from 0.")
    if (group is not None) + (time is not None) + bool(stratify) > 1:
        raise UsageError("A split is stratified, by group or by time, not several at once.")
    rows = len(data)
    wanted = int(np.floor(test * rows + 0.5))
    if not 0 < wanted < rows:
        raise InvalidInput(f"A share of {test} of {rows} rows leaves the {'test' if wanted == 0 else 'training'} part empty.", hint="Use more rows.")
    seed = int(seed)
    by: dict[str, Any]
    if time is not None:
        chosen, by = _latest(data, time, wanted), {"time": time}
    elif group is not None:
        chosen, by = _whole_groups(data, group, wanted, seed), {"group": group, "seed": seed}
    elif stratify:
        chosen, by = _stratified(data, wanted, seed), {"stratify": True, "seed": seed}
    else:
        chosen, by = np.zeros(rows, dtype=bool), {"seed": seed}
        chosen[random_order(rows, seed)[:wanted]] = True
    parameters = {"test": float(test), **by}
    train = data.filter(~chosen, operation="split", part="train", **parameters)
    return train, data.filter(chosen, operation="split", part="test", **parameters)


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], int]:
    """A number for each different value, in order of first appearance; missing values are one more."""
    encoded = column.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # more than one chunk is left where the strings pass 2 GB
        encoded = column.cast(pa.large_string()).combine_chunks()
    encoded = encoded.cast(plain_type(encoded.type)).dictionary_encode()
    different = len(encoded.dictionary)
    codes: NDArray[np.int64] = encoded.indices.cast(pa.int64()).fill_null(different).to_numpy(zero_copy_only=False)
    return codes, different + bool(encoded.null_count)


def _stratified(data: Dataset, wanted: int, seed: int) -> NDArray[np.bool_]:
    target = data.schema.target
    if target is None:
        raise UsageError("A stratified split needs a target.", hint="Name it when loading: target='column'.")
    if target.type in (FieldType.NUMERIC, FieldType.DATETIME, FieldType.TENSOR):
        raise UsageError(f"The target '{target.name}' is {target.type}: only classes can be stratified.", hint="Leave stratify off.")
    codes, classes = _codes(text_array(data.column(target.name), target))
    counts = np.bincount(codes, minlength=classes)
    if counts.min() < 2:
        raise InvalidInput(
            f"{int((counts < 2).sum())} of the {classes} classes of '{target.name}' have one row only and cannot stand in both parts.",
            hint="Leave stratify off, or drop these rows.",
        )
    if wanted < classes or len(codes) - wanted < classes:
        raise InvalidInput(f"A part would have fewer rows than '{target.name}' has classes ({classes}).", hint="Change the share, or use more rows.")
    quota = _largest_remainder(counts, wanted)
    order = random_order(len(codes), seed)
    by_class = order[np.argsort(codes[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    chosen = np.zeros(len(codes), dtype=bool)
    for start, quantity in zip(starts, quota, strict=True):
        chosen[by_class[start : start + quantity]] = True
    return chosen


def _largest_remainder(counts: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Hamilton's method: each class its rounded-down share, what is left to the largest remainders; at least one, and one left, in each class."""
    exact = counts * (wanted / counts.sum())
    quota: NDArray[np.int64] = np.clip(np.floor(exact).astype(np.int64), 1, counts - 1)
    while (gap := wanted - int(quota.sum())) != 0:
        step = 1 if gap > 0 else -1
        room = quota < counts - 1 if step > 0 else quota > 1
        due = np.where(room, step * (exact - quota), -np.inf)
        neediest = np.argsort(-due, kind="stable")[: min(abs(gap), int(room.sum()))]
        quota[neediest] += step
    return quota


def _whole_groups(data: Dataset, group: str, wanted: int, seed: int) -> NDArray[np.bool_]:
    field = data.schema[group]
    if field.type is FieldType.TENSOR:
        raise UsageError(f"Column '{group}' holds tensors and cannot group rows.")
    codes, groups = _codes(text_array(data.column(group), field))
    if groups < 2:
        raise InvalidInput(f"Column '{group}' has one group only, so one part would be empty.")
    counts = np.bincount(codes, minlength=groups)
    order = random_order(groups, seed)
    # by its size in rows after each group, the test part that comes nearest, but never all groups
    sizes = np.cumsum(counts[order])[:-1]
    taken = order[: int(np.argmin(np.abs(sizes - wanted))) + 1]
    chosen: NDArray[np.bool_] = np.isin(codes, taken)
    return chosen


def _latest(data: Dataset, time: str, wanted: int) -> NDArray[np.bool_]:
    field = data.schema[time]
    if field.type not in (FieldType.DATETIME, FieldType.NUMERIC):
        raise UsageError(f"Column '{time}' is {field.type}: only dates and numbers have an order in time.", hint="Convert it when loading.")
    column = data.column(time)
    absent = int(_missing(column).sum())
    if absent:
        raise InvalidInput(f"Column '{time}' is missing in {absent} of {len(column)} rows.", hint="Drop these rows first.")
    moments = column.cast(plain_type(column.type)).combine_chunks()
    if pa.types.is_timestamp(moments.type):
        moments = moments.view(pa.int64())  # float seconds would merge times that differ by nanoseconds
    values = moments.to_numpy(zero_copy_only=False)
    ordered = np.sort(values)
    cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    if not len(cuts):
        raise InvalidInput(f"Column '{time}' has the same value in every row, so one part would be empty.")
    cut = cuts[np.argmin(np.abs(cuts - (len(values) - wanted)))]
    latest: NDArray[np.bool_] = values >= ordered[cut]
    return latest
