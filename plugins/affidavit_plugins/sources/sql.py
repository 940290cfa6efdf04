"""SQL databases by URL: the rows of one query."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa

from affidavit.errors import InvalidInput, MissingExtra, UsageError
from affidavit.interfaces.dataset import DEFAULT_BATCH_ROWS, BatchStream, DatasetSource
from affidavit.interfaces.schema import shortlist
from affidavit_plugins.sources.files import check_options, find_file

if TYPE_CHECKING:
    import sqlalchemy as sa

SCHEMES = ("sqlite", "postgresql", "postgres", "mysql", "mariadb", "oracle", "mssql")
PLAIN: dict[type, Callable[[Any], Any]] = {
    Decimal: float,
    uuid.UUID: str,
    time: str,
    timedelta: timedelta.total_seconds,
}
"""What has no Arrow type that a field could have, as a value that does."""
ABOUT_THE_QUERY = re.compile(r'^(no such (table|column): [\w."]+|near "\w+": syntax error|(relation|column) "[\w.]+" does not exist)')
"""Database messages that name tables, columns or key words and can hold no cell."""


class SqlSource(DatasetSource):
    """The rows of a query, by a SQLAlchemy URL: ``load("sqlite:///bank.db", query="select * from loans")``.

    The database is opened for reading only, and PostgreSQL sends its rows through a server-side cursor. Exact decimals become floats, UUIDs
    and times of day text. Passwords and user names of the URL are in no message.

    Options
    -------
    query
        One SELECT statement.
    stream
        Run the query each time the rows are needed instead of holding them in memory. The rows and their order must then stay the same:
        use ``order by``. Types come from the first 65,536 rows.
    """

    type = "sql"

    def accepts(self, source: Any) -> bool:
        if not isinstance(source, str):
            return False
        scheme, separator, _ = source.partition("://")
        return bool(separator) and scheme.partition("+")[0].lower() in SCHEMES

    def read(self, source: Any, **options: Any) -> pa.Table | BatchStream:
        check_options(self, self._read, options)
        return self._read(source, **options)

    def _read(self, source: str, *, query: str | None = None, stream: bool = False) -> pa.Table | BatchStream:
        database = _Database(source)
        if not query:
            tables = database.tables()
            raise UsageError(f"{database.label} needs a query.", hint=f"Pass query='select …'. Tables: {shortlist(tables) or 'none'}.")
        if stream:
            return _stream(database, query)
        batches = [pa.Table.from_batches([batch]) for batch in database.batches(query)]
        if not batches:
            raise InvalidInput(f"The query on {database.label} gives no rows.")
        try:
            return pa.concat_tables(batches, promote_options="permissive")
        except pa.ArrowException:
            raise InvalidInput(f"A column of the query on {database.label} mixes types.", hint="Cast it in the query.") from None


def _stream(database: _Database, query: str) -> BatchStream:
    # closed here and not by the garbage collector, which may be too late for the connection
    with closing(database.batches(query)) as batches:
        first = next(batches, None)
    if first is None:
        raise InvalidInput(f"The query on {database.label} gives no rows.")
    schema = first.schema

    def again() -> Iterator[pa.RecordBatch]:
        with closing(database.batches(query)) as batches:
            for batch in batches:
                yield _cast(batch, schema, database.label)

    return again


class _Database:
    """An engine that reads, and what to call the database in messages."""

    def __init__(self, source: str) -> None:
        import sqlalchemy as sa
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError

        try:
            url = sa.make_url(source)
        except (ArgumentError, ValueError):
            raise UsageError("The database URL cannot be read.", hint="For example: sqlite:///bank.db, postgresql://user@host/bank.") from None
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        self.backend = url.drivername.partition("+")[0]
        host = f" at {url.host}" if url.host else ""
        self.label = f"{self.backend} database '{url.database or ''}'{host}"
        try:
            self.engine = self._sqlite(url) if self.backend == "sqlite" else sa.create_engine(url, poolclass=sa.NullPool)
        except NoSuchModuleError:
            raise UsageError(f"There is no SQLAlchemy dialect '{url.drivername}'.", hint="Check the URL's scheme.") from None
        except ModuleNotFoundError as error:
            raise MissingExtra(f"The {self.label}", extra="postgres" if self.backend == "postgresql" else "all", library=error.name or "?") from None

    @staticmethod
    def _sqlite(url: sa.URL) -> sa.Engine:
        import sqlite3

        import sqlalchemy as sa

        if not url.database or url.database == ":memory:":
            raise UsageError("A SQLite URL must name a file.", hint="For example: sqlite:///bank.db.")
        path = find_file(Path(url.database))
        # a read-only file URL: the plain one would create the file that it does not find
        return sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False), poolclass=sa.NullPool
        )

    def tables(self) -> list[str]:
        """Names of tables and views."""
        import sqlalchemy as sa

        with self._errors():
            inspector = sa.inspect(self.engine)
            return sorted([*inspector.get_table_names(), *inspector.get_view_names()])

    def batches(self, query: str) -> Generator[pa.RecordBatch]:
        """Run the query and give its rows in batches."""
        import sqlalchemy as sa

        options: dict[str, Any] = {"stream_results": True, "max_row_buffer": DEFAULT_BATCH_ROWS}
        if self.backend == "postgresql":
            options["postgresql_readonly"] = True
        with self._errors(), self.engine.connect().execution_options(**options) as connection:
            # escaped, so that no colon in the query is taken for a parameter; text() itself doubles the per cents of a driver that needs it
            result = connection.execute(sa.text(query.replace(":", "\\:")))
            if not result.returns_rows:
                raise UsageError(f"The query on {self.label} gives no rows: it is no SELECT.", hint="Pass one SELECT statement.")
            names = list(result.keys())
            for rows in result.partitions(DEFAULT_BATCH_ROWS):
                columns = [_array(name, values) for name, values in zip(names, zip(*rows, strict=True), strict=True)]
                yield pa.RecordBatch.from_arrays(columns, names=names)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Replace the driver's messages, which may quote cells and the URL."""
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            yield
        except DBAPIError as error:
            told = ABOUT_THE_QUERY.match(str(error.orig))
            reason = told[0] if told else type(error.orig).__name__
            raise InvalidInput(f"The {self.label} refused: {reason}.", hint="Check the URL, that the database runs, and the query.") from None
        except SQLAlchemyError as error:
            raise InvalidInput(f"The {self.label} cannot be read: {type(error).__name__}.", hint="Check the URL and the query.") from None
        except UnicodeDecodeError:  # sqlite3 raises it while it looks for a query's table among the names of a damaged file
            raise InvalidInput(f"The {self.label} holds text that is no UTF-8: it is damaged.", hint="Restore it from a copy.") from None


def _array(name: str, values: Sequence[Any]) -> pa.Array:
    kind = next((type(value) for value in values if value is not None), None)
    if kind in PLAIN:
        convert = PLAIN[kind]
        values = [convert(value) if isinstance(value, kind) else value for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise InvalidInput(f"Column '{name}' of the query mixes types that do not go together.", hint="Cast it in the query.") from None


def _cast(batch: pa.RecordBatch, schema: pa.Schema, label: str) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    try:
        return batch.cast(schema)
    except (pa.ArrowException, ValueError):
        raise InvalidInput(f"A column of the query on {label} changes its type after the first rows.", hint="Cast it in the query.") from None
