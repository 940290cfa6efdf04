"""One workspace's storage: SQLite in a folder, or PostgreSQL by URL."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from affidavit.errors import AffidavitError, IntegrityError, InvalidInput, MissingExtra, UsageError
from affidavit.store.files import Files, FolderFiles, SqlFiles, make_folder

FORMAT = 1
UPGRADES: dict[int, Callable[[sa.Connection], None]] = {}
"""Readers of older workspaces: from format n, the function that brings the tables to format n + 1 inside the transaction it gets."""

BUSY_SECONDS = 30
_DATABASE = "workspace.db"
_CREATION_LOCK = 0x61666669  # "affi": held while a PostgreSQL workspace is being made, before it has an id of its own

_metadata = sa.MetaData()
_meta = sa.Table("meta", _metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
_components = sa.Table("components", _metadata, sa.Column("name", sa.Text, primary_key=True), sa.Column("version", sa.Integer, nullable=False))

Upgrades = Mapping[int, Callable[[sa.Connection], None]]


class Store:
    """Tables, small files and a spool folder of one workspace. Use `Store.open`.

    Attributes
    ----------
    location
        Where it is, for people; a URL stands here without its password.
    engine
        The SQLAlchemy engine. Use `read` and `write` rather than this.
    files
        Small atomic named blobs.
    spool
        A local folder for append-only journals.
    workspace_id
        32 hexadecimal digits, made at random with the workspace.
    recovered
        What opening had to mend after a crash, in words.
    """

    def __init__(self, *, location: str, engine: sa.Engine, files: Files, spool: Path, workspace_id: str, recovered: list[str]) -> None:
        self.location = location
        self.engine = engine
        self.files = files
        self.spool = spool
        self.workspace_id = workspace_id
        self.recovered = recovered
        self._reading = engine.execution_options(affidavit_read=True)
        self._writing = threading.local()

    @classmethod
    def open(cls, location: str | Path) -> Store:
        """Open a workspace's storage, and make it where there is none.

        Parameters
        ----------
        location
            A folder, or a ``postgresql://`` URL. One database (or one schema, chosen by ``?options=-csearch_path%3Dname``) is one workspace.

        Raises
        ------
        UsageError
            The folder or database holds something else than a workspace, or the location is of an unknown kind.
        InvalidInput
            A newer Affidavit wrote the workspace.
        AffidavitError
            It cannot be reached, read or written.
        """
        text = str(location)
        if text.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
            return _open_postgres(text)
        if "://" in text:
            raise UsageError(f"A workspace cannot be at a '{text.partition('://')[0]}' URL.", hint="Use a folder or a postgresql:// URL.")
        return _open_folder(Path(location))

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One write transaction, committed at the end and rolled back on any exception.

        Writers of one workspace, in whatever process, go one after the other. A transaction does not nest.
        """
        if getattr(self._writing, "active", False):
            raise AffidavitError(f"A write transaction on {self.location} is already open in this thread; it does not nest.")
        self._writing.active = True
        try:
            with _explaining(self.location), self.engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(int(self.workspace_id[:15], 16))))
                yield connection
        finally:
            self._writing.active = False

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One read-only transaction: everything read inside it is of one moment."""
        with _explaining(self.location), self._reading.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    def ensure(self, metadata: sa.MetaData, component: str, version: int, upgrades: Upgrades | None = None) -> None:
        """Create a component's own tables at first use and record their version.

        Parameters
        ----------
        upgrades
            From version n, the function that brings the tables to n + 1; needed once `version` is above 1.

        Raises
        ------
        InvalidInput
            The tables are of a newer version, or of an older one that `upgrades` does not cover.
        """
        query = sa.select(_components.c.version).where(_components.c.name == component)
        with self.read() as connection:
            if connection.execute(query).scalar_one_or_none() == version:
                return
        with self.write() as connection:
            stored = connection.execute(query).scalar_one_or_none()
            if stored is None:
                metadata.create_all(connection)
                connection.execute(_components.insert().values(name=component, version=version))
                return
            _upgrade(connection, f"The '{component}' part of {self.location}", stored, version, upgrades or {})
            connection.execute(_components.update().where(_components.c.name == component).values(version=version))

    def close(self) -> None:
        """Release connections and files; calling it twice is harmless."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.location!r})"


