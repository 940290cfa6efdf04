"""Sealed content-addressed objects."""

from __future__ import annotations

import hashlib
import re

import sqlalchemy as sa

from affidavit.errors import IntegrityError, UsageError
from affidavit.interfaces.governance import Keyring
from affidavit.store.database import Store

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MARK = b"AFDB\x01"
"""Begins the file of an object whose wrapped data key stands in the table; files of the first version are whole envelopes."""

_metadata = sa.MetaData()
_keys = sa.Table("object_keys", _metadata, sa.Column("name", sa.Text, primary_key=True), sa.Column("wrapped", sa.LargeBinary, nullable=False))


class Objects:
    """Blobs named by the SHA-256 of their plaintext and stored sealed by the workspace's keys.

    An object is a file, written once, and a row with its data key, wrapped. Rotation replaces rows, thousands in one transaction, and never
    rewrites the files, which may be models of any size.

    Parameters
    ----------
    store
        Where files and rows go.
    keyring
        Seals and opens; the purpose and the digest are authenticated with each.
    """

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self._store = store
        self._files = store.files
        self._keyring = keyring
        store.ensure(_metadata, "objects", 1)

    def put(self, data: bytes, *, purpose: str) -> str:
        """Store `data` and give its hex SHA-256. Storing the same again changes nothing."""
        digest = hashlib.sha256(data).hexdigest()
        name = _name(digest, purpose)
        if not self._files.exists(name):
            # The row first: a crash between the two leaves a key without a file, which the next `put` uses. Two that put the same object at
            # once seal it under the one key that the table kept, so that either file fits.
            wrapped = self._key(name)
            self._files.write(name, _MARK + self._keyring.seal_under(wrapped, data, purpose=purpose, name=digest))
        return digest

    def get(self, digest: str, *, purpose: str) -> bytes:
        """Give the bytes that `put` stored under the same purpose.

        Raises
        ------
        UsageError
            There is no such object.
        IntegrityError
            The stored bytes have changed, or their key was destroyed.
        """
        name = _name(digest, purpose)
        try:
            sealed = self._files.read(name)
        except KeyError:
            raise UsageError(f"There is no stored object {digest[:12]}… for '{purpose}' in this workspace.") from None
        if sealed.startswith(_MARK):
            data = self._keyring.open_under(self._stored_key(name, digest), memoryview(sealed)[len(_MARK) :], purpose=purpose, name=digest)
        else:
            data = self._keyring.open(sealed, purpose=purpose, name=digest)
        if hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError(f"Stored object '{name}' has changed: its content no longer has the digest {digest}.")
        return data

    def exists(self, digest: str, *, purpose: str) -> bool:
        """Say whether the object is stored for that purpose."""
        return self._files.exists(_name(digest, purpose))

    def _key(self, name: str) -> bytes:
        with self._store.write() as connection:
            known = connection.execute(sa.select(_keys.c.wrapped).where(_keys.c.name == name)).scalar_one_or_none()
            if known is not None:
                return bytes(known)
            wrapped = self._keyring.data_key()
            connection.execute(_keys.insert().values(name=name, wrapped=wrapped))
            return wrapped

    def _stored_key(self, name: str, digest: str) -> bytes:
        with self._store.read() as connection:
            wrapped = connection.execute(sa.select(_keys.c.wrapped).where(_keys.c.name == name)).scalar_one_or_none()
        if wrapped is None:
            raise IntegrityError(
                f"Stored object {digest} has lost its key: the table 'object_keys' has no row '{name}'.", hint="Restore the database from a backup."
            )
        return bytes(wrapped)


def _name(digest: str, purpose: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise UsageError("An object is named by the 64 hexadecimal digits of its SHA-256.")
    # The purpose is part of the name: the same bytes stored for two purposes are two envelopes, each bound to its own.
    return f"objects/{purpose}/{digest[:2]}/{digest[2:]}"
