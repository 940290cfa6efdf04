"""Small batches of plain values take a quicker road than others, to the same end, whether they came as values or as Arrow."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Signature, Task
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.prediction import PredictionMasker
from affidavit_governance.masking.tools import Tools

INPUTS = Schema((Field("colour", FieldType.CATEGORICAL), Field("note", FieldType.CATEGORICAL), Field("amount", FieldType.NUMERIC)))
PLANTED = ["jana@example.org", "DE89370400440532013000", "4111 1111 1111 1111", "192.168.77.13", "+49 30 23125777", "４１１１ 1111 1111 1111"]


def masker() -> PredictionMasker:
    return PredictionMasker(Signature(INPUTS, Task.BINARY, "y", ("n", "p")), MaskingPolicy(), b"k" * 32, Tools())


def both(rows: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    quick = Dataset.from_rows(rows, INPUTS)
    assert quick.cells is not None, "the quick road is not taken: this test would compare one road with itself"
    read = Dataset(quick.table, INPUTS)
    assert read.cells is not None
    assert str(masker().mask(read)[0].table.to_pylist()) == str(masker().mask(quick)[0].table.to_pylist())
    day = pa.array([datetime.date(2024, 1, 1)] * len(rows))
    slow = Dataset(quick.table.append_column("day", day), Schema((*INPUTS.fields, Field("day", FieldType.DATETIME))))
    assert slow.cells is None
    return masker().mask(quick)[0].table.to_pylist(), masker().mask(slow)[0].table.to_pylist()


@pytest.mark.parametrize("value", PLANTED)
@pytest.mark.parametrize("column", ["colour", "note"])
def test_planted_values_are_masked_on_both_roads(value: str, column: str) -> None:
    rows = [{"colour": "red", "note": "0 <= ... < 200 DM", "amount": 3.0} | {column: value}]
    quick, slow = both(rows)
    assert quick == slow
    assert value not in str(quick)


@pytest.mark.parametrize("value", [4111111111111111, 5555555555554444.0])
def test_a_card_as_a_number_is_masked_on_both_roads(value: float) -> None:
    quick, slow = both([{"colour": "red", "note": "x", "amount": value}])
    assert quick == slow
    assert quick[0]["amount"] is None


def test_clean_rows_come_back_as_they_are() -> None:
    data = Dataset.from_rows([{"colour": "red", "note": None, "amount": 3.5}], INPUTS)
    assert masker().mask(data)[0] is data


text = st.one_of(st.none(), st.text(max_size=12), st.text("0123456789 +-./@:abDE", max_size=26), st.sampled_from(PLANTED))


@given(st.lists(st.tuples(text, text, st.one_of(st.none(), st.floats(-1e17, 1e17))), min_size=1, max_size=3))
def test_both_roads_agree_on_any_rows(cells: list[tuple[Any, ...]]) -> None:
    rows = [dict(zip(INPUTS.names, row, strict=True)) for row in cells]
    quick, slow = both(rows)
    assert str(quick) == str(slow)
