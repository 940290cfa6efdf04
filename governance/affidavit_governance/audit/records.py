"""Ledger entries: what a leaf says, and how a leaf, its evidence and the workspace's key hang together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from affidavit.errors import IntegrityError
from affidavit_governance.audit.dsse import canonical_json, is_sha256, read_canonical, read_statement
from affidavit_governance.audit.note import VerifierKey

ENTRY_FORMAT = 1
EVIDENCE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry: the kind of the evidence and the hex SHA-256 of its envelope. It is all that the tree and the tiles hold."""

    kind: str
    evidence: str

    def encode(self) -> bytes:
        """The leaf data."""
        return canonical_json({"evidence": self.evidence, "format": ENTRY_FORMAT, "kind": self.kind})

    @classmethod
    def of(cls, kind: str, envelope: bytes) -> Entry:
        """The entry for an envelope."""
        return cls(kind, hashlib.sha256(envelope).hexdigest())

    @classmethod
    def decode(cls, data: bytes, what: str) -> Entry:
        """Read leaf data. Raises IntegrityError, naming `what`."""
        value = read_canonical(data, what)
        if not isinstance(value, dict) or set(value) != {"evidence", "format", "kind"}:
            raise IntegrityError(f"{what} is no ledger entry.")
        if value["format"] != ENTRY_FORMAT:
            raise IntegrityError(f"{what} has format {value['format']}; this Affidavit reads {ENTRY_FORMAT}.", hint="pip install -U affidavit")
        if not is_sha256(value["evidence"]) or not isinstance(value["kind"], str):
            raise IntegrityError(f"{what} is no ledger entry.")
        return cls(value["kind"], value["evidence"])


def predicate_type(kind: str) -> str:
    """The type URI of the evidence of `kind` in the version that this Affidavit writes."""
    return f"urn:affidavit:evidence:{kind}:v{EVIDENCE_VERSION}"


def evidence_name(index: int) -> str:
    """The name of entry `index`'s evidence in a bundle."""
    return f"evidence/{index:06d}.json"


def check_evidence(entry: Entry, envelope: bytes, what: str, key: VerifierKey) -> dict[str, Any]:
    """Give the statement of an envelope after checking it against its entry and the key. Raises IntegrityError, naming `what`."""
    if hashlib.sha256(envelope).hexdigest() != entry.evidence:
        raise IntegrityError(f"{what} is not what the ledger recorded: its SHA-256 differs.")
    content = read_statement(envelope, what, key)
    if content["predicateType"] != predicate_type(entry.kind):
        raise IntegrityError(f"{what} holds a statement of type '{content['predicateType']}', and the ledger says '{entry.kind}'.")
    return content
