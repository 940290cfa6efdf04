"""Writing masked rows to a file, batch by batch; the file appears whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from affidavit.errors import InvalidInput, UsageError
from affidavit.store import writing

ROW_GROUP_BYTES = 64 * 1024**2
ROW_GROUP_ROWS = 1 << 20
"""A row group is written when it has so many bytes in memory or so many rows, whichever comes first: pyarrow's own default is as many rows."""


class Writer(Protocol):
    """Takes masked rows."""

    def write(self, table: pa.Table) -> None:
        """Add rows; all tables have one schema."""
        ...

    def close(self) -> None:
        """Write what is held back, and the end of the file."""
        ...


class _Parquet:
    def __init__(self, sink: IO[bytes], compression: str) -> None:
        self._sink = sink
        self._compression = compression
        self._writer: pa.parquet.ParquetWriter | None = None
        self._held: list[pa.Table] = []
        self._rows = self._bytes = 0

    def write(self, table: pa.Table) -> None:
        self._held.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= ROW_GROUP_ROWS or self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        table = pa.concat_tables(self._held)
        if self._writer is None:
            self._writer = pa.parquet.ParquetWriter(self._sink, table.schema, compression=self._compression)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._held, self._rows, self._bytes = [], 0, 0

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()


class _Arrow:
    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, table: pa.Table) -> None:
        table = _decoded(table)
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._sink, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Csv:
    def __init__(self, sink: IO[bytes], delimiter: str) -> None:
        self._sink = sink
        self._delimiter = delimiter
        self._writer: pa.csv.CSVWriter | None = None

    def write(self, table: pa.Table) -> None:
        table = _decoded(table)
        try:
            if self._writer is None:
                self._writer = pa.csv.CSVWriter(self._sink, table.schema, write_options=pa.csv.WriteOptions(delimiter=self._delimiter))
            self._writer.write_table(table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            nested = next((f.name for f in table.schema if pa.types.is_nested(f.type) or pa.types.is_binary(f.type)), None)
            where = f": column '{nested}' holds {table.schema.field(nested).type}" if nested is not None else ""
            raise InvalidInput(f"The masked rows cannot be written as CSV{where}.", hint="Write .parquet or .jsonl instead.") from None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _JsonLines:
    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink

    def write(self, table: pa.Table) -> None:
        for position, column in enumerate(table.columns):
            if pa.types.is_floating(column.type):  # JSON has no word for what is not a number
                finite = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
                table = table.set_column(position, table.column_names[position], finite)
        try:
            for row in table.to_pylist():
                self._sink.write(json.dumps(row, ensure_ascii=False, allow_nan=False, default=_json).encode() + b"\n")
        except (TypeError, ValueError):
            raise InvalidInput("The masked rows hold values that JSON has no form for.", hint="Write .parquet instead.") from None

    def close(self) -> None:
        pass


def _json(value: object) -> str | float:
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


def _decoded(table: pa.Table) -> pa.Table:
    """The table without dictionaries, which differ from batch to batch."""
    for position, member in enumerate(table.schema):
        if pa.types.is_dictionary(member.type):
            table = table.set_column(position, member.name, table.column(position).cast(member.type.value_type))
    return table


_FORMATS: dict[str, Callable[[IO[bytes], str], Writer]] = {
    ".parquet": _Parquet,
    ".pq": _Parquet,
    ".csv": lambda sink, compression: _Csv(sink, ","),
    ".tsv": lambda sink, compression: _Csv(sink, "\t"),
    ".jsonl": lambda sink, compression: _JsonLines(sink),
    ".ndjson": lambda sink, compression: _JsonLines(sink),
    ".arrow": lambda sink, compression: _Arrow(sink),
    ".feather": lambda sink, compression: _Arrow(sink),
}
_TEXT = (".csv", ".tsv", ".jsonl", ".ndjson")


def check_target(target: Path) -> None:
    """Refuse a file whose ending names no format that can be written. Raises UsageError."""
    suffix = _suffix(target)
    if suffix not in _FORMATS or (target.suffix == ".gz" and suffix not in _TEXT):
        raise UsageError(f"A masked file cannot be written as '{target.suffix or target.name}'.", hint=f"Use one of {', '.join(_FORMATS)}.")


def _suffix(target: Path) -> str:
    return (Path(target.stem).suffix if target.suffix == ".gz" else target.suffix).lower()


@contextmanager
def file_writer(target: Path, compression: str, *, mode: int = 0o666) -> Iterator[Writer]:
    """A writer for the format that the ending of `target` names; `compression` is Parquet's codec, `mode` the new file's before the umask."""
    with whole_file(target, mode=mode) as sink:
        writer = _FORMATS[_suffix(target)](sink, compression)
        yield writer
        writer.close()


@contextmanager
def whole_file(target: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A new file's bytes, gzipped where its name says so. They take the place of `target` when everything is written and on the disk; until
    then, and where anything fails, the old file stays. A process that is killed leaves a hidden ``.partial`` file with masked rows."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    with writing(target):
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                if target.suffix == ".gz":
                    with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as zipped:
                        yield zipped  # type: ignore[misc]  # it writes like a binary file
                else:
                    yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _sync(target.parent)
        finally:
            partial.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
