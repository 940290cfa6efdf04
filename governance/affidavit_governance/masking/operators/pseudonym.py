"""Keyed pseudonyms."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from affidavit.errors import UsageError
from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field, FieldType

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKEN_BYTES = 16
"""A pseudonym is 128 bits: among 10⁹ distinct values two share one with a chance below 10⁻²⁰."""
TOKEN_LETTERS = 2 * (TOKEN_BYTES + 4)
_TOKEN = re.compile(rb"[0-9a-f]+")


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

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        if pa.types.is_nested(column.type) or isinstance(column.type, pa.ExtensionType):
            raise UsageError(f"Column '{field.name}' holds nested values, which have no pseudonym.", hint="Use redact or drop.")
        chunks = [self._chunk(chunk, context.key) for chunk in column.chunks]
        return pa.chunked_array(chunks, type=pa.string())

    def _chunk(self, array: pa.Array, key: bytes) -> pa.Array:
        plain = array.cast(pa.large_binary()) if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type) else array
        encoded = plain if pa.types.is_dictionary(plain.type) else plain.dictionary_encode()
        contents = [_canonical(value) for value in encoded.dictionary.to_pylist()]
        tokens = self._tokens([content or b"" for content in contents], key)
        for position in _marked(contents, key):
            tokens[position] = contents[position]
        values = pa.array([None if content is None else token for content, token in zip(contents, tokens, strict=True)], pa.binary())
        return values.cast(pa.string()).take(encoded.indices)

    def _tokens(self, contents: list[bytes], key: bytes) -> list[bytes | None]:
        assert isinstance(self.settings, PseudonymSettings)
        namespace = self.settings.namespace.encode()
        base = hashlib.blake2b(len(namespace).to_bytes(4, "big") + namespace, digest_size=TOKEN_BYTES, key=key, person=b"affidavit-pn-1")
        digests = bytearray()
        for content in contents:
            state = base.copy()
            state.update(content)
            digests += state.digest()
        words = np.frombuffer(digests, dtype="<u4").reshape(-1, TOKEN_BYTES // 4)
        text = np.hstack([words, _marks(words, key)[:, None]]).astype("<u4").tobytes().hex().encode()
        return [text[at : at + TOKEN_LETTERS] for at in range(0, len(text), TOKEN_LETTERS)]

    def field(self, field: Field) -> Field:
        return replace(super().field(field), type=FieldType.CATEGORICAL, bounds=None, shape=None)


def _marks(words: NDArray[np.uint32], key: bytes) -> NDArray[np.uint32]:
    """The mark of each pseudonym: a keyed multiply-shift hash (Dietzfelbinger 1996) of its four words. It hides nothing and proves nothing
    to anybody; a value that is no pseudonym has the right one with a chance of 2⁻³²."""
    secret = np.frombuffer(hashlib.blake2b(digest_size=40, key=key, person=b"affidavit-pm-1").digest(), dtype="<u8")
    with np.errstate(over="ignore"):
        mixed = (words.astype(np.uint64) * secret[:4]).sum(axis=1, dtype=np.uint64) + secret[4]
    marks: NDArray[np.uint32] = (mixed >> np.uint64(32)).astype(np.uint32)
    return marks


def _marked(contents: list[bytes | None], key: bytes) -> list[int]:
    """Positions of values that are pseudonyms under this key."""
    shaped = [i for i, content in enumerate(contents) if content is not None and len(content) == TOKEN_LETTERS and _TOKEN.fullmatch(content)]
    if not shaped:
        return []
    words = np.frombuffer(bytes.fromhex(b"".join(contents[i] or b"" for i in shaped).decode()), dtype="<u4").reshape(-1, TOKEN_BYTES // 4 + 1)
    right = _marks(words[:, :-1], key) == words[:, -1]
    return [i for i, ok in zip(shaped, right, strict=True) if ok]


def _canonical(value: Any) -> bytes | None:
    """One byte string for values that compare equal; None for a missing one."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bytes):
        return value
    if isinstance(value, (float, Decimal)) and value == value // 1:
        value = int(value)
    if isinstance(value, Decimal):
        value = f"{value.normalize():f}"
    return str(value).encode("utf-8", "surrogatepass")
