"""One key for each person. Destroying it makes everything that was sealed with it unreadable (crypto-shredding)."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence

import sqlalchemy as sa

from affidavit.errors import IntegrityError, Refused, UsageError
from affidavit.interfaces.governance import Keyring
from affidavit.store import Store
from affidavit_governance.masking.reveal.sealing import KEY_BYTES, RowSealer
from affidavit_governance.masking.reveal.tables import CHUNK, VERSION, subject_keys, subject_metadata

LINE = "masking.reveal"


class Shredded(Refused):
    """The key behind a value was destroyed, so that nobody can read it any more."""

    def __init__(self, message: str) -> None:
        super().__init__(message, by="masking", line=LINE, satisfy="Leave the subject's rows out.")


class SqlSubjectKeys:
    """The subject keys of one workspace (implements `affidavit.interfaces.masking.SubjectKeys`).

    A subject stands in the table under a keyed hash of its id (HMAC-SHA256), its key sealed with a key of the workspace's keyring. Neither
    the rotation of the keyring's versions nor a copy of the database without the keyring touches that.
    """

    def __init__(self, store: Store, keyring: Keyring) -> None:
        store.ensure(subject_metadata, "masking_subject_keys", VERSION)
        self._store = store
        self._naming = keyring.derive("masking subject names")
        self._sealer = RowSealer(keyring.derive("masking subject keys", KEY_BYTES), store.workspace_id.encode(), b"subject key")

    def name(self, subject: str) -> bytes:
        """The 32 bytes under which a subject is known here; they tell nothing about the id to anybody without the workspace's keyring."""
        if not subject:
            raise UsageError("A subject's id is empty.", hint="Give each row a subject, or leave the operator's setting 'subject' out.")
        return hmac.digest(self._naming, subject.encode("utf-8", "surrogatepass"), "sha256")

    def keys(self, subjects: Sequence[str], *, create: bool = True) -> list[bytes]:
        """The 32-byte key of each subject, made where it has none and `create` is set.

        Raises
        ------
        Refused
            The key of a subject was destroyed.
        IntegrityError
            A stored key was changed; or a subject has none and `create` is not set.
        UsageError
            A subject's id is empty.
        """
        names = {subject: self.name(subject) for subject in dict.fromkeys(subjects)}
        found = self.keys_by_name(list(names.values()), create=create)
        return [found[names[subject]] for subject in subjects]

    def keys_by_name(self, names: Sequence[bytes], *, create: bool = False) -> dict[bytes, bytes]:
        """As `keys`, for subjects known by `name`."""
        found: dict[bytes, bytes] = {}
        for part in chunks(names):
            with self._store.read() as connection:
                rows = self._rows(connection, part)
            absent = [name for name in part if name not in rows]
            if absent and not create:
                raise IntegrityError(
                    f"{len(absent)} of {len(part)} subjects have no key in this workspace.",
                    hint="Their values were masked in another workspace, or the column that names the subjects is masked itself: reveal it along.",
                )
            if absent:
                rows |= self._make(absent)
            found |= {name: self._opened(name, sealed) for name, sealed in rows.items()}
        return found

    def destroyed(self, subject: str) -> str | None:
        """When the key of a subject was destroyed, or None. Raises UsageError where the subject has and had none."""
        query = sa.select(subject_keys.c.sealed, subject_keys.c.destroyed).where(subject_keys.c.name == self.name(subject))
        with self._store.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise UsageError("This subject has no key in this workspace.", hint="Check the id: it is written as in the column that the policy names.")
        return None if row.destroyed is None else str(row.destroyed)

    def destroy(self, subject: str, *, when: str, also: Callable[[sa.Connection, bytes], None]) -> None:
        """Delete the key of a subject, and leave a mark of when. What was destroyed before keeps its mark.

        Parameters
        ----------
        also
            Gets the connection and the subject's name, and joins the transaction.
        """
        name = self.name(subject)
        with self._store.write() as connection:
            chosen = (subject_keys.c.name == name) & subject_keys.c.destroyed.is_(None)
            connection.execute(subject_keys.update().where(chosen).values(sealed=None, destroyed=when))
            also(connection, name)

    def _make(self, names: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Keys for subjects that had none a moment ago; what another process has made meanwhile stands."""
        with self._store.write() as connection:
            rows = self._rows(connection, names)
            fresh = {name: self._sealer.seal(name, secrets.token_bytes(32)) for name in names if name not in rows}
            if fresh:
                connection.execute(subject_keys.insert(), [{"name": name, "sealed": sealed} for name, sealed in fresh.items()])
        return rows | fresh

    @staticmethod
    def _rows(connection: sa.Connection, names: Sequence[bytes]) -> dict[bytes, bytes | None]:
        query = sa.select(subject_keys.c.name, subject_keys.c.sealed).where(subject_keys.c.name.in_(names))
        return {bytes(name): None if sealed is None else bytes(sealed) for name, sealed in connection.execute(query)}

    def _opened(self, name: bytes, sealed: bytes | None) -> bytes:
        if sealed is None:
            raise Shredded("The key of a subject was destroyed: what was sealed with it cannot be read, and nothing new is sealed for that subject.")
        key = self._sealer.open(name, sealed)
        if key is None or len(key) != 32:
            raise IntegrityError("The key of a subject was changed in the table, or belongs to another workspace.", hint="Restore it from a backup.")
        return key


def chunks(items: Iterable[bytes]) -> Iterable[list[bytes]]:
    """The distinct items, in parts of `CHUNK`."""
    distinct = list(dict.fromkeys(items))
    return (distinct[start : start + CHUNK] for start in range(0, len(distinct), CHUNK))
