"""Where the key that seals a workspace's master secret comes from: a passphrase, the environment, or a key file outside the workspace.

A provider is described by a small JSON object that stands in ``keyring.json``; the description holds no secret.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from affidavit.errors import AffidavitError, IntegrityError, UsageError
from affidavit.store import FolderFiles, Store

PASSPHRASE = "AFFIDAVIT_PASSPHRASE"
KEY = "AFFIDAVIT_KEY"
HOME = "AFFIDAVIT_HOME"

# RFC 9106, section 4: the second recommended option, for where 2 GiB of memory is too much.
ARGON2ID = {"iterations": 3, "lanes": 4, "memory_kib": 64 * 1024}
_ARGON2ID_MOST = {"iterations": 100, "lanes": 64, "memory_kib": 4 * 1024 * 1024}
_FILE_MARK = "affidavit-key-1"


def choose(passphrase: str | None) -> dict[str, Any]:
    """Describe the provider for a new workspace: the one that arguments and environment name, by default the key file.

    Raises
    ------
    UsageError
        Both a passphrase and an environment key are given.
    """
    phrase = passphrase if passphrase is not None else os.environ.get(PASSPHRASE)
    if phrase is not None and KEY in os.environ:
        raise UsageError(f"Both a passphrase and {KEY} are set; a workspace is sealed by exactly one.", hint="Unset one of the two.")
    if phrase is not None:
        return {"type": "passphrase", "kdf": "argon2id", "salt": base64.b64encode(os.urandom(16)).decode(), **ARGON2ID}
    return {"type": "environment"} if KEY in os.environ else {"type": "file"}


def sealing_key(provider: Mapping[str, Any], store: Store, passphrase: str | None, *, create: bool = False) -> bytes:
    """Give the 32-byte key of the provider that `provider` describes.

    Parameters
    ----------
    create
        Make the key file where there is none.

    Raises
    ------
    AffidavitError
        The passphrase, variable or key file is absent or unusable; says which and where it is looked for.
    """
    kind = provider.get("type")
    if passphrase is not None and kind != "passphrase":
        raise UsageError(f"Workspace {store.location} is not sealed by a passphrase (its key provider is '{kind}').", hint="Open it without one.")
    if kind == "passphrase":
        return _stretch(provider, store, passphrase if passphrase is not None else os.environ.get(PASSPHRASE))
    if kind == "environment":
        return _environment_key(store)
    if kind == "file":
        return _file_key(store, create=create)
    raise IntegrityError(f"The keyring of workspace {store.location} names an unknown key provider.", hint="Restore it from a backup.")


def key_file(store: Store) -> Path:
    """Where the key file of a workspace is."""
    home = Path(os.environ.get(HOME) or Path.home() / ".config" / "affidavit")
    return home.absolute() / "keys" / f"{store.workspace_id}.key"


def _stretch(provider: Mapping[str, Any], store: Store, passphrase: str | None) -> bytes:
    if not passphrase:
        raise AffidavitError(f"Workspace {store.location} is sealed by a passphrase, and none was given.", hint=f"Set {PASSPHRASE}.")
    try:
        salt = base64.b64decode(provider["salt"], validate=True)
        cost = {name: int(provider[name]) for name in ARGON2ID}
        # Upper bounds, so that a changed file cannot make opening take all memory.
        if provider["kdf"] != "argon2id" or any(not 1 <= cost[name] <= most for name, most in _ARGON2ID_MOST.items()):
            raise ValueError
        argon2id = Argon2id(salt=salt, length=32, iterations=cost["iterations"], lanes=cost["lanes"], memory_cost=cost["memory_kib"])
    except (KeyError, TypeError, ValueError):
        raise IntegrityError(f"The keyring of workspace {store.location} has changed: its Argon2id settings are unusable.") from None
    # One form for text that keyboards write in several (RFC 8265, section 4.2.2).
    return argon2id.derive(unicodedata.normalize("NFC", passphrase).encode())


def _environment_key(store: Store) -> bytes:
    text = os.environ.get(KEY)
    if text is None:
        raise AffidavitError(f"Workspace {store.location} is sealed by the key in {KEY}, which is not set.")
    return _decode(text.strip(), f"The key in {KEY}")


def _file_key(store: Store, *, create: bool) -> bytes:
    path = key_file(store)
    if isinstance(store.files, FolderFiles) and path.is_relative_to(store.files.root.parent):
        raise UsageError("The key file would lie inside the workspace that it protects.", hint=f"Point {HOME} to another folder.")
    try:
        if create and not path.exists():
            folder = FolderFiles(path.parent)  # whoever is killed here leaves no key file, or a whole one
            folder.write(path.name, f"{_FILE_MARK} {base64.b64encode(os.urandom(32)).decode()}\n".encode())
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise AffidavitError(
            f"The key file '{path}' of workspace {store.location} cannot be read: {error.strerror}.",
            hint=f"Restore it from a backup, or point {HOME} to the folder that holds 'keys'. Without it nothing in the workspace can be opened.",
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise AffidavitError(f"The key file '{path}' can be read by other users.", hint=f"chmod 600 '{path}'")
    mark, _, encoded = text.strip().partition(" ")
    if mark != _FILE_MARK:
        raise AffidavitError(f"'{path}' is no key file of this version.", hint="Restore it from a backup.")
    return _decode(encoded, f"The key in '{path}'")


def _decode(text: str, what: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise AffidavitError(f"{what} is not 32 bytes in base64.", hint="A new one: openssl rand -base64 32")
    return key
