"""What each kind of evidence says, as versioned schemas. A predicate that does not fit is refused before it is signed.

Version 1. Evidence never holds a message of an exception that Affidavit did not raise itself: it might quote data.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import affidavit
from affidavit.errors import PluginError, UsageError, nearest

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
CallId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
Number = float | Literal["NaN", "Infinity", "-Infinity"]
_LIBRARIES = ("numpy", "pyarrow", "torch", "opacus", "sklearn", "transformers", "shap", "lime")
_DISTRIBUTION = {"sklearn": "scikit-learn", "dp_accounting": "dp-accounting"}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ActorRecord(_Record):
    """Who made the call."""

    name: str
    roles: tuple[str, ...]
    key: Sha256 | None


class Refusal(_Record):
    """Which rule refused, with the figures of `affidavit.errors.Refused`."""

    by: str
    line: str
    measured: Number | int | str | None
    bound: Number | int | str | None
    satisfy: str | None


class ReplacementRecord(_Record):
    """Governance put another value in the place of an attribute of the call."""

    field: str
    stage: str


class NoDetails(_Record):
    """This kind says nothing further."""


class LoadDetails(_Record):
    """A data set was read."""

    source: str
    rows: int
    schema_: list[dict[str, Any]] = Field(alias="schema")
    roots: list[Sha256]
    derived_from: list[Sha256] = []  # as whoever loaded it declared; absent in older evidence


class TrainDetails(_Record):
    """A model was fitted."""

    type: str
    params: dict[str, Any]
    capabilities: list[str]
    signature: dict[str, Any]
    rows: int
    roots: list[Sha256]
    seed: int


class EvaluateDetails(_Record):
    """A model was measured."""

    evaluation: dict[str, Any]


class ExplainDetails(_Record):
    """Predictions were attributed to input fields (scope ``rows``, as every record before there were scopes), a model was described as a whole
    (``model``), or changes were found that flip a decision (``changes``); the last groups of members belong to one scope each."""

    scope: Literal["rows", "model", "changes"] = "rows"
    method: str
    rows: int
    settings: dict[str, Any]
    output: str | None = None

    players: list[str] | None = None
    mean_absolute: list[Any] | None = None
    max_residual: Number | None = None

    importance: dict[str, Any] | None = None
    rules: list[str] | None = None
    fidelity: dict[str, Any] | None = None

    wanted: str | None = None
    found: int | None = None
    changed: dict[str, int] | None = None


class PackageDetails(_Record):
    """A model was written as an artifact."""

    files: dict[str, Sha256]
    bytes: int


class ApproveDetails(_Record):
    """A person approved a version for an alias."""

    version: str
    alias: str
    key: str
    signature: str


class PromoteDetails(_Record):
    """An alias was pointed at a version."""

    version: str
    alias: str


class DeployDetails(_Record):
    """An endpoint was started, or files were handed over."""

    version: str
    target: str
    files: dict[str, Sha256] = Field(default_factory=dict)


class RevealedRecord(_Record):
    """What was revealed of one column, or of one entity's tokens in texts."""

    field: str
    entity: str | None
    operator: str
    line: str
    rule: Sha256
    values: Annotated[int, Field(ge=0)]
    unreadable: Annotated[int, Field(ge=0)]


class RevealDetails(_Record):
    """Somebody saw originals again. Neither they nor a digest of them stands here, since a digest can be tested against guesses."""

    purpose: str
    table: str
    fields: list[str] | None
    entities: dict[str, str]
    rows: int
    revealed: list[RevealedRecord]


class ShredDetails(_Record):
    """The key of one subject was destroyed; the statement's subject is a keyed hash of the subject's id."""

    destroyed: Time
    already: bool
    vault_rows: Annotated[int, Field(ge=0)]
    storage: Literal["overwritten", "rewritten", "pending"]
    reason: Annotated[str, Field(min_length=1)]


