"""What operators share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray


def missing(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Where values are null or not a number."""
    parts = [pc.is_null(chunk, nan_is_null=True).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings, in any layout."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values are byte strings, in any layout."""
    plain = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return bool(plain or pa.types.is_binary_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether values are numbers; truth values are none."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def typed(array: pa.Array, kind: pa.DataType) -> pa.ChunkedArray:
    """`array` as the column that it replaces: with a dictionary where that had one, whose indices have room for more distinct values."""
    if not pa.types.is_dictionary(kind):
        return pa.chunked_array([array], type=kind)
    encoded = array.dictionary_encode()
    return pa.chunked_array([pa.DictionaryArray.from_arrays(encoded.indices.cast(pa.int32()), encoded.dictionary)])
