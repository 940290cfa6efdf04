"""Bytes as lower-case base32 (RFC 4648, section 6) behind a prefix, without padding signs: a form that survives a change of case rules,
stands in text as one word, and holds no run of digits between separators that could pass for a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affidavit_governance.encryption import ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALPHABET = b"abcdefghijklmnopqrstuvwxyz234567"
_LETTERS = np.frombuffer(ALPHABET, dtype=np.uint8)
_NUMBERS = np.full(256, 255, dtype=np.uint8)
_NUMBERS[_LETTERS] = np.arange(32)
_TILE = 1 << 15


def encode(values: pa.LargeBinaryArray, prefix: bytes) -> pa.LargeStringArray:
    """The text of each value."""
    sizes = ragged.lengths(values)
    parts: list[pa.Array] = []
    places = []
    for groups, positions in ragged.buckets((sizes + 4) // 5):
        for first in range(0, len(positions), _TILE):
            at = positions[first : first + _TILE]
            chosen = values.take(pa.array(at))
            places.append(at)
            parts.append(_encode_tile(chosen, groups, prefix))
    return ragged.regroup(parts, places).cast(pa.large_string()) if parts else pa.array([], pa.large_string())


def _encode_tile(values: pa.LargeBinaryArray, groups: int, prefix: bytes) -> pa.LargeBinaryArray:
    sizes = ragged.lengths(values)
    data = ragged.padded(values, groups * 5).reshape(len(values), groups, 5)
    letters = np.empty((len(values), len(prefix) + groups * 8), dtype=np.uint8)
    letters[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    whole = np.zeros((len(values), groups), dtype=np.uint64)
    for i in range(5):
        whole = whole << np.uint64(8) | data[:, :, i]
    for i in range(8):
        letters[:, len(prefix) + i :: 8] = _LETTERS[(whole >> np.uint64(35 - 5 * i) & np.uint64(31)).astype(np.intp)]
    return ragged.unpadded(letters, len(prefix) + (sizes * 8 + 4) // 5)


def decode(texts: pa.LargeBinaryArray, prefix: bytes) -> tuple[pa.LargeBinaryArray, NDArray[np.int64]]:
    """The values of those texts that `encode` could have written, and their positions."""
    shaped = np.flatnonzero(pc.starts_with(texts, prefix).to_numpy(zero_copy_only=False))
    letters = ragged.lengths(texts)[shaped] - len(prefix)
    # So many letters in the last group belong to no whole number of bytes.
    shaped = shaped[(letters > 0) & ~np.isin(letters % 8, (1, 3, 6))]
    parts: list[pa.Array] = []
    places = []
    for groups, positions in ragged.buckets((ragged.lengths(texts)[shaped] - len(prefix) + 7) // 8):
        for first in range(0, len(positions), _TILE):
            at = shaped[positions[first : first + _TILE]]
            part, right = _decode_tile(texts.take(pa.array(at)), groups, len(prefix))
            parts.append(part)
            places.append(at[right])
    if not parts:
        return pa.array([], pa.large_binary()), shaped
    return pa.concat_arrays(parts), np.concatenate(places)


def _decode_tile(texts: pa.LargeBinaryArray, groups: int, start: int) -> tuple[pa.LargeBinaryArray, NDArray[np.bool_]]:
    sizes = ragged.lengths(texts) - start
    width = start + groups * 8
    letters = ragged.padded(texts, width)[:, start:]
    numbers = _NUMBERS[letters]
    behind = np.arange(groups * 8) >= sizes[:, None]
    numbers[behind] = 0
    right: NDArray[np.bool_] = np.asarray((numbers < 32).all(axis=1))
    numbers = numbers.reshape(len(texts), groups, 8)
    whole = np.zeros((len(texts), groups), dtype=np.uint64)
    for i in range(8):
        whole = whole << np.uint64(5) | numbers[:, :, i]
    data = np.empty((len(texts), groups, 5), dtype=np.uint8)
    for i in range(5):
        data[:, :, i] = whole >> np.uint64(32 - 8 * i) & np.uint64(255)
    flat = data.reshape(len(texts), groups * 5)
    count = sizes * 5 // 8
    # Bits behind the last byte are zero; else several texts would stand for one value.
    right &= ~((flat != 0) & (np.arange(groups * 5) >= count[:, None])).any(axis=1)
    return ragged.unpadded(flat[right], count[right]), right
