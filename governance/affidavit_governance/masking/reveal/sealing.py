"""How a row's secret is sealed: AES-SIV (RFC 5297) bound to workspace, purpose and row.

A row's name is random or a keyed hash and stands in the associated data, so no nonce is needed, and equal secrets in two rows look unlike.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEY_BYTES = 64  # AES-256-SIV takes two keys of 32 bytes
_BLOCK = 16


class RowSealer:
    """Seals and opens the secrets of rows under one key.

    Parameters
    ----------
    key
        64 bytes.
    context
        Authenticated with every row: the workspace, what the rows are, what column.
    """

    __slots__ = ("_cipher", "_context")

    def __init__(self, key: bytes, *context: bytes) -> None:
        self._cipher = AESSIV(key)
        self._context = list(context)

    def seal(self, row: bytes, secret: bytes) -> bytes:
        """Encrypt `secret`, padded to 16 bytes (ISO/IEC 7816-4) so that its exact length does not show."""
        padded = secret + b"\x80" + bytes(-(len(secret) + 1) % _BLOCK)
        return self._cipher.encrypt(padded, [*self._context, row])

    def open(self, row: bytes, sealed: bytes) -> bytes | None:
        """Decrypt, or give None where `sealed` was changed or belongs to another row, purpose or workspace."""
        try:
            padded = self._cipher.decrypt(sealed, [*self._context, row])
        except (InvalidTag, ValueError):  # ValueError: shorter than a tag
            return None
        return padded[: padded.rindex(b"\x80")]


def expand(key: bytes, purpose: str, length: int) -> bytes:
    """A key for one purpose from a uniformly random one (HKDF-Expand, RFC 5869 section 3.3)."""
    return HKDFExpand(algorithm=hashes.SHA256(), length=length, info=f"affidavit subject v1 {purpose}".encode()).derive(key)
