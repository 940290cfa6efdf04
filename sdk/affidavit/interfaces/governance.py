"""What the core asks of governance, as protocols: the core imports no governance module, it finds them through entry points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import sqlalchemy as sa

    from affidavit.calls import Call

JSON = Any
"""A value that the ``json`` module can write: the type checker cannot say more without recursion that pydantic rejects."""


class Stage(IntEnum):
    """The order of governance around a call, from the outside in."""

    AUDIT = 1
    ACCESS = 2
    POLICY = 3
    MASKING = 4
    PRIVACY = 5
    EXPLAIN = 6


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a call.

    Attributes
    ----------
    name
        A label for people. It stands in evidence, so use a role account or staff number rather than private details.
    roles
        What the actor may be, for example ``("risk",)``.
    key
        Fingerprint (hex SHA-256) of the actor's Ed25519 public key, where the actor has one.
    """

    name: str
    roles: tuple[str, ...] = ()
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One signed statement in the ledger.

    Attributes
    ----------
    index
        The leaf's position in the ledger.
    leaf_hash
        Hex RFC 6962 leaf hash of the ledger entry, which holds the kind and the SHA-256 of the signed envelope.
    kind
        ``load``, ``train``, ``evaluate``, ``explain``, ``package``, ``register``, ``approve``, ``promote``, ``deploy``, ``predict``,
        ``reveal``, ``shred``, ``key``, ``budget`` or ``plugin``.
    statement
        The in-toto statement, decoded.
    """

    index: int
    leaf_hash: str
    kind: str
    statement: Mapping[str, JSON] = field(repr=False)

    @property
    def predicate(self) -> Mapping[str, JSON]:
        """The part of the statement that Affidavit defines."""
        predicate: Mapping[str, JSON] = self.statement["predicate"]
        return predicate


class Keyring(Protocol):
    """Secrets of one workspace. Nothing that it holds is ever printed, logged or pickled."""

    key_id: str
    public_key: bytes
    verifier_key: str
    """The workspace's Ed25519 public key as a C2SP signed-note verifier key, ``name+hash+base64``: what ``verify --key`` takes."""

    def seal(self, plaintext: bytes, *, purpose: str, name: str) -> bytes:
        """Encrypt; `purpose` and `name` are authenticated and must be the same when opening.

        Store what it gives as it is, in a binary column or a file of the workspace: rotation finds it there by its first bytes.
        """
        ...

    def open(self, sealed: bytes, *, purpose: str, name: str) -> bytes:
        """Decrypt what `seal` made. Raises IntegrityError, naming `name`, on any change."""
        ...

    def data_key(self) -> bytes:
        """A fresh data key, wrapped: to be kept apart from what `seal_under` seals with it, so that rotation leaves the data alone."""
        ...

    def seal_under(self, wrapped: bytes, plaintext: bytes, *, purpose: str, name: str) -> bytes:
        """Encrypt as `seal` does, under a data key that `data_key` gave."""
        ...

    def open_under(self, wrapped: bytes, sealed: bytes | memoryview, *, purpose: str, name: str) -> bytes:
        """Decrypt what `seal_under` made. Raises IntegrityError, naming `name`, on any change."""
        ...

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """Give a key of `length` bytes for one purpose, the same each time, whatever was rotated."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature (64 bytes) with the workspace's key."""
        ...


class Ledger(Protocol):
    """The append-only record of a workspace."""

    recovered: Sequence[str]
    """What opening had to mend after a crash, in words; empty after a clean close."""

    def append(
        self, kind: str, *, subject: Mapping[str, str], predicate: Mapping[str, JSON], also: Callable[[sa.Connection, int], None] | None = None
    ) -> Evidence:
        """Sign a statement about `subject` (name to hex SHA-256) and append it durably.

        `also` gets the connection and the entry's index, and joins the transaction: what it changes stands if and only if the evidence does.
        """
        ...

    def entries(self, kind: str | None = None) -> Iterator[Evidence]:
        """All evidence in order, each checked against its leaf hash on the way out."""
        ...

    def __len__(self) -> int: ...

    def has_outcome(self, call: Call) -> bool:
        """Say whether the outcome of `call` was recorded; the pipeline asks this after every call."""
        ...

    def seal_journals(self) -> None:
        """Turn this process's journal lines into signed evidence now."""
        ...

    def close(self) -> None:
        """Seal open journals and release files."""
        ...


class GovernanceModule(Protocol):
    """A governance module: an object with a stage and new-style hook wrappers."""

    stage: Stage
