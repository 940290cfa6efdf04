"""AES-256-GCM envelopes: a fresh data key for each message, wrapped by the key-encryption key.

Layout of version 1, in bytes::

    magic "AFDV" (4) | version (1) | key id (8) | wrapped data key (40) | nonce (12) | commitment (32) | ciphertext and tag (n + 16)

The data key is wrapped by AES key wrap (RFC 3394). From it HKDF-Expand (RFC 5869) derives the AES-256-GCM key (NIST SP 800-38D) and the
commitment, both bound to the context: workspace, purpose and name. AES-GCM alone does not commit to its key, so one ciphertext can open
under two keys (Albertini, Duong, Gueron, Kölbl, Luykx, Schmieg: How to Abuse and Fix Authenticated Encryption Without Key Commitment,
USENIX Security 2022); the commitment, checked before decryption, closes that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from affidavit.errors import AffidavitError, IntegrityError

MAGIC = b"AFDV"
VERSION = 1
KEY_ID_BYTES = 8
MAX_PLAINTEXT = 2**31 - 1 - 16  # the largest message that the library encrypts in one call, with its tag

_WRAPPED = slice(13, 53)
_NONCE = slice(53, 65)
_COMMITMENT = slice(65, 97)
HEADER_BYTES = 97
OVERHEAD = HEADER_BYTES + 16


@dataclass(frozen=True, slots=True)
class Context:
    """What an envelope is for. It opens only under the same context.

    Attributes
    ----------
    workspace
        The workspace's id.
    purpose, name
        What kind of thing is inside, and which one.
    """

    workspace: str
    purpose: str
    name: str


def seal(key: bytes, key_id: bytes, plaintext: bytes, context: Context) -> bytes:
    """Encrypt `plaintext` under the 32-byte key-encryption key `key`.

    Raises
    ------
    AffidavitError
        The plaintext is 2 GiB or larger.
    """
    if len(plaintext) > MAX_PLAINTEXT:
        raise AffidavitError(f"'{context.name}' has {len(plaintext)} bytes, and one sealed object holds at most {MAX_PLAINTEXT}.")
    data_key = os.urandom(32)
    prefix = MAGIC + bytes([VERSION]) + key_id + aes_key_wrap(key, data_key) + os.urandom(12)
    bound = encode(prefix, context)
    header = prefix + _derive(data_key, b"commitment", bound)
    ciphertext = AESGCM(_derive(data_key, b"encryption", bound)).encrypt(header[_NONCE], plaintext, bound)
    return header + ciphertext


def open_sealed(key: bytes, key_id: bytes, sealed: bytes, context: Context) -> bytes:
    """Decrypt what `seal` made.

    Raises
    ------
    IntegrityError
        Not an envelope, of an unknown version, sealed under another key or for another context, or changed. Names `context.name`.
    """
    what = f"Sealed object '{context.name}' ({context.purpose})"
    if len(sealed) < OVERHEAD or sealed[:4] != MAGIC:
        raise IntegrityError(f"{what} is cut short or is no sealed object.")
    reader = _READERS.get(sealed[4])
    if reader is None:
        raise IntegrityError(f"{what} has envelope version {sealed[4]}, which this Affidavit cannot read.", hint="Upgrade Affidavit, or restore it.")
    if not constant_time.bytes_eq(sealed[5:13], key_id):
        raise IntegrityError(f"{what} was sealed with key {sealed[5:13].hex()}, and this workspace's key is {key_id.hex()}.")
    return reader(key, sealed, context, what)


def _open_version_1(key: bytes, sealed: bytes, context: Context, what: str) -> bytes:
    bound = encode(sealed[: _NONCE.stop], context)
    changed = IntegrityError(f"{what} has changed, or belongs to another workspace, purpose or name.")
    try:
        data_key = aes_key_unwrap(key, sealed[_WRAPPED])
    except InvalidUnwrap:
        raise changed from None
    if not constant_time.bytes_eq(_derive(data_key, b"commitment", bound), sealed[_COMMITMENT]):
        raise changed
    try:
        return AESGCM(_derive(data_key, b"encryption", bound)).decrypt(sealed[_NONCE], memoryview(sealed)[HEADER_BYTES:], bound)
    except InvalidTag:
        raise changed from None


_READERS = {1: _open_version_1}


def encode(prefix: bytes, context: Context) -> bytes:
    """One unambiguous byte string of the header's beginning and the context: each part behind its length (8 bytes, big endian)."""
    parts = (prefix, context.workspace.encode(), context.purpose.encode(), context.name.encode())
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _derive(data_key: bytes, label: bytes, bound: bytes) -> bytes:
    # The data key is uniformly random, so HKDF's extract step is not needed (RFC 5869, section 3.3).
    return HKDFExpand(algorithm=hashes.SHA256(), length=32, info=b"affidavit envelope v1 " + label + b"\x00" + bound).derive(data_key)
