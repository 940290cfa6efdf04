"""A passphrase, stretched by Argon2id."""

from __future__ import annotations

import base64
import os
import unicodedata
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from affidavit.errors import AffidavitError, IntegrityError
from affidavit.interfaces.keys import KeyOwner
from affidavit_governance.encryption.providers.base import LocalProvider

PASSPHRASE = "AFFIDAVIT_PASSPHRASE"

# RFC 9106, section 4: the second recommended option, for where 2 GiB of memory is too much.
ARGON2ID = {"iterations": 3, "lanes": 4, "memory_kib": 64 * 1024}
_MOST = {"iterations": 100, "lanes": 64, "memory_kib": 4 * 1024 * 1024}


class PassphraseProvider(LocalProvider):
    """The passphrase is the owner's, or else that of ``AFFIDAVIT_PASSPHRASE``. Salt and cost stand in the description."""

    name = "passphrase"
    optional = ("kdf", "salt", *ARGON2ID)

    def __init__(self, settings: Mapping[str, Any], owner: KeyOwner) -> None:
        fresh = {"kdf": "argon2id", "salt": base64.b64encode(os.urandom(16)).decode(), **ARGON2ID}
        super().__init__(settings or fresh, owner)
        self._salt, self._cost = self._read()
        self._key: bytes | None = None

    def _read(self) -> tuple[bytes, dict[str, int]]:
        try:
            salt = base64.b64decode(self.settings["salt"], validate=True)
            cost = {name: int(self.settings[name]) for name in ARGON2ID}
            # Upper bounds, so that a changed file cannot make opening take all memory.
            usable = all(1 <= cost[name] <= most for name, most in _MOST.items()) and cost["memory_kib"] >= 8 * cost["lanes"]  # RFC 9106, 3.1
            if self.settings["kdf"] != "argon2id" or len(salt) < 8 or not usable:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            where = self.owner.location
            raise IntegrityError(f"The keyring of workspace {where} has changed: its Argon2id settings are unusable.") from None
        return salt, cost

    @property
    def label(self) -> str:
        return "The passphrase"

    def key(self, *, create: bool = False) -> bytes:
        """The stretched passphrase; stretched once."""
        if self._key is None:
            self._key = self._stretch()
        return self._key

    def _stretch(self) -> bytes:
        phrase = self.owner.passphrase if self.owner.passphrase is not None else os.environ.get(PASSPHRASE)
        if not phrase:
            raise AffidavitError(f"Workspace {self.owner.location} is sealed by a passphrase, and none was given.", hint=f"Set {PASSPHRASE}.")
        cost = self._cost
        argon2id = Argon2id(salt=self._salt, length=32, iterations=cost["iterations"], lanes=cost["lanes"], memory_cost=cost["memory_kib"])
        # One form for text that keyboards write in several (RFC 8265, section 4.2.2).
        return argon2id.derive(unicodedata.normalize("NFC", phrase).encode())
