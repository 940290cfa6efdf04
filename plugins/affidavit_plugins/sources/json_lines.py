"""JSON lines: one object a line, also gzipped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NoReturn

import pyarrow as pa
import pyarrow.json as pa_json

from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import BatchStream
from affidavit_plugins.sources.files import FileSource, check_encoding, damaged, is_gzip, open_bytes, read_bytes

STREAM_BLOCK_BYTES = 16 * 1024**2


class JsonLinesSource(FileSource):
    """Files of one JSON object a line. A member that a line lacks is missing; nested objects are refused when types are inferred.

    Options
    -------
    stream
        Read in batches instead of whole; types then come from the first 16 MB.
    """

    type = "jsonlines"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")
    compressible = True

    def open(self, path: Path, *, stream: bool) -> pa.Table | BatchStream:
        check_encoding(path, "utf-8")
        with open_bytes(path) as file:
            start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith(b"["):
            raise InvalidInput(f"'{path}' holds one JSON array.", hint="Write one object a line instead (JSON lines).")
        if not start.startswith(b"{"):
            raise InvalidInput(f"'{path}' holds no JSON objects.", hint="Write one object a line (JSON lines).")
        return self._stream(path) if stream else self._table(path)

    def _table(self, path: Path) -> pa.Table:
        content = read_bytes(path).removeprefix(b"\xef\xbb\xbf")
        try:
            table = pa_json.read_json(pa.BufferReader(content), parse_options=pa_json.ParseOptions(newlines_in_values=False))
        except pa.ArrowException as error:
            _refuse(path, str(error), numbered=len(content) < 1024**2)
        return table

    def _stream(self, path: Path) -> BatchStream:
        first = next(self._batches(path, None), None)
        if first is None:
            raise InvalidInput(f"'{path}' has no rows.")
        schema = pa.schema([(field.name, pa.string() if pa.types.is_null(field.type) else field.type) for field in first.schema])
        return lambda: self._batches(path, schema)

    def _batches(self, path: Path, schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
        unexpected = "error" if schema is not None else "infer"
        options = pa_json.ReadOptions(block_size=STREAM_BLOCK_BYTES)
        how = pa_json.ParseOptions(explicit_schema=schema, newlines_in_values=False, unexpected_field_behavior=unexpected)
        compression = "gzip" if is_gzip(path) else None
        try:
            with pa.input_stream(str(path), compression=compression) as raw, pa_json.open_json(raw, options, how) as batches:
                yield from batches
        except pa.ArrowException as error:
            _refuse(path, str(error), numbered=False)
        except OSError:
            raise damaged(path, "gzip" if is_gzip(path) else "JSON lines") from None


def _refuse(path: Path, message: str, *, numbered: bool) -> NoReturn:
    """Say what Arrow found, by column and row, without its message. Arrow counts rows within a block, so only small files are numbered."""
    column = re.search(r"Column\(/([^)]*)\)", message)
    row = re.search(r"in row (\d+)", message)
    where = f" in row {int(row[1]) + 1}" if row and numbered else ""
    if column and "changed from" in message:
        raise InvalidInput(f"'{path}': column '{column[1]}' changes its type{where}.", hint="Write all its values as one type.") from None
    if column and "specified twice" in message:
        raise InvalidInput(f"'{path}': '{column[1]}' stands twice{where}.", hint="Give each name once an object.") from None
    raise InvalidInput(f"'{path}' is no valid JSON lines file{where}.", hint="Write one JSON object a line.") from None
