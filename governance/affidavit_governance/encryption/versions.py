"""What a keyring keeps: the identity secret, which never changes, and the versions of the key-encryption key."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from affidavit.errors import UsageError
from affidavit_governance.encryption.envelope import KEY_ID_BYTES

State = Literal["active", "retired", "destroyed"]


def expand(secret: bytes, workspace_id: str, label: str, length: int) -> bytes:
    """A key for one use: HKDF-SHA256 (RFC 5869) of `secret` with the workspace's id as salt."""
    info = f"affidavit keyring v1 {label}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=workspace_id.encode(), info=info).derive(secret)


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of the key-encryption key.

    Attributes
    ----------
    number
        From 1.
    key_id
        16 hexadecimal digits, which stand in every envelope under it.
    state
        ``active``: new objects are sealed under it. ``retired``: it opens what is left under it. ``destroyed``: the key is gone.
    derived
        Whether it follows from the identity secret, as version 1 of a keyring of format 1 does. It cannot be destroyed.
    created, retired, destroyed
        When, RFC 3339 in UTC; empty where it is not so, or not known.
    key
        32 bytes; None once destroyed.
    """

    number: int
    key_id: str
    state: State
    derived: bool = False
    created: str = ""
    retired: str = ""
    destroyed: str = ""
    key: bytes | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything but the key."""
        named = ("created", "retired", "destroyed")
        return {
            "version": self.number,
            "key_id": self.key_id,
            "state": self.state,
            "derived": self.derived,
            **{name: getattr(self, name) for name in named if getattr(self, name)},
        }


@dataclass(frozen=True, slots=True)
class Secrets:
    """Everything secret of one workspace, as of one generation of ``keyring.json``.

    Attributes
    ----------
    identity
        32 bytes, from which signing and derived keys follow: no rotation changes it.
    versions
        In order; exactly one is active.
    generation
        Counts the changes of ``keyring.json``; 0 for format 1.
    """

    identity: bytes = field(repr=False)
    versions: tuple[KeyVersion, ...]
    generation: int

    @classmethod
    def new(cls, workspace_id: str, now: str) -> Secrets:
        """Fresh secrets with key version 1."""
        return cls(os.urandom(32), (_fresh(1, workspace_id, now),), 1)

    @classmethod
    def of_format_1(cls, master: bytes, workspace_id: str) -> Secrets:
        """One master secret was everything: identity, and the only key-encryption key derived from it."""
        key_id = expand(master, workspace_id, "key id", KEY_ID_BYTES).hex()
        only = KeyVersion(1, key_id, "active", derived=True, key=expand(master, workspace_id, "envelope encryption", 32))
        return cls(master, (only,), 0)

    @property
    def active(self) -> KeyVersion:
        """The version that new objects are sealed under."""
        return next(version for version in self.versions if version.state == "active")

    def version(self, number: int) -> KeyVersion:
        """One version. Raises UsageError where there is none of that number."""
        for version in self.versions:
            if version.number == number:
                return version
        raise UsageError(f"There is no key version {number}.", hint=f"Versions: 1 to {len(self.versions)}.")

    def rotated(self, workspace_id: str, now: str) -> Secrets:
        """With a new active version; the present one is retired."""
        kept = [replace(version, state="retired", retired=now) if version.state == "active" else version for version in self.versions]
        return self._next([*kept, _fresh(len(kept) + 1, workspace_id, now)])

    def without(self, number: int, now: str) -> Secrets:
        """With one version destroyed."""
        gone = replace(self.version(number), state="destroyed", destroyed=now, key=None)
        return self._next([gone if version.number == number else version for version in self.versions])

    def again(self) -> Secrets:
        """The same, to be written anew."""
        return self._next(self.versions)

    def _next(self, versions: Sequence[KeyVersion]) -> Secrets:
        return replace(self, versions=tuple(versions), generation=self.generation + 1)

    def encode(self) -> bytes:
        """As bytes, keys and all: to be sealed at once."""
        versions = [{**version.to_json(), "key": version.key and base64.b64encode(version.key).decode()} for version in self.versions]
        return json.dumps({"identity": base64.b64encode(self.identity).decode(), "versions": versions}).encode()

    @classmethod
    def decode(cls, data: bytes, generation: int) -> Secrets:
        """Read what `encode` gave."""
        value = json.loads(data)
        versions = []
        for entry in value["versions"]:
            key = entry.pop("key")
            versions.append(KeyVersion(number=entry.pop("version"), key=key and base64.b64decode(key, validate=True), **entry))
        return cls(base64.b64decode(value["identity"], validate=True), tuple(versions), generation)


def _fresh(number: int, workspace_id: str, now: str) -> KeyVersion:
    key = os.urandom(32)
    return KeyVersion(number, expand(key, workspace_id, "key id", KEY_ID_BYTES).hex(), "active", created=now, key=key)
