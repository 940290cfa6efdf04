"""Parquet, Arrow and JSON lines: what is read, what is refused, and that no message quotes a cell."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset, DatasetSource
from affidavit_plugins.sources import json_lines
from affidavit_plugins.sources.columnar import ArrowSource, ParquetSource
from affidavit_plugins.sources.json_lines import JsonLinesSource

SECRET = "jane.doe@example.org"
BOTH = pytest.mark.parametrize("stream", [False, True])
TABLE = pa.table({"n": [1, 2, None, 4], "s": ["a", None, "c", SECRET], "x": [0.5, 1.5, 2.5, None]})


def refused(source: DatasetSource, path: Path, kind: type[Exception] = InvalidInput, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        made = source.read(path, **options)
        if callable(made):
            list(made())
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_every_format_gives_the_same_data_set(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet", row_group_size=2)
    feather.write_feather(TABLE, str(tmp_path / "t.feather"), chunksize=3)
    with pa.ipc.new_stream(str(tmp_path / "t.arrow"), TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=1)
    lines = '{"n": 1, "s": "a", "x": 0.5}\n{"n": 2, "s": null, "x": 1.5}\n{"s": "c", "x": 2.5}\n' + f'{{"n": 4, "s": "{SECRET}"}}\n'
    (tmp_path / "t.jsonl").write_text(lines)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + lines.encode()))
    files: list[tuple[DatasetSource, str]] = [
        (ParquetSource(), "t.parquet"),
        (ArrowSource(), "t.feather"),
        (ArrowSource(), "t.arrow"),
        (JsonLinesSource(), "t.jsonl"),
        (JsonLinesSource(), "t.jsonl.gz"),
    ]
    expected = Dataset.from_arrow(TABLE).fingerprint
    for source, name in files:
        path = tmp_path / name
        assert source.accepts(str(path)), name
        for stream in (False, True):
            data = Dataset.from_arrow(source.read(path, stream=stream))
            assert data.streamed is stream
            assert data.fingerprint == expected, (name, stream)
            assert len(data) == 4


def test_tensors_come_back_from_parquet_and_arrow(tmp_path: Path) -> None:
    pictures = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    table = pa.table({"picture": pa.FixedShapeTensorArray.from_numpy_ndarray(pictures), "y": [0, 1, 0]})
    pq.write_table(table, tmp_path / "t.parquet")
    feather.write_feather(table, str(tmp_path / "t.arrow"))
    expected = Dataset.from_arrow(table)
    for source, name in ((ParquetSource(), "t.parquet"), (ArrowSource(), "t.arrow")):
        data = Dataset.from_arrow(source.read(tmp_path / name))
        assert data.schema["picture"].shape == (2, 2)
        assert data.fingerprint == expected.fingerprint


@BOTH
def test_damaged_columnar_files_are_refused(tmp_path: Path, stream: bool) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    feather.write_feather(TABLE, str(tmp_path / "t.arrow"))
    for source, name, kind in ((ParquetSource(), "t.parquet", "Parquet"), (ArrowSource(), "t.arrow", "Arrow")):
        path = tmp_path / name
        whole = path.read_bytes()
        for content in (whole[: len(whole) // 2], whole[:8], SECRET.encode() * 50, whole[:-1]):
            path.write_bytes(content)
            assert f"no {kind} file, or it is damaged" in refused(source, path, stream=stream)
        path.write_bytes(b"")
        assert "is empty" in refused(source, path, stream=stream)
        assert "There is no file" in refused(source, tmp_path / f"none.{kind}", stream=stream)
        assert "has no option 'delimiter'" in refused(source, path, UsageError, delimiter=",")


def test_no_flipped_byte_of_an_arrow_file_brings_anything_down(tmp_path: Path) -> None:
    """Offsets of a damaged file may point anywhere: each is refused, or gives a sound table, and nothing is quoted."""
    path = tmp_path / "t.arrow"
    feather.write_feather(TABLE, str(path), compression="uncompressed")
    whole = path.read_bytes()
    refusals = 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            ArrowSource().read(path).validate(full=True)
        except InvalidInput as error:
            refusals += 1
            assert SECRET not in str(error)
    assert refusals > 20


@BOTH
def test_parquet_text_that_is_no_longer_utf8_is_refused(tmp_path: Path, stream: bool) -> None:
    """Pages have no checksum by default, and Arrow reads what stands there."""
    path = tmp_path / "t.parquet"
    pq.write_table(TABLE, path, compression="none", use_dictionary=False, write_statistics=False)
    path.write_bytes(path.read_bytes().replace(SECRET.encode(), b"\xff" * len(SECRET)))
    assert "no Parquet file, or it is damaged" in refused(ParquetSource(), path, stream=stream)


@BOTH
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f'[{{"a": "{SECRET}"}}]', "holds one JSON array"),
        (f'"{SECRET}"', "holds no JSON objects"),
        (f'{{"a": 1}}\n{{"a": {SECRET}}}\n', "no valid JSON lines"),
        (f'{{"a": 1}}\n{{"a": "{SECRET}"}}\n', "column 'a' changes its type"),
        (f'{{"a": 1, "a": "{SECRET}"}}\n', "stands twice"),
        (f'{{"a": "{SECRET}"', "no valid JSON lines"),
        ("", "is empty"),
        ("\n \n", "holds no JSON objects"),
    ],
)
def test_bad_json_lines_are_refused(tmp_path: Path, content: str, message: str, stream: bool) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(content)
    assert message in refused(JsonLinesSource(), path, stream=stream)


def test_json_rows_are_numbered_in_small_files(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": "x"}\n')
    assert "changes its type in row 3" in refused(JsonLinesSource(), path)


def test_json_that_is_no_utf8_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    content = '{"a": "é"}\n'.encode("latin-1")
    path.write_bytes(content)
    assert f"byte {content.index(0xE9)} cannot be decoded" in refused(JsonLinesSource(), path)


def test_json_streams_whose_later_rows_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "STREAM_BLOCK_BYTES", 300)
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n' * 100 + f'{{"a": "{SECRET}"}}\n')
    refused(JsonLinesSource(), path, stream=True)
    path.write_text('{"a": 1}\n' * 100 + f'{{"a": 1, "b": "{SECRET}"}}\n')
    refused(JsonLinesSource(), path, stream=True)


def test_nested_json_is_refused_when_types_are_inferred(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": {"b": 1}}\n')
    with pytest.raises(InvalidInput, match="Column 'a' has the Arrow type struct"):
        Dataset.from_arrow(JsonLinesSource().read(path))
