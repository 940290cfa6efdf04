"""Delimited text: CSV and TSV, also gzipped."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import BatchStream
from affidavit_plugins.sources.files import FileSource, check_encoding, damaged, is_gzip, open_bytes, read_bytes

MISSING = ("NA", "N/A", "NaN", "nan", "null", "NULL")
DELIMITERS = (",", ";", "\t", "|")
STREAM_BLOCK_BYTES = 16 * 1024**2
TYPES = {
    "numeric": pa.float64(),
    "categorical": pa.string(),
    "text": pa.string(),
    "boolean": pa.bool_(),
    "datetime": pa.timestamp("us"),
}
WRITTEN_AS_TEXT = r"^\s*(?:[+-]?0[0-9]+|\+[0-9]+)\s*$"
"""Digits that a number would lose something of: postal codes and telephone numbers such as 01307 and +4930123456."""


class CsvSource(FileSource):
    """CSV and TSV files.

    Options
    -------
    delimiter
        What stands between cells; default: a comma, or a tab in a ``.tsv`` file. It is never guessed.
    encoding
        Default UTF-8, with or without a byte order mark.
    missing
        Words that mean a missing value, besides the empty cell; default ``NA``, ``N/A``, ``NaN``, ``nan``, ``null``, ``NULL``. Quoted
        cells are never missing.
    names
        Column names, for a file without a header row.
    types
        Types by column (``numeric``, ``categorical``, ``text``, ``boolean``, ``datetime``) where inference is not wanted.
    stream
        Read in batches instead of whole; types then come from the first 16 MB.

    Numbers written with leading zeros or a plus sign stay text, for they are codes, not quantities.
    """

    type = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".txt")
    compressible = True

    def open(
        self,
        path: Path,
        *,
        stream: bool,
        delimiter: str | None = None,
        encoding: str = "utf-8",
        missing: Sequence[str] = MISSING,
        names: Sequence[str] | None = None,
        types: Mapping[str, str] | None = None,
    ) -> pa.Table | BatchStream:
        if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
            raise UsageError("The delimiter must be one character, such as ';'.")
        for option, words in (("missing", missing), ("names", names)):
            if isinstance(words, str):
                raise UsageError(f"'{option}' must be a list of words.")
        last = check_encoding(path, encoding)
        reader = _Reader(path, delimiter or ("\t" if ".tsv" in path.suffixes else ","), encoding, tuple(missing), names, last)
        reader.set_types(types or {})
        return reader.stream() if stream else reader.table()


class _Reader:
    """One file, with how it is to be read."""

    def __init__(self, path: Path, delimiter: str, encoding: str, missing: tuple[str, ...], names: Sequence[str] | None, last: str) -> None:
        self.path = path
        self.delimiter = delimiter
        self.encoding = "utf-8" if encoding.lower() in ("utf-8-sig", "utf_8_sig") else encoding
        self.missing = missing
        self.last = last
        self.types: dict[str, pa.DataType] = {}
        self.given = None if names is None else list(names)
        self.header = self._read_header() if self.given is None else self.given
        self.names = _names(path, self.header)

    def _read_header(self) -> list[str]:
        encoding = "utf-8-sig" if self.encoding.lower() in ("utf-8", "utf8") else self.encoding
        with open_bytes(self.path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
            try:
                header = next((row for row in csv.reader(text, delimiter=self.delimiter) if row), None)
            except csv.Error:
                raise InvalidInput(f"'{self.path}': the header row cannot be read.", hint="Check quotes and delimiter.") from None
        if header is None:
            raise InvalidInput(f"'{self.path}' is empty or holds only blank lines.")
        if len(header) == 1:
            for other in DELIMITERS:
                if other != self.delimiter and other in header[0]:
                    shown = "\\t" if other == "\t" else other
                    raise InvalidInput(
                        f"'{self.path}' has one column when split at '{self.delimiter}', but its header holds '{shown}'.",
                        hint=f"Pass delimiter='{shown}'.",
                    )
        if all(_is_number(name) for name in header):
            raise InvalidInput(f"'{self.path}' has no header: its first row holds numbers only.", hint="Pass names=['…', …] for its columns.")
        return header

    def set_types(self, types: Mapping[str, str]) -> None:
        for name, kind in types.items():
            if name not in self.names:
                raise UsageError(f"'types' names no column '{name}'.{nearest(name, self.names)}", hint="Use names from the header.")
            if kind not in TYPES:
                raise UsageError(f"Column '{name}': there is no type '{kind}' to read.{nearest(kind, TYPES)}", hint=f"Types: {', '.join(TYPES)}.")
            self.types[self.header[self.names.index(name)]] = TYPES[kind]

    # -- whole ----------------------------------------------------------------------------------------------------------------------

    def table(self) -> pa.Table:
        content = pa.py_buffer(read_bytes(self.path))

        def parse(types: Mapping[str, pa.DataType], only: list[str] | None = None) -> pa.Table:
            with self._errors(lambda handler: pa_csv.read_csv(pa.BufferReader(content), **self._how(types, handler, only, threads=False))) as handler:
                return pa_csv.read_csv(pa.BufferReader(content), **self._how(types, handler, only))

        table = parse(self.types)
        codes = _codes(table.schema, self.types, lambda names: parse(dict.fromkeys(names, pa.string()), names).to_batches())
        if codes:
            table = parse({**self.types, **codes})
        if table.num_rows == 0:
            raise InvalidInput(f"'{self.path}' has a header but no rows.")
        self._check_end(table.slice(table.num_rows - 1))
        return table.rename_columns(self.names)

    # -- in batches -----------------------------------------------------------------------------------------------------------------

    def stream(self) -> BatchStream:
        first = next(self._batches(self.types), None)
        if first is None or first.num_rows == 0:
            raise InvalidInput(f"'{self.path}' has a header but no rows.")
        inferred = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in zip(first.schema.names, first.schema.types, strict=True)}
        codes = _codes(first.schema, self.types, lambda names: [next(self._batches(dict.fromkeys(names, pa.string()), names))])
        types = {**inferred, **codes, **self.types}
        return lambda: (batch.rename_columns(self.names) for batch in self._batches(types))

    def _batches(self, types: Mapping[str, pa.DataType], only: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        def read(handler: Callable[[Any], str], *, threads: bool) -> Iterator[pa.RecordBatch]:
            how = self._how(types, handler, only, threads=threads, block=STREAM_BLOCK_BYTES)
            compression = "gzip" if is_gzip(self.path) else None
            with pa.input_stream(str(self.path), compression=compression) as raw, pa_csv.open_csv(raw, **how) as batches:
                yield from batches

        with self._errors(lambda handler: deque(read(handler, threads=False), maxlen=0)) as handler:
            batch = None
            for batch in read(handler, threads=True):
                yield batch
            if batch is not None and batch.num_rows and only is None:
                self._check_end(batch.slice(batch.num_rows - 1))

    # -- both -----------------------------------------------------------------------------------------------------------------------

    def _how(
        self,
        types: Mapping[str, pa.DataType],
        handler: Callable[[Any], str],
        only: list[str] | None = None,
        *,
        threads: bool = True,
        block: int | None = None,
    ) -> dict[str, Any]:
        return {
            "read_options": pa_csv.ReadOptions(encoding=self.encoding, use_threads=threads, block_size=block, column_names=self.given),
            "parse_options": pa_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=handler),
            "convert_options": pa_csv.ConvertOptions(
                column_types=dict(types),
                include_columns=only,
                null_values=["", *self.missing],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        }

    @contextmanager
    def _errors(self, again: Callable[[Callable[[Any], str]], object] | None = None) -> Iterator[Callable[[Any], str]]:
        """Replace Arrow's messages, which quote rows. `again` repeats the work in one thread, where rows are numbered."""
        ragged: list[Any] = []

        def handler(row: Any) -> str:
            ragged.append((row.number, row.expected_columns, row.actual_columns))
            return "error"

        try:
            yield handler
        except pa.ArrowInvalid as error:
            if ragged and ragged[0][0] is None and again is not None:
                ragged.clear()
                with suppress(pa.ArrowInvalid):
                    again(handler)
            self._refuse(ragged[0] if ragged else None, str(error))
        except OSError:
            raise damaged(self.path, "gzip" if is_gzip(self.path) else "CSV") from None

    def _check_end(self, row: pa.Table | pa.RecordBatch) -> None:
        """Refuse a quote that is open at the end: Arrow takes all that follows it for one cell, which then is the last of the last row."""
        cell = row.column(row.num_columns - 1)
        if self.last != '"' and pa.types.is_string(cell.type) and "\n" in (cell[0].as_py() or ""):
            raise InvalidInput(f"'{self.path}': a quote is opened and never closed.", hint="Close it, or double quotes inside a quoted cell.")

    def _refuse(self, ragged: tuple[int | None, int, int] | None, message: str) -> NoReturn:
        if ragged is not None:
            number, expected, actual = ragged
            first = "the header is row 1" if self.given is None else "the first row is row 1"
            where = "a row" if number is None else f"row {number} ({first})"
            raise InvalidInput(
                f"'{self.path}': {where} has {actual} cells instead of {expected}.",
                hint="Quote cells that hold the delimiter, or complete the row.",
            ) from None
        column = re.search(r"CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to (\w+)", message)
        if column:
            name = self.names[int(column[1])] if int(column[1]) < len(self.names) else column[1]
            raise InvalidInput(
                f"'{self.path}': column '{name}' holds a value that cannot be read as {column[2]}.",
                hint=f"Pass types={{'{name}': 'text'}}, or 'numeric' where only the first rows are whole numbers.",
            ) from None
        raise InvalidInput(f"'{self.path}' cannot be read as delimited text.", hint="Check its delimiter and that every quote is closed.") from None


