"""Files in and out: every format, flat memory, whole or not at all, and nothing of the source but what the policy leaves."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.spans import mask_values
from affidavit_governance.masking.surfaces import texts
from affidavit_governance.masking.surfaces.files import mask_file

KEY = bytes(range(32))
EMAIL, PHONE = "ann.lee@example.com", "+4915112345678"
RULE = MaskingPolicy.model_validate({"entities": {"EMAIL_ADDRESS": "pseudonym"}})
TABLE = pa.table({"mail": [EMAIL, "bob@example.org"] * 4, "note": [f"call {PHONE} please", None] * 4, "n": [1.5, 2.0] * 4})
FORK = multiprocessing.get_context("fork")


def write(path: Path, table: pa.Table = TABLE) -> Path:
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    elif path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pa.parquet.read_table(path).to_pylist()  # type: ignore[no-any-return]
    if path.suffix in (".arrow", ".feather"):
        return pa.ipc.open_file(path).read_all().to_pylist()  # type: ignore[no-any-return]
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".csv" in path.suffixes or ".tsv" in path.suffixes:
        options = pa.csv.ParseOptions(delimiter="\t" if ".tsv" in path.suffixes else ",")
        convert = pa.csv.ConvertOptions(strings_can_be_null=True)
        return pa.csv.read_csv(pa.BufferReader(content), parse_options=options, convert_options=convert).to_pylist()  # type: ignore[no-any-return]
    return [json.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("source", ["in.parquet", "in.arrow", "in.csv", "in.jsonl"])
@pytest.mark.parametrize("target", ["out.parquet", "out.arrow", "out.csv", "out.tsv", "out.jsonl", "out.csv.gz", "out.jsonl.gz"])
def test_every_format_in_and_out_gives_the_same_rows(source: str, target: str, tmp_path: Path) -> None:
    report = mask_file(write(tmp_path / source), tmp_path / target, policy=RULE, key=KEY)
    rows = read(tmp_path / target)
    assert [row["note"] for row in rows] == ["call <PHONE_NUMBER> please", None] * 4
    assert [row["n"] for row in rows] == [1.5, 2.0] * 4
    assert len({row["mail"] for row in rows}) == 2
    assert EMAIL not in str(rows)
    assert report["rows"] == 8
    assert report["columns"]["mail"]["cells"] == 8
    assert EMAIL not in json.dumps(report)


def test_what_a_parquet_file_says_about_itself_comes_from_masked_values(tmp_path: Path) -> None:
    inner = pa.struct([pa.field("mail", pa.string(), metadata={"hint": EMAIL})])
    maps = pa.array([[("k", EMAIL)], None, []], pa.map_(pa.string(), pa.field("mail", pa.string(), metadata={"hint": EMAIL})))
    lists = pa.array([[EMAIL], None, []], pa.large_list(pa.field("element", pa.string(), metadata={"hint": EMAIL})))
    table = pa.table({"mail": pa.array([EMAIL] * 3), "who": pa.array([{"mail": EMAIL}] * 3, inner), "list": lists, "map": maps})
    table = table.replace_schema_metadata({"owner": EMAIL}).cast(
        pa.schema([table.schema.field(0).with_metadata({"example": EMAIL}), *list(table.schema)[1:]], metadata={"owner": EMAIL})
    )
    pa.parquet.write_table(table, tmp_path / "in.parquet", compression="gzip")
    mask_file(tmp_path / "in.parquet", tmp_path / "out.parquet", policy=MaskingPolicy(), key=KEY)
    assert EMAIL.encode() in (tmp_path / "in.parquet").read_bytes()
    pa.parquet.write_table(pa.parquet.read_table(tmp_path / "out.parquet"), tmp_path / "plain.parquet", compression="none", use_dictionary=False)
    for name in ("out.parquet", "plain.parquet"):
        assert b"ann.lee" not in (tmp_path / name).read_bytes()
    meta = pa.parquet.ParquetFile(tmp_path / "out.parquet").metadata
    assert meta.row_group(0).column(0).compression == "GZIP"
    assert meta.row_group(0).column(0).statistics.max == "[REDACTED]"
    assert EMAIL not in str(pa.parquet.read_schema(tmp_path / "out.parquet").to_string(show_field_metadata=True, show_schema_metadata=True))


FLAT = """
import resource, sys
from pathlib import Path
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.surfaces import writers
from affidavit_governance.masking.surfaces.files import mask_file
writers.ROW_GROUP_BYTES = 4 << 20  # so that the small file fills a row group as well
mask_file(Path(sys.argv[1]), Path(sys.argv[2]), policy=MaskingPolicy(), key=bytes(32))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(source: Path, target: Path) -> int:
    done = subprocess.run([sys.executable, "-c", FLAT, str(source), str(target)], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


def test_ten_times_the_parquet_rows_need_no_more_memory(tmp_path: Path) -> None:
    words = [f"a note of some length about nothing in particular, with number {i % 977}" for i in range(40_000)]
    group = pa.table({"n": list(range(40_000)), "note": words})
    sizes = {"small": 2, "large": 12}
    for name, groups in sizes.items():
        with pa.parquet.ParquetWriter(tmp_path / f"{name}.parquet", group.schema) as writer:
            for _ in range(groups):
                writer.write_table(group)
    small, large = (peak(tmp_path / f"{name}.parquet", tmp_path / f"{name}.out.parquet") for name in sizes)
    extra = group.nbytes * (sizes["large"] - sizes["small"])
    assert large - small < extra / 3, f"{(large - small) / 1e6:.0f} MB more for {extra / 1e6:.0f} MB more rows"
    meta = pa.parquet.ParquetFile(tmp_path / "large.out.parquet").metadata
    assert meta.num_rows == 480_000
    assert meta.num_row_groups > 4


def test_a_text_file_keeps_everything_but_personal_data_byte_for_byte(tmp_path: Path) -> None:
    content = f"\ufeffone {EMAIL}\r\n\r\n\ttwo {PHONE} 中文\x00\n\nno end"
    (tmp_path / "in.txt").write_bytes(content.encode())
    report = mask_file(tmp_path / "in.txt", tmp_path / "out.md", policy=MaskingPolicy(), key=KEY)
    assert (tmp_path / "out.md").read_bytes().decode() == content.replace(EMAIL, "<EMAIL_ADDRESS>").replace(PHONE, "<PHONE_NUMBER>")
    assert report == {"lines": 5, "findings": {"EMAIL_ADDRESS": 1, "PHONE_NUMBER": 1}}
    (tmp_path / "in.log.gz").write_bytes(gzip.compress(content.encode()))
    mask_file(tmp_path / "in.log.gz", tmp_path / "out.txt.gz", policy=MaskingPolicy(), key=KEY)
    assert gzip.decompress((tmp_path / "out.txt.gz").read_bytes()) == (tmp_path / "out.md").read_bytes()


@given(
    st.lists(st.sampled_from([EMAIL, PHONE, "GB29NWBK60161331926819", " ", "\n", "word", "中文", "x" * 30, "12 34", "é"]), max_size=60).map("".join),
    st.integers(5, 40),
    st.integers(1, 200),
)
@settings(max_examples=50, deadline=None)
def test_pieces_of_a_text_give_what_the_whole_gives(tmp_path_factory: pytest.TempPathFactory, text: str, block: int, margin: int) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "in.txt").write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "BLOCK_BYTES", block)
        patch.setattr(texts, "MARGIN", 400 + margin)
        mask_file(folder / "in.txt", folder / "out.txt", policy=MaskingPolicy(), key=KEY)
    assert (folder / "out.txt").read_bytes().decode() == mask_values([text])[0][0]


