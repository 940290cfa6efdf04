"""The cells of a small batch as Python values: what has them, and that they are the values of the table."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.interfaces.columns import FEW_ROWS
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType, Schema

FIELDS = {"number": {"type": "numeric"}, "word": {"type": "categorical"}, "flag": {"type": "boolean"}}
ROWS = st.lists(
    st.tuples(
        st.none() | st.floats(allow_nan=False, width=32) | st.integers(-(2**53), 2**53), st.none() | st.text(max_size=5), st.none() | st.booleans()
    ),
    min_size=1,
    max_size=6,
)


def dataset(columns):
    return Dataset.from_arrow(pa.table(columns), fields={name: FIELDS[name] for name in columns})


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_cells_are_the_values_of_the_table(rows):
    numbers, words, flags = map(list, zip(*rows, strict=True))
    table = {"number": pa.array(numbers, pa.float64()), "word": pa.array(words, pa.string()), "flag": pa.array(flags, pa.bool_())}
    fields = tuple(Field(name, FieldType(kind["type"])) for name, kind in FIELDS.items())
    data = Dataset(pa.table(table), Schema(fields))
    assert data.cells == [(None if n is None else float(n), w, f) for n, w, f in rows]


def test_chunks_and_slices_make_no_difference():
    table = pa.concat_tables([pa.table({"number": [1.0, 2.0]}), pa.table({"number": [3.0]}), pa.table({"number": [4.0, 5.0]})])
    assert dataset({"number": table.column("number")}).cells == [(1.0,), (2.0,), (3.0,), (4.0,), (5.0,)]
    assert Dataset(table.slice(1, 3), Schema((Field("number", FieldType.NUMERIC),))).cells == [(2.0,), (3.0,), (4.0,)]


@pytest.mark.parametrize(
    "data",
    [
        dataset({"number": [float(n) for n in range(FEW_ROWS + 1)]}),
        dataset({"number": [1.0]}).head(0),
        Dataset.from_arrow(pa.table({"day": [datetime.date(2024, 1, 1)]})),
        Dataset.from_arrow(pa.table({"picture": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3, 3)))})),
        Dataset(pa.table({"price": pa.array([1], pa.decimal128(5, 2))}), Schema((Field("price", FieldType.NUMERIC),))),
        Dataset(
            pa.table({"word": pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])}),
            Schema((Field("word", FieldType.CATEGORICAL),)),
        ),
    ],
    ids=["many rows", "no rows", "dates", "tensors", "decimals", "bytes that are no text"],
)
def test_what_has_no_plain_cells_has_none(data):
    assert data.cells is None


def test_a_stream_is_not_read_for_them():
    def batches():
        raise AssertionError("read")

    assert Dataset(batches, Schema((Field("number", FieldType.NUMERIC),))).cells is None


def test_rows_given_as_values_keep_those():
    schema = Schema((Field("number", FieldType.NUMERIC), Field("word", FieldType.CATEGORICAL)))
    assert Dataset.from_rows([{"number": 1, "word": "a"}], schema).cells == [(1, "a")]
    whole = Dataset.from_rows([{"number": math.nan, "word": None}], schema).cells
    assert whole is not None and math.isnan(whole[0][0])
