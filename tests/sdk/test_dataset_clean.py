"""Cleaning: duplicates and missing values."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, 0, 1]), st.sampled_from([None, "", "a", "b"]), st.sampled_from([None, 0.0, 0.5, float("nan")]), st.booleans()
        ),
        min_size=1,
        max_size=25,
    )
)
def test_duplicates_are_dropped_like_a_set_that_keeps_the_first(rows: list[tuple[Any, ...]]) -> None:
    columns = {
        "i": pa.array([r[0] for r in rows], pa.int64()),
        "s": pa.array([r[1] for r in rows], pa.string()).dictionary_encode(),
        "f": pa.array([r[2] for r in rows], pa.float64()),
        "b": [r[3] for r in rows],
    }
    cleaned = Dataset.from_arrow(columns).clean()
    first = list(dict.fromkeys(str(row) for row in rows))
    assert [str((r["i"], r["s"], r["f"], r["b"])) for r in cleaned.table.to_pylist()] == first
    assert cleaned.lineage[-1].parameters["duplicates"] == len(rows) - len(first)


def test_rows_with_equal_tensors_are_duplicates() -> None:
    pictures = np.array([[[1, 2]], [[3, 4]], [[1, 2]], [[1, 3]]], dtype=np.uint8)
    data = Dataset.from_arrow({"t": pa.FixedShapeTensorArray.from_numpy_ndarray(pictures), "y": [0, 1, 0, 0]})
    assert data.clean().to_numpy("t").tolist() == pictures[[0, 1, 3]].tolist()


def test_text_of_polars_and_views_is_compared() -> None:
    assert len(Dataset.from_arrow({"s": pa.array(["a", "a", None, None], pa.string_view())}).clean()) == 2


def test_dropping_looks_at_features_and_target_but_not_at_identifiers() -> None:
    columns = {"name": ["a", None, "c", "d"], "x": [1.0, 2.0, float("nan"), 4.0], "s": ["p", "q", "r", None], "y": [0, 1, 0, 1]}
    data = Dataset.from_arrow(columns, target="y", fields={"name": {"role": "identifier"}})
    cleaned = data.clean(missing="drop")
    assert cleaned.to_list("x") == [1.0, 2.0]
    assert cleaned.lineage[-1].parameters == {"duplicates": 0, "dropped": 2, "filled": {}}
    assert cleaned.roots == {data.fingerprint}


def test_filling_uses_the_median_and_the_commonest_value() -> None:
    columns = {
        "i": [1, None, 3, 7, 3],
        "h": [1, None, 2, 3, 4],
        "f": [0.5, float("nan"), None, 1.0, 2.0],
        "s": pa.array(["a", None, "b", "b", "c"]).dictionary_encode(),
        "tie": [None, "z", "a", "z", "a"],
        "b": [True, None, True, False, None],
        "d": [date(2020, 1, 1), None, date(2020, 1, 1), date(2021, 1, 1), None],
        "name": [None, "a", "b", "c", "d"],
    }
    data = Dataset.from_arrow(columns, fields={"name": {"role": "identifier"}})
    filled = data.clean(missing="fill")
    assert filled.to_list("i") == [1, 3, 3, 7, 3]
    assert filled.to_list("h") == [1, 2.5, 2, 3, 4]
    assert filled.to_list("f") == [0.5, 1.0, 1.0, 1.0, 2.0]
    assert filled.to_list("s") == ["a", "b", "b", "b", "c"]
    assert filled.to_list("tie")[0] == "a"
    assert filled.to_list("b") == [True, True, True, False, True]
    assert filled.to_list("d")[1] == date(2020, 1, 1)
    assert filled.to_list("name")[0] is None
    assert filled.lineage[-1].parameters["filled"] == {"i": 1, "h": 1, "f": 2, "s": 1, "tie": 1, "b": 2, "d": 2}
    assert filled.schema == data.schema


def test_what_cannot_be_cleaned_is_refused() -> None:
    data = Dataset.from_arrow({"x": [None, 1.0], "s": ["a", None]})
    with pytest.raises(UsageError, match="missing='fil'"):
        data.clean(missing="fil")
    with pytest.raises(InvalidInput, match="leave no row"):
        data.clean(missing="drop")
    with pytest.raises(InvalidInput, match="'e' has no value"):
        Dataset.from_arrow({"e": pa.nulls(3), "x": [1, 2, 3]}).clean(missing="fill")
    with pytest.raises(InvalidInput, match="'t' misses 1 tensors"):
        Dataset.from_arrow({"t": pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2))}).clean(missing="fill")
