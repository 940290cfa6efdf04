"""Seeing originals again, and making sure that nobody ever does: the calls behind `Workspace.reveal`, `reveal_text` and `shred`."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from affidavit.calls import Call
from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import JSON, Actor, Stage
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.store import write_atomic

if TYPE_CHECKING:
    from affidavit.approver import Approver
    from affidavit.workspace import Workspace

Fields = str | Sequence[str] | Mapping[str, str] | None
"""Columns; with the entity that each holds, where the ledger knows nothing of the rows."""

TEXT = "text"
"""What the one column of a text to reveal is called."""


class _SignedCall(Call):
    """A call that people sign with their own keys, because it depends on who they are. The signatures are over `message`, which names the
    call's id and so holds for this call alone."""

    __slots__ = ("signatures",)
    signatures: tuple[tuple[bytes, bytes], ...]
    """Public key and signature of each person."""

    def _sign(self, people: Sequence[Approver]) -> None:
        message = self.message()
        object.__setattr__(self, "signatures", tuple((person.public_key, person.sign(message)) for person in people))

    def message(self) -> bytes:
        """The bytes that each person signs."""
        raise NotImplementedError


class RevealCall(_SignedCall):
    """Put originals in the place of what masked them.

    Attributes
    ----------
    data
        The masked rows; `as_text` says that they are one text, with tokens inside.
    table
        Name of the data set that the rows were masked in.
    fields
        Columns to reveal; None for all that can be.
    entities
        What the caller says that columns hold, for rows that the ledger knows nothing of. Cryptography proves it right or wrong.
    person
        Who asks, as ACCESS proved by signature.
    grants
        What POLICY allows: one entry a column or entity, as the service ``reveal`` takes them.
    """

    kind = "reveal"
    replaceable: ClassVar[Mapping[str, Stage | tuple[Stage, ...]]] = {"person": Stage.ACCESS, "grants": Stage.POLICY}
    __slots__ = ("as_text", "data", "entities", "fields", "grants", "person", "purpose", "table")
    data: Dataset
    as_text: bool
    table: str
    fields: tuple[str, ...] | None
    entities: Mapping[str, str]
    purpose: str
    person: Actor | None
    grants: tuple[Any, ...] | None

    def __init__(
        self,
        workspace: Workspace,
        actor: Actor,
        *,
        data: Dataset,
        as_text: bool,
        table: str,
        fields: Mapping[str, str] | None,
        purpose: str,
        people: Sequence[Approver],
    ) -> None:
        super().__init__(workspace, actor)
        chosen = None if fields is None else tuple(fields)
        entities = {column: entity for column, entity in (fields or {}).items() if entity}
        values = {"data": data, "as_text": as_text, "table": table, "fields": chosen, "entities": entities, "purpose": purpose}
        for name, value in {**values, "person": None, "grants": None}.items():
            object.__setattr__(self, name, value)
        self._sign(people)

    def message(self) -> bytes:
        """The bytes that the person signs: workspace, call, purpose, columns and the masked rows."""
        said = [self.workspace.store.workspace_id, self.id, self.purpose, self.table, self.fields, self.entities, self.inputs()]
        return b"affidavit reveal v1\n" + json.dumps(said, sort_keys=True).encode() + b"\n"

    def inputs(self) -> dict[str, str]:
        if self.as_text:  # what surrounds the tokens may be short enough to guess, so this digest is keyed
            key = self.workspace.keyring.derive("reveal text digest")
            return {"text": hmac.digest(key, "\0".join(self.data.to_list(TEXT)).encode(), hashlib.sha256).hex()}
        return {"dataset": self.data.fingerprint}

    def details(self, result: Revealed) -> dict[str, JSON]:
        asked = {"purpose": self.purpose, "table": self.table, "fields": self.fields, "entities": self.entities}
        return {**asked, "rows": len(self.data), "revealed": [dict(each) for each in result.columns]}


@dataclass(frozen=True, slots=True)
class Revealed:
    """What the service ``reveal`` gives.

    Attributes
    ----------
    data
        With originals.
    columns
        For the evidence: column, entity, operator, policy line, and counts of values.
    """

    data: Dataset
    columns: tuple[Mapping[str, JSON], ...]

    def __repr__(self) -> str:
        return f"Revealed({len(self.columns)} columns)"


class ShredCall(_SignedCall):
    """Destroy the key of one subject.

    Attributes
    ----------
    subject
        The subject's id. It stands in no evidence.
    name
        The keyed hash that stands there instead.
    people
        Who asks, as ACCESS proved by signature.
    """

    kind = "shred"
    replaceable: ClassVar[Mapping[str, Stage | tuple[Stage, ...]]] = {"people": Stage.ACCESS}
    __slots__ = ("name", "people", "reason", "subject")
    subject: str
    name: str
    reason: str
    people: tuple[Actor, ...] | None

    def __init__(self, workspace: Workspace, actor: Actor, *, subject: str, name: str, reason: str, people: Sequence[Approver]) -> None:
        super().__init__(workspace, actor)
        for attribute, value in {"subject": subject, "name": name, "reason": reason, "people": None}.items():
            object.__setattr__(self, attribute, value)
        self._sign(people)

    def message(self) -> bytes:
        """The bytes that each person signs: workspace, call, subject and reason."""
        return b"affidavit shred v1\n" + json.dumps([self.workspace.store.workspace_id, self.id, self.name, self.reason]).encode() + b"\n"

    def inputs(self) -> dict[str, str]:
        return {"subject": self.name}

    def outputs(self, result: Receipt) -> dict[str, str]:
        return {"subject": result.subject}

    def details(self, result: Receipt) -> dict[str, JSON]:
        return {name: value for name, value in asdict(result).items() if name not in ("subject", "call", "workspace")} | {"reason": self.reason}