def _names(path: Path, header: Sequence[str]) -> list[str]:
    """The header's names; a first column without one is the row index that pandas writes."""
    names = ["index" if position == 0 and not name and len(header) > 1 else name for position, name in enumerate(header)]
    for position, name in enumerate(names):
        if not name.strip():
            raise InvalidInput(f"'{path}': column {position + 1} has no name in the header.", hint="Give every column a name.")
        if name in names[:position]:
            # by number, not by name: in a file without a header the name is a cell
            raise InvalidInput(
                f"'{path}': columns {names.index(name) + 1} and {position + 1} have the same name.",
                hint="Rename one of the two, or pass names=['…', …] where the file has no header.",
            )
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _codes(schema: pa.Schema, given: Mapping[str, pa.DataType], as_text: Callable[[list[str]], Sequence[pa.RecordBatch]]) -> dict[str, pa.DataType]:
    """Columns that must stay text: times of day, which no field type stands for, and digits that are codes."""
    free = [field for field in schema if field.name not in given]
    codes = {field.name: pa.string() for field in free if pa.types.is_time(field.type)}
    numbers = [field.name for field in free if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]
    if numbers:
        for batch in as_text(numbers):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if name not in codes and pc.any(pc.match_substring_regex(column, WRITTEN_AS_TEXT)).as_py():
                    codes[name] = pa.string()
    return codes
