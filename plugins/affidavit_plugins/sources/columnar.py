"""Columnar files: Parquet, and Arrow IPC (Feather)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from affidavit.interfaces.dataset import DEFAULT_BATCH_ROWS, BatchStream
from affidavit_plugins.sources.files import FileSource, damaged

UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What a damaged file raises; the last where the damage is in a column's name."""


class ParquetSource(FileSource):
    """Parquet files.

    Options
    -------
    stream
        Read row groups as they are needed instead of whole.
    """

    type = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    def open(self, path: Path, *, stream: bool) -> pa.Table | BatchStream:
        import pyarrow.parquet as pq

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                with pq.ParquetFile(path) as file:
                    _check_names(file.schema_arrow)
                    for batch in file.iter_batches(batch_size=DEFAULT_BATCH_ROWS):
                        batch.validate(full=True)
                        yield batch
            except UNREADABLE:
                raise damaged(path, "Parquet") from None

        try:
            with pq.ParquetFile(path) as file:
                _check_names(file.schema_arrow)
                if stream:
                    return batches
                table = file.read()
                table.validate(full=True)  # pages have no checksums by default, so damaged text is read as what is no UTF-8
                return table
        except UNREADABLE:
            raise damaged(path, "Parquet") from None


class ArrowSource(FileSource):
    """Arrow IPC files and streams, which Feather files are too.

    Options
    -------
    stream
        Read record batches as they are needed instead of whole.
    """

    type = "arrow"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".ipc", ".feather")

    def open(self, path: Path, *, stream: bool) -> pa.Table | BatchStream:
        def batches() -> Iterator[pa.RecordBatch]:
            try:
                with pa.OSFile(str(path)) as file:
                    yield from _read_ipc(file)
            except UNREADABLE:
                raise damaged(path, "Arrow") from None

        if stream:
            return batches
        try:
            with pa.OSFile(str(path)) as file:
                reader = _open_ipc(file)
                return pa.Table.from_batches(_read_ipc(file), schema=reader.schema)
        except UNREADABLE:
            raise damaged(path, "Arrow") from None


def _open_ipc(file: pa.NativeFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    magic = file.read(6)
    file.seek(0)
    return pa.ipc.open_file(file) if magic == b"ARROW1" else pa.ipc.open_stream(file)


def _read_ipc(file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """The batches of an IPC file or stream, each checked: offsets of a damaged file may point anywhere."""
    file.seek(0)
    reader = _open_ipc(file)
    _check_names(reader.schema)
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        batches: Iterator[pa.RecordBatch] = (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        batches = iter(reader)
    for batch in batches:
        batch.validate(full=True)
        yield batch


def _check_names(schema: pa.Schema) -> None:
    """Decode every column name once: Arrow does so only when a name is asked for."""
    for name in schema.names:
        name.encode()
