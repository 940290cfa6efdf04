"""AES-SIV (RFC 5297), deterministic authenticated encryption, over many values at once.

S2V's CMAC (NIST SP 800-38B) and the counter mode are runs of AES on single blocks, so the blocks of all values are gathered and go through
one call of the library's AES for each block position. The result is, byte for byte, what `cryptography`'s ``AESSIV`` gives for each value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import cmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from affidavit.errors import UsageError
from affidavit_governance.encryption import ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAG_BYTES = 16
MAX_ASSOCIATED = 126
"""RFC 5297, section 7: S2V takes 127 strings at most, of which the plaintext is one."""

_BLOCK = 16
_TILE = 1 << 15  # rows that are worked on together, so that their blocks stay in the processor's cache
_LONG = 1024  # from so many bytes on, one call of the library for each value is faster
_FEW = 8  # so few values of a length are not worth the arrays


class SIV:
    """AES-SIV with one key and one list of associated data.

    Parameters
    ----------
    key
        32, 48 or 64 bytes: the first half for S2V, the second for the counter mode.
    associated
        Strings that are authenticated with each value; a value decrypts only with the same ones, in the same order.

    Raises
    ------
    UsageError
        A key of another length, or too many associated strings.
    """

    def __init__(self, key: bytes, associated: Sequence[bytes] = ()) -> None:
        if len(key) not in (32, 48, 64):
            raise UsageError(f"An AES-SIV key has 32, 48 or 64 bytes, this one has {len(key)}.")
        if len(associated) > MAX_ASSOCIATED:
            raise UsageError(f"AES-SIV takes {MAX_ASSOCIATED} associated strings at most, not {len(associated)}.")
        self._one = AESSIV(key)
        self._associated = list(associated)
        mac_key, counter_key = key[: len(key) // 2], key[len(key) // 2 :]
        self._mac = Cipher(algorithms.AES(mac_key), modes.ECB()).encryptor()
        self._counter = Cipher(algorithms.AES(counter_key), modes.ECB()).encryptor()
        subkey = _double(self._mac.update(bytes(_BLOCK)))
        self._subkeys = np.frombuffer(subkey + _double(subkey), dtype=np.uint8).reshape(2, _BLOCK)
        state = _cmac(mac_key, bytes(_BLOCK))
        for text in self._associated:
            state = bytes(a ^ b for a, b in zip(_double(state), _cmac(mac_key, text), strict=True))
        self._state = np.frombuffer(state, dtype=np.uint8)
        self._doubled = np.frombuffer(_double(state), dtype=np.uint8)

    def encrypt(self, values: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
        """Synthetic IV and ciphertext of each value (no nulls): 16 bytes longer than it."""
        sizes = ragged.lengths(values)
        parts: list[pa.Array] = []
        places: list[NDArray[np.int64]] = []
        for blocks, positions in ragged.buckets(_blocks(sizes)):
            places.append(positions)
            chosen = values if len(positions) == len(values) else values.take(pa.array(positions))
            if blocks * _BLOCK > _LONG or (len(positions) <= _FEW and sizes[positions].min() > 0):
                sealed = [self._one.encrypt(value, self._associated) for value in chosen.to_pylist()]
                parts.append(pa.array(sealed, pa.large_binary()))
                continue
            for first in range(0, len(chosen), _TILE):
                parts.append(self._encrypt_tile(chosen.slice(first, _TILE), blocks))
        return ragged.regroup(_joined(parts, places), places) if parts else values

    def decrypt(self, values: pa.LargeBinaryArray) -> tuple[pa.LargeBinaryArray, NDArray[np.bool_]]:
        """What `encrypt` was given, and which values are authentic; one that is not comes out empty.

        Every value is looked at, whatever the others are.
        """
        sizes = ragged.lengths(values)
        authentic = np.zeros(len(values), dtype=np.bool_)
        parts: list[pa.Array] = []
        places: list[NDArray[np.int64]] = []
        for blocks, positions in ragged.buckets(np.where(sizes < TAG_BYTES, 0, _blocks(sizes - TAG_BYTES))):
            places.append(positions)
            chosen = values if len(positions) == len(values) else values.take(pa.array(positions))
            if blocks == 0:
                parts.append(pa.array([b""] * len(positions), pa.large_binary()))
            elif blocks * _BLOCK > _LONG or (len(positions) <= _FEW and sizes[positions].min() > TAG_BYTES):
                opened = [self._open_one(value) for value in chosen.to_pylist()]
                authentic[positions] = [value is not None for value in opened]
                parts.append(pa.array([value or b"" for value in opened], pa.large_binary()))
            else:
                for first in range(0, len(chosen), _TILE):
                    part, right = self._decrypt_tile(chosen.slice(first, _TILE), blocks)
                    authentic[positions[first : first + _TILE]] = right
                    parts.append(part)
        return (ragged.regroup(_joined(parts, places), places) if parts else values), authentic

    def _open_one(self, value: bytes) -> bytes | None:
        try:
            return self._one.decrypt(value, self._associated)
        except InvalidTag:
            return None

    def _encrypt_tile(self, values: pa.LargeBinaryArray, blocks: int) -> pa.LargeBinaryArray:
        sizes = ragged.lengths(values)
        plain = ragged.padded(values, blocks * _BLOCK)
        tags = self._s2v(plain, sizes)
        plain ^= self._keystream(tags, blocks)
        return ragged.unpadded(np.hstack([tags, plain]), sizes + TAG_BYTES)

    def _decrypt_tile(self, values: pa.LargeBinaryArray, blocks: int) -> tuple[pa.LargeBinaryArray, NDArray[np.bool_]]:
        sizes = ragged.lengths(values) - TAG_BYTES
        sealed = ragged.padded(values, (blocks + 1) * _BLOCK)
        tags, plain = sealed[:, :TAG_BYTES], sealed[:, TAG_BYTES:].copy()
        plain ^= self._keystream(tags, blocks)
        plain[np.arange(plain.shape[1]) >= sizes[:, None]] = 0
        # All bytes of the tag take part, so that timing does not say how many were right.
        right: NDArray[np.bool_] = np.bitwise_or.reduce(self._s2v(plain, sizes) ^ tags, axis=1) == 0
        return ragged.unpadded(plain, np.where(right, sizes, 0)), right

    def _s2v(self, plain: NDArray[np.uint8], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
        """S2V (RFC 5297, section 2.4) of each row of zero-padded plaintext, given the chained associated data."""
        rows, width = plain.shape
        text = plain.copy()
        long = sizes >= _BLOCK
        if long.all() and (sizes == width).all():
            text[:, -_BLOCK:] ^= self._state
            text[:, -_BLOCK:] ^= self._subkeys[0]
        else:
            # xorend: the state goes into the last 16 bytes, wherever a row's end is.
            at = np.flatnonzero(long)
            text[at[:, None], sizes[at, None] - _BLOCK + np.arange(_BLOCK)] ^= self._state
            padded = np.flatnonzero((sizes % _BLOCK != 0) | (sizes == 0))
            text[padded, sizes[padded]] = 0x80
            # A short plaintext is padded before it meets the doubled state and is a full block to CMAC; a longer one is padded by CMAC itself.
            text[~long, :_BLOCK] ^= self._doubled
            incomplete = long & (sizes % _BLOCK != 0)
            text[:, -_BLOCK:] ^= self._subkeys[incomplete.astype(np.intp)]
        state = np.zeros((rows, _BLOCK), dtype=np.uint8)
        for first in range(0, width, _BLOCK):
            state = _aes(self._mac, state ^ text[:, first : first + _BLOCK])
        return state

    def _keystream(self, tags: NDArray[np.uint8], blocks: int) -> NDArray[np.uint8]:
        """CTR from each tag with its 32nd and 64th bit from the right cleared, which is why counting never leaves the last word."""
        counters = np.repeat(tags[:, None, :], blocks, axis=1)
        counters[:, :, (8, 12)] &= 0x7F
        words = counters.view(">u4")
        words[:, :, 3] += np.arange(blocks, dtype=np.uint32)
        return _aes(self._counter, counters).reshape(len(tags), blocks * _BLOCK)


def _blocks(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.maximum((sizes + _BLOCK - 1) // _BLOCK, 1)
    return found


def _joined(parts: list[pa.Array], places: list[NDArray[np.int64]]) -> list[pa.Array]:
    """`regroup` takes a single part as it is, so the tiles of a single bucket are joined first."""
    return [pa.concat_arrays(parts)] if len(places) == 1 else parts


def _aes(cipher: object, blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """AES of each 16 bytes."""
    return np.frombuffer(cipher.update(np.ascontiguousarray(blocks).data), dtype=np.uint8).reshape(blocks.shape)  # type: ignore[attr-defined]


def _cmac(key: bytes, text: bytes) -> bytes:
    mac = cmac.CMAC(algorithms.AES(key))
    mac.update(text)
    return mac.finalize()


def _double(block: bytes) -> bytes:
    """Multiplication by x in GF(2¹²⁸) (RFC 5297, section 2.3)."""
    number = int.from_bytes(block, "big") << 1
    return ((number & ((1 << 128) - 1)) ^ 0x87 if number >> 128 else number).to_bytes(16, "big")
