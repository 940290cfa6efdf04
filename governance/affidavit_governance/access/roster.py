"""The roster: which public key belongs to whom, in which roles. Each entry is signed evidence, and the roster is read from nowhere else."""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.governance import Actor


class Roster:
    """The people who may approve in one workspace."""

    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace

    def enrol(self, key: bytes, *, name: str, roles: tuple[str, ...]) -> Actor:
        """Enter or change a person.

        Parameters
        ----------
        key
            The 32 bytes of an Ed25519 public key.
        name, roles
            The label in evidence, and what the person may be. The latest entry of a key counts.

        Raises
        ------
        InvalidInput
            `key` is no Ed25519 public key.
        UsageError
            There is no name or no role.
        """
        try:
            Ed25519PublicKey.from_public_bytes(key)
        except ValueError:
            raise InvalidInput(f"The key of '{name}' is no Ed25519 public key of 32 bytes.") from None
        if not name.strip() or not roles or not all(role.strip() for role in roles):
            raise UsageError("An approver needs a name and at least one role.", hint="Pass name= and roles=['risk'].")
        fingerprint = hashlib.sha256(key).hexdigest()
        if self.find(fingerprint) != Actor(name, roles, fingerprint):
            self._workspace.ledger.append(
                "enrol",
                subject={f"key:{name}": fingerprint},
                predicate={"name": name, "roles": list(roles), "key": key.hex(), "by": self._workspace.actor.name},
            )
        return Actor(name, roles, fingerprint)

    def find(self, fingerprint: str) -> Actor | None:
        """The person who holds a key, if enrolled."""
        found = self.people().get(fingerprint)
        return found[0] if found else None

    def people(self) -> dict[str, tuple[Actor, bytes]]:
        """Everybody enrolled and their public key, by key fingerprint."""
        people: dict[str, tuple[Actor, bytes]] = {}
        for evidence in self._workspace.ledger.entries("enrol"):
            entry = evidence.predicate
            key = bytes.fromhex(entry["key"])
            fingerprint = hashlib.sha256(key).hexdigest()
            people[fingerprint] = (Actor(entry["name"], tuple(entry["roles"]), fingerprint), key)
        return people


def signature_holds(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is `key`'s Ed25519 signature over `message` (RFC 8032)."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