def _open_folder(folder: Path) -> Store:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"'{folder}' is a file, and a workspace is a folder.")
    try:
        folder = folder.expanduser().absolute()
        present = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        if present and _DATABASE not in present:
            raise UsageError(f"'{folder}' holds other files and no workspace.", hint="Name a workspace, or an empty or new folder.")
        make_folder(folder)
    except OSError as error:
        raise AffidavitError(f"The workspace folder '{folder}' cannot be used: {error.strerror}.") from error
    engine = _sqlite(folder / _DATABASE)
    try:
        with _explaining(str(folder)), engine.begin() as connection:
            workspace_id = _prepare(connection, str(folder))
        files = FolderFiles(folder / "files")
        recovered = files.recover()
        spool = _spool(folder / "journal")
    except BaseException:
        engine.dispose()
        raise
    return Store(location=str(folder), engine=engine, files=files, spool=spool, workspace_id=workspace_id, recovered=recovered)


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # this module opens transactions itself: the driver's own would begin too late for DDL
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get("affidavit_read", False)
        connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reading else 'OFF'}")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _open_postgres(text: str) -> Store:
    try:
        import psycopg  # noqa: F401  # only to say early which extra is missing
    except ImportError:
        raise MissingExtra("A PostgreSQL workspace", extra="postgres", library="psycopg") from None
    try:
        url = sa.make_url(text).set(drivername="postgresql+psycopg")
    except (sa.exc.ArgumentError, ValueError):
        raise UsageError("The postgresql:// URL of the workspace cannot be read.", hint="postgresql://user@host:5432/database") from None
    location = url.set(drivername="postgresql").render_as_string(hide_password=True)
    engine = sa.create_engine(url, hide_parameters=True, pool_pre_ping=True)
    try:
        with _explaining(location), engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
            if connection.execute(sa.select(sa.func.current_schema())).scalar_one() is None:
                raise UsageError(f"The schema that {location} names does not exist.", hint="Create it first: CREATE SCHEMA name;")
            workspace_id = _prepare(connection, location)
            SqlFiles.metadata.create_all(connection)
        spool = _spool(Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "affidavit" / workspace_id)
    except BaseException:
        engine.dispose()
        raise
    return Store(location=location, engine=engine, files=SqlFiles(engine), spool=spool, workspace_id=workspace_id, recovered=[])


def _spool(folder: Path) -> Path:
    try:
        make_folder(folder)
    except OSError as error:
        raise AffidavitError(f"The journal folder '{folder}' cannot be made: {error.strerror}.") from error
    return folder


def _prepare(connection: sa.Connection, location: str) -> str:
    """Make the store's own tables where they are absent, bring older ones up to date, and give the workspace's id."""
    tables = sa.inspect(connection).get_table_names()
    if not tables:  # new, or its making was cut short before the transaction that ends it
        _metadata.create_all(connection)
        workspace_id = uuid.uuid4().hex
        connection.execute(_meta.insert(), [{"key": "format", "value": str(FORMAT)}, {"key": "workspace_id", "value": workspace_id}])
        return workspace_id
    if not set(_metadata.tables) <= set(tables):
        raise UsageError(f"{location} holds other tables and no workspace.", hint="Name a workspace, or an empty place.")
    values = {row.key: row.value for row in connection.execute(sa.select(_meta))}
    if not {"format", "workspace_id"} <= values.keys() or not values["format"].isdecimal():
        raise IntegrityError(f"Workspace {location} has lost its format and identity.", hint="Restore it from a backup.")
    if int(values["format"]) != FORMAT:
        _upgrade(connection, f"Workspace {location}", int(values["format"]), FORMAT, UPGRADES)
        connection.execute(_meta.update().where(_meta.c.key == "format").values(value=str(FORMAT)))
    return str(values["workspace_id"])


def _upgrade(connection: sa.Connection, whose: str, stored: int, wanted: int, upgrades: Upgrades) -> None:
    if stored > wanted:
        raise InvalidInput(f"{whose} has format {stored}, and this Affidavit reads up to {wanted}.", hint="pip install -U affidavit")
    for version in range(stored, wanted):
        if version not in upgrades:
            raise InvalidInput(f"{whose} has format {stored}, which this Affidavit cannot bring to {wanted}.")
        upgrades[version](connection)


_SQLITE_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: f"another process held it for more than {BUSY_SECONDS} s",
    sqlite3.SQLITE_READONLY: "it may only be read",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk failed or is full",
}


@contextlib.contextmanager
def _explaining(location: str) -> Iterator[None]:
    """Say in one sentence what the database could not do. The transaction has been rolled back by then."""
    try:
        yield
    except sa.exc.OperationalError as error:
        raise AffidavitError(f"The workspace database at {location} failed: {_reason(error)}. What was stored before is unchanged.") from error
    except sa.exc.DatabaseError as error:
        if getattr(error.orig, "sqlstate", None) == "42501":
            raise AffidavitError(f"The role may not use the workspace database at {location}.", hint="Grant it CREATE on the schema.") from error
        if _sqlite_code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        raise IntegrityError(f"The workspace database at {location} is damaged or is no SQLite file.", hint="Restore it from a backup.") from error


def _sqlite_code(error: sa.exc.DBAPIError) -> int:
    code: int = getattr(error.orig, "sqlite_errorcode", 0)
    return code & 0xFF  # the low byte is the primary result code


def _reason(error: sa.exc.DBAPIError) -> str:
    if code := _sqlite_code(error):
        return _SQLITE_REASONS.get(code, f"SQLite error {code}")
    state = getattr(error.orig, "sqlstate", None)
    return f"SQLSTATE {state}" if state else "it cannot be reached"