@pytest.mark.parametrize("value", ["GB29 NWBK 6016 1331 9268 19", "+49 (30) 2312 5000", "4111 1111 1111 1111"])
def test_no_piece_ends_inside_a_finding_that_holds_spaces(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{value} and " * 60
    (tmp_path / "in.txt").write_text(text)
    for margin in range(200, 230, 4):
        monkeypatch.setattr(texts, "BLOCK_BYTES", 64)
        monkeypatch.setattr(texts, "MARGIN", margin)
        mask_file(tmp_path / "in.txt", tmp_path / "out.txt", policy=MaskingPolicy(), key=KEY)
        assert (tmp_path / "out.txt").read_text() == mask_values([text])[0][0], margin


def test_one_long_line_is_masked_in_flat_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "BLOCK_BYTES", 1 << 14)
    line = "".join(f"{i:07d} {EMAIL} " for i in range(4000))
    (tmp_path / "in.txt").write_text(line)
    seen: list[tuple[int, int | None]] = []
    mask_file(tmp_path / "in.txt", tmp_path / "out.txt", policy=MaskingPolicy(), key=KEY, progress=lambda *told: seen.append(told))
    assert (tmp_path / "out.txt").read_text() == line.replace(EMAIL, "<EMAIL_ADDRESS>")
    assert len(seen) > 5
    assert seen[-1] == (len(line), len(line))


