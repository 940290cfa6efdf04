"""Sealed content-addressed objects."""

from __future__ import annotations

import hashlib
import re

from affidavit.errors import IntegrityError, UsageError
from affidavit.interfaces.governance import Keyring
from affidavit.store.files import Files

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Objects:
    """Blobs named by the SHA-256 of their plaintext and stored sealed by the workspace's keys.

    Parameters
    ----------
    files
        Where the sealed bytes go.
    keyring
        Seals and opens them; the purpose and the digest are authenticated with each.
    """

    def __init__(self, files: Files, keyring: Keyring) -> None:
        self._files = files
        self._keyring = keyring

    def put(self, data: bytes, *, purpose: str) -> str:
        """Store `data` and give its hex SHA-256. Storing the same again changes nothing."""
        digest = hashlib.sha256(data).hexdigest()
        name = _name(digest, purpose)
        if not self._files.exists(name):
            self._files.write(name, self._keyring.seal(data, purpose=purpose, name=digest))
        return digest

    def get(self, digest: str, *, purpose: str) -> bytes:
        """Give the bytes that `put` stored under the same purpose.

        Raises
        ------
        UsageError
            There is no such object.
        IntegrityError
            The stored bytes have changed.
        """
        name = _name(digest, purpose)
        try:
            sealed = self._files.read(name)
        except KeyError:
            raise UsageError(f"There is no stored object {digest[:12]}… for '{purpose}' in this workspace.") from None
        data = self._keyring.open(sealed, purpose=purpose, name=digest)
        if hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError(f"Stored object '{name}' has changed: its content no longer has the digest {digest}.")
        return data

    def exists(self, digest: str, *, purpose: str) -> bool:
        """Say whether the object is stored for that purpose."""
        return self._files.exists(_name(digest, purpose))


def _name(digest: str, purpose: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise UsageError("An object is named by the 64 hexadecimal digits of its SHA-256.")
    # The purpose is part of the name: the same bytes stored for two purposes are two envelopes, each bound to its own.
    return f"objects/{purpose}/{digest[:2]}/{digest[2:]}"
