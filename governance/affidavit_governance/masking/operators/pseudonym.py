"""Keyed pseudonyms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.encryption import ragged
from affidavit_governance.masking.operators.contents import contents_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKEN_BYTES = 16
"""A pseudonym is 128 bits: among 10⁹ distinct values two share one with a chance below 10⁻²⁰."""
TOKEN_LETTERS = 2 * (TOKEN_BYTES + 4)
_TILE = 1 << 14  # values that are worked on together, so that what they become stays in the processor's cache
_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint16)
_NIBBLES = np.full(256, 255, dtype=np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)


class PseudonymSettings(Settings):
    """`namespace` keeps apart the pseudonyms of equal values in columns that must not be linked."""

    namespace: str = ""


class Pseudonym(Operator):
    """Replaces each value by a keyed pseudonym: BLAKE2b (RFC 7693) with the workspace's key, 128 bits in hex, and 32 bits that mark it.

    Equal values get equal pseudonyms in every column, table and file under one key, whatever their Arrow type (5, 5.0 and "5" are equal),
    so a join on pseudonyms gives what a join on the originals gives. Without the key a pseudonym cannot be tested against a guess.
    With the key its mark tells it from a value, so what is a pseudonym already stays as it is.
    """

    name = "pseudonym"
    Settings = PseudonymSettings
    spans = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        contents = contents_of(column, field, "a pseudonym")
        return contents.spread(self._pseudonyms(contents.values, context.key))

    def _pseudonyms(self, values: pa.LargeBinaryArray, key: bytes) -> pa.Array:
        assert isinstance(self.settings, PseudonymSettings)
        namespace = self.settings.namespace.encode()
        base = hashlib.blake2b(len(namespace).to_bytes(4, "big") + namespace, digest_size=TOKEN_BYTES, key=key, person=b"affidavit-pn-1")
        text = np.empty((len(values), TOKEN_LETTERS), dtype=np.uint8)
        for first in range(0, len(values), _TILE):
            digests = _digests(base.copy, values.slice(first, _TILE).to_pylist())
            words = np.frombuffer(digests, dtype="<u4").reshape(-1, TOKEN_BYTES // 4)
            text[first : first + _TILE, : 2 * TOKEN_BYTES] = _hex(words)
            text[first : first + _TILE, 2 * TOKEN_BYTES :] = _hex(_marks(words, key)[:, None])
        marked = _marked(values, key)
        text[marked] = ragged.content(values.take(pa.array(marked))).reshape(-1, TOKEN_LETTERS)
        return ragged.build(text.reshape(-1), np.full(len(values), TOKEN_LETTERS), pa.large_string())

    def field(self, field: Field) -> Field:
        return replace(super().field(field), type=FieldType.CATEGORICAL, bounds=None, shape=None)


def _marks(words: NDArray[np.uint32], key: bytes) -> NDArray[np.uint32]:
    """The mark of each pseudonym: a keyed multiply-shift hash (Dietzfelbinger 1996) of its four words. It hides nothing and proves nothing
    to anybody; a value that is no pseudonym has the right one with a chance of 2⁻³²."""
    secret = np.frombuffer(hashlib.blake2b(digest_size=40, key=key, person=b"affidavit-pm-1").digest(), dtype="<u8")
    with np.errstate(over="ignore"):
        mixed = sum((words[:, i] * secret[i] for i in range(4)), start=secret[4:])
    marks: NDArray[np.uint32] = (mixed >> np.uint64(32)).astype(np.uint32)
    return marks


def _marked(values: pa.LargeBinaryArray, key: bytes) -> NDArray[np.int64]:
    """Positions of values that are pseudonyms under this key."""
    shaped = np.flatnonzero(ragged.lengths(values) == TOKEN_LETTERS)
    if not len(shaped):
        return shaped
    letters = ragged.content(values.take(pa.array(shaped))).reshape(-1, TOKEN_LETTERS)
    nibbles = _NIBBLES[letters]
    hexadecimal = (nibbles < 16).all(axis=1)
    words = (nibbles[:, ::2] << 4 | nibbles[:, 1::2] & 15).view("<u4")
    found: NDArray[np.int64] = shaped[hexadecimal & (_marks(words[:, :-1], key) == words[:, -1])]
    return found


def _digests(fresh: Callable[[], hashlib.blake2b], contents: list[bytes]) -> bytearray:
    digests = bytearray()  # a million small objects in a list would cost as much as the hashing
    for content in contents:
        state = fresh()
        state.update(content)
        digests += state.digest()
    return digests


def _hex(words: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The letters of each row of words, two for each byte, the lowest byte first."""
    data = np.ascontiguousarray(words.astype("<u4")).view(np.uint8)
    return _HEX[data].view(np.uint8).reshape(len(data), 2 * data.shape[1])
