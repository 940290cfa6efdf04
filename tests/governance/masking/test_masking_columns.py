"""Columns: what their names, types and values say together, and the quick searches that decide which cells are read at all."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.interfaces.dataset import Dataset
from affidavit_governance.masking import mask_table, scan_table
from affidavit_governance.masking.cells import CellMasker
from affidavit_governance.masking.columns import name_hints
from affidavit_governance.masking.recognizers.base import DEFAULT_THRESHOLD, PatternRecognizer
from affidavit_governance.masking.recognizers.catalogue import BUNDLED, patterns
from affidavit_governance.masking.suspects import CleanCells
from affidavit_governance.masking.text import scan_text

EXAMPLES: dict[str, list[str]] = json.loads((Path(__file__).parent / "recognizer_examples.json").read_text(encoding="utf-8"))
NAMED = dict(zip([name for name, _ in BUNDLED], patterns(), strict=True))
VALUES = sorted({text for texts in EXAMPLES.values() for text in texts})
ORDINARY = ["red", "0 <= ... < 200 DM", "A34", "48 months", "no checking account", "7 years", "1.5", "2024-03-15 11:34", "x" * 80, "密集", "ünïcode"]


@pytest.mark.parametrize(
    ("name", "entity"),
    [
        ("customerPhone_2", "PHONE_NUMBER"),
        ("E-Mail", "EMAIL_ADDRESS"),
        ("手机", "PHONE_NUMBER"),
        ("SWIFT/BIC", "SWIFT_CODE"),
        ("mac_address", "MAC_ADDRESS"),
        ("home page", "URL"),
        ("BirthDate", "DATE_OF_BIRTH"),
        ("身份证号", "CN_RESIDENT_ID"),
    ],
)
def test_the_name_of_a_column_speaks_for_an_entity(name: str, entity: str) -> None:
    assert entity in name_hints(name)


@pytest.mark.parametrize("name", ["credit_amount", "telephony", "url", "domain", "machine", "company", "cubic", "purpose", "age", "target", "note"])
def test_names_of_ordinary_columns_speak_for_nothing(name: str) -> None:
    assert name_hints(name) == frozenset()


def test_recognizers_of_a_plugin_bring_their_own_column_names() -> None:
    class Badge(PatternRecognizer):
        entity = "BADGE"
        column_words = r"\bbadge\b"

    assert name_hints("badge", [Badge()]) == {"BADGE"}
    assert name_hints("badge") == frozenset()


def test_numbers_are_believed_to_be_identifiers_where_name_or_check_says_so() -> None:
    heads = [f"11010119900307{i:03d}" for i in range(60)]
    checks = [
        "10X98765432"[sum(int(d) * w for d, w in zip(h, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2), strict=True)) % 11] for h in heads
    ]
    chinese = [int(head + check) for head, check in zip(heads, checks, strict=True) if check != "X"]
    cards = [4111111111111111, 5500005555555559, 4012888888881881]
    table = pa.table(
        {"n": pa.array([11010519491231002, 1, 3, 4, 5]), "key": pa.array([10**10 + i for i in range(5)]), "paid": pa.array([*cards, 1, 2])}
    )
    assert set(scan_table(table)) == {"paid"}
    named = pa.table(
        {"key": pa.array(chinese), "身份证号": pa.array([*chinese[:4], *[7] * (len(chinese) - 4)]), "few": pa.array([chinese[0]] * len(chinese))}
    )
    assert set(scan_table(named)) == {"key"}
    assert set(scan_table(named.slice(0, 6))) == {"key", "身份证号"}


def test_dates_are_dates_of_birth_where_the_column_is_called_so() -> None:
    days: list[Any] = [dt.date(1990, 5, 17), None, dt.date(1985, 1, 2)]
    table = pa.table({"birth_date": days, "opened": days, "dob": pa.array([None, None, None], pa.date32())})
    found = scan_table(table)
    assert set(found) == {"birth_date"}
    assert (found["birth_date"].entity, found["birth_date"].cells, found["birth_date"].whole) == ("DATE_OF_BIRTH", 2, True)
    assert scan_table(table, thresholds={"DATE_OF_BIRTH": 0.9}) == {}


def test_a_column_of_dates_of_birth_is_masked_like_any_other() -> None:
    from affidavit.policy import MaskingPolicy

    source = Dataset.from_arrow(pa.table({"birth_date": [dt.date(1990, 5, 17), dt.date(1985, 1, 2)], "amount": [1.0, 2.0]}))
    masked, _ = mask_table(source, MaskingPolicy(), b"k" * 32)
    assert "1990" not in str(masked.table.to_pydict())


def test_thresholds_of_single_entities_decide_about_columns_too() -> None:
    table = pa.table({"seen": ["www.example.org/a", "www.example.org/b"], "mail": ["ann@example.org", "bob@example.org"]})
    assert set(scan_table(table)) == {"mail"}
    assert set(scan_table(table, thresholds={"URL": 0.5, "EMAIL_ADDRESS": 1.0})) == {"seen"}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_search_of_long_columns_reads_each_cell_that_holds_something(name: str) -> None:
    recognizer = NAMED[name]
    if recognizer.needs == "":
        pytest.skip("never above the default threshold")
    cells = [*EXAMPLES[name], *(f"so {text} it is" for text in EXAMPLES[name]), *ORDINARY * 40]
    masker = CellMasker("column", threshold=DEFAULT_THRESHOLD, recognizers=[recognizer])
    masked = masker.mask(pa.chunked_array([pa.array(cells)])).to_pylist()
    alone = [any(f.score >= DEFAULT_THRESHOLD for f in scan_text(cell, recognizers=[recognizer])) for cell in cells]
    assert any(alone)
    assert [after != before for before, after in zip(cells, masked, strict=True)] == alone


def test_the_search_of_long_columns_passes_most_ordinary_cells_by() -> None:
    read: list[str] = []
    masker = CellMasker("column", threshold=DEFAULT_THRESHOLD)
    search = masker._mask_values
    masker._mask_values = lambda values: read.extend(values) or search(values)  # type: ignore[method-assign,func-returns-value]  # listens in
    masker.mask(pa.chunked_array([pa.array(ORDINARY * 40)]))
    assert len(set(read)) <= 2, set(read)


@given(st.lists(st.one_of(st.none(), st.sampled_from(VALUES), st.sampled_from(ORDINARY), st.text(max_size=20)), max_size=8))
@settings(max_examples=200, deadline=None)
def test_the_search_of_rows_to_predict_is_never_wrong_with_a_no(values: list[str | None]) -> None:
    cells = CleanCells(recognizers=patterns())
    for _ in range(2):
        suspect = cells.suspect(values)
        assert suspect == any(bool(scan_text(value)) for value in values if value is not None)


def test_the_search_of_rows_remembers_only_clean_and_short_cells_and_not_too_many() -> None:
    cells = CleanCells(recognizers=patterns())
    assert cells.suspect(["ann@example.org", "red", "long " * 30])
    assert cells._clean == {None, "red"}
    for i in range(5000):
        cells.suspect([f"colour {chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}"])
    assert len(cells._clean) <= 4096


def test_cells_of_another_type_than_text_are_suspect() -> None:
    cells = CleanCells(recognizers=patterns())
    assert cells.suspect([7])  # type: ignore[list-item]  # the case under test
    assert cells.suspect([["red"]])  # type: ignore[list-item]
    assert not cells.suspect([None, "red"])


def test_a_hint_makes_cells_suspect_that_alone_are_not() -> None:
    assert not CleanCells(recognizers=patterns()).suspect(["467 3395"])
    assert CleanCells(recognizers=patterns(), hints=frozenset({"PHONE_NUMBER"})).suspect(["467 3395"])
    assert CleanCells(recognizers=patterns(), thresholds={"URL": 0.5}).suspect(["www.example.org/a"])
