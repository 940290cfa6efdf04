"""CSV: what is read, what is refused, and that no message quotes a cell."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit_plugins.sources import delimited
from affidavit_plugins.sources.delimited import CsvSource

SECRET = "jane.doe@example.org"
BOTH = pytest.mark.parametrize("stream", [False, True])


def write(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def read(path: Path, **options: Any) -> pa.Table:
    source = CsvSource().read(path, **options)
    return source if isinstance(source, pa.Table) else pa.Table.from_batches(source())


def refused(path: Path, kind: type[Exception] = InvalidInput, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        read(path, **options)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@BOTH
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_types_missing_cells_quotes_and_line_breaks(tmp_path: Path, stream: bool, name: str) -> None:
    text = 'i,f,s,b,d,t\n1,0.5,"a, ""b""\nc",true,2020-01-02,2020-01-02 03:04:05\n,NA,,,,\n3,-1e3,"NA",false,1999-12-31,1999-12-31 00:00:00\n'
    table = read(write(tmp_path, text, name), stream=stream)
    assert [str(kind) for kind in table.schema.types] == ["int64", "double", "string", "bool", "date32[day]", "timestamp[s]"]
    assert table.column("i").to_pylist() == [1, None, 3]
    assert table.column("f").to_pylist() == [0.5, None, -1000.0]
    assert table.column("s").to_pylist() == ['a, "b"\nc', None, "NA"]
    assert table.column("b").to_pylist() == [True, None, False]


@BOTH
def test_streams_start_anew_and_agree_with_the_whole_file(tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "STREAM_BLOCK_BYTES", 500)
    path = write(tmp_path, "n,s\n" + "".join(f"{n},text {n}\n" for n in range(500)))
    data = Dataset.from_arrow(CsvSource().read(path, stream=True))
    assert data.streamed
    assert sum(1 for _ in data.batches()) > 5
    whole = Dataset.from_arrow(CsvSource().read(path))
    assert data.fingerprint == data.with_schema(data.schema).fingerprint == whole.fingerprint
    assert len(data) == 500


def test_large_files_stream_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "n,s\n1,a\n2,b\n")
    assert isinstance(CsvSource().read(path), pa.Table)
    monkeypatch.setattr("affidavit_plugins.sources.files.STREAM_BYTES", 5)
    assert callable(CsvSource().read(path))


@BOTH
def test_codes_stay_text(tmp_path: Path, stream: bool) -> None:
    text = "zip,phone,time,year,half,zero\n01307,+4930123456,12:30,2020,0.5,0\n10115,+49301,08:15,1999,00.5,0\n"
    table = read(write(tmp_path, text), stream=stream)
    assert table.column("zip").to_pylist() == ["01307", "10115"]
    assert table.column("phone").to_pylist() == ["+4930123456", "+49301"]
    assert table.column("time").to_pylist() == ["12:30", "08:15"]
    assert [str(table.schema.field(name).type) for name in ("year", "half", "zero")] == ["int64", "double", "int64"]


@BOTH
def test_a_header_that_holds_another_delimiter_is_refused(tmp_path: Path, stream: bool) -> None:
    path = write(tmp_path, f"name;mail\nx;{SECRET}\n")
    message = refused(path, stream=stream)
    assert "one column when split at ','" in message
    assert "delimiter=';'" in message
    assert read(path, delimiter=";", stream=stream).column_names == ["name", "mail"]
    tabs = write(tmp_path, "a\tb\n1\t2\n")
    assert "delimiter='\\t'" in refused(tabs)
    assert read(write(tmp_path, "a\tb\n1\t2\n", "t.tsv")).column_names == ["a", "b"]
    assert read(write(tmp_path, "a\tb\n1\t2\n", "t.tsv.gz")).column_names == ["a", "b"]
    assert "delimiter=','" in refused(write(tmp_path, "a,b\n1,2\n"), delimiter=";")
    assert read(write(tmp_path, "alone\n1\n2\n")).num_rows == 2


@BOTH
@pytest.mark.parametrize("row", [f"{SECRET}", f"1,{SECRET},3"])
def test_ragged_rows_are_refused_with_their_number(tmp_path: Path, stream: bool, row: str) -> None:
    message = refused(write(tmp_path, f'a,b\n1,"x\ny"\n{row}\n3,4\n'), stream=stream)
    assert f"row 3 (the header is row 1) has {len(row.split(','))} cells instead of 2" in message


def test_ragged_rows_are_numbered_in_large_files_too(tmp_path: Path) -> None:
    lines = [f"{n},{n}" for n in range(200_000)]
    lines[150_000] = SECRET
    assert "row 150002 (the header is row 1) has 1 cells" in refused(write(tmp_path, "a,b\n" + "\n".join(lines)))


@BOTH
def test_wrong_encoding_is_refused_with_the_byte(tmp_path: Path, stream: bool) -> None:
    content = f"name,mail\nx,{SECRET}\nJosé,y\n".encode("latin-1")
    path = write(tmp_path, content)
    message = refused(path, stream=stream)
    assert f"byte {content.index(0xE9)} cannot be decoded" in message
    assert "encoding='latin-1'" in message
    assert read(path, encoding="latin-1", stream=stream).column("name").to_pylist() == ["x", "José"]
    assert "no encoding 'latin-15x'" in refused(path, UsageError, encoding="latin-15x")


def test_the_byte_is_counted_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affidavit_plugins.sources.files.BLOCK_BYTES", 7)
    content = "a,b\n" + "ü€,x\n" * 20
    assert read(write(tmp_path, content)).num_rows == 20
    broken = content.encode() + b"z\xff,1\n"
    assert f"byte {len(content.encode()) + 1} cannot" in refused(write(tmp_path, broken))
    split = "a,b\nxx€".encode() + b"\xff,1\n"  # the first block of seven bytes ends inside the euro sign
    assert "byte 9 cannot" in refused(write(tmp_path, split))
    cut = content.encode() + b"z,\xe2\x82"
    assert "cannot be decoded" in refused(write(tmp_path, cut))


def test_other_encodings_and_byte_order_marks(tmp_path: Path) -> None:
    text = f"näme,mail\nJosé,{SECRET}\n"
    assert read(write(tmp_path, b"\xef\xbb\xbf" + text.encode())).column_names == ["näme", "mail"]
    wide = write(tmp_path, text.encode("utf-16"))
    assert "encoding='utf-16'" in refused(wide)
    assert read(wide, encoding="utf-16").column("näme").to_pylist() == ["José"]
    assert "byte 1 is zero" in refused(write(tmp_path, "ab\n1\n".encode("utf-16-le")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty or holds only blank lines"),
        ("a,b\n", "a header but no rows"),
        ("a,b,a\n1,2,3\n", "columns 1 and 3 have the same name"),
        (f"{SECRET},x,{SECRET}\n1,2,3\n", "columns 1 and 3 have the same name"),
        ("a,,b\n1,2,3\n", "column 2 has no name"),
        ("1,2.5,3\n4,5,6\n", "first row holds numbers only"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@BOTH
def test_empty_files_and_bad_headers_are_refused(tmp_path: Path, content: str, message: str, name: str, stream: bool) -> None:
    assert message in refused(write(tmp_path, content, name), stream=stream)


@BOTH
def test_files_without_a_header_take_names(tmp_path: Path, stream: bool) -> None:
    path = write(tmp_path, "1,2.5\n4,5\n")
    assert read(path, names=["a", "b"], stream=stream).to_pydict() == {"a": [1, 4], "b": [2.5, 5.0]}
    ragged = write(tmp_path, f"1,2\n3,{SECRET},5\n")
    assert "row 2 (the first row is row 1) has 3 cells" in refused(ragged, names=["a", "b"], stream=stream)


def test_the_row_index_that_pandas_writes_gets_a_name(tmp_path: Path) -> None:
    table = read(write(tmp_path, ",a\n0,5\n1,6\n"))
    assert table.column_names == ["index", "a"]
    assert str(Dataset.from_arrow(table).schema["index"].role) == "identifier"


@BOTH
def test_types_can_be_given(tmp_path: Path, stream: bool) -> None:
    path = write(tmp_path, "zip,n,d\n10115,1,2020-01-01\n")
    table = read(path, types={"zip": "text", "n": "numeric", "d": "datetime"}, stream=stream)
    assert [str(kind) for kind in table.schema.types] == ["string", "double", "timestamp[us]"]
    bad = write(tmp_path, f"a,b\n1,{SECRET}\n", "bad.csv")
    message = refused(bad, types={"b": "numeric"}, stream=stream)
    assert "column 'b' holds a value that cannot be read as double" in message
    assert "Did you mean 'zip'" in refused(path, UsageError, types={"zips": "text"}, stream=stream)
    assert "Did you mean 'numeric'" in refused(path, UsageError, types={"n": "numerc"}, stream=stream)


def test_a_stream_whose_later_rows_do_not_fit_says_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "STREAM_BLOCK_BYTES", 200)
    path = write(tmp_path, "n\n" + "1\n" * 300 + f"{SECRET}\n")
    message = refused(path, stream=True)
    assert "column 'n' holds a value that cannot be read as int64" in message
    assert "types={'n': 'text'}" in message
    assert read(path, types={"n": "text"}, stream=True).num_rows == 301


def test_missing_words_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, "n,s\n?,?\n1,NA\n")
    assert read(path, missing=["?"]).to_pydict() == {"n": [None, 1], "s": [None, "NA"]}
    assert "list of words" in refused(path, UsageError, missing="?")


def test_infinity_reaches_the_check_of_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'f' holds infinity in 1 of 2 rows"):
        Dataset.from_arrow(read(write(tmp_path, "f\n1.5\ninf\n")))


@BOTH
def test_damaged_compression_is_refused(tmp_path: Path, stream: bool) -> None:
    path = write(tmp_path, "a,b\n" + "1,2\n" * 5000, "t.csv.gz")
    path.write_bytes(path.read_bytes()[:-20])
    assert "no gzip file, or it is damaged" in refused(path, stream=stream)
    path.write_bytes(b"a,b\n1,2\n")
    assert "no gzip file" in refused(path, stream=stream)


@BOTH
def test_an_unclosed_quote_is_refused(tmp_path: Path, stream: bool) -> None:
    assert "never closed" in refused(write(tmp_path, f'a,b\n1,"{SECRET}\n2,3\n4,5\n'), stream=stream)
    assert "cells instead of 2" in refused(write(tmp_path, f'a,b\n1,2\n"{SECRET},3\n4,5\n'), stream=stream)
    assert read(write(tmp_path, 'a,b\n1,"x\ny"\n'), stream=stream).num_rows == 1


def test_unknown_options_and_missing_files(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1,2\n")
    assert "Did you mean 'delimiter'" in refused(path, UsageError, delimeter=";")
    assert "one character" in refused(path, UsageError, delimiter=";;")
    assert "There is no file" in refused(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder" in refused(tmp_path / "folder.csv")


def test_what_the_source_accepts() -> None:
    source = CsvSource()
    assert all(source.accepts(name) for name in ("a.csv", "A.CSV", "a.tsv", "a.csv.gz", "dir/a.txt", Path("a.csv")))
    assert not any(source.accepts(name) for name in ("a.parquet", "http://host/a.csv", "sqlite:///a.csv", 5, None, {"a": [1]}))


def test_the_shared_credit_data_loads() -> None:
    path = Path(__file__).resolve().parents[3] / "../shared/data/german_credit.csv"
    if not path.exists():
        pytest.skip("the shared data folder is not beside the checkout")
    data = Dataset.from_arrow(CsvSource().read(path), target="credit_risk")
    assert (len(data), len(data.schema)) == (1000, 21)
