"""Signed notes, verifier keys and checkpoints, as C2SP writes them (c2sp.org/signed-note, c2sp.org/tlog-checkpoint)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from affidavit.errors import IntegrityError

ED25519 = 0x01
_DASH = "— "
_NAME = re.compile(r"[^\s+]+")
_MAX_NOTE = 1_000_000
_MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """An Ed25519 public key under a name.

    Attributes
    ----------
    name
        Who signs; a checkpoint's origin.
    public_key
        32 bytes.
    """

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([ED25519]) + self.public_key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([ED25519]) + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read ``name+hash+base64``. Raises IntegrityError where it is no such key, or its hash is another key's."""
        parts = text.strip().split("+", 2)  # base64 may hold further plus signs
        if len(parts) != 3 or not _is_name(parts[0]):
            raise IntegrityError("This is no verifier key.", hint="A key reads name+hash+base64, as the workspace's owner shows it.")
        encoded = _decode(parts[2], "verifier key")
        if len(encoded) != 33 or encoded[0] != ED25519:
            raise IntegrityError(f"The verifier key of '{parts[0]}' is no Ed25519 key (type 1, 32 bytes).")
        key = cls(parts[0], encoded[1:])
        if parts[1] != key.key_id.hex():
            raise IntegrityError(f"The verifier key of '{parts[0]}' is damaged: its hash is another key's.", hint="Copy it again, whole.")
        return key

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` (64 bytes) is this key's over `message` (RFC 8032)."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a ledger: who keeps it, how many leaves it has, and its root hash."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a checkpoint's text; extension lines are refused, because nothing here gives them a meaning."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise IntegrityError("This is no checkpoint: it has an origin, a size and a root hash, a line each.")
        if not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]):
            raise IntegrityError("The checkpoint's size is no number.")
        root = _decode(lines[2], "checkpoint's root hash")
        if len(root) != 32:
            raise IntegrityError("The checkpoint's root hash has not 32 bytes.")
        return cls(lines[0], int(lines[1]), root)


def signed_note(text: str, key: VerifierKey, signature: bytes) -> bytes:
    """Put a signature of `key` over the bytes of `text` under it."""
    return f"{text}\n{_DASH}{key.name} {base64.b64encode(key.key_id + signature).decode()}\n".encode()


def open_note(note: bytes, key: VerifierKey) -> str:
    """Give the text of a signed note after checking `key`'s signature; signatures of others are passed over, as C2SP asks.

    Raises
    ------
    IntegrityError
        It is no signed note, `key` has not signed it, or the signature does not hold.
    """
    if len(note) > _MAX_NOTE:
        raise IntegrityError("A signed note of more than a megabyte is refused.")
    try:
        decoded = note.decode()
    except UnicodeDecodeError:
        raise IntegrityError("The signed note is not UTF-8.") from None
    text, separator, tail = decoded.rpartition("\n\n")
    if not separator or not tail.endswith("\n") or any(ord(char) < 0x20 and char != "\n" for char in decoded):
        raise IntegrityError("This is no signed note.")
    text += "\n"
    signatures = tail[:-1].split("\n")
    if len(signatures) > _MAX_SIGNATURES:
        raise IntegrityError(f"A signed note with more than {_MAX_SIGNATURES} signatures is refused.")
    signed = False
    for line in signatures:
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space or not _is_name(name):
            raise IntegrityError("A signature line of the note cannot be read.")
        raw = _decode(encoded, "note's signature")
        if name != key.name or raw[:4] != key.key_id:
            continue
        if not key.verify(text.encode(), raw[4:]):
            raise IntegrityError(f"The signature of '{key.name}' does not hold: the note was changed.")
        signed = True
    if not signed:
        raise IntegrityError(f"The note carries no signature of the key '{key.name}+{key.key_id.hex()}'.")
    return text


def open_checkpoint(note: bytes, key: VerifierKey) -> Checkpoint:
    """Read a checkpoint that `key` signed under its own name as origin."""
    checkpoint = Checkpoint.parse(open_note(note, key))
    if checkpoint.origin != key.name:
        raise IntegrityError(f"The checkpoint is of '{checkpoint.origin}', and the key belongs to '{key.name}'.")
    return checkpoint


def _is_name(name: str) -> bool:
    # Printable only: a name reaches terminals, and escape codes must not.
    return _NAME.fullmatch(name) is not None and name.isprintable()


def _decode(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise IntegrityError(f"The {what} is no base64.") from None
    # Base64 has spare bits at its end; one text for one value, or a changed byte could go unseen.
    if base64.b64encode(raw).decode() != text:
        raise IntegrityError(f"The {what} is no canonical base64.")
    return raw
