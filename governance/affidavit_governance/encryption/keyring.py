"""The keys of one workspace: an identity that never changes, and versions of the key that seals."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from typing import NoReturn

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from affidavit.errors import IntegrityError, UsageError
from affidavit.plugins import Registry, bundled_registry
from affidavit.store import Store
from affidavit_governance.encryption import envelope
from affidavit_governance.encryption.keyfile import FILE, KeyringFile
from affidavit_governance.encryption.providers import choose
from affidavit_governance.encryption.versions import KeyVersion, Secrets, expand

LEASE_SECONDS = 60.0
"""How long a process seals under a version without looking whether another process rotated; see `rotation.GRACE`."""


class LocalKeyring:
    """Seals, signs and derives keys in this process (implements `affidavit.interfaces.governance.Keyring`).

    HKDF-SHA256 (RFC 5869) with the workspace's id as salt derives signing and purpose keys from the identity secret. Objects are sealed under
    the active version of the key-encryption key. Secrets are not shown by ``repr``, and the object cannot be pickled or copied. Python gives
    no way to wipe them from memory.

    Parameters
    ----------
    secrets
        What the keyring holds; 32 bytes stand for a master secret of format 1.
    file
        Where later generations are read from; None for a keyring that stays as it is.

    Attributes
    ----------
    key_id
        16 hexadecimal digits that name the identity secret; derived from it one-way.
    public_key
        The Ed25519 key that verifies `sign`, 32 bytes.
    verifier_key
        The same as a C2SP signed-note verifier key.
    """

    __slots__ = ("_active", "_by_id", "_checked", "_lock", "_signing", "_workspace", "file", "key_id", "public_key", "secrets", "verifier_key")

    def __init__(self, secrets: Secrets | bytes, workspace_id: str, *, file: KeyringFile | None = None) -> None:
        if isinstance(secrets, bytes):
            if len(secrets) != 32:
                raise UsageError("A master secret has 32 bytes.")
            secrets = Secrets.of_format_1(secrets, workspace_id)
        self._workspace = workspace_id
        self._lock = threading.Lock()
        self.file = file
        self.adopt(secrets)
        self._signing = Ed25519PrivateKey.from_private_bytes(self._expand("ed25519 seed", 32))
        self.key_id = self._expand("key id", envelope.KEY_ID_BYTES).hex()
        self.public_key = self._signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.verifier_key = verifier_key(f"affidavit/{workspace_id[:12]}", self.public_key)

    # -- sealing --------------------------------------------------------------------------------------------------------------------

    def seal(self, plaintext: bytes, *, purpose: str, name: str) -> bytes:
        """Encrypt; `purpose` and `name` are authenticated and must be the same when opening."""
        key_id, key = self._sealing()
        return envelope.seal(key, key_id, plaintext, envelope.Context(self._workspace, purpose, name))

    def open(self, sealed: bytes, *, purpose: str, name: str) -> bytes:
        """Decrypt what `seal` made. Raises IntegrityError, naming `name`, on any change."""
        context = envelope.Context(self._workspace, purpose, name)
        key_id = envelope.key_id_of(sealed, context)
        return envelope.open_sealed(self._key(key_id, context), key_id, sealed, context)

    def data_key(self) -> bytes:
        """A fresh data key, wrapped, for `seal_under`."""
        key_id, key = self._sealing()
        return envelope.wrap(key, key_id, os.urandom(32))

    def seal_under(self, wrapped: bytes, plaintext: bytes, *, purpose: str, name: str) -> bytes:
        """Encrypt under a data key that `data_key` gave."""
        context = envelope.Context(self._workspace, purpose, name)
        return envelope.seal_body(self._unwrap(wrapped, context), plaintext, context)

    def open_under(self, wrapped: bytes, sealed: bytes | memoryview, *, purpose: str, name: str) -> bytes:
        """Decrypt what `seal_under` made. Raises IntegrityError, naming `name`, on any change."""
        context = envelope.Context(self._workspace, purpose, name)
        return envelope.open_body(self._unwrap(wrapped, context), sealed, context)

    def rewrap(self, head: bytes) -> bytes:
        """The head of an envelope (version 2), or a wrapped data key, under the active version.

        Raises
        ------
        IntegrityError
            It was changed, or is under a key that is not there.
        """
        context = envelope.Context(self._workspace, "re-wrapped", "data key")
        data_key = self._unwrap(head, context)
        key_id, key = self._sealing()
        return envelope.wrap(key, key_id, data_key)

    def _unwrap(self, wrapped: bytes, context: envelope.Context) -> bytes:
        head = wrapped[: envelope.HEAD_BYTES]
        return envelope.unwrap(self._key(envelope.key_id_of(head, context), context), head, context)

    # -- identity -------------------------------------------------------------------------------------------------------------------

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """Give a key of `length` bytes (at most 8160) for one purpose, the same each time, whatever was rotated."""
        return self._expand(f"for {purpose}", length)

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature (64 bytes) with the workspace's key."""
        return self._signing.sign(message)

    def _expand(self, label: str, length: int) -> bytes:
        return expand(self.secrets.identity, self._workspace, label, length)

    # -- versions -------------------------------------------------------------------------------------------------------------------

    def adopt(self, secrets: Secrets) -> None:
        """Use another generation of the same keyring from now on."""
        self.secrets = secrets
        self._by_id: dict[bytes, KeyVersion] = {bytes.fromhex(version.key_id): version for version in secrets.versions}
        active = secrets.active
        assert active.key is not None
        self._active = (bytes.fromhex(active.key_id), active.key)
        self._checked = _seconds()

    def refresh(self) -> None:
        """Take in what another process changed: a rotation, a destroyed version."""
        if self.file is None:
            return
        with self._lock:
            started = _seconds()
            recorded = self.file.recorded()
            if recorded is not None and recorded[1] != self.secrets.generation:
                self.adopt(self.file.open(again=True))
            self._checked = started

    def _sealing(self) -> tuple[bytes, bytes]:
        """Id and key of the active version."""
        if _seconds() - self._checked > LEASE_SECONDS:
            self.refresh()
        return self._active

    def _key(self, key_id: bytes, context: envelope.Context) -> bytes:
        version = self._by_id.get(key_id)
        if version is None:
            self.refresh()
            version = self._by_id.get(key_id)
        if version is None:
            known = ", ".join(known.hex() for known in self._by_id)
            raise IntegrityError(f"{context} was sealed with key {key_id.hex()}, which is none of this workspace's ({known}).")
        if version.key is None:
            raise IntegrityError(
                f"{context} is sealed under key version {version.number} ({version.key_id}), which was destroyed on {version.destroyed[:10]}.",
                hint="It is an old copy: restore one that was made after the keys were re-wrapped.",
            )
        return version.key

    def __repr__(self) -> str:
        return f"LocalKeyring(key_id={self.key_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A keyring cannot be pickled or copied: it holds secrets.")


