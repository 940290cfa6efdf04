"""Data sets: types and roles, overrides, what is refused, views, lineage and roots, streams."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.infer import class_labels, infer_task
from affidavit.interfaces.model import Task
from affidavit.interfaces.schema import FieldType, Role

SECRET = "jane.doe@example.org"


def typed(values: Any, **field: Any) -> FieldType:
    return Dataset.from_arrow({"x": values}, fields={"x": field} if field else None).schema["x"].type


# -- types -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([True, None], FieldType.BOOLEAN),
        ([1, None], FieldType.NUMERIC),
        ([1.5, None], FieldType.NUMERIC),
        ([Decimal("1.50")], FieldType.NUMERIC),
        (pa.array([1, 2], pa.uint8()), FieldType.NUMERIC),
        (pa.nulls(3), FieldType.NUMERIC),
        ([date(2024, 1, 1)], FieldType.DATETIME),
        ([datetime(2024, 1, 1, 12)], FieldType.DATETIME),
        (["red", "blue", "red"], FieldType.CATEGORICAL),
        (pa.array(["a long label of several words", "another long label of words"] * 30).dictionary_encode(), FieldType.CATEGORICAL),
        (pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)), FieldType.TENSOR),
        (pa.array(["a", "b"], pa.string_view()), FieldType.CATEGORICAL),
    ],
)
def test_types_follow_arrow(values: Any, expected: FieldType) -> None:
    assert typed(values) is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([f"the parcel number {n} never came and nobody answers" for n in range(40)], FieldType.TEXT),
        ([f"送餐很快味道不错下次还会再来点{n}号套餐" for n in range(40)], FieldType.TEXT),
        ([f"jane.doe{n}@example.org" for n in range(40)], FieldType.CATEGORICAL),
        ([f"Jane Doe{n}" for n in range(40)], FieldType.CATEGORICAL),
        (["no checking account at this bank", "less than two hundred marks"] * 40, FieldType.CATEGORICAL),
        ([None] * 3 + ["x"], FieldType.CATEGORICAL),
    ],
)
def test_text_is_long_and_various_and_the_rest_is_categories(values: list[str], expected: FieldType) -> None:
    assert typed(values) is expected


def test_tensors_know_their_shape() -> None:
    pictures = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    data = Dataset.from_arrow({"picture": pa.FixedShapeTensorArray.from_numpy_ndarray(pictures), "y": ["a", "b"]}, target="y")
    assert data.schema["picture"].shape == (3, 4)
    assert np.array_equal(data.to_numpy("picture"), pictures.astype(float))
    assert np.array_equal(data.take([1]).to_numpy("picture"), pictures[1:].astype(float))


def test_permuted_tensors_come_out_in_their_logical_shape() -> None:
    logical = np.arange(12.0).reshape(2, 3, 2).transpose(0, 2, 1)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(logical)
    data = Dataset.from_arrow({"t": tensor})
    assert data.schema["t"].shape == (2, 3)
    assert np.array_equal(data.to_numpy("t"), logical)


def test_missing_tensors_are_nan_and_slices_start_in_the_right_place() -> None:
    values = pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int16(), 2))
    data = Dataset.from_arrow({"t": pa.chunked_array([values.slice(1, 2), values.slice(3)])})
    assert np.array_equal(data.to_numpy("t"), [[np.nan, np.nan], [3, 4], [5, 6]], equal_nan=True)


@pytest.mark.parametrize("values", [pa.array([[1], [2, 3]]), pa.array([b"x"]), pa.array([{"a": 1}]), pa.array([1], pa.duration("s"))])
def test_columns_without_a_field_type_are_refused(values: pa.Array) -> None:
    with pytest.raises(InvalidInput, match="Column 'x' has the Arrow type"):
        Dataset.from_arrow({"x": values})


# -- roles and overrides ---------------------------------------------------------------------------------------------------------------


def test_the_index_of_frames_put_together_is_no_feature() -> None:
    part = pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=[4, 7, 9])
    data = Dataset.from_arrow(pd.concat([part, part]))
    assert data.schema.names == ("x", "__index_level_0__")
    assert [field.name for field in data.schema.features] == ["x"]


@pytest.mark.parametrize("arguments", [{"target": 1}, {"fields": {1: {"role": "protected"}}}])
def test_a_column_name_that_is_no_text_is_refused_in_words(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be text, not of type int"):
        Dataset.from_arrow(pd.DataFrame({0: [1, 2], 1: [3, 4]}), **arguments)


def test_row_keys_become_identifiers_and_other_columns_features() -> None:
    data = Dataset.from_arrow({"customer_id": [3, 1, 2], "shop_id": [1, 1, 2], "paid": [1, 2, 3], "height_id": [0.5, 0.6, 0.7]})
    assert [data.schema[name].role for name in data.schema.names] == [Role.IDENTIFIER, Role.FEATURE, Role.FEATURE, Role.FEATURE]
    assert Dataset.from_arrow({"id": [1, 2]}, fields={"id": {"role": "feature"}}).schema["id"].role is Role.FEATURE


def test_overrides_reach_the_field() -> None:
    changes = {"type": "categorical", "role": "protected", "entity": "LOCATION", "categories": [1307, 1309]}
    data = Dataset.from_arrow({"zip": [1307, 1309], "age": [30, 40]}, fields={"zip": changes, "age": {"bounds": [0, 120]}})
    field = data.schema["zip"]
    assert (field.type, field.role, field.entity, field.categories) == (FieldType.CATEGORICAL, Role.PROTECTED, "LOCATION", ("1307", "1309"))
    assert data.schema["age"].bounds == (0.0, 120.0)
    assert data.to_text("zip") == ["1307", "1309"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "incom"}, ("no column 'incom'", "Did you mean 'income'")),
        ({"fields": {"agee": {"role": "protected"}}}, ("no column 'agee'", "'age'")),
        ({"fields": {"age": {"rol": "protected"}}}, ("'rol'", "'role'")),
        ({"fields": {"age": {"role": "protcted"}}}, ("'protcted'", "'protected'")),
        ({"fields": {"age": {"type": "numerc"}}}, ("'numerc'", "'numeric'")),
        ({"fields": {"name": {"type": "numeric"}}}, ("'name'", "cannot be of type 'numeric'")),
        ({"fields": {"age": {"bounds": [5, 1]}}}, ("'age'", "bounds")),
        ({"fields": {"age": {"bounds": 5}}}, ("'age'", "bounds")),
        ({"fields": {"age": {"categories": "abc"}}}, ("'age'", "categories")),
        ({"target": "income", "fields": {"income": {"role": "feature"}}}, ("'income'", "target")),
    ],
)
def test_wrong_names_and_settings_are_usage_errors(arguments: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        Dataset.from_arrow({"age": [1, 2], "name": [SECRET, "b"], "income": [0, 1]}, **arguments)
    for word in words:
        assert word in str(caught.value)
    assert SECRET not in str(caught.value)


def test_two_targets_are_refused() -> None:
    with pytest.raises(InvalidInput, match="More than one"):
        Dataset.from_arrow({"a": [0, 1], "b": [0, 1]}, target="a", fields={"b": {"role": "target"}})


# -- values that are refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0, float("inf"), float("-inf")], "y": [0, 1, 0]}, "Column 'x' holds infinity in 2 of 3 rows"),
        ({"x": [1, 2, 3], "y": [1, 1, 1]}, "'y' has the same value in every row"),
        ({"x": [1, 2, 3], "y": [float("nan"), 1.0, 1.0]}, "'y' is missing in 1 of 3 rows"),
        ({"x": [1, 2, 3], "y": ["a", None, "b"]}, "'y' is missing in 1 of 3 rows"),
        ({"x": [1, 2, 3], "y": pa.nulls(3)}, "'y' has no value in any row"),
        ({"x": [1, 2, 3], "y": [float("nan")] * 3}, "'y' has no value in any row"),
        ({"x": pa.array([], pa.int64()), "y": pa.array([], pa.int64())}, "0 rows"),
        ({}, "0 columns"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_bad_values_are_refused_by_column_and_count(columns: dict[str, Any], message: str, streamed: bool) -> None:
    table = pa.table(columns)
    source = (lambda: iter(table.to_batches(max_chunksize=1))) if streamed and table.num_columns else table
    with pytest.raises(InvalidInput, match=message):
        Dataset.from_arrow(source, target="y" if columns else None)


def test_a_target_is_constant_only_if_all_batches_agree() -> None:
    table = pa.table({"y": pa.array(["a"] * 5 + ["b"]).dictionary_encode()})
    assert len(Dataset.from_arrow(lambda: iter(table.to_batches(max_chunksize=2)), target="y")) == 6
    assert len(Dataset.from_arrow(pa.table({"y": pa.chunked_array([["a"], ["b"], ["a"]])}), target="y")) == 3


def test_columns_that_mix_types_or_repeat_a_name_are_refused_without_quoting() -> None:
    for frame in (
        pd.DataFrame({"a": [1, SECRET]}),
        {"a": [1, SECRET]},
        pd.DataFrame([[1, SECRET]], columns=["a", "a"]),
        {"a": [1], "b": [SECRET, "x"]},
    ):
        with pytest.raises(InvalidInput) as caught:
            Dataset.from_arrow(frame)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(InvalidInput, match="Column 'a' stands twice"):
        Dataset.from_arrow(pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(UsageError, match="type int is no data set"):
        Dataset.from_arrow(5)


def test_pandas_polars_and_arrow_frames_agree() -> None:
    columns = {"n": [1, 2, 3], "x": [0.5, None, 1.5], "s": ["a", "b", None]}
    fingerprints = {Dataset.from_arrow(frame).fingerprint for frame in (pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns), columns)}
    assert len(fingerprints) == 1


def test_polars_frames_can_be_filtered_and_their_categories_read() -> None:
    frame = pl.DataFrame({"s": ["a", "b", None], "c": pl.Series(["x", "y", "x"], dtype=pl.Categorical)})
    data = Dataset.from_arrow(frame)
    assert data.schema["c"].type is FieldType.CATEGORICAL
    for made in (data, Dataset.from_arrow(lambda: iter(pa.table(frame).to_batches()))):
        kept = made.filter([True, False, True])
        assert (kept.to_text("s"), kept.to_text("c")) == (["a", None], ["x", "x"])
        assert made.fingerprint == data.fingerprint


# -- task and labels -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["good", "bad", "good"], Task.BINARY, ("bad", "good")),
        ([True, False, True], Task.BINARY, ("false", "true")),
        ([0, 1, 1], Task.BINARY, ("0", "1")),
        ([1.0, 2.0, 1.0], Task.BINARY, ("1", "2")),
        ([10, 9, 2, 10], Task.MULTICLASS, ("2", "9", "10")),
        ([-1, 1, 1], Task.BINARY, ("-1", "1")),
        (pa.array(["b", "a", "c"] * 9).dictionary_encode(), Task.MULTICLASS, ("a", "b", "c")),
        (list(range(21)), Task.REGRESSION, None),
        ([0.5, 1.0, 1.5], Task.REGRESSION, None),
    ],
)
def test_the_task_follows_from_the_target(values: Any, task: Task, classes: tuple[str, ...] | None) -> None:
    data = Dataset.from_arrow({"x": list(range(len(values))), "y": values}, target="y")
    assert infer_task(data) is task
    if classes is not None:
        labels, found = class_labels(data)
        assert found == classes
        assert labels.tolist() == data.to_text("y")
        assert set(labels) == set(classes)


def test_the_targets_type_overrides_the_task() -> None:
    columns = {"y": list(range(25)) * 3}
    assert infer_task(Dataset.from_arrow(columns, target="y", fields={"y": {"type": "categorical"}})) is Task.MULTICLASS
    assert infer_task(Dataset.from_arrow({"y": [0, 1, 2, 3]}, target="y", fields={"y": {"type": "numeric"}})) is Task.REGRESSION


def test_targets_that_cannot_be_predicted_are_refused() -> None:
    with pytest.raises(UsageError, match="has no target"):
        infer_task(Dataset.from_arrow({"x": [1, 2]}))
    with pytest.raises(UsageError, match="only numbers and classes"):
        infer_task(Dataset.from_arrow({"y": [date(2024, 1, 1), date(2024, 1, 2)]}, target="y"))
    with pytest.raises(InvalidInput, match="these are no classes"):
        infer_task(Dataset.from_arrow({"y": [f"name {n}" for n in range(60)]}, target="y"))
    two = Dataset.from_arrow({"y": ["a", "b"]}, target="y")
    with pytest.raises(InvalidInput, match="same value in every row"):
        infer_task(two.head(1))
    assert class_labels(two.head(1))[1] == ("a",)  # evaluating on rows of one class is fine


# -- values out ------------------------------------------------------------------------------------------------------------------------


def test_numbers_come_out_as_float64_with_nan_for_missing() -> None:
    data = Dataset.from_arrow(
        {
            "i": pa.chunked_array([pa.array([1, None], pa.int8()), pa.array([3], pa.int8())]),
            "b": [True, None, False],
            "d": [Decimal("1.25"), None, Decimal("2.50")],
            "t": [datetime(1970, 1, 2), None, datetime(1969, 12, 31, 23, 59, 59, 500000)],
            "day": [date(1970, 1, 3), None, date(1970, 1, 1)],
            "n": pa.nulls(3),
            "c": pa.array([5, None, 7]).dictionary_encode(),
            "s": ["a", "b", None],
        }
    )
    nan = float("nan")
    expected = {
        "i": [1, nan, 3],
        "b": [1, nan, 0],
        "d": [1.25, nan, 2.5],
        "t": [86400, nan, -0.5],
        "day": [172800, nan, 0],
        "n": [nan] * 3,
        "c": [5, nan, 7],
    }
    for name, values in expected.items():
        got = data.to_numpy(name)
        assert got.dtype == np.float64
        assert np.array_equal(got, values, equal_nan=True), name
    with pytest.raises(UsageError, match="'s' holds string values"):
        data.to_numpy("s")


def test_text_of_every_scalar_type() -> None:
    data = Dataset.from_arrow(
        {
            "f": [1.0, float("nan"), 3.0],
            "g": [0.5, None, 3.0],
            "b": [True, None, False],
            "t": [datetime(2024, 2, 29, 1, 2, 3), None, datetime(1999, 1, 1)],
            "d": [date(2024, 2, 29), None, date(1999, 1, 1)],
            "c": pa.array(["x", None, "y"]).dictionary_encode(),
        }
    )
    assert data.to_text("f") == ["1", None, "3"]
    assert data.to_text("g") == ["0.5", None, "3"]
    assert data.to_text("b") == ["true", None, "false"]
    assert data.to_text("t") == ["2024-02-29T01:02:03", None, "1999-01-01T00:00:00"]
    assert data.to_text("d") == ["2024-02-29", None, "1999-01-01"]
    assert data.to_text("c") == ["x", None, "y"]


def test_unknown_columns_are_usage_errors_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean 'age'"):
        Dataset.from_arrow({"age": [1]}).column("aeg")


# -- lineage and roots -----------------------------------------------------------------------------------------------------------------


def test_every_view_keeps_the_root_and_names_its_parent() -> None:
    data = Dataset.from_arrow({"a": [1, 2, 3], "b": ["x", "y", "z"]}, name="people")
    assert data.roots == {data.fingerprint}
    views = {
        "select": data.select(["b"]),
        "take": data.take([2, 0]),
        "head": data.head(2),
        "filter": data.filter([True, False, True]),
        "replace": data.replace_column("a", pa.array([0, 0, 0])),
        "clean": data.clean(),
    }
    for operation, view in views.items():
        assert view.roots == {data.fingerprint}, operation
        assert view.lineage[-1].operation == operation
        assert view.lineage[-1].parents == (data.fingerprint,)
        assert view.name == "people"
    twice = views["select"].head(1)
    assert [step.operation for step in twice.lineage] == ["select", "head"]
    assert twice.lineage[1].parents == (views["select"].fingerprint,)
    assert twice.roots == {data.fingerprint}
    again = views["select"].with_schema(views["select"].schema.change("b", role=Role.PROTECTED))
    assert again.roots == {data.fingerprint}
    assert again.fingerprint == views["select"].fingerprint


def test_choosing_a_target_later_keeps_the_root_and_what_is_masked() -> None:
    data = Dataset.from_arrow({"a": [1, 2, 3], "y": [0, 1, None]}, fields={"a": {"entity": "ID"}})
    masked = data.with_schema(data.schema.change("a", masked="redact"))
    with pytest.raises(InvalidInput, match="'y' is missing in 1 of 3 rows"):
        Dataset.from_arrow(masked, target="y")
    named = Dataset.from_arrow(masked.clean(missing="drop"), target="y")
    assert named.roots == {data.fingerprint}
    assert (named.schema["a"].entity, named.schema["a"].masked) == ("ID", "redact")
    assert named.schema.target is not None


def test_selecting_does_not_hash_and_the_parent_is_let_go_once_roots_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    import affidavit.interfaces.fingerprint as module

    calls: list[int] = []
    original = module.fingerprint
    monkeypatch.setattr(module, "fingerprint", lambda batches: calls.append(1) or original(batches))
    data = Dataset.from_arrow({"a": [1, 2], "b": [3, 4]})
    view = data.select(["a"])
    assert not calls
    gone = weakref.ref(data)
    root = view.roots
    assert len(calls) == 1
    del data
    gc.collect()
    assert gone() is None
    assert view.roots == root


# -- streams ---------------------------------------------------------------------------------------------------------------------------


def counting_stream(table: pa.Table, rows: int) -> tuple[Any, list[int]]:
    reads: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in table.to_batches(max_chunksize=rows):
            reads.append(batch.num_rows)
            yield batch

    return batches, reads


def test_streams_stay_outside_memory_through_views_and_splits() -> None:
    table = pa.table({"x": np.arange(100.0), "y": ["a", "b"] * 50, "s": [f"{n}" for n in range(100)]})
    stream, _ = counting_stream(table, 7)
    data, whole = Dataset.from_arrow(stream, target="y"), Dataset.from_arrow(table, target="y")
    assert len(data) == 100
    for view, expected in (
        (data.select(["s", "x"]), whole.select(["s", "x"])),
        (data.filter(np.arange(100) % 3 == 0), whole.filter(np.arange(100) % 3 == 0)),
        *zip(data.split(0.3, seed=1, stratify=True), whole.split(0.3, seed=1, stratify=True), strict=True),
    ):
        assert view.streamed
        assert view.fingerprint == expected.fingerprint
        assert view.roots == {whole.fingerprint}
        assert view.schema == expected.schema
        assert view.streamed
    assert data.streamed


def test_the_head_of_a_stream_reads_no_further() -> None:
    stream, reads = counting_stream(pa.table({"x": np.arange(100.0)}), 10)
    data = Dataset.from_arrow(stream)
    reads.clear()
    assert data.head(15).to_list("x") == list(map(float, range(15)))
    assert sum(reads) == 20


def test_batches_are_never_larger_than_asked() -> None:
    table = pa.table({"x": pa.chunked_array([np.arange(10.0), np.arange(3.0)])})
    for data in (Dataset.from_arrow(table), Dataset.from_arrow(lambda: iter(table.to_batches()))):
        assert [batch.num_rows for batch in data.batches(4)] == [4, 4, 2, 3]


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing to work with"):
        Dataset.from_arrow(lambda: iter(()))
