"""The registry of model versions: names, numbers, aliases and approvals."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from affidavit.errors import UsageError, nearest
from affidavit.store import Store

_metadata = sa.MetaData()
_versions = sa.Table(
    "versions",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("artifact", sa.Text, nullable=False),
    sa.Column("model_type", sa.Text, nullable=False),
    sa.Column("submitter", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
)
_aliases = sa.Table(
    "aliases",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("alias", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.ForeignKeyConstraint(["name", "number"], ["versions.name", "versions.number"]),
)
_approvals = sa.Table(
    "approvals",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("alias", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("approver", sa.Text, nullable=False),
    sa.Column("roles", sa.Text, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["name", "number"], ["versions.name", "versions.number"]),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Version:
    """One registered version of a model.

    Attributes
    ----------
    name, number
        Together unique; numbers of a name count up from 1.
    artifact
        Hex SHA-256 of the artifact's manifest.
    model_type
        The registered model type, for example ``"tabular.mlp"``.
    created
        When it was registered: UTC, ISO 8601.
    """

    name: str
    number: int
    artifact: str
    model_type: str
    created: str

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's recorded yes to a version for an alias.

    Attributes
    ----------
    key_fingerprint
        Hex SHA-256 of the approver's public key.
    name, roles
        Under which the person was enrolled at that moment.
    signature
        Ed25519, over the approval message.
    created
        UTC, ISO 8601.
    """

    key_fingerprint: str
    name: str
    roles: tuple[str, ...]
    signature: bytes
    created: str


class Versions:
    """Versions, aliases and approvals of one workspace.

    This is a record and decides nothing: who may approve, and how many must, is for governance to say.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        store.ensure(_metadata, "registry", 1)

    def add(self, name: str, artifact: str, *, model_type: str, submitter: str) -> Version:
        """Give `artifact` (a manifest's hex SHA-256) the next number of `name`.

        Raises
        ------
        UsageError
            The name or the digest is malformed.
        """
        _check(name, "model name")
        if not _DIGEST.fullmatch(artifact):
            raise UsageError("An artifact is named by the 64 hexadecimal digits of its SHA-256.")
        with self._store.write() as connection:
            last = connection.execute(sa.select(sa.func.max(_versions.c.number)).where(_versions.c.name == name)).scalar_one()
            version = Version(name, (last or 0) + 1, artifact, model_type, _now())
            connection.execute(
                _versions.insert().values(
                    name=name, number=version.number, artifact=artifact, model_type=model_type, submitter=submitter, created=version.created
                )
            )
        return version

    def get(self, spec: str | Version) -> Version:
        """Find one version.

        Parameters
        ----------
        spec
            ``"name:3"``, ``"name@alias"``, ``"name"`` for the latest, or a `Version`.

        Raises
        ------
        UsageError
            There is none; says what was probably meant.
        """
        if isinstance(spec, Version):
            found = self.get(str(spec))
            if found != spec:
                raise UsageError(f"Version {spec} is not the one that this workspace has under that name.", hint="Ask for it by name.")
            return found
        name, mark, rest = re.fullmatch(r"([^:@]*)([:@]?)(.*)", spec, re.DOTALL).groups()  # type: ignore[union-attr]  # matches any text
        versions = self.list(name)
        if mark == "":
            return versions[-1]
        if mark == "@":
            aliases = self.aliases(name)
            if rest not in aliases:
                known = f"Aliases of '{name}': {', '.join(aliases)}." if aliases else f"'{name}' has no alias yet: promote a version."
                raise UsageError(f"'{name}' has no alias '{rest}'.{nearest(rest, aliases)}", hint=known)
            return versions[aliases[rest] - 1]
        # Numbers count up from 1 without gaps: no method removes a version.
        if not (rest.isascii() and rest.isdecimal() and len(rest) < 10 and 1 <= int(rest) <= len(versions)):
            raise UsageError(f"'{name}' has no version '{rest}'.", hint=f"It has 1 to {len(versions)}; write '{name}:{len(versions)}'.")
        return versions[int(rest) - 1]

    def list(self, name: str | None = None) -> list[Version]:
        """All versions, or those of one name, oldest first. Raises UsageError for an unknown name."""
        query = sa.select(_versions).order_by(_versions.c.name, _versions.c.number)
        with self._store.read() as connection:
            rows = connection.execute(query if name is None else query.where(_versions.c.name == name)).all()
            if not rows and name is not None:
                known = sorted(connection.execute(sa.select(_versions.c.name).distinct()).scalars())
                hint = f"Models: {', '.join(known)}." if known else "No model is registered yet."
                raise UsageError(f"There is no registered model '{name}'.{nearest(name, known)}", hint=hint)
        return [Version(row.name, row.number, row.artifact, row.model_type, row.created) for row in rows]

    def point(self, name: str, alias: str, number: int) -> Version:
        """Let `alias` mean version `number` of `name` from now on."""
        _check(alias, "alias")
        version = self.get(f"{name}:{number}")
        with self._store.write() as connection:
            connection.execute(_aliases.delete().where(_aliases.c.name == name, _aliases.c.alias == alias))
            connection.execute(_aliases.insert().values(name=name, alias=alias, number=number))
        return version

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of a name and the version number that each means."""
        query = sa.select(_aliases.c.alias, _aliases.c.number).where(_aliases.c.name == name).order_by(_aliases.c.alias)
        with self._store.read() as connection:
            return {row.alias: row.number for row in connection.execute(query)}

    def submitter(self, version: Version) -> str:
        """Who registered the version."""
        query = sa.select(_versions.c.submitter).where(_versions.c.name == version.name, _versions.c.number == version.number)
        self.get(version)
        with self._store.read() as connection:
            return str(connection.execute(query).scalar_one())

    def approve(self, version: Version, alias: str, *, key_fingerprint: str, name: str, roles: Sequence[str], signature: bytes) -> None:
        """Record an approval; a second one by the same key replaces the first."""
        _check(alias, "alias")
        self.get(version)
        where = {"name": version.name, "number": version.number, "alias": alias, "key": key_fingerprint}
        row = {"approver": name, "roles": json.dumps(sorted(roles)), "signature": signature, "created": _now()}
        with self._store.write() as connection:
            connection.execute(_approvals.delete().filter_by(**where))
            connection.execute(_approvals.insert().values(**where, **row))

    def approvals(self, version: Version, alias: str) -> tuple[Approval, ...]:
        """The approvals of a version for an alias, oldest first."""
        query = sa.select(_approvals).filter_by(name=version.name, number=version.number, alias=alias)
        with self._store.read() as connection:
            rows = connection.execute(query.order_by(_approvals.c.created, _approvals.c.key)).all()
        return tuple(Approval(row.key, row.approver, tuple(json.loads(row.roles)), bytes(row.signature), row.created) for row in rows)


def _check(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is no {what}.", hint="Use letters, digits and ._- (at most 100, a letter or digit first).")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
