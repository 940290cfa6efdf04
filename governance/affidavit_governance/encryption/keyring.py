"""The keys of one workspace, all derived from one master secret."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any, NoReturn

import sqlalchemy as sa
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from affidavit.errors import AffidavitError, IntegrityError, InvalidInput, UsageError
from affidavit.store import Store
from affidavit_governance.encryption import envelope, providers

FILE = "keyring.json"
FORMAT = 1

_metadata = sa.MetaData()
_identity = sa.Table("keyring", _metadata, sa.Column("key_id", sa.Text, primary_key=True))


class LocalKeyring:
    """Seals, signs and derives keys in this process (implements `affidavit.interfaces.governance.Keyring`).

    HKDF-SHA256 (RFC 5869) with the workspace's id as salt derives every key from the master secret. Secrets are not shown by ``repr``, and
    the object cannot be pickled or copied. Python gives no way to wipe them from memory.

    Attributes
    ----------
    key_id
        16 hexadecimal digits that name the master secret; derived from it one-way.
    public_key
        The Ed25519 key that verifies `sign`, 32 bytes.
    verifier_key
        The same as a C2SP signed-note verifier key.
    """

    __slots__ = ("_encryption", "_master", "_signing", "_workspace", "key_id", "public_key", "verifier_key")

    def __init__(self, master: bytes, workspace_id: str) -> None:
        if len(master) != 32:
            raise UsageError("A master secret has 32 bytes.")
        self._master = master
        self._workspace = workspace_id
        self._encryption = self._expand("envelope encryption", 32)
        self._signing = Ed25519PrivateKey.from_private_bytes(self._expand("ed25519 seed", 32))
        self.key_id = self._expand("key id", envelope.KEY_ID_BYTES).hex()
        self.public_key = self._signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.verifier_key = verifier_key(f"affidavit/{workspace_id[:12]}", self.public_key)

    def seal(self, plaintext: bytes, *, purpose: str, name: str) -> bytes:
        """Encrypt; `purpose` and `name` are authenticated and must be the same when opening."""
        return envelope.seal(self._encryption, bytes.fromhex(self.key_id), plaintext, self._context(purpose, name))

    def open(self, sealed: bytes, *, purpose: str, name: str) -> bytes:
        """Decrypt what `seal` made. Raises IntegrityError, naming `name`, on any change."""
        return envelope.open_sealed(self._encryption, bytes.fromhex(self.key_id), sealed, self._context(purpose, name))

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """Give a key of `length` bytes (at most 8160) for one purpose, the same each time."""
        return self._expand(f"for {purpose}", length)

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature (64 bytes) with the workspace's key."""
        return self._signing.sign(message)

    def _context(self, purpose: str, name: str) -> envelope.Context:
        return envelope.Context(self._workspace, purpose, name)

    def _expand(self, label: str, length: int) -> bytes:
        info = f"affidavit keyring v1 {label}".encode()
        return HKDF(algorithm=hashes.SHA256(), length=length, salt=self._workspace.encode(), info=info).derive(self._master)

    def __repr__(self) -> str:
        return f"LocalKeyring(key_id={self.key_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A keyring cannot be pickled or copied: it holds secrets.")


def verifier_key(name: str, public_key: bytes) -> str:
    """Encode an Ed25519 public key as a C2SP signed-note verifier key: ``name+hash+base64(0x01 || key)``."""
    typed = b"\x01" + public_key
    digest = hashlib.sha256(name.encode() + b"\n" + typed).digest()
    return f"{name}+{digest[:4].hex()}+{base64.b64encode(typed).decode()}"


