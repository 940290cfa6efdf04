"""Did enrolled people sign what needs a person? Checked again from the evidence of reveals and destroyed keys alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from affidavit.errors import IntegrityError
from affidavit_governance.audit.dsse import subjects
from affidavit_governance.audit.records import evidence_name

KINDS = ("reveal", "shred")


def check_signers(statements: Sequence[tuple[str, Mapping[str, Any]]]) -> Counter[str]:
    """How many calls of each kind that people sign are done, each signed by people who were enrolled before, in the roles that it states.

    Parameters
    ----------
    statements
        Kind and statement of each entry, in ledger order.

    Raises
    ------
    IntegrityError
        A signature is missing or wrong, or is of a key that was not enrolled in those roles; the message names the entry.
    """
    enrolled: dict[str, tuple[bytes, set[tuple[str, ...]]]] = {}
    found: Counter[str] = Counter()
    for index, (kind, content) in enumerate(statements):
        predicate = content["predicate"]
        if kind == "enrol":
            try:
                key, roles = bytes.fromhex(predicate["key"]), tuple(predicate["roles"])
            except (KeyError, TypeError, ValueError):
                raise IntegrityError(f"{evidence_name(index)} enrols nobody.") from None
            enrolled.setdefault(hashlib.sha256(key).hexdigest(), (key, set()))[1].add(roles)
        elif kind in KINDS and predicate.get("phase") == "outcome" and predicate.get("status") == "done":
            _check(kind, content, enrolled, evidence_name(index))
            found[kind] += 1
    return found


def _check(kind: str, content: Mapping[str, Any], enrolled: Mapping[str, tuple[bytes, set[tuple[str, ...]]]], what: str) -> None:
    predicate = content["predicate"]
    try:
        message = _message(kind, content)
        people = [(each["key"], tuple(each["roles"]), bytes.fromhex(each["signature"])) for each in predicate["stages"]["access"]["people"]]
    except (KeyError, TypeError, ValueError):
        raise IntegrityError(f"{what} does not say who signed it.") from None
    if not people:
        raise IntegrityError(f"{what} was signed by nobody.")
    for fingerprint, roles, signature in people:
        key, held = enrolled.get(fingerprint, (b"", set()))
        if roles not in held:
            raise IntegrityError(f"{what} names a person whose key was not enrolled before in the roles that it states.")
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise IntegrityError(f"{what} carries a signature that is not that person's over this call.") from None


def _message(kind: str, content: Mapping[str, Any]) -> bytes:
    """What was signed, as `affidavit.reveal` writes it."""
    predicate, details = content["predicate"], content["predicate"]["details"]
    start = [predicate["workspace"], predicate["call"]]
    if kind == "reveal":
        asked = [details[name] for name in ("purpose", "table", "fields", "entities")]
        signed = json.dumps([*start, *asked, predicate["inputs"]], sort_keys=True)
    else:
        signed = json.dumps([*start, subjects(content)["subject"], details["reason"]])
    return f"affidavit {kind} v1\n{signed}\n".encode()
