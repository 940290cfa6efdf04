"""Writing masked rows into a table of a database: the table is there whole, or as it was before."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from affidavit.errors import AffidavitError, InvalidInput, MissingExtra, UsageError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from affidavit_governance.masking.surfaces.writers import Writer

ROWS = 5000
"""Rows that are handed to the driver at once."""


def is_url(place: object) -> bool:
    """Whether a place is a database's URL rather than a path."""
    return "://" in str(place)


@contextmanager
def table_writer(url: str, table: str, *, replace: bool, reading: str) -> Iterator[Writer]:
    """A writer into a table of the database at `url`.

    Rows go into a table of another name, which takes the wanted name at the end, all in one transaction. What an old table had besides its
    rows (indexes, rights, constraints) goes with it.

    Parameters
    ----------
    replace
        Let it take the place of a table that is there.
    reading
        Where the rows come from: SQLite's writer waits for its readers, so rows for the same file are held in a temporary one, masked.

    Raises
    ------
    UsageError
        The URL cannot be read, or the table is there and `replace` is not set.
    InvalidInput
        The database refuses, or a column's type has no counterpart in SQL.
    """
    engine, label = _engine(url)
    with _errors(label), engine.connect() as connection:
        if _same_sqlite(engine, reading):
            with tempfile.TemporaryFile() as spool:
                waiting = _Spool(spool)
                yield waiting
                waiting.close()
                with connection.begin():
                    target = _Table(connection, table, replace=replace, label=label)
                    for batch in waiting.batches():
                        target.write(pa.Table.from_batches([batch]))
                    target.close()
            return
        with connection.begin():
            target = _Table(connection, table, replace=replace, label=label)
            yield target
            target.close()


class _Table:
    """A table under a passing name, until `close` gives it its own."""

    def __init__(self, connection: sa.Connection, name: str, *, replace: bool, label: str) -> None:
        import sqlalchemy as sa

        self._connection = connection
        self._name = name
        self._label = label
        there = set(sa.inspect(connection).get_table_names())
        if name in sa.inspect(connection).get_view_names():
            raise UsageError(f"'{name}' is a view of the {label}, and only a table can be replaced.", hint="Name another table.")
        if name in there and not replace:
            raise UsageError(f"The {label} has a table '{name}'.", hint="Name another one, or ask for it to be replaced: --replace.")
        self._old = name in there
        self._table: sa.Table | None = None

    def write(self, table: pa.Table) -> None:
        import sqlalchemy as sa

        if self._table is None:
            columns = [sa.Column(field.name, _sql_type(field), nullable=True) for field in table.schema]
            self._table = sa.Table(f"{self._name[:40]}_{secrets.token_hex(4)}", sa.MetaData(), *columns)
            self._table.create(self._connection)
        keys = [column.key for column in self._table.columns]
        for batch in table.to_batches(max_chunksize=ROWS):
            values = [column.to_pylist() for column in batch.columns]
            rows = [dict(zip(keys, row, strict=True)) for row in zip(*values, strict=True)]
            if rows:
                self._connection.execute(self._table.insert(), rows)

    def close(self) -> None:
        if self._table is None:
            raise InvalidInput(f"No rows were masked for table '{self._name}' of the {self._label}.")
        quote = self._connection.dialect.identifier_preparer.quote
        if self._old:
            self._connection.exec_driver_sql(f"DROP TABLE {quote(self._name)}")
        self._connection.exec_driver_sql(f"ALTER TABLE {quote(self._table.name)} RENAME TO {quote(self._name)}")


class _Spool:
    """Masked rows in a temporary file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def write(self, table: pa.Table) -> None:
        for position, member in enumerate(table.schema):
            if pa.types.is_dictionary(member.type):
                table = table.set_column(position, member.name, table.column(position).cast(member.type.value_type))
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def batches(self) -> Iterator[pa.RecordBatch]:
        self._file.seek(0)
        if self._writer is not None:
            with pa.ipc.open_stream(self._file) as reader:
                yield from reader


def _sql_type(field: pa.Field) -> sa.types.TypeEngine[Any]:
    """SQL's counterpart of an Arrow type."""
    import sqlalchemy as sa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_boolean(kind):
        return sa.Boolean()
    if pa.types.is_integer(kind):
        return sa.Numeric(20, 0, asdecimal=False) if pa.types.is_uint64(kind) else sa.BigInteger()
    if pa.types.is_floating(kind):
        return sa.Double()
    if pa.types.is_decimal(kind):
        return sa.Numeric(kind.precision, kind.scale)
    if pa.types.is_date(kind):
        return sa.Date()
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=kind.tz is not None)
    if pa.types.is_time(kind):
        return sa.Time()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return sa.Text()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return sa.LargeBinary()
    raise InvalidInput(f"Column '{field.name}' has the Arrow type {kind}, which no column of a database stands for.", hint="Have the policy drop it.")


def _engine(place: str) -> tuple[sa.Engine, str]:
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = sa.make_url(place)
    except (ArgumentError, ValueError):
        raise UsageError("The database URL cannot be read.", hint="For example: sqlite:///masked.db, postgresql://user@host/masked.") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    backend = url.get_backend_name()
    label = f"{backend} database '{url.database or ''}'" + (f" at {url.host}" if url.host else "")
    if backend == "sqlite" and (not url.database or url.database == ":memory:"):
        raise UsageError("A SQLite URL must name a file.", hint="For example: sqlite:///masked.db.")
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
    except NoSuchModuleError:
        raise UsageError(f"There is no SQLAlchemy dialect '{url.drivername}'.", hint="Check the URL's scheme.") from None
    except ModuleNotFoundError as error:
        raise MissingExtra(f"The {label}", extra="postgres" if backend == "postgresql" else "all", library=error.name or "?") from None
    if backend == "sqlite":
        _begin_for_real(engine)
    return engine, label


def _begin_for_real(engine: sa.Engine) -> None:
    """Python's sqlite3 begins a transaction only at the first INSERT, and a CREATE TABLE before it would stand alone; the recipe is SQLAlchemy's."""
    from sqlalchemy import event

    @event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _same_sqlite(engine: sa.Engine, reading: str) -> bool:
    if engine.url.get_backend_name() != "sqlite" or not is_url(reading):
        return False
    import sqlalchemy as sa

    source = sa.make_url(reading)
    there = source.database if source.get_backend_name() == "sqlite" else None
    return there is not None and Path(there).resolve() == Path(str(engine.url.database)).resolve()


@contextmanager
def _errors(label: str) -> Iterator[None]:
    """Replace the driver's messages, which may quote cells and the URL."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        kind = type(getattr(error, "orig", None) or error).__name__
        hint = "Check the URL and the rights, and that nobody holds the table."
        raise InvalidInput(f"The {label} refused the masked rows: {kind}.", hint=hint) from None
    except OSError as error:
        raise AffidavitError(f"Masked rows for the {label} cannot be held: {error.strerror}.") from None
