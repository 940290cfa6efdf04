"""The fingerprint sees names, logical types, missing values and values, and nothing of how Arrow holds them."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.fingerprint import fingerprint


def of(table: pa.Table) -> str:
    return fingerprint(table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)])


def of_array(array: pa.Array) -> str:
    return of(pa.table({"x": array}))


SCALARS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "integer": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "float": (pa.float64(), st.floats(allow_nan=False)),
    "boolean": (pa.bool_(), st.booleans()),
    "string": (pa.string(), st.text(max_size=6)),
    "binary": (pa.binary(), st.binary(max_size=6)),
    "date": (pa.date32(), st.dates()),
    "timestamp": (pa.timestamp("us"), st.datetimes()),
    "decimal": (pa.decimal128(12, 3), st.decimals(-10_000, 10_000, places=3)),
    "list": (pa.list_(pa.string()), st.lists(st.none() | st.text(max_size=3), max_size=3)),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.none() | st.integers(0, 3), "b": st.text(max_size=2)}),
    ),
    "fixed list": (pa.list_(pa.float64(), 2), st.lists(st.floats(allow_nan=False), min_size=2, max_size=2)),
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[pa.DataType, list[Any], st.SearchStrategy[Any]]:
    kind, values = SCALARS[draw(st.sampled_from(sorted(SCALARS)))]
    return kind, draw(st.lists(st.none() | values, min_size=1, max_size=12)), values


def cut(array: pa.Array, places: list[int]) -> pa.ChunkedArray:
    edges = [0, *sorted(place % (len(array) + 1) for place in places), len(array)]
    return pa.chunked_array([array.slice(a, b - a) for a, b in pairwise(edges)], type=array.type)


@settings(max_examples=150, deadline=None)
@given(columns(), st.lists(st.integers(0, 100), max_size=4))
def test_chunks_slices_and_bytes_under_nulls_do_not_matter(column: tuple[pa.DataType, list[Any], Any], places: list[int]) -> None:
    kind, values, _ = column
    plain = pa.array(values, type=kind)
    expected = of_array(plain)
    assert of(pa.table({"x": cut(plain, places)})) == expected
    padded = pa.array([*values[::-1], *values, *values[::-1]], type=kind).slice(len(values), len(values))
    assert of_array(padded) == expected


@settings(max_examples=200, deadline=None)
@given(columns(), st.data())
def test_any_changed_cell_changes_the_fingerprint(column: tuple[pa.DataType, list[Any], Any], data: st.DataObject) -> None:
    kind, values, strategy = column
    place = data.draw(st.integers(0, len(values) - 1))
    other = data.draw(st.none() | strategy)
    changed = [*values[:place], other, *values[place + 1 :]]
    before, after = pa.array(values, type=kind), pa.array(changed, type=kind)
    same = before.equals(after) and str(before.to_pylist()) == str(after.to_pylist())  # str tells -0.0 from 0.0
    assert (of_array(before) == of_array(after)) == same


@settings(max_examples=60, deadline=None)
@given(columns(), st.integers(0, 100), st.integers(0, 100))
def test_any_dropped_added_or_swapped_row_changes_the_fingerprint(column: tuple[pa.DataType, list[Any], Any], a: int, b: int) -> None:
    kind, values, _ = column
    a, b = a % len(values), b % len(values)
    expected = of_array(pa.array(values, type=kind))
    assert of_array(pa.array([*values, values[a]], type=kind)) != expected
    assert of_array(pa.array([*values[:a], *values[a + 1 :]], type=kind)) != expected
    swapped = list(values)
    swapped[a], swapped[b] = swapped[b], swapped[a]
    # As Arrow holds them: two dictionaries whose keys stand in another order are the same struct.
    same = str(pa.array(swapped, type=kind).to_pylist()) == str(pa.array(values, type=kind).to_pylist())
    assert (of_array(pa.array(swapped, type=kind)) == expected) == same


TEXT = [None, "", "a", "äöü", "a" * 100, "b", "a"]


@pytest.mark.parametrize(
    "encode",
    [
        lambda a: a.cast(pa.large_string()),
        lambda a: a.cast(pa.string_view()),
        lambda a: a.dictionary_encode(),
        lambda a: pa.DictionaryArray.from_arrays([2, 1, 0, 3, 4, 5, 0], ["a", "", None, "äöü", "a" * 100, "b", "unused"]),
        lambda a: pa.compute.run_end_encode(a),
    ],
)
def test_encodings_of_text_agree(encode: Callable[[pa.Array], pa.Array]) -> None:
    plain = pa.array(TEXT)
    assert of_array(encode(plain)) == of_array(plain)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()])
def test_integer_widths_agree(kind: pa.DataType) -> None:
    values = [1, None, 100, 0]
    assert of_array(pa.array(values, kind)) == of_array(pa.array(values, pa.int64()))


def test_unsigned_values_beyond_int64_differ_from_the_negative_numbers_with_their_bits() -> None:
    wide = pa.array([1, None, 2**64 - 1, 2**63], pa.uint64())
    assert of_array(wide) != of_array(pa.array([1, None, -1, -(2**63)], pa.int64()))
    assert of_array(wide) != of_array(pa.array([1, None, 2**64 - 1, 2**63 - 1], pa.uint64()))
    assert of(pa.table({"x": cut(wide, [1, 3])})) == of_array(wide)


def test_float_widths_agree_and_nan_is_missing() -> None:
    assert of_array(pa.array([0.5, None, -2.0], pa.float32())) == of_array(pa.array([0.5, None, -2.0]))
    assert of_array(pa.array([0.5, math.nan, -2.0])) == of_array(pa.array([0.5, None, -2.0]))
    odd_nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000123))[0]
    assert of_array(pa.array([odd_nan])) == of_array(pa.array([math.nan]))
    assert of_array(pa.array([0.0])) != of_array(pa.array([-0.0]))


def test_timestamp_units_and_zones_agree_but_naive_and_zoned_differ() -> None:
    moments = [datetime(2024, 2, 29, 12, 30, 5), None, datetime(1899, 12, 31)]
    reference = of_array(pa.array(moments, pa.timestamp("s")))
    assert {of_array(pa.array(moments, pa.timestamp(unit))) for unit in ("ms", "us", "ns")} == {reference}
    zoned = [None if m is None else m.replace(tzinfo=UTC) for m in moments]
    assert of_array(pa.array(zoned, pa.timestamp("s", "UTC"))) == of_array(pa.array(zoned, pa.timestamp("us", "Europe/Berlin"))) != reference
    assert of_array(pa.array([1], pa.timestamp("ns"))) != of_array(pa.array([2], pa.timestamp("ns")))
    # far beyond what nanoseconds hold
    assert of_array(pa.array([2**50], pa.timestamp("s"))) == of_array(pa.array([2**50 * 1000], pa.timestamp("ms")))


def test_dates_agree_and_decimals_differ_by_scale_only() -> None:
    days = [date(2024, 2, 29), None]
    assert of_array(pa.array(days, pa.date32())) == of_array(pa.array(days, pa.date64()))
    money = [Decimal("1.50"), None, Decimal("-0.01")]
    reference = of_array(pa.array(money, pa.decimal128(10, 2)))
    assert of_array(pa.array(money, pa.decimal256(50, 2))) == of_array(pa.array(money, pa.decimal64(12, 2))) == reference
    assert of_array(pa.array(money, pa.decimal128(10, 3))) != reference


def test_list_layouts_agree() -> None:
    values = [["a", None], None, [], ["b"]]
    reference = of_array(pa.array(values, pa.list_(pa.string())))
    for kind in (pa.large_list(pa.string()), pa.list_(pa.large_string())):
        assert of_array(pa.array(values, kind)) == reference, kind
    assert of_array(pa.array([["a"], None, [None], ["b"]], pa.list_(pa.string()))) != reference
    with pytest.raises(InvalidInput, match="list_view"):  # Arrow 26 loses elements when it casts them
        of_array(pa.array(values, pa.list_view(pa.string())))
    pairs = [[("k", 1)], None, [("l", 2), ("m", None)]]
    whole = pa.array(pairs, pa.map_(pa.string(), pa.int64()))
    assert of(pa.table({"x": cut(whole, [1, 2])})) == of_array(whole) != of_array(pa.array([[("k", 1)], None, [("l", 2), ("m", 3)]], whole.type))


def test_tensors_keep_their_shape_and_element_type() -> None:
    pictures = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(pictures)
    reference = of_array(tensor)
    assert of(pa.table({"x": cut(tensor, [1])})) == reference
    assert of_array(pa.FixedShapeTensorArray.from_numpy_ndarray(pictures.reshape(2, 4, 3))) != reference
    assert of_array(pa.FixedShapeTensorArray.from_numpy_ndarray(pictures.astype(np.uint16))) != reference
    changed = pictures.copy()
    changed[1, 2, 3] += 1
    assert of_array(pa.FixedShapeTensorArray.from_numpy_ndarray(changed)) != reference


def test_missing_differs_from_empty_zero_and_false() -> None:
    for kind, empty in ((pa.string(), ""), (pa.int64(), 0), (pa.float64(), 0.0), (pa.bool_(), False), (pa.list_(pa.int64()), [])):
        assert of_array(pa.array([None], kind)) != of_array(pa.array([empty], kind))


def test_types_names_and_column_order_count() -> None:
    seen = {
        of(table)
        for table in (
            pa.table({"a": [1, 0], "b": [1, 0]}),
            pa.table({"b": [1, 0], "a": [1, 0]}),
            pa.table({"a": [1, 0], "c": [1, 0]}),
            pa.table({"a": [1, 0], "b": [1.0, 0.0]}),
            pa.table({"a": [1, 0], "b": [True, False]}),
            pa.table({"a": [1, 0], "b": ["1", "0"]}),
            pa.table({"a": [1, 0], "b": [b"1", b"0"]}),
            pa.table({"a": [1, 0], "b": pa.nulls(2)}),
            pa.table({"a": [1, 0]}),
            pa.table({"a": pa.array([], pa.int64())}),
        )
    }
    assert len(seen) == 10


def test_text_does_not_run_into_its_neighbour() -> None:
    assert of_array(pa.array(["ab", "c"])) != of_array(pa.array(["a", "bc"]))
    assert of(pa.table({"a": ["x"], "b": ["y"]})) != of(pa.table({"a": ["xy"], "b": [""]}))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(-(2**40), 2**40), st.floats(-1e6, 1e6), st.text('abcäß ,"', max_size=5).map(lambda t: "x" + t)), min_size=1, max_size=30
    ),
    st.integers(1, 7),
)
def test_csv_parquet_and_memory_agree(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float, str]], group: int) -> None:
    folder = tmp_path_factory.mktemp("fingerprint")
    table = pa.table({"n": [r[0] for r in rows], "x": pa.array([r[1] for r in rows], pa.float64()), "s": [r[2] for r in rows]})
    pq.write_table(table, folder / "t.parquet", row_group_size=group)
    pa_csv.write_csv(table, folder / "t.csv")
    back = pa_csv.read_csv(folder / "t.csv", convert_options=pa_csv.ConvertOptions(column_types={"x": pa.float64(), "s": pa.string()}))
    assert of(pq.read_table(folder / "t.parquet")) == of(back) == of(table)


def test_streams_and_tables_agree_whatever_the_batch_size() -> None:
    table = pa.table({"x": np.arange(1000.0), "s": [str(n) for n in range(1000)]})
    whole = Dataset.from_arrow(table)
    for rows in (1, 7, 1000):
        streamed = Dataset.from_arrow(lambda rows=rows: iter(table.to_batches(max_chunksize=rows)))
        assert streamed.fingerprint == whole.fingerprint
        assert streamed.streamed


def test_batches_of_different_types_are_refused() -> None:
    one, other = pa.record_batch({"x": [1]}), pa.record_batch({"x": ["a"]})
    with pytest.raises(InvalidInput, match="differ in column names or types"):
        fingerprint([one, other])
    with pytest.raises(InvalidInput):
        fingerprint([])


def test_the_format_of_version_1_stays() -> None:
    """Written out by hand from the description, so that a change of the format cannot go unnoticed."""

    def packed(number: int) -> bytes:
        return struct.pack("<Q", number)

    def words(text: str) -> bytes:
        return packed(len(text.encode())) + text.encode()

    def digest(content: bytes = b"") -> bytes:
        return sha256(content).digest()

    expected = sha256(
        b"affidavit dataset fingerprint 1\n"
        + packed(3)
        + (words("n") + words("integer") + packed(3) + digest(packed(1)) + digest(struct.pack("<2q", 7, -1)) + digest())
        + (words("x") + words("float") + packed(3) + digest(packed(2)) + digest(struct.pack("<2d", 0.5, 2.0)))
        + (words("ö") + words("string") + packed(3) + digest() + digest(struct.pack("<3q", 1, 0, 2)) + digest("aß".encode()))
    ).hexdigest()
    table = pa.table({"n": pa.array([7, None, -1], pa.int8()), "x": pa.array([0.5, 2.0, math.nan], pa.float32()), "ö": ["a", "", "ß"]})
    assert of(table) == expected