DETAILS: dict[str, type[_Record]] = {
    "load": LoadDetails,
    "train": TrainDetails,
    "evaluate": EvaluateDetails,
    "explain": ExplainDetails,
    "package": PackageDetails,
    "register": NoDetails,
    "approve": ApproveDetails,
    "promote": PromoteDetails,
    "deploy": DeployDetails,
    "reveal": RevealDetails,
    "shred": ShredDetails,
}


class CallRecord(_Record):
    """The intent or the outcome of one lifecycle call.

    Attributes
    ----------
    status
        None for an intent. ``interrupted``: the process died or was stopped in the middle.
    inputs
        Digests of what went in, after governance replaced what it had to.
    stages
        What each governance stage says.
    error
        The class of the exception that ended the call, without its message.
    """

    call: CallId
    phase: Literal["intent", "outcome"]
    status: Literal["done", "refused", "failed", "interrupted"] | None
    actor: ActorRecord
    workspace: str
    policy: Sha256
    started: Time
    finished: Time | None
    software: dict[str, str]
    inputs: dict[str, Sha256]
    stages: dict[str, dict[str, Any]]
    replacements: list[ReplacementRecord]
    details: dict[str, Any]
    refusal: Refusal | None
    error: str | None

    @model_validator(mode="after")
    def _phases(self) -> CallRecord:
        if self.phase == "intent" and (self.status or self.finished or self.details or self.refusal or self.error):
            raise ValueError("an intent has no outcome yet")
        if self.phase == "outcome" and (self.status is None or self.finished is None):
            raise ValueError("an outcome has a status and an end")
        if (self.status == "refused") != (self.refusal is not None):
            raise ValueError("a refusal is described exactly where the status is 'refused'")
        if self.status == "failed" and self.error is None:
            raise ValueError("a failure names the class of its error")
        return self


class SegmentRecord(_Record):
    """A run of a prediction journal; its lines have the digest that is the statement's subject.

    Attributes
    ----------
    id
        The journal, one a process.
    segment
        Number of the segment, from 0.
    first, last
        Counters of the first and the last call, from 1.
    rows
        Rows predicted in all.
    chain_start, chain_end
        The keyed running chain before the first and after the last line.
    outcomes, versions
        Calls by status and by model version.
    """

    id: CallId
    segment: int
    first: int
    last: int
    rows: int
    chain_start: Sha256
    chain_end: Sha256
    started: Time
    finished: Time
    outcomes: dict[str, int]
    versions: dict[str, int]


class Event(_Record):
    """Base of evidence that is no lifecycle call."""

    workspace: str
    recorded: Time


class PredictRecord(Event):
    """A sealed journal segment."""

    journal: SegmentRecord


class EnrolRecord(Event):
    """A person was entered who may approve."""

    name: str
    roles: list[str]
    key: Sha256
    by: str


class PluginRecord(Event):
    """The set of plugins in use changed."""

    plugins: list[dict[str, Any]]
    refused: list[dict[str, Any]]


class PolicyRecord(Event):
    """Another policy was put in force; the stored policy is believed only if it is the one recorded last."""

    content: dict[str, Any]
    by: str


class BudgetRecord(Event):
    """Somebody settled a reservation of privacy budget that a dead process had left.

    Attributes
    ----------
    call
        A lifecycle call, or another name under which something was set aside, such as that of statistics for a report.
    action
        Spent as it was reserved, as the call's own outcome says that it ran, or as its checkpoint does; or given back on the word of `by`
        that nothing ran.
    reserved, stands
        The mechanisms that were set aside, and those that count from now on.
    epsilon
        ε at `delta` of those that count, alone.
    """

    call: Annotated[str, Field(pattern=r"^[0-9a-z-]{1,64}$")]
    action: Literal["as-reserved", "as-executed", "as-checkpointed", "nothing-ran"]
    reason: Annotated[str, Field(min_length=1)]
    by: str
    roots: Annotated[list[Sha256], Field(min_length=1)]
    delta: float
    reserved: list[dict[str, Any]]
    stands: list[dict[str, Any]]
    epsilon: Number

    @model_validator(mode="after")
    def _nothing(self) -> BudgetRecord:
        if self.action == "nothing-ran" and self.stands:
            raise ValueError("where nothing ran, no mechanism counts")
        return self


