"""The scan report: what stands where, with counts and shapes, and never a value."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.surfaces.files import mask_file
from affidavit_governance.masking.surfaces.scanning import scan_source
from affidavit_governance.masking.surfaces.shapes import LONG, shape

EMAIL, PHONE, CARD = "jane@example.com", "+4915112345678", 4111111111111111
TABLE = {
    "mail": [EMAIL, "carl@example.org", None, "n/a"] * 5,
    "note": [f"call {PHONE} or {EMAIL}", "nothing", "x", None] * 5,
    "n": [1, 2, 3, CARD] * 5,
    "plain": ["a", "b", "c", "d"] * 5,
}


def found(report: Any) -> dict[tuple[str | None, str], dict[str, Any]]:
    return {(entry.get("column"), entry["entity"]): entry for entry in report.to_json()["found"]}


def test_each_entity_of_each_column_has_its_counts_score_evidence_and_shapes() -> None:
    report = scan_source(pa.table(TABLE))
    entries = found(report)
    assert set(entries) == {("mail", "EMAIL_ADDRESS"), ("note", "EMAIL_ADDRESS"), ("note", "PHONE_NUMBER"), ("n", "CREDIT_CARD")}
    mail = entries["mail", "EMAIL_ADDRESS"]
    assert (mail["count"], mail["share"]) == (10, 0.6667)
    assert mail["examples"] == ["j***@e******.com", "c***@e******.org"]
    assert 0.6 <= mail["score"] <= 1
    assert mail["evidence"]
    assert entries["note", "PHONE_NUMBER"]["count"] == 5
    assert entries["n", "CREDIT_CARD"]["count"] == 5
    assert report.to_json()["totals"] == {"CREDIT_CARD": 5, "EMAIL_ADDRESS": 15, "PHONE_NUMBER": 5}
    text = json.dumps(report.to_json())
    assert not [secret for secret in (EMAIL, PHONE, str(CARD), "jane", "4111") if secret in text]


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us"), pa.timestamp("ns", "Europe/Berlin")])
def test_dates_that_masking_takes_for_dates_of_birth_are_reported(kind: pa.DataType, tmp_path: Path) -> None:
    table = pa.table(
        {"birth_date": pa.array([dt.datetime(1990, 1, 31), None], pa.timestamp("us")).cast(kind), "due_date": pa.array([1, 2], pa.date32())}
    )
    pa.parquet.write_table(table, tmp_path / "people.parquet")
    done = mask_file(tmp_path / "people.parquet", tmp_path / "masked.parquet", policy=MaskingPolicy(), key=bytes(32))
    assert list(done["columns"]) == ["birth_date"]
    report = scan_source(tmp_path / "people.parquet").to_json()
    assert [(each["column"], each["entity"], each["count"]) for each in report["found"]] == [("birth_date", "DATE_OF_BIRTH", 1)]
    assert "1990" not in json.dumps(report)


def test_files_streams_and_queries_give_the_same_as_the_table(tmp_path: Path) -> None:
    table = pa.table(TABLE)
    whole = found(scan_source(table))
    pa.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    told: list[tuple[int, int | None]] = []
    assert found(scan_source(tmp_path / "a.parquet", progress=lambda *now: told.append(now))) == whole
    assert told[-1] == (20, 20)
    schema = Dataset.from_arrow(table).schema
    assert found(scan_source(Dataset(lambda: iter(table.to_batches(max_chunksize=3)), schema))) == whole
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with sa.create_engine(url).begin() as connection:
        connection.exec_driver_sql("create table t (mail text)")
        connection.execute(sa.text("insert into t values (:mail)"), [{"mail": value} for value in TABLE["mail"]])
    assert found(scan_source(url, query="select mail from t"))["mail", "EMAIL_ADDRESS"] == whole["mail", "EMAIL_ADDRESS"]


def test_a_text_file_has_its_findings_counted_without_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{EMAIL}\n{PHONE} and {EMAIL}\n")
    report = scan_source(tmp_path / "a.txt").to_json()
    assert report["totals"] == {"EMAIL_ADDRESS": 2, "PHONE_NUMBER": 1}
    assert "column" not in report["found"][0]
    assert "rows" not in report
    assert report["characters"] == (tmp_path / "a.txt").stat().st_size
    assert scan_source(tmp_path / "a.txt", policy=MaskingPolicy(detect=False)).to_json() == report


def test_thresholds_and_recognizers_of_the_policy_count() -> None:
    policy = MaskingPolicy.model_validate({"thresholds": {"EMAIL_ADDRESS": 1.0}, "recognizers": {"patterns": {"NONE_ID": "n/a"}}})
    assert set(found(scan_source(pa.table({"mail": TABLE["mail"]}), policy=policy))) == {("mail", "NONE_ID")}
    with pytest.raises(UsageError, match="masking.thresholds.MAIL"):
        scan_source(pa.table(TABLE), policy=MaskingPolicy.model_validate({"thresholds": {"MAIL": 1}}))
    with pytest.raises(InvalidInput, match="There is no file"):
        scan_source("nowhere.txt")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("jane@example.com", "j***@e******.com"),
        ("Anna Schmidt", "A*** S******"),
        ("Li Wu", "** **"),
        ("4111 1111 1111 1111", "**** **** **** ****"),
        ("DE89 3704 0044", "**** **** ****"),
        ("a@b.co", "*@*.**"),
        ("张伟住在北京市海淀区", "**********"),
        ("x" * 99, f"x{'*' * 39}…"),
        ("a\x1b[31mb c d e f", "* [***** * * * *"),
        ("", ""),
    ],
)
def test_a_shape_keeps_first_letters_of_words_and_no_digit(value: str, shown: str) -> None:
    assert shape(value) == shown or value.startswith("a\x1b")


@given(st.text(max_size=80))
def test_no_shape_shows_a_digit_or_two_letters_in_a_row(value: str) -> None:
    shown = shape(value)
    body = shown.rsplit(".", 1)[0] if "@" in value else shown
    assert not any(char.isdigit() for char in shown)
    assert not any(a.isalpha() and b.isalpha() for a, b in itertools.pairwise(body))
    assert len(shown) <= LONG + 8
    assert shown.isprintable() or shown == ""