@dataclass(frozen=True, slots=True)
class Receipt:
    """That the key of a subject was destroyed. The signed evidence of the call says the same.

    Attributes
    ----------
    subject
        The keyed hash (HMAC-SHA256, hex) that stands for the subject; only the workspace's keyring leads from an id to it.
    destroyed
        When, UTC.
    already
        It was destroyed before this call.
    vault_rows
        Rows of the vault that this call emptied. Tokens that hold their value themselves are in your tables and cannot be counted.
    storage
        What was done so that the database's files hold the key no longer: ``overwritten`` (SQLite), ``rewritten`` (PostgreSQL), or ``pending``
        where another reader kept old pages alive; shred again to finish that.
    call, workspace
        Where the evidence is.
    """

    subject: str
    destroyed: str
    already: bool
    vault_rows: int
    storage: str
    call: str
    workspace: str

    def to_json(self) -> dict[str, JSON]:
        """The receipt as a JSON object, versioned."""
        return {"version": 1, **asdict(self)}

    def write(self, path: str | Path) -> Path:
        """Write it as a JSON file."""
        write_atomic(Path(path), json.dumps(self.to_json(), indent=2).encode() + b"\n")
        return Path(path)


def reveal(workspace: Workspace, data: Any, *, purpose: str, by: Approver | None, fields: Fields = None, table: str | None = None) -> Any:
    """As `Workspace.reveal`."""
    chosen = (
        None
        if fields is None
        else {fields: ""}
        if isinstance(fields, str)
        else dict(fields)
        if isinstance(fields, Mapping)
        else dict.fromkeys(fields, "")
    )
    values = isinstance(data, (pa.Array, pa.ChunkedArray)) or (isinstance(data, (list, tuple)) and all(v is None or isinstance(v, str) for v in data))
    if values:
        if chosen is None or len(chosen) != 1:
            raise UsageError("Values without their table need the name of their column.", hint="Pass fields='email' and table='customers'.")
        name = next(iter(chosen))
        column = data if isinstance(data, (pa.Array, pa.ChunkedArray)) else pa.array(data, pa.string())
        data = Dataset(pa.table({name: column}), Schema((Field(name, FieldType.TEXT),)), name=table or "data")
    elif not isinstance(data, Dataset):
        data = Dataset.from_arrow(data, name=table or "data")
    people, actor = _asking(workspace, by)
    call = RevealCall(
        workspace, actor, data=data, as_text=False, table=data.name if table is None else table, fields=chosen, purpose=purpose, people=people
    )
    revealed: Revealed = workspace._pipeline.run(call)
    return revealed.data.to_list(next(iter(chosen))) if values and chosen else revealed.data


def reveal_text(workspace: Workspace, text: str, *, purpose: str, by: Approver | None) -> str:
    """As `Workspace.reveal_text`."""
    if not isinstance(text, str):
        raise UsageError(f"reveal_text takes a string, not {type(text).__name__}.")
    data = Dataset(pa.table({TEXT: [text]}), Schema((Field(TEXT, FieldType.TEXT),)), name=TEXT)
    people, actor = _asking(workspace, by)
    revealed: Revealed = workspace._pipeline.run(
        RevealCall(workspace, actor, data=data, as_text=True, table="", fields=None, purpose=purpose, people=people)
    )
    return str(revealed.data.to_list(TEXT)[0])


def shred(workspace: Workspace, subject: str, *, reason: str, by: Approver | Sequence[Approver] | None) -> Receipt:
    """As `Workspace.shred`."""
    if not isinstance(subject, str) or not subject:
        raise UsageError("The subject to shred is no text, or empty.", hint="Give the id as it stands in the column that the policy names.")
    if not reason.strip():
        raise UsageError("Destroying a subject's key needs a reason.", hint="Say why, for example 'erasure request 2031'; name no personal data.")
    people = () if by is None else (by,) if not isinstance(by, Sequence) else tuple(by)
    actor = Actor(people[0].name, key=people[0].fingerprint) if people else workspace.actor
    name = workspace.service("subject_keys")(workspace.store, workspace.keyring).name(subject).hex()
    receipt: Receipt = workspace._pipeline.run(ShredCall(workspace, actor, subject=subject, name=name, reason=reason.strip(), people=people))
    return receipt


def _asking(workspace: Workspace, by: Approver | None) -> tuple[tuple[Approver, ...], Actor]:
    return ((), workspace.actor) if by is None else ((by,), Actor(by.name, key=by.fingerprint))
