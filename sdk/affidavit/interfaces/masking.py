"""What masking asks of a plugin: recognizers find personal data, operators transform columns of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar

import pyarrow as pa
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, ValidationError

from affidavit.errors import UsageError, nearest

if TYPE_CHECKING:
    from affidavit.interfaces.schema import Field


S = TypeVar("S", bound=BaseModel)


class Finding(NamedTuple):
    """One piece of personal data in a text.

    Attributes
    ----------
    entity
        What it is, by Presidio's name where it has one (``EMAIL_ADDRESS``, ``CREDIT_CARD``…).
    start, end
        Position in characters, end exclusive.
    score
        How sure the recognizer is, between 0 and 1.
    evidence
        Why: the check that passed (``"mod 97"``) and whether words nearby spoke for it. Never the value.
    """

    entity: str
    start: int
    end: int
    score: float
    evidence: str = ""


class Recognizer(Protocol):
    """Finds personal data in text. Plugins register theirs under the kind ``recognizer``.

    It is made with the settings of the policy's ``masking.recognizers`` line as keywords; without such a line only recognizers that come
    with masking itself are used. It may be slow, so tables hand it text columns only, each distinct value once.

    Attributes
    ----------
    entities
        What it can find.
    """

    @property
    def entities(self) -> Sequence[str]: ...

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        """All findings in each text, in any order; they may overlap."""
        ...


class Vault(Protocol):
    """Keeps the values behind random tokens, sealed."""

    def tokens(self, values: Sequence[bytes], *, namespace: str, subjects: Sequence[str | None] | None = None) -> list[bytes]:
        """The token of each value, 16 random bytes; a value known in `namespace` keeps the token that it has.

        `subjects` names whose each value is: it is then sealed with the subject's key and lost with it.
        """
        ...

    def values(self, tokens: Sequence[bytes], *, namespace: str) -> list[bytes]:
        """The value behind each token.

        Raises
        ------
        IntegrityError
            A token is unknown, of another namespace, or its row was changed.
        Refused
            The subject's key was destroyed.
        """
        ...


class SubjectKeys(Protocol):
    """One key for each person, so that destroying it makes what was sealed with it unreadable."""

    def keys(self, subjects: Sequence[str], *, create: bool = True) -> list[bytes]:
        """The 32-byte key of each subject, made where it has none and `create` is set.

        Raises
        ------
        Refused
            The key of a subject was destroyed.
        """
        ...


@dataclass(frozen=True, slots=True)
class MaskContext:
    """What an operator may use besides the column.

    Attributes
    ----------
    key
        The workspace's masking key, 16 to 64 bytes.
    table
        Name of the data set that the column is of; empty for free text.
    subjects
        Whose each row is, one entry a row, where the operator's setting ``subject`` names a column.
    vault, subject_keys
        Of the workspace; None outside one.
    """

    key: bytes
    table: str = ""
    subjects: pa.ChunkedArray | None = None
    vault: Vault | None = None
    subject_keys: SubjectKeys | None = None

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """A key for one purpose: HKDF-SHA256 (RFC 5869) of `key`, the same each time."""
        return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=f"affidavit masking v1 {purpose}".encode()).derive(self.key)


class Settings(BaseModel):
    """The settings of an operator that takes none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_settings(kind: type[S], settings: Mapping[str, Any], *, whose: str) -> S:
    """What a policy's line tells an operator or a recognizer, checked.

    Raises
    ------
    UsageError
        `whose` has no such setting, or a value does not fit. The value itself is not repeated.
    """
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        known = list(kind.model_fields)
        name = str(next(iter(first["loc"]), ""))  # what follows may be the key of a mapping, which is a value
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            hint = f"Settings: {', '.join(known)}." if known else "It takes none."
            raise UsageError(f"{whose} has no setting '{name}'.{nearest(name, known)}", hint=hint) from None
        where = f", setting '{name}'" if name else ""
        raise UsageError(f"{whose}{where}: {first['msg']}.") from None


class Operator(ABC):
    """One way to mask a column. Plugins register theirs under the kind ``operator``.

    Attributes
    ----------
    name
        What policies call it.
    Settings
        A pydantic class of what it may be told. A setting named ``subject`` holds the name of the column that says whose a row is.
    scan_after
        Whether what it leaves may still show personal data and is searched cell by cell.
    idempotent
        Whether what is masked already comes out as it is. The values of an operator that cannot tell are masked once: a column whose
        lineage says that this operator, with these settings and this key, made it is left alone.
    reversible
        Whether `reverse` gives the originals back.
    spans
        Whether it also fits a finding inside a longer text; else such a finding becomes its entity's name in angle brackets.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Settings]] = Settings
    scan_after: ClassVar[bool] = False
    idempotent: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    spans: ClassVar[bool] = False

    def __init__(self, **settings: Any) -> None:
        self.settings = read_settings(self.Settings, settings, whose=f"Masking operator '{self.name}'")

    def to_json(self) -> dict[str, Any]:
        """The settings that differ from the defaults, as JSON."""
        return self.settings.model_dump(mode="json", exclude_defaults=True)

    @property
    def subject(self) -> str | None:
        """The column that says whose a row is, where the settings name one."""
        return getattr(self.settings, "subject", None)

    @abstractmethod
    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray | None:
        """The masked column, or None to leave it out. `column` itself is never changed; missing values stay missing.

        An `idempotent` operator leaves what is masked already as it is, because data pass through masking more than once: when they are
        loaded, when a model is trained on them, when the model answers.

        Raises
        ------
        UsageError
            The operator does not fit the column's type.
        """

    def reverse(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        """The originals, as text, of a column that `apply` made with the same settings and key. Only `reversible` operators have it.

        Raises
        ------
        IntegrityError
            A value was changed, or was made with another key, for another column or by another workspace.
        """
        raise UsageError(f"What '{self.name}' masked cannot be revealed.")

    def field(self, field: Field) -> Field:
        """How the schema describes the masked column."""
        return replace(field, masked=self.name, categories=None)
