"""People who approve: an Ed25519 key pair in a file that only its owner holds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from affidavit.errors import InvalidInput, UsageError
from affidavit.store import writing

if TYPE_CHECKING:
    from affidavit.registry import Version


class Approver:
    """A person with a signing key.

    Parameters
    ----------
    name
        The label under which the person is enrolled in the workspace.
    private_key
        Held in memory only; it never reaches evidence, a log or a message.
    """

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        self.name = name
        self._private_key = private_key

    def __repr__(self) -> str:
        return f"Approver({self.name!r}, key {self.fingerprint[:12]})"

    def __reduce__(self) -> str:
        raise TypeError("An approver holds a private key and cannot be pickled.")

    @classmethod
    def create(cls, name: str, path: str | Path, *, passphrase: str | None = None) -> Approver:
        """Make a key pair and write the private half to `path` (PKCS #8 PEM, mode 0600). Raises UsageError where `path` exists."""
        key = Ed25519PrivateKey.generate()
        protection: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        )
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        if os.path.lexists(path):
            raise UsageError(f"'{path}' exists already; a key is never overwritten.", hint="Choose another file.")
        with writing(Path(path)), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            os.fsync(file.fileno())
        return cls(name, key)

    @classmethod
    def read(cls, name: str, path: str | Path, *, passphrase: str | None = None) -> Approver:
        """Read a private key file. Raises UsageError where it is absent, InvalidInput where it is no Ed25519 key or the passphrase is wrong."""
        try:
            pem = Path(path).read_bytes()
        except OSError as error:
            raise UsageError(
                f"The approver key '{path}' cannot be read: {error.strerror}.", hint="Make one: affidavit approver new NAME --out FILE"
            ) from None
        try:
            key = serialization.load_pem_private_key(pem, passphrase.encode() if passphrase else None)
        except (ValueError, TypeError):
            raise InvalidInput(f"'{path}' is no readable private key, or its passphrase is missing or wrong.") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidInput(f"'{path}' is no Ed25519 key.")
        return cls(name, key)

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key."""
        return self._private_key.public_key().public_bytes_raw()

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the public key."""
        return hashlib.sha256(self.public_key).hexdigest()

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature over `message`."""
        return self._private_key.sign(message)


def approval_message(workspace_id: str, version: Version, alias: str) -> bytes:
    """The bytes that an approver signs: they bind the approval to one workspace, one artifact and one alias."""
    return f"affidavit approval v1\n{workspace_id}\n{version}\n{version.artifact}\n{alias}\n".encode()
