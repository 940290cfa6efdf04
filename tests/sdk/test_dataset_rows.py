"""Prediction batches: rows in the trained columns, and bringing other rows into them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from affidavit.errors import InvalidInput
from affidavit.interfaces.columns import conform
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType, Schema

SECRET = "jane.doe@example.org"
INPUTS = Schema(
    (
        Field("age", FieldType.NUMERIC),
        Field("job", FieldType.CATEGORICAL),
        Field("owner", FieldType.BOOLEAN),
        Field("since", FieldType.DATETIME),
        Field("note", FieldType.TEXT),
    )
)
ROW: dict[str, Any] = {"age": 41, "job": "clerk", "owner": True, "since": datetime(2020, 1, 2), "note": "a note"}


def one(**changes: Any) -> Dataset:
    return Dataset.from_rows([{**ROW, **changes}], INPUTS)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("age", 41, 41.0),
        ("age", np.float32(0.5), 0.5),
        ("age", Decimal("1.25"), 1.25),
        ("age", 2**60 + 1, float(2**60)),
        ("age", True, 1.0),
        ("age", None, None),
        ("job", "clerk", "clerk"),
        ("job", 7, "7"),
        ("job", 7.0, "7"),
        ("job", True, "true"),
        ("job", np.str_("x"), "x"),
        ("job", math.nan, None),
        ("owner", False, False),
        ("owner", 1, True),
        ("owner", np.bool_(True), True),
        ("since", "2020-01-02T03:04:05", datetime(2020, 1, 2, 3, 4, 5)),
        ("since", "2020-01-02", datetime(2020, 1, 2)),
        ("since", "2020-01-02T03:00:00+02:00", datetime(2020, 1, 2, 1)),
        ("since", date(2020, 1, 2), datetime(2020, 1, 2)),
        ("since", datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 1, 2)),
        ("since", datetime(2020, 1, 2, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2020, 1, 2)),
        ("note", None, None),
    ],
)
@pytest.mark.parametrize("as_columns", [False, True])
def test_values_are_read_as_their_field(column: str, value: Any, expected: Any, as_columns: bool) -> None:
    row = {**ROW, column: value}
    data = Dataset.from_rows({name: [cell] for name, cell in row.items()} if as_columns else [row], INPUTS)
    assert data.to_list(column) == [expected]
    assert data.schema is INPUTS


def test_nan_is_missing() -> None:
    assert np.isnan(one(age=math.nan).to_numpy("age")[0])
    assert np.isnan(one(age=None).to_numpy("age")[0])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("age", SECRET),
        ("age", "41"),
        ("age", [1]),
        ("age", math.inf),
        ("age", -math.inf),
        ("job", 7.5),
        ("job", {"a": SECRET}),
        ("owner", SECRET),
        ("owner", 2),
        ("since", SECRET),
        ("since", 5),
        ("note", [SECRET]),
    ],
)
@pytest.mark.parametrize("as_columns", [False, True])
def test_values_that_do_not_fit_are_refused_by_column_and_row_without_quoting(column: str, value: Any, as_columns: bool) -> None:
    rows = [ROW, {**ROW, column: value}]
    given: Any = {name: [row[name] for row in rows] for name in ROW} if as_columns else rows
    with pytest.raises(InvalidInput) as caught:
        Dataset.from_rows(given, INPUTS)
    assert f"'{column}'" in str(caught.value)
    assert "row 2" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None or SECRET not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, {"age": 1, "job": "a", "owner": True, "since": None}], "Column 'note' is missing in row 2"),
        ([{**{k: v for k, v in ROW.items() if k != "owner"}, "owned": 1}], "Did you mean 'owned'"),
        ([ROW, SECRET], "Row 2 is no object"),
        ([ROW, [1, 2, 3, 4, 5]], "Row 2 is no object"),
        (SECRET, "must be a list of objects"),
        (5, "must be a list of objects"),
        ({"age": [1]}, "Column 'job' is missing"),
        ({**{k: [v] for k, v in ROW.items()}, "age": [1, 2]}, "differ in length"),
        ({**{k: [v] for k, v in ROW.items()}, "job": "clerk"}, "'job' must be a list"),
        ({**{k: [v] for k, v in ROW.items()}, "age": 1}, "'age' must be a list"),
    ],
)
def test_wrong_shapes_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        Dataset.from_rows(rows, INPUTS)
    assert SECRET not in str(caught.value)


def test_extra_keys_are_left_out_and_no_rows_are_fine() -> None:
    assert one(extra=SECRET).schema.names == INPUTS.names
    empty = Dataset.from_rows([], INPUTS)
    assert len(empty) == 0
    assert [empty.to_numpy("age").shape, empty.to_text("job")] == [(0,), []]
    assert len(Dataset.from_rows({name: [] for name in INPUTS.names}, INPUTS)) == 0


def test_tensors_are_read_from_lists_and_arrays() -> None:
    schema = Schema((Field("picture", FieldType.TENSOR, shape=(2, 3)), Field("age", FieldType.NUMERIC)))
    rows = [{"picture": [[1, 2, 3], [4, 5, 6]], "age": 1}, {"picture": np.ones((2, 3), dtype=np.uint8), "age": 2}, {"picture": None, "age": None}]
    data = Dataset.from_rows(rows, schema)
    pictures = data.to_numpy("picture")
    assert pictures.shape == (3, 2, 3)
    assert pictures[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.isnan(pictures[2]).all()
    assert Dataset.from_rows([], schema).to_numpy("picture").shape == (0, 2, 3)
    for wrong in ([[1, 2], [3, 4]], [1, 2, 3, 4, 5, 6], "x", [[1, 2, 3], [4, 5, math.inf]], [[1, 2, 3], [4, 5, SECRET]]):
        with pytest.raises(InvalidInput, match=r"'picture'.* row 2") as caught:
            Dataset.from_rows([rows[0], {"picture": wrong, "age": 1}], schema)
        assert SECRET not in str(caught.value)


# -- conform ---------------------------------------------------------------------------------------------------------------------------


def trained(**columns: Any) -> Schema:
    return Dataset.from_arrow(columns).schema


def test_conforming_rows_come_back_as_they_are() -> None:
    data = one()
    assert conform(data, INPUTS) is data
    assert conform(data, Schema(INPUTS.fields)) is data
    assert conform(data, INPUTS.change("age", entity="AGE")) is data


def test_columns_are_ordered_and_extra_ones_left_out() -> None:
    inputs = trained(a=[1.0], b=["x"])
    data = Dataset.from_arrow({"b": ["x", "y"], "secret": [SECRET, "z"], "a": [1, 2], "y": [0, 1]}, target="y")
    fitted = conform(data, inputs)
    assert fitted.schema.names == ("a", "b")
    assert fitted.to_numpy("a").tolist() == [1.0, 2.0]
    assert fitted.roots == data.roots
    assert conform(fitted, inputs) is fitted


@pytest.mark.parametrize(
    ("before", "now", "as_text", "expected"),
    [
        ([1.5, 2.5], [1, 2], False, [1, 2]),
        ([1.5, 2.5], pa.nulls(2), False, [np.nan, np.nan]),
        ([1.5, 2.5], [True, False], False, [1, 0]),
        ([1.5, 2.5], [Decimal("1.5"), None], False, [1.5, np.nan]),
        ([1.5, 2.5], pa.array(["x", None]).filter(pa.array([False, True])), False, [np.nan]),
        (["a", "b"], pa.array(["a", None]).dictionary_encode(), True, ["a", None]),
        (["a", "b"], [1, 2], True, ["1", "2"]),
        (["a", "b"], [1.0, float("nan")], True, ["1", None]),
        (["a", "b"], [True, False], True, ["true", "false"]),
        (["a", "b"], pa.nulls(2), True, [None, None]),
        (["a", "b"], ["a note that is long and has words in it", "another one that differs in its words"], True, None),
        ([True, False], [1, 0], True, ["true", "false"]),
        ([True, False], [1.0, None], True, ["true", None]),
        ([date(2020, 1, 1)] * 2, [datetime(2020, 1, 1, 5)] * 2, True, ["2020-01-01T05:00:00"] * 2),
        ([date(2020, 1, 1)] * 2, ["2020-01-01T05:00:00", None], True, ["2020-01-01T05:00:00", None]),
    ],
)
def test_values_that_lose_nothing_are_converted(before: Any, now: Any, as_text: bool, expected: Any) -> None:
    inputs = trained(x=before)
    fitted = conform(Dataset.from_arrow({"x": now}), inputs)
    assert fitted.schema.layout == inputs.layout
    if as_text:
        assert fitted.to_text("x") == (expected if expected is not None else pa.array(now).to_pylist())
    else:
        assert np.array_equal(fitted.to_numpy("x"), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ([1.5, 2.5], [SECRET, "b"], "categorical values here, but the model was trained on numeric"),
        ([1.5, 2.5], [date(2020, 1, 1)] * 2, "datetime values here"),
        (["a", "b"], [0.5, 1.5], "numeric values here"),
        (["a", "b"], [date(2020, 1, 1)] * 2, "datetime values here"),
        ([True, False], [1, 2], "numeric values here, but the model was trained on boolean"),
        ([True, False], ["yes", SECRET], "categorical values here"),
        ([date(2020, 1, 1)] * 2, [SECRET, "b"], "categorical values here, but the model was trained on datetime"),
        (pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)), pa.array([[1.0, 2.0, 3.0]], pa.list_(pa.float32(), 3)), "shape 3 here, .* of shape 2"),
        (pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)), [1.0], "numeric values here, .* of shape 2"),
    ],
)
def test_values_of_another_type_are_refused_by_column_and_types(before: Any, now: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"Column 'x' holds .*{message}") as caught:
        conform(Dataset.from_arrow({"x": now}), trained(x=before))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_missing_columns_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidInput, match=r"'income' is missing.*Did you mean 'incom'"):
        conform(Dataset.from_arrow({"incom": [1], "b": [2]}), trained(income=[1], b=[2]))


def test_a_one_row_prediction_costs_few_calls(calls_in: Callable[[Callable[[], object]], int]) -> None:
    """At most two function calls a column, on top of a constant; and next to none for a batch that fits already."""
    schema = Schema(tuple(Field(f"c{n}", FieldType.NUMERIC if n % 2 else FieldType.CATEGORICAL) for n in range(40)))
    row = {f"c{n}": 1.5 if n % 2 else "abc" for n in range(40)}
    batch = Dataset.from_rows([row], schema)
    assert calls_in(lambda: conform(Dataset.from_rows([row], schema), schema)) <= 40 + 2 * 40
    assert calls_in(lambda: conform(batch, schema)) < 10
