"""Byte strings of many lengths as matrices, so that a cipher works on all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray


def lengths(values: pa.LargeBinaryArray) -> NDArray[np.int64]:
    """Bytes of each value; `values` holds no null."""
    return np.diff(offsets(values))


def offsets(values: pa.LargeBinaryArray) -> NDArray[np.int64]:
    """Where each value starts in the data buffer, and where the last one ends."""
    buffer = values.buffers()[1]
    if buffer is None or len(values) == 0:
        return np.zeros(1, dtype=np.int64)
    return np.frombuffer(buffer, dtype=np.int64, count=len(values) + 1, offset=8 * values.offset)


def content(values: pa.LargeBinaryArray) -> NDArray[np.uint8]:
    """The bytes of all values, one behind the other; a view, not to be written to."""
    buffer = values.buffers()[2]
    at = offsets(values)
    size = int(at[-1] - at[0])
    if buffer is None or size == 0:
        return np.zeros(0, dtype=np.uint8)
    return np.frombuffer(buffer, dtype=np.uint8, count=size, offset=int(at[0]))


def build(data: NDArray[np.uint8], sizes: NDArray[np.int64], kind: pa.DataType | None = None) -> pa.Array:
    """An array whose values have `sizes` bytes, cut from `data` in order."""
    starts = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=starts[1:])
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.large_binary() if kind is None else kind, len(sizes), buffers)


def padded(values: pa.LargeBinaryArray, width: int) -> NDArray[np.uint8]:
    """One row of `width` bytes a value, zeros behind its end."""
    sizes = lengths(values)
    if (sizes == width).all():
        return content(values).reshape(-1, width).copy()
    matrix = np.zeros((len(values), width), dtype=np.uint8)
    matrix[np.arange(width) < sizes[:, None]] = content(values)
    return matrix


def unpadded(matrix: NDArray[np.uint8], sizes: NDArray[np.int64]) -> pa.LargeBinaryArray:
    """The first `sizes` bytes of each row."""
    width = matrix.shape[1]
    full = bool((sizes == width).all())
    return build(matrix.reshape(-1) if full else matrix[np.arange(width) < sizes[:, None]], sizes)


def buckets(keys: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Positions of equal keys, for each key that occurs, in the order of the keys."""
    if len(keys) == 0:
        return
    if (keys == keys[0]).all():
        yield int(keys[0]), np.arange(len(keys))
        return
    order = np.argsort(keys, kind="stable")
    found, first = np.unique(keys[order], return_index=True)
    for key, positions in zip(found, np.split(order, first[1:]), strict=True):
        yield int(key), positions


def regroup(parts: list[pa.Array], positions: list[NDArray[np.int64]]) -> pa.Array:
    """The values of `parts`, each put back to its position."""
    if len(parts) == 1:
        return parts[0]
    back = np.empty(sum(len(part) for part in parts), dtype=np.int64)
    back[np.concatenate(positions)] = np.arange(len(back))
    return pa.concat_arrays(parts).take(pa.array(back))
