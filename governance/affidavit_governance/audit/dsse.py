"""Signed statements: DSSE v1 envelopes (github.com/secure-systems-lab/dsse) around in-toto Statements v1, in one canonical form."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from affidavit.errors import IntegrityError
from affidavit_governance.audit.note import VerifierKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def canonical_json(value: Any) -> bytes:
    """The one encoding of a JSON value here: sorted keys, no spaces, UTF-8. Raises ValueError for NaN and infinities, which JSON lacks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_canonical(data: bytes, what: str) -> Any:
    """Decode JSON that must be in the canonical form; this also refuses repeated keys. Raises IntegrityError, naming `what`."""
    try:
        value = json.loads(data)
        canonical = canonical_json(value) == data
    except (ValueError, RecursionError):
        raise IntegrityError(f"{what} cannot be read as JSON: it was changed or cut short.") from None
    if not canonical:
        raise IntegrityError(f"{what} is not in its canonical form: it was changed.")
    return value


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding of DSSE v1: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def statement(subject: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto Statement v1 about `subject` (name to hex SHA-256)."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subject.items())],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def seal_statement(value: Mapping[str, Any], *, key_id: str, sign: Callable[[bytes], bytes]) -> bytes:
    """The canonical bytes of an envelope around a statement."""
    payload = canonical_json(value)
    signature = sign(pae(PAYLOAD_TYPE, payload))
    return canonical_json(
        {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
        }
    )


def read_statement(envelope: bytes, what: str, key: VerifierKey | None) -> dict[str, Any]:
    """Give the statement in an envelope after checking its form and, where `key` is given, its signature.

    Parameters
    ----------
    what
        What to call it in errors.
    key
        None reads without checking the signature: only to find out which key a bundle says it was signed with.

    Raises
    ------
    IntegrityError
        It is no canonical envelope with one signature, the signature does not hold, or the payload is no statement.
    """
    value = read_canonical(envelope, what)
    broken = IntegrityError(f"{what} is no signed statement.")
    if not isinstance(value, dict) or set(value) != {"payloadType", "payload", "signatures"} or value["payloadType"] != PAYLOAD_TYPE:
        raise broken
    signatures = value["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict) or set(signatures[0]) != {"keyid", "sig"}:
        raise broken
    payload, signature = _decode(value["payload"], what), _decode(signatures[0]["sig"], what)
    if key is not None:
        if signatures[0]["keyid"] != key.key_id.hex():
            raise IntegrityError(f"{what} is not signed by the key '{key.name}+{key.key_id.hex()}': it was changed, or the key is another's.")
        if not key.verify(pae(PAYLOAD_TYPE, payload), signature):
            raise IntegrityError(f"{what}: the signature does not hold. It was changed, or the key is another's.")
    content = read_canonical(payload, f"The payload of {what}")
    if not _is_statement(content):
        raise broken
    checked: dict[str, Any] = content
    return checked


def subjects(content: Mapping[str, Any]) -> dict[str, str]:
    """A statement's subjects: name to hex SHA-256."""
    return {item["name"]: item["digest"]["sha256"] for item in content["subject"]}


def is_sha256(value: object) -> bool:
    """Whether `value` is the hex form of a SHA-256."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_statement(content: Any) -> bool:
    if not isinstance(content, dict) or set(content) != {"_type", "subject", "predicateType", "predicate"}:
        return False
    named = content["subject"]
    if not isinstance(named, list) or not named or not all(_is_subject(item) for item in named):
        return False
    unique = len({item["name"] for item in named}) == len(named)
    return unique and content["_type"] == STATEMENT_TYPE and isinstance(content["predicateType"], str) and isinstance(content["predicate"], dict)


def _is_subject(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and set(item) == {"name", "digest"}
        and isinstance(item["name"], str)
        and isinstance(item["digest"], dict)
        and set(item["digest"]) == {"sha256"}
        and is_sha256(item["digest"]["sha256"])
    )


def _decode(text: Any, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
        canonical = base64.b64encode(raw).decode() == text
    except (binascii.Error, ValueError, TypeError):
        canonical = False
    if not canonical:
        raise IntegrityError(f"{what} holds text that is no canonical base64: it was changed.")
    return raw
