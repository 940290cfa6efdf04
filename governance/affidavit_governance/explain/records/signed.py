"""Records of explanations as signed statements: what leaves the house can be checked and replayed elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affidavit.errors import IntegrityError, InvalidInput, UsageError
from affidavit.interfaces.explanation import Explanation, ExplanationRecord
from affidavit_governance.audit.dsse import canonical_json, read_statement, seal_statement, statement, subjects
from affidavit_governance.audit.note import VerifierKey

if TYPE_CHECKING:
    from affidavit.workspace import Workspace

PREDICATE = "urn:affidavit:explanation:v2"
"""The in-toto predicate type of a signed record; its predicate is the record's own JSON form, which carries its version too."""


def plain(value: Any) -> Any:
    """`value` in JSON's own types: arrays become lists, numbers that JSON lacks become None. What else JSON lacks stays as it is."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def seal_record(workspace: Workspace, record: ExplanationRecord) -> bytes:
    """The record in an envelope signed with the workspace's key."""
    content = plain(record.to_json())
    digest = hashlib.sha256(canonical_json(content)).hexdigest()
    key = VerifierKey.parse(workspace.verifier_key)
    return seal_statement(statement({"explanation": digest}, PREDICATE, content), key_id=key.key_id.hex(), sign=workspace.keyring.sign)


def open_record(sealed: bytes, verifier_key: str) -> dict[str, Any]:
    """The record's JSON form, once its signature and digest hold. Raises IntegrityError."""
    what = "The explanation record"
    content = read_statement(sealed, what, VerifierKey.parse(verifier_key))
    record: dict[str, Any] = content["predicate"]
    if content["predicateType"] != PREDICATE:
        raise IntegrityError(f"{what} is a signed statement of another kind.")
    if subjects(content) != {"explanation": hashlib.sha256(canonical_json(record)).hexdigest()}:
        raise IntegrityError(f"{what} does not have the digest that its statement names.")
    return record


def read_record(path: str | Path, verifier_key: str | None) -> Explanation:
    """Read a file that `Explanation.save` wrote.

    Parameters
    ----------
    verifier_key
        Whose signature the record must carry; None reads one that is not signed, too, and checks nothing.

    Raises
    ------
    UsageError
        The file cannot be read.
    IntegrityError
        It is not signed, or the signature does not hold.
    InvalidInput
        It is no record of explained rows.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}.", hint="Check the path.") from None
    try:
        value = json.loads(content)
    except ValueError:
        raise InvalidInput(f"'{path}' is no explanation record: it is no JSON.") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"'{path}' is no explanation record.")
    if "payload" not in value:
        if verifier_key is not None:
            raise IntegrityError(f"The record '{path}' is not signed.", hint="Save the explanation that the workspace gave.")
        return Explanation.from_json(value)
    if verifier_key is None:
        return Explanation.from_json(read_statement(content, f"The record '{path}'", None)["predicate"])
    return Explanation.from_json(open_record(content, verifier_key))
