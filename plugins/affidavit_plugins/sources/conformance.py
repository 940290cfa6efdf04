"""How the conformance kit tries the sources: each writes a table the way its users' tools do."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from affidavit.testing import SourceCase

_STREAM = {"stream": True}


def _csv(table: pa.Table, folder: Path, name: str = "table.csv", delimiter: str = ",") -> str:
    import pyarrow.csv as pa_csv

    path = folder / name
    pa_csv.write_csv(table, path, pa_csv.WriteOptions(delimiter=delimiter))
    return str(path)


def _tsv_gz(table: pa.Table, folder: Path) -> Path:
    plain = Path(_csv(table, folder, "table.tsv", "\t"))
    packed = plain.with_suffix(".tsv.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes(), compresslevel=1))
    plain.unlink()
    return packed


def _json_lines(table: pa.Table, folder: Path) -> Path:
    path = folder / "table.jsonl"
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in table.to_pylist()), encoding="utf-8")
    return path


def _parquet(table: pa.Table, folder: Path) -> Path:
    import pyarrow.parquet as pq

    path = folder / "table.parquet"
    pq.write_table(table, path, row_group_size=4 if len(table) < 100 else None)
    return path


def _feather(table: pa.Table, folder: Path) -> Path:
    import pyarrow.feather as feather

    path = folder / "table.feather"
    feather.write_feather(table, str(path), compression="uncompressed")
    return path


def _arrow_stream(table: pa.Table, folder: Path) -> Path:
    path = folder / "table.arrow"
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=4 if len(table) < 100 else None)
    return path


def _sqlite(table: pa.Table, folder: Path) -> str:
    path = folder / "bank.db"
    names = ['"' + name.replace('"', '""') + '"' for name in table.column_names]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"create table loans ({', '.join(names)})")
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        connection.executemany(f"insert into loans values ({', '.join('?' * len(names))})", rows)
    return f"sqlite:///{path}"


CASES = [
    SourceCase(name="arrow", label="Feather", write=_feather, stream=_STREAM),
    SourceCase(name="arrow", label="IPC stream", write=_arrow_stream, stream=_STREAM),
    SourceCase(name="csv", write=_csv, stream=_STREAM),
    SourceCase(name="csv", label="gzipped TSV", write=_tsv_gz, stream=_STREAM),
    SourceCase(name="jsonlines", write=_json_lines, stream=_STREAM),
    SourceCase(name="memory", label="Arrow table", write=lambda table, folder: table),
    SourceCase(name="memory", label="dict of columns", write=lambda table, folder: table.to_pydict()),
    SourceCase(name="parquet", write=_parquet, stream=_STREAM),
    SourceCase(name="sql", label="SQLite", write=_sqlite, options={"query": "select * from loans order by rowid"}, stream=_STREAM),
]
