"""``keyring.json``: the secrets of a workspace, sealed through its key provider.

Format 2 is an object with ``key_id`` (of the identity), ``generation``, ``provider`` (``type`` and what the provider describes), ``wrapped`` (a
fresh 32-byte root key, wrapped by the provider) and ``sealed`` (identity and key versions, in an envelope under the root key that is bound to
workspace and generation). Each change makes a new root key, so nothing of an older file opens a newer one.

Each change stands in the table ``keyring`` first, in the transaction that also appends its evidence, and is written to the file after the
commit. A file that is behind the table is written again when the workspace is opened; one that is ahead shows that the table was put back.

Format 1 held one master secret, sealed under a local provider's key; it is read and no longer written.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from affidavit.errors import AffidavitError, IntegrityError, InvalidInput, UsageError
from affidavit.interfaces.keys import KeyOwner, KeyProvider
from affidavit.plugins import Registry
from affidavit.store import FolderFiles, Store
from affidavit_governance.encryption import envelope
from affidavit_governance.encryption.providers.base import LocalProvider
from affidavit_governance.encryption.providers.choosing import make
from affidavit_governance.encryption.versions import Secrets, expand

FILE = "keyring.json"
FORMAT = 2

_metadata = sa.MetaData()
_keyring = sa.Table(
    "keyring",
    _metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("content", sa.Text),
)


def _upgrade_1(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE keyring ADD COLUMN generation BIGINT NOT NULL DEFAULT 0")
    connection.exec_driver_sql("ALTER TABLE keyring ADD COLUMN content TEXT")


class KeyringFile:
    """The keyring file of one workspace, and the provider that opens it.

    Attributes
    ----------
    type
        The provider's registered name, once opened or made.
    provider
        The provider.
    """

    def __init__(self, store: Store, registry: Registry, passphrase: str | None, key: bytes | None = None) -> None:
        self.store = store
        self.registry = registry
        self.type = ""
        self.provider: KeyProvider
        self._passphrase, self._key = passphrase, key
        store.ensure(_metadata, "keyring", 2, {1: _upgrade_1})

    # -- opening --------------------------------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return self.store.files.exists(FILE)

    def recorded(self) -> tuple[str, int] | None:
        """Identity and generation in the table; None for a new workspace."""
        with self.store.read() as connection:
            row = connection.execute(sa.select(_keyring.c.key_id, _keyring.c.generation)).one_or_none()
        return None if row is None else (row.key_id, row.generation)

    def open(self, *, again: bool = False) -> Secrets:
        """The secrets of the latest generation.

        Parameters
        ----------
        again
            After another process changed the keys, perhaps inside a write transaction: a file that is behind the table is left so, and a
            passphrase or key that was given for an earlier provider does not matter.

        Raises
        ------
        AffidavitError
            The provider's key is absent, wrong or out of reach.
        IntegrityError
            The file is damaged, or not of the state that the table is of.
        """
        value = self._parse(self.store.files.read(FILE))  # before the table: in this order it is never ahead by another process's work
        recorded = self.recorded()
        if recorded is not None and value["generation"] < recorded[1]:
            with self.store.read() as connection:
                value = self._parse(connection.execute(sa.select(_keyring.c.content)).scalar_one())
            if not again:
                self.publish()
                self.store.recovered.append(f"Wrote {FILE} again: a crash had kept its last change from being written, or an older one was put back.")
        elif recorded is not None and value["generation"] > recorded[1]:
            raise IntegrityError(
                f"The {FILE} of workspace {self.store.location} is newer than its database, which was put back to an earlier state.",
                hint="Restore both from one backup.",
            )
        described = dict(value["provider"])
        self.type = str(described.pop("type"))
        for what, given, taker in (("passphrase", self._passphrase, "passphrase"), ("key that is given", self._key, "environment")):
            if given is not None and self.type != taker and not again:
                where = self.store.location
                raise UsageError(f"Workspace {where} is not sealed by a {what} (its key provider is '{self.type}').", hint="Open it without one.")
        self.provider = make(self.registry, self.type, described, self.owner(self._passphrase, self._key))
        secrets = self._unseal(value)
        if expand(secrets.identity, self.store.workspace_id, "key id", envelope.KEY_ID_BYTES).hex() != value["key_id"]:
            raise self._damaged()
        if recorded is not None and value["key_id"] != recorded[0]:
            raise IntegrityError(f"The {FILE} of workspace {self.store.location} is not the one it was made with.", hint="Restore it from a backup.")
        return secrets

    def owner(self, passphrase: str | None, key: bytes | None) -> KeyOwner:
        """The workspace, as a provider sees it."""
        folder = self.store.files.root.parent if isinstance(self.store.files, FolderFiles) else None
        return KeyOwner(self.store.workspace_id, self.store.location, folder, passphrase, key)

    def _unseal(self, value: Mapping[str, Any]) -> Secrets:
        try:
            if value["format"] == 1:
                return self._unseal_format_1(value)
            root = self.provider.unwrap(base64.b64decode(value["wrapped"], validate=True), self._context(value["key_id"]))
            sealed = base64.b64decode(value["sealed"], validate=True)
            key_id = bytes.fromhex(value["key_id"])
            return Secrets.decode(envelope.open_sealed(root, key_id, sealed, self._bound(value["generation"])), value["generation"])
        except IntegrityError:
            # A wrong key and a changed file look alike: both fail the same check.
            where = self.store.location
            raise AffidavitError(
                f"{self.provider.label} does not open workspace {where}: it is wrong, or {FILE} has changed. Nothing was changed."
            ) from None
        except (KeyError, TypeError, ValueError):
            raise self._damaged() from None

    def _unseal_format_1(self, value: Mapping[str, Any]) -> Secrets:
        if not isinstance(self.provider, LocalProvider):
            raise ValueError
        key = self.provider.key()
        sealed = base64.b64decode(value["sealed"], validate=True)
        context = envelope.Context(self.store.workspace_id, "keyring", "master")
        return Secrets.of_format_1(envelope.open_sealed(key, bytes.fromhex(value["key_id"]), sealed, context), self.store.workspace_id)

    def _parse(self, text: bytes | str) -> dict[str, Any]:
        try:
            value = json.loads(text)
            version = value["format"]
            if version == 1:
                value["generation"] = 0
            texts = ("key_id", "sealed", *(("wrapped",) if version == 2 else ()))
            whole = all(isinstance(value[name], str) for name in texts) and isinstance(value["provider"]["type"], str)
            if version in (1, FORMAT) and whole and type(value["generation"]) is int:
                return dict(value)
        except (KeyError, TypeError, ValueError, RecursionError):
            raise self._damaged() from None
        if isinstance(version, int) and version > FORMAT:
            where = self.store.location
            raise InvalidInput(f"The {FILE} of {where} has format {version}; this Affidavit reads up to {FORMAT}.", hint="pip install -U affidavit")
        raise self._damaged()

    def _damaged(self) -> IntegrityError:
        return IntegrityError(f"The {FILE} of workspace {self.store.location} is damaged.", hint="Restore it from a backup.")

    # -- writing --------------------------------------------------------------------------------------------------------------------

    def create(self, name: str, settings: Mapping[str, Any], connection: sa.Connection) -> Secrets:
        """Make the secrets of a new workspace, inside the write transaction."""
        self.type, self.provider = name, make(self.registry, name, settings, self.owner(self._passphrase, self._key))
        secrets = Secrets.new(self.store.workspace_id, now())
        content = self.encode(secrets, name, self.provider)
        self.store.files.write(FILE, content.encode())
        self.record(secrets, content, connection)
        return secrets

    def record(self, secrets: Secrets, content: str, connection: sa.Connection) -> None:
        """Enter a workspace's first secrets in the table."""
        key_id = expand(secrets.identity, self.store.workspace_id, "key id", envelope.KEY_ID_BYTES).hex()
        connection.execute(_keyring.insert().values(key_id=key_id, generation=secrets.generation, content=content))

    def encode(self, secrets: Secrets, name: str, provider: KeyProvider) -> str:
        """The content of the file. The provider is asked to open what it wrapped before anything depends on it."""
        identity = expand(secrets.identity, self.store.workspace_id, "key id", envelope.KEY_ID_BYTES)
        root = os.urandom(32)
        context = self._context(identity.hex())
        wrapped = provider.wrap(root, context)
        if provider.unwrap(wrapped, context) != root:
            raise AffidavitError(f"{provider.label} gave back another secret than it had wrapped; nothing was changed.")
        sealed = envelope.seal(root, identity, secrets.encode(), self._bound(secrets.generation))
        value = {
            "format": FORMAT,
            "generation": secrets.generation,
            "key_id": identity.hex(),
            "provider": {"type": name, **provider.describe()},
            "wrapped": base64.b64encode(wrapped).decode(),
            "sealed": base64.b64encode(sealed).decode(),
        }
        return json.dumps(value, indent=2, sort_keys=True) + "\n"

    def text(self) -> str:
        """What the file holds now."""
        return self.store.files.read(FILE).decode()

    def advance(self, secrets: Secrets, content: str, connection: sa.Connection) -> None:
        """Replace the generation before `secrets` in the table. Raises AffidavitError where another process was faster."""
        before = _keyring.c.generation == secrets.generation - 1
        if connection.execute(_keyring.update().where(before).values(generation=secrets.generation, content=content)).rowcount != 1:
            raise AffidavitError(
                f"Another process changed the keys of workspace {self.store.location} at the same time; nothing was changed here.",
                hint="Look at the result with 'affidavit keys', and repeat if it is still wanted.",
            )

    def use(self, name: str, provider: KeyProvider, passphrase: str | None, key: bytes | None) -> None:
        """Go by another provider from now on."""
        self.type, self.provider, self._passphrase, self._key = name, provider, passphrase, key

    def publish(self) -> None:
        """Write the table's content to the file. Publishers go one after the other, under the write lock."""
        with self.store.write() as connection:
            content = connection.execute(sa.select(_keyring.c.content)).scalar_one()
            if content is not None:
                self.store.files.write(FILE, content.encode())

    def _context(self, key_id: str) -> dict[str, str]:
        return {"purpose": "affidavit keyring", "workspace": self.store.workspace_id, "keyring": key_id}

    def _bound(self, generation: int) -> envelope.Context:
        return envelope.Context(self.store.workspace_id, "keyring", f"generation {generation}")


def now() -> str:
    """The time in UTC, RFC 3339 with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