class KeyName(_Record):
    """What an action on the keys began from: a key version, or another provider."""

    version: int | None = None
    key_id: KeyId | None = None
    provider: str | None = None


class KeyRecord(Event):
    """The keys that seal the workspace's objects changed. Secrets and settings of the provider are not named.

    Attributes
    ----------
    action
        ``rotate``: new objects are sealed under `version` from now on. ``rewrap``: `moved` objects were brought under it. ``destroy``: its key
        is gone. ``provider``: the keyring is sealed through another key provider.
    identity
        The id of the identity secret, which no action changes.
    previous
        The version that was active, or the provider that there was.
    objects
        How many there were under each version before.
    """

    action: Literal["rotate", "rewrap", "destroy", "provider"]
    by: str
    identity: KeyId
    provider: str
    version: Annotated[int, Field(ge=1)]
    key_id: KeyId
    previous: KeyName | None
    objects: dict[str, int]
    moved: int


SCHEMAS: dict[str, type[_Record]] = {
    **dict.fromkeys(DETAILS, CallRecord),
    "predict": PredictRecord,
    "enrol": EnrolRecord,
    "plugin": PluginRecord,
    "budget": BudgetRecord,
    "policy": PolicyRecord,
    "key": KeyRecord,
}


def is_event(kind: str) -> bool:
    """Whether evidence of `kind` stands alone, without intent and outcome. Raises UsageError for an unknown kind."""
    if kind not in SCHEMAS:
        raise UsageError(f"There is no evidence of kind '{kind}'.{nearest(kind, SCHEMAS)}", hint=f"Kinds: {', '.join(SCHEMAS)}.")
    return kind not in DETAILS


def checked(kind: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Give `predicate` in plain JSON values after checking it against the schema of `kind`.

    Numbers that JSON lacks become the text ``NaN``, ``Infinity`` or ``-Infinity``.

    Raises
    ------
    UsageError
        The kind is unknown.
    PluginError
        The predicate does not fit its schema, or holds something that is no JSON value; the message names the key.
    """
    is_event(kind)
    plain: dict[str, Any] = _plain(predicate, kind)
    _validate(SCHEMAS[kind], plain, kind)
    if kind in DETAILS and plain["status"] == "done":
        _validate(DETAILS[kind], plain["details"], f"{kind}.details")
    return plain


def now() -> str:
    """The time in UTC, RFC 3339 with microseconds."""
    return rfc3339(datetime.now(UTC))


def rfc3339(moment: datetime) -> str:
    """`moment` (in UTC) as evidence writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def software() -> dict[str, str]:
    """Versions of Affidavit, Python and those libraries that are loaded now."""
    loaded = [name for name in _LIBRARIES if name in sys.modules]
    return {"affidavit": affidavit.__version__, "python": platform.python_version(), **{name: _version(name) for name in loaded}}


@lru_cache(maxsize=64)
def _version(module: str) -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTION.get(module, module))
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _validate(schema: type[_Record], value: object, what: str) -> None:
    try:
        schema.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise PluginError(f"The evidence '{what}' does not fit its schema at '{path or 'the whole'}': {first['msg']}.") from None


def _plain(value: Any, path: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise PluginError(f"The evidence '{path}' has a key that is no text.")
        return {str(key): _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{number}]") for number, item in enumerate(value)]
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        return _plain(value.item(), path)  # a numpy scalar
    raise PluginError(f"The evidence '{path}' is a {type(value).__name__}, which is no JSON value.")