def test_a_single_value_of_ten_megabytes_is_masked(tmp_path: Path) -> None:
    value = "lorem ipsum " * 900_000 + EMAIL
    pa.parquet.write_table(pa.table({"t": [value, "x"]}), tmp_path / "in.parquet")
    mask_file(tmp_path / "in.parquet", tmp_path / "out.parquet", policy=MaskingPolicy(), key=KEY)
    assert pa.parquet.read_table(tmp_path / "out.parquet")["t"][0].as_py() == "lorem ipsum " * 900_000 + "<EMAIL_ADDRESS>"


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("in.txt", b"fine\n" * 100 + b"\xff\xfe", InvalidInput, "no UTF-8 text: byte 500"),
        ("in.txt", b"cut \xe4\xb8", InvalidInput, "no UTF-8 text: byte 4"),
        ("in.csv", b"a,b\n1,\xff\n", InvalidInput, "no utf-8 text: byte 6"),
        ("in.jsonl", b'{"a": 1}\n{"a": "x"}\n', InvalidInput, "'a' changes its type"),
        ("in.jsonl", b'{"a": "\xff"}\n', InvalidInput, "no utf-8 text"),
        ("in.csv", b"a,b\n1,2\n3\n", InvalidInput, "row 3"),
        ("in.parquet", b"PAR1 not really", InvalidInput, "damaged"),
        ("in.txt.gz", b"\x1f\x8b broken", InvalidInput, "no gzip file"),
        ("in.csv", b"", InvalidInput, "empty"),
    ],
)
def test_bad_bytes_end_in_one_clear_error_and_leave_the_old_file(
    name: str, content: bytes, error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    target = tmp_path / ("out.txt" if ".txt" in name else "out.parquet")
    target.write_text("old")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(error, match=message):
        mask_file(tmp_path / name, target, policy=MaskingPolicy(), key=KEY)
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("source", "target", "options", "message"),
    [
        ("in.csv", "out.xlsx", {}, "cannot be written as '.xlsx'"),
        ("in.csv", "out.parquet.gz", {}, "cannot be written"),
        ("in.csv", "out.txt", {}, "cannot be written as '.txt'"),
        ("in.csv", "in.csv", {}, "replace its source"),
        ("in.txt", "in.txt", {}, "replace its source"),
        ("in.csv", "out.csv", {"table": "t"}, "for a database"),
        ("in.csv", "out.csv", {"policy": MaskingPolicy.model_validate({"fields": {"mial": "redact"}})}, r"masking\.fields\.mial.*'mail'"),
        ("in.txt", "out.txt", {"policy": MaskingPolicy.model_validate({"thresholds": {"MAIL": 1}})}, r"masking\.thresholds\.MAIL"),
        ("in.csv", "out.csv", {"key": b"short"}, "16 to 64 bytes"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    source: str, target: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "in.csv")
    (tmp_path / "in.txt").write_text(EMAIL)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=message):
        mask_file(tmp_path / source, tmp_path / target, **{"policy": MaskingPolicy(), "key": KEY, **options})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nested_columns_have_no_form_in_csv_and_the_error_says_which(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"a": [1], "deep": [[EMAIL]]}), tmp_path / "in.parquet")
    with pytest.raises(AffidavitError, match="column 'deep' holds list") as caught:
        mask_file(tmp_path / "in.parquet", tmp_path / "out.csv", policy=MaskingPolicy(), key=KEY)
    assert EMAIL not in str(caught.value)
    mask_file(tmp_path / "in.parquet", tmp_path / "out.jsonl", policy=MaskingPolicy(), key=KEY)
    assert read(tmp_path / "out.jsonl") == [{"a": 1, "deep": ["<EMAIL_ADDRESS>"]}]


def keep_masking(folder: str, sender: Any) -> None:
    number = 0
    while True:
        number += 1
        policy = MaskingPolicy.model_validate({"entities": {"EMAIL_ADDRESS": {"pseudonym": {"namespace": str(number % 2)}}}})
        mask_file(Path(folder) / "in.parquet", Path(folder) / "out.parquet", policy=policy, key=KEY)
        sender.send(number)


def test_a_masked_file_outlives_kills_old_or_new_and_never_raw(tmp_path: Path) -> None:
    source = pa.table({"mail": [f"ann{i}@example.com" for i in range(3000)], "n": list(range(3000))})
    pa.parquet.write_table(source, tmp_path / "in.parquet")
    whole = []
    for number in ("0", "1"):
        policy = MaskingPolicy.model_validate({"entities": {"EMAIL_ADDRESS": {"pseudonym": {"namespace": number}}}})
        mask_file(tmp_path / "in.parquet", tmp_path / "whole.parquet", policy=policy, key=KEY)
        whole.append((tmp_path / "whole.parquet").read_bytes())
    assert whole[0] != whole[1]
    chance = random.Random(7)
    for _ in range(5):
        receiver, sender = FORK.Pipe(duplex=False)
        child = FORK.Process(target=keep_masking, args=(str(tmp_path), sender))
        child.start()
        sender.close()
        receiver.recv()
        time.sleep(chance.uniform(0, 0.05))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert (tmp_path / "out.parquet").read_bytes() in whole
    for left in tmp_path.glob(".*.partial"):
        assert b"@example.com" not in left.read_bytes()