def open_keyring(store: Store, *, passphrase: str | None = None) -> LocalKeyring:
    """Open the keys of a workspace, and make them where it has none.

    The master secret (32 random bytes) is sealed in ``keyring.json`` by one provider, chosen when it is made: a passphrase (given here or in
    ``AFFIDAVIT_PASSPHRASE``, stretched by Argon2id), the key in ``AFFIDAVIT_KEY`` (32 bytes in base64), or by default a key file
    ``keys/<workspace id>.key`` in ``AFFIDAVIT_HOME`` or ``~/.config/affidavit``, readable by its owner alone. Whoever loses the
    provider's key loses everything sealed: back the key file up apart from the workspace.

    Raises
    ------
    AffidavitError
        A wrong passphrase or a missing key; nothing is changed.
    IntegrityError
        ``keyring.json`` is missing, damaged, or another workspace's.
    """
    store.ensure(_metadata, "keyring", 1)
    # Inside the write lock, so that two processes that open a new workspace at once agree on one master secret.
    if not store.files.exists(FILE) or _recorded(store) is None:
        with store.write() as connection:
            known = connection.execute(sa.select(_identity.c.key_id)).scalar_one_or_none()
            if known is None:
                keyring = _unseal(store, passphrase) if store.files.exists(FILE) else _create(store, passphrase)
                connection.execute(_identity.insert().values(key_id=keyring.key_id))
                return keyring
    if not store.files.exists(FILE):
        raise IntegrityError(f"Workspace {store.location} has lost its {FILE}; nothing sealed can be opened.", hint="Restore it from a backup.")
    keyring = _unseal(store, passphrase)
    if keyring.key_id != _recorded(store):
        raise IntegrityError(f"The {FILE} of workspace {store.location} is not the one it was made with.", hint="Restore it from a backup.")
    return keyring


def _recorded(store: Store) -> str | None:
    with store.read() as connection:
        return connection.execute(sa.select(_identity.c.key_id)).scalar_one_or_none()


def _create(store: Store, passphrase: str | None) -> LocalKeyring:
    provider = providers.choose(passphrase)
    master = os.urandom(32)
    keyring = LocalKeyring(master, store.workspace_id)
    key = providers.sealing_key(provider, store, passphrase, create=True)
    sealed = envelope.seal(key, bytes.fromhex(keyring.key_id), master, _context(store))
    value = {"format": FORMAT, "key_id": keyring.key_id, "provider": provider, "sealed": base64.b64encode(sealed).decode()}
    store.files.write(FILE, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n")
    return keyring


def _unseal(store: Store, passphrase: str | None) -> LocalKeyring:
    value = _read(store)
    provider = value["provider"]
    key = providers.sealing_key(provider, store, passphrase)
    try:
        key_id = bytes.fromhex(value["key_id"])
        master = envelope.open_sealed(key, key_id, base64.b64decode(value["sealed"], validate=True), _context(store))
    except (ValueError, TypeError):
        raise _damaged(store) from None
    except IntegrityError:
        # A wrong key and a changed file look alike: both fail the same check.
        wrong = {"passphrase": "The passphrase", "environment": f"The key in {providers.KEY}", "file": f"The key file '{providers.key_file(store)}'"}
        raise AffidavitError(
            f"{wrong[provider['type']]} does not open workspace {store.location}: it is wrong, or {FILE} has changed. Nothing was changed."
        ) from None
    keyring = LocalKeyring(master, store.workspace_id)
    if keyring.key_id != value["key_id"]:
        raise _damaged(store)
    return keyring


def _read(store: Store) -> dict[str, Any]:
    try:
        value = json.loads(store.files.read(FILE))
        version = value["format"]
        if version == FORMAT and isinstance(value["provider"], dict) and isinstance(value["key_id"], str) and isinstance(value["sealed"], str):
            return dict(value)
    except (KeyError, TypeError, ValueError):
        raise _damaged(store) from None
    if isinstance(version, int) and version > FORMAT:
        raise InvalidInput(f"The {FILE} of {store.location} has format {version}; this Affidavit reads {FORMAT}.", hint="pip install -U affidavit")
    raise _damaged(store)


def _damaged(store: Store) -> IntegrityError:
    return IntegrityError(f"The {FILE} of workspace {store.location} is damaged.", hint="Restore it from a backup.")


def _context(store: Store) -> envelope.Context:
    return envelope.Context(store.workspace_id, "keyring", "master")
