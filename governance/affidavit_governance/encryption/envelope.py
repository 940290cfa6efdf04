"""AES-256-GCM envelopes: a fresh data key for each message, wrapped by a key-encryption key that can be exchanged later.

Layout of version 2, in bytes::

    head:  magic "AFDV" (4) | version (1) | key id (8) | wrapped data key (40)
    body:  nonce (12) | commitment (32) | ciphertext and tag (n + 16)

An envelope is head and body together, or the two in different places: the body never changes when the head is wrapped under another key.

The data key is wrapped by AES key wrap (RFC 3394). HKDF-Expand (RFC 5869) derives 64 bytes from it, bound to the nonce and the context
(workspace, purpose and name): the AES-256-GCM key (NIST SP 800-38D) and the commitment. AES-GCM alone does not commit to its key, so one
ciphertext can open under two keys (Albertini, Duong, Gueron, Kölbl, Luykx, Schmieg: How to Abuse and Fix Authenticated Encryption Without Key
Commitment, USENIX Security 2022); the commitment, checked before decryption, closes that. It commits to the data key and not to how that is
wrapped, which is why the head can be exchanged. Whoever swaps heads without the key-encryption key can only bring in the data key of
another envelope, or an older wrapping of the same one: the first fails the commitment, the second opens to the same content.

Version 1 bound the wrapped key too, so its head is fixed for good; it is read and no longer written.
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
VERSION = 2
KEY_ID_BYTES = 8
MAX_PLAINTEXT = 2**31 - 1 - 16  # the largest message that the library encrypts in one call, with its tag

HEAD_BYTES = 53
BODY_OVERHEAD = 60  # nonce, commitment and tag
OVERHEAD = HEAD_BYTES + BODY_OVERHEAD
PREFIX_BYTES = 13  # magic, version and key id: what tells under which key an envelope is

_KEY_ID = slice(5, 13)
_WRAPPED = slice(13, 53)
_V2 = MAGIC + bytes([VERSION])
_EXPAND = b"affidavit envelope v2\x00"


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

    def __str__(self) -> str:
        return f"Sealed object '{self.name}' ({self.purpose})"


def seal(key: bytes, key_id: bytes, plaintext: bytes, context: Context) -> bytes:
    """Encrypt `plaintext` under the 32-byte key-encryption key `key`; gives head and body.

    Raises
    ------
    AffidavitError
        The plaintext is 2 GiB or larger.
    """
    data_key = os.urandom(32)
    return wrap(key, key_id, data_key) + seal_body(data_key, plaintext, context)


def open_sealed(key: bytes, key_id: bytes, sealed: bytes, context: Context) -> bytes:
    """Decrypt what `seal` made, now or in version 1.

    Raises
    ------
    IntegrityError
        Not an envelope, of an unknown version, sealed under another key or for another context, or changed. Names `context.name`.
    """
    found = key_id_of(sealed, context)
    if not constant_time.bytes_eq(found, key_id):
        raise IntegrityError(f"{context} was sealed with key {found.hex()}, and this workspace's key is {key_id.hex()}.")
    data_key = unwrap(key, sealed, context)
    if sealed[4] == 1:
        return _open_version_1(data_key, sealed, context)
    return open_body(data_key, memoryview(sealed)[HEAD_BYTES:], context)


def key_id_of(sealed: bytes, context: Context) -> bytes:
    """The id of the key that an envelope, or a head, says it is under. Raises IntegrityError for what is neither."""
    if (len(sealed) != HEAD_BYTES and len(sealed) < OVERHEAD) or sealed[:4] != MAGIC:
        raise IntegrityError(f"{context} is cut short or is no sealed object.")
    if sealed[4] not in (1, VERSION):
        raise IntegrityError(
            f"{context} has envelope version {sealed[4]}, which this Affidavit cannot read.", hint="Upgrade Affidavit, or restore it."
        )
    return sealed[_KEY_ID]


def wrap(key: bytes, key_id: bytes, data_key: bytes) -> bytes:
    """The head for `data_key` under a key-encryption key."""
    return _V2 + key_id + aes_key_wrap(key, data_key)


def unwrap(key: bytes, head: bytes, context: Context) -> bytes:
    """The data key of a head, or of an envelope. Raises IntegrityError where it was changed or is under another key."""
    try:
        return aes_key_unwrap(key, head[_WRAPPED])
    except InvalidUnwrap:
        raise _changed(context) from None


def seal_body(data_key: bytes, plaintext: bytes, context: Context) -> bytes:
    """Encrypt under a data key; gives the body. Raises AffidavitError where the plaintext is 2 GiB or larger."""
    if len(plaintext) > MAX_PLAINTEXT:
        raise AffidavitError(f"'{context.name}' has {len(plaintext)} bytes, and one sealed object holds at most {MAX_PLAINTEXT}.")
    nonce = os.urandom(12)
    bound = encode(_V2 + nonce, context)
    derived = _derive(data_key, bound)
    return nonce + derived[32:] + AESGCM(derived[:32]).encrypt(nonce, plaintext, bound)


def open_body(data_key: bytes, body: bytes | memoryview, context: Context) -> bytes:
    """Decrypt a body. Raises IntegrityError where it was changed, or belongs to another data key or context."""
    nonce = bytes(body[:12])
    bound = encode(_V2 + nonce, context)
    derived = _derive(data_key, bound)
    if len(body) < BODY_OVERHEAD or not constant_time.bytes_eq(derived[32:], bytes(body[12:44])):
        raise _changed(context)
    try:
        return AESGCM(derived[:32]).decrypt(nonce, body[44:], bound)
    except InvalidTag:
        raise _changed(context) from None


def encode(prefix: bytes, context: Context) -> bytes:
    """One unambiguous byte string of a prefix and the context: each part behind its length (8 bytes, big endian)."""
    parts = (prefix, context.workspace.encode(), context.purpose.encode(), context.name.encode())
    return b"".join([len(part).to_bytes(8, "big") + part for part in parts])


def _derive(data_key: bytes, bound: bytes) -> bytes:
    # The data key is uniformly random, so HKDF's extract step is not needed (RFC 5869, section 3.3). The halves are two blocks of HMAC under
    # it: showing the second says nothing about the first.
    return HKDFExpand(algorithm=hashes.SHA256(), length=64, info=_EXPAND + bound).derive(data_key)


def _changed(context: Context) -> IntegrityError:
    return IntegrityError(f"{context} has changed, or belongs to another workspace, purpose or name.")


def _open_version_1(data_key: bytes, sealed: bytes, context: Context) -> bytes:
    """Magic, version, key id and wrapped key (53) | nonce (12) | commitment (32) | ciphertext and tag; all before the commitment is bound."""
    if len(sealed) < OVERHEAD:
        raise _changed(context)
    bound = encode(sealed[:65], context)

    def derive(label: bytes) -> bytes:
        return HKDFExpand(algorithm=hashes.SHA256(), length=32, info=b"affidavit envelope v1 " + label + b"\x00" + bound).derive(data_key)

    if not constant_time.bytes_eq(derive(b"commitment"), sealed[65:97]):
        raise _changed(context)
    try:
        return AESGCM(derive(b"encryption")).decrypt(sealed[53:65], memoryview(sealed)[97:], bound)
    except InvalidTag:
        raise _changed(context) from None