def _seconds() -> float:
    """A clock that goes on while the machine sleeps, where the system has one: another may rotate and destroy meanwhile."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def verifier_key(name: str, public_key: bytes) -> str:
    """Encode an Ed25519 public key as a C2SP signed-note verifier key: ``name+hash+base64(0x01 || key)``."""
    typed = b"\x01" + public_key
    digest = hashlib.sha256(name.encode() + b"\n" + typed).digest()
    return f"{name}+{digest[:4].hex()}+{base64.b64encode(typed).decode()}"


def open_keyring(store: Store, *, passphrase: str | None = None, key: bytes | None = None, registry: Registry | None = None) -> LocalKeyring:
    """Open the keys of a workspace, and make them where it has none.

    The secrets are sealed in ``keyring.json`` through one key provider, chosen when they are made: the one that ``AFFIDAVIT_KEY_PROVIDER``
    names, a passphrase (given here or in ``AFFIDAVIT_PASSPHRASE``, stretched by Argon2id), a key (32 bytes given here, or in base64 in
    ``AFFIDAVIT_KEY``), or by default a key file ``keys/<workspace id>.key`` in ``AFFIDAVIT_HOME`` or ``~/.config/affidavit``, readable by its
    owner alone. Whoever loses the provider's key loses everything sealed: back the key file up apart from the workspace.

    Parameters
    ----------
    registry
        Where key providers are looked up; default: the bundled ones.

    Raises
    ------
    AffidavitError
        A wrong passphrase, or a key that is missing or out of reach; nothing is changed.
    IntegrityError
        ``keyring.json`` is missing, damaged, or another workspace's.
    """
    file = KeyringFile(store, bundled_registry() if registry is None else registry, passphrase, key)
    # Inside the write lock, so that two processes that open a new workspace at once agree on one identity.
    if file.recorded() is None:
        with store.write() as connection:
            if _is_new(connection):
                return LocalKeyring(_make(file, passphrase, key, connection), store.workspace_id, file=file)
    if not file.exists:
        raise IntegrityError(f"Workspace {store.location} has lost its {FILE}; nothing sealed can be opened.", hint="Restore it from a backup.")
    return LocalKeyring(file.open(), store.workspace_id, file=file)


def _is_new(connection: sa.Connection) -> bool:
    return connection.execute(sa.text("SELECT 1 FROM keyring")).first() is None


def _make(file: KeyringFile, passphrase: str | None, key: bytes | None, connection: sa.Connection) -> Secrets:
    if not file.exists:
        return file.create(*choose(passphrase, key), connection)
    secrets = file.open()  # whoever made the file was killed before the transaction's end
    file.record(secrets, file.text(), connection)
    return secrets
