"""Few rows are encoded from Python values, many from Arrow: both give the same matrix."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import Dataset
from affidavit_plugins.tabular.encoding import Encoder

TRAINED = Dataset.from_arrow(
    pa.table(
        {
            "amount": pa.array([1.0, None, 3.5, 8.0] * 5),
            "count": pa.array([1, 2, 3, 4] * 5),
            "word": pa.array(["a", "b", None, "é"] * 5),
            "flag": pa.array([True, False, None, True] * 5),
            "y": ["n", "p"] * 10,
        }
    ),
    target="y",
    fields={"word": {"type": "categorical"}},
)
ENCODER = Encoder.fit(TRAINED, max_categories=10)
ROW = st.fixed_dictionaries(
    {
        "amount": st.none() | st.floats(-1e300, 1e300) | st.integers(-(2**53), 2**53),
        "count": st.none() | st.integers(-(2**53), 2**53),
        "word": st.none() | st.sampled_from(["a", "b", "é", "unseen", ""]),
        "flag": st.none() | st.booleans(),
    }
)


def without_cells(data):
    data._cells = False
    return data


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=4))
def test_the_matrix_of_few_rows_is_the_one_that_arrow_gives(rows):
    inputs = TRAINED.schema.select(("amount", "count", "word", "flag"))
    quick, slow = Dataset.from_rows(rows, inputs), without_cells(Dataset.from_rows(rows, inputs))
    assert quick.cells is not None and slow.cells is None
    table = Dataset(slow.table, inputs)
    assert table.cells is not None
    expected = ENCODER.transform(slow)
    np.testing.assert_array_equal(ENCODER.transform(quick), expected)
    np.testing.assert_array_equal(ENCODER.transform(table), expected)


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int8(), pa.string()), pa.large_string()])
def test_text_in_another_arrow_type_is_the_same_category(kind):
    table = TRAINED.table.set_column(2, "word", TRAINED.table.column("word").cast(kind))
    few = Dataset(table.slice(0, 4), TRAINED.schema)
    np.testing.assert_array_equal(ENCODER.transform(few), ENCODER.transform(TRAINED)[:4])


def test_an_infinite_number_in_few_rows_is_refused_by_name():
    table = TRAINED.table.set_column(0, "amount", pa.array([float("inf")] * len(TRAINED)))
    with pytest.raises(InvalidInput, match="'amount' holds an infinite number"):
        ENCODER.transform(Dataset(table.slice(0, 1), TRAINED.schema))
