"""What every operator keeps: missing values, layouts, order, the input itself, and silence about the originals."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.interfaces.masking import MaskContext, Operator
from affidavit.interfaces.schema import Field, FieldType, Role
from affidavit_governance.masking.operators.catalogue import BUNDLED, make_operator

KEY = bytes(range(32))
SECRETS = ("4111111111111111", "5500005555555559", "3714496353984310")


class MemoryVault:
    """The vault's protocol, kept in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str | None, bytes], bytes] = {}

    def tokens(self, values: Any, *, namespace: str, subjects: Any = None) -> list[bytes]:
        owners = [None] * len(values) if subjects is None else subjects
        return [
            self.rows.setdefault((namespace, owner, value), np.random.default_rng(len(self.rows)).bytes(16))
            for value, owner in zip(values, owners, strict=True)
        ]

    def values(self, tokens: Any, *, namespace: str) -> list[bytes]:
        known = {token: value for (space, _, value), token in self.rows.items() if space == namespace}
        return [known[token] for token in tokens]


def context(rows: int = 0, **changes: Any) -> MaskContext:
    subjects = pa.chunked_array([pa.array([f"person {i % 3}" for i in range(rows)], pa.string())])
    return MaskContext(**{"key": KEY, "table": "payments", "subjects": subjects, "vault": MemoryVault(), **changes})


def field(kind: FieldType = FieldType.TEXT, **changes: Any) -> Field:
    return Field("odd 'name'\n", kind, **changes)


TEXT_OPERATORS: dict[str, dict[str, Any]] = {
    "redact": {},
    "replace": {"value": "hidden"},
    "partial": {"last": 4},
    "pseudonym": {},
    "ff1": {},
    "token": {},
    "vault": {},
    "generalise": {"prefix": 3},
    "synthetic": {"kind": "shape"},
}
OTHERS = {"keep", "drop", "date_shift", "noise"}

ROWS = [SECRETS[0], None, SECRETS[1], SECRETS[0], SECRETS[2]]


def hidden_under_null() -> pa.Array:
    """A secret in the buffer that a null bit hides."""
    data = "".join(value or SECRETS[2] for value in ROWS).encode()
    offsets = np.arange(0, 96, 16, dtype=np.int32).tobytes()
    return pa.Array.from_buffers(pa.string(), 5, [pa.py_buffer(bytes([0b11101])), pa.py_buffer(offsets), pa.py_buffer(data)])


LAYOUTS: dict[str, pa.ChunkedArray] = {
    "string": pa.chunked_array([pa.array(ROWS)]),
    "chunks": pa.chunked_array([pa.array(ROWS[:2]), pa.array([], pa.string()), pa.array(ROWS[2:])]),
    "slice": pa.chunked_array([pa.array(["x", *ROWS, "y"]).slice(1, 5)]),
    "large": pa.chunked_array([pa.array(ROWS, pa.large_string())]),
    "view": pa.chunked_array([pa.array(ROWS, pa.string_view())]),
    "under null": pa.chunked_array([hidden_under_null()]),
    "int8 dictionary": pa.chunked_array([pa.array(ROWS).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))]),
    "int32 dictionary of large": pa.chunked_array([pa.array(ROWS, pa.large_string()).dictionary_encode()]),
    "null in dictionary": pa.chunked_array(
        [
            pa.DictionaryArray.from_arrays(
                pa.array([0, 1, 2, 0, 3], pa.int16()), pa.array([SECRETS[0], None, SECRETS[1], SECRETS[2], "unused 12345678"])
            )
        ]
    ),
    "two dictionaries": pa.chunked_array([pa.array(ROWS[:2]).dictionary_encode(), pa.array(ROWS[2:]).dictionary_encode()]),
}


def ipc(column: pa.ChunkedArray) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table([column], names=["c"])
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def buffers(array: pa.Array) -> bytes:
    found = b"".join(bytes(buffer) for buffer in array.buffers() if buffer is not None)
    return found + (buffers(array.dictionary) if pa.types.is_dictionary(array.type) else b"")


def test_every_bundled_operator_is_looked_at_here() -> None:
    assert set(BUNDLED) == set(TEXT_OPERATORS) | OTHERS
    assert all(BUNDLED[name].spans for name in ("replace", "partial", "pseudonym", "ff1", "token", "vault", "synthetic"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TEXT_OPERATORS)
def test_text_in_every_layout_is_masked_alike_and_leaves_no_trace(name: str, layout: str) -> None:
    operator, column = BUNDLED[name](**TEXT_OPERATORS[name]), LAYOUTS[layout]
    before = ipc(column)
    shared = context()
    masked = operator.apply(column, field(), shared)
    assert masked is not None
    masked.validate(full=True)
    assert ipc(column) == before
    expected = operator.apply(LAYOUTS["string"], field(), shared)
    assert expected is not None
    assert masked.to_pylist() == expected.to_pylist()
    assert [value is None for value in masked.to_pylist()] == [value is None for value in ROWS]
    assert masked.to_pylist()[0] == masked.to_pylist()[3]
    written = b"".join(buffers(chunk) for chunk in masked.chunks)
    for secret in (*SECRETS, "unused 12345678"):
        assert secret.encode() not in written
    text = masked.type.value_type if pa.types.is_dictionary(masked.type) else masked.type
    assert pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_string_view(text)


def test_values_of_a_dictionary_that_no_row_has_are_not_looked_at() -> None:
    column = pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([1, None, 1], pa.int8()), pa.array(["short", SECRETS[0], "unused"]))])
    vault = MemoryVault()
    BUNDLED["vault"]().apply(column, field(), context(vault=vault))
    assert [value for _, _, value in vault.rows] == [SECRETS[0].encode()]
    masked = BUNDLED["ff1"]().apply(column, field(), context())
    assert masked is not None
    assert masked.null_count == 1
    empty = pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([None, None], pa.int8()), pa.array([], pa.string()))])
    for name, settings in TEXT_OPERATORS.items():
        none = BUNDLED[name](**settings).apply(empty, field(), context())
        assert none is not None
        assert none.to_pylist() == [None, None]


@pytest.mark.parametrize("name", TEXT_OPERATORS)
def test_no_rows_no_chunks_only_nulls_and_empty_texts(name: str) -> None:
    operator = BUNDLED[name](**TEXT_OPERATORS[name])
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        none = operator.apply(pa.chunked_array([], type=kind), field(), context())
        assert none is not None
        assert len(none) == 0
        nulls = operator.apply(pa.chunked_array([pa.nulls(3, kind)]), field(), context())
        assert nulls is not None
        assert nulls.to_pylist() == [None] * 3
        assert nulls.type == none.type, "the type follows from the column's type alone, so that the batches of a stream agree"
    empty = operator.apply(pa.chunked_array([pa.array(["", SECRETS[0]])]), field(), context())
    assert empty is not None
    assert empty.null_count == 0


@pytest.mark.parametrize("name", TEXT_OPERATORS)
def test_what_is_said_about_masking_twice_is_so(name: str) -> None:
    operator, shared = BUNDLED[name](**TEXT_OPERATORS[name]), context()
    once = operator.apply(LAYOUTS["string"], field(), shared)
    assert once is not None
    twice = operator.apply(once, field(), shared)
    assert twice is not None
    assert (twice.to_pylist() == once.to_pylist()) is operator.idempotent


@pytest.mark.parametrize("name", [*TEXT_OPERATORS, "noise", "date_shift"])
@pytest.mark.parametrize(
    "values",
    [
        pa.array([[SECRETS[0]], None]),
        pa.array([{"a": SECRETS[0]}]),
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array([SECRETS[0], SECRETS[1]])]),
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array([SECRETS[0], None])),
    ],
    ids=["list", "struct", "union", "runs"],
)
def test_nested_and_mixed_columns_are_refused_by_name_or_emptied(name: str, values: pa.Array) -> None:
    settings = TEXT_OPERATORS.get(name, {"scale": 1.0} if name == "noise" else {"subject": "who"})
    operator = BUNDLED[name](**settings)
    column = pa.chunked_array([values])
    if name == "redact":
        masked = operator.apply(column, field(), context())
        assert masked is not None
        assert masked.to_pylist() == [None] * len(column)
        return
    with pytest.raises(UsageError, match="odd 'name'") as caught:
        operator.apply(column, field(), context(len(values)))
    assert SECRETS[0] not in str(caught.value)


@pytest.mark.parametrize("name", ["pseudonym", "token", "vault", "ff1", "partial", "synthetic"])
def test_text_that_is_not_utf8_is_refused_without_quoting_it(name: str) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, 8], np.int32)), pa.py_buffer(b"4111\xff111")])
    with pytest.raises(InvalidInput, match="(?s)odd 'name'.*UTF-8") as caught:
        BUNDLED[name](**TEXT_OPERATORS[name]).apply(pa.chunked_array([broken]), field(), context())
    assert "4111" not in str(caught.value)


@pytest.mark.parametrize("name", ["pseudonym", "token", "vault", "partial", "synthetic"])
def test_one_value_of_ten_megabytes_is_masked(name: str) -> None:
    long = "personal " * (50_000 if name == "synthetic" else 1_150_000)  # a stand-in is made letter by letter, ten megabytes in seconds
    masked = BUNDLED[name](**TEXT_OPERATORS[name]).apply(pa.chunked_array([pa.array([long, "short one"])]), field(), context())
    assert masked is not None
    assert masked.to_pylist()[0] != long


def test_one_number_of_ten_megabytes_is_refused_by_format_preserving_encryption() -> None:
    with pytest.raises(InvalidInput, match="1 of 2 values have more than 4096 characters"):
        BUNDLED["ff1"]().apply(pa.chunked_array([pa.array(["1" * 10_000_000, SECRETS[0]])]), field(), context())


OTHER_TYPES = [
    pa.array([4111111111111111, None, 5]),
    pa.array([1.5, None, float("nan"), 4111111111111111.0]),
    pa.array([True, None, False]),
    pa.array([Decimal("4111111111111111.00"), None]),
    pa.array([dt.date(1990, 5, 17), None]),
    pa.array([dt.datetime(1990, 5, 17, 1, 2, 3, 4000), None]),
    pa.array([643026123456789012, None], pa.timestamp("ns", "Asia/Shanghai")),
    pa.array([dt.time(1, 2, 3), None]),
    pa.array([dt.timedelta(days=3), None]),
    pa.array([b"4111111111111111", None]),
    pa.array([b"4111111111111111", None], pa.binary(16)),
    pa.nulls(2),
]


@pytest.mark.parametrize("values", OTHER_TYPES, ids=lambda values: str(values.type))
@pytest.mark.parametrize("name", ["redact", "pseudonym", "token", "vault", "partial", "synthetic"])
def test_all_plain_types_are_masked_and_missing_ones_stay_missing(name: str, values: pa.Array) -> None:
    column = pa.chunked_array([values])
    masked = BUNDLED[name](**TEXT_OPERATORS[name]).apply(column, field(), context())
    assert masked is not None
    assert len(masked) == len(column)
    gone = [value is None or value != value for value in column.to_pylist()]
    assert all(value is None for value, missing in zip(masked.to_pylist(), gone, strict=True) if missing)
    if name != "redact":
        assert [value is None for value in masked.to_pylist()] == gone
    written = b"".join(buffers(chunk) for chunk in masked.chunks)
    assert SECRETS[0].encode() not in written
    assert int(SECRETS[0]).to_bytes(8, "little") not in written


@pytest.mark.parametrize("name", BUNDLED)
def test_the_schema_says_what_was_done(name: str) -> None:
    settings = {**TEXT_OPERATORS, "noise": {"scale": 1.0}, "date_shift": {"subject": "who"}}.get(name, {})
    given = field(FieldType.CATEGORICAL, role=Role.FEATURE, categories=("a", "b"), entity="CREDIT_CARD")
    after = BUNDLED[name](**settings).field(given)
    if name == "keep":
        assert after == given
        return
    assert after.masked == name
    assert after.entity == "CREDIT_CARD"
    assert after.categories is None, "the categories are values"
    assert after.role is (Role.IDENTIFIER if name in ("redact", "replace") else Role.FEATURE)
    numeric = BUNDLED[name](**settings).field(field(FieldType.NUMERIC, bounds=(0.0, 9.0)))
    if name in ("pseudonym", "token", "vault", "ff1", "partial", "synthetic"):
        assert (numeric.type, numeric.bounds) == (FieldType.CATEGORICAL, None)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("replace", {}, "'value': Field required"),
        ("replace", {"value": None}, "'value"),
        ("partial", {"char": "**"}, "'char'"),
        ("partial", {"char": " "}, "'char'"),
        ("partial", {"last": -1}, "'last'"),
        ("ff1", {"alphabet": "a"}, "'alphabet'"),
        ("ff1", {"alphabet": "aab"}, "'alphabet'"),
        ("ff1", {"short": "keep"}, "'short'"),
        ("token", {"tweak": "x"}, "no setting 'tweak'"),
        ("date_shift", {}, "'subject': Field required"),
        ("date_shift", {"subject": "who", "days": 0}, "'days'"),
        ("noise", {}, "'scale': Field required"),
        ("noise", {"scale": 0}, "'scale'"),
        ("noise", {"scale": 1, "low": 2, "high": 1}, "low is below high"),
        ("synthetic", {"kind": "person"}, "'kind'"),
        ("synthetic", {"locale": "../x"}, "'locale'"),
        ("generalise", {}, "exactly one of"),
        ("generalise", {"hierarchy": {"a": "b", "b": "a"}}, "its own ancestor"),
        ("generalise", {"hierarchy": {"a": "b", "b": "c", "c": "b"}}, "its own ancestor"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_policy_line(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match="masking.fields.x") as caught:
        make_operator(name, settings, where="Policy line 'masking.fields.x'")
    assert words in str(caught.value)


def test_operators_do_not_fail_on_names_and_tables_of_any_letters() -> None:
    column = pa.chunked_array([pa.array(ROWS)])
    for name, settings in TEXT_OPERATORS.items():
        masked = BUNDLED[name](**settings).apply(column, Field("名\x00'\"", FieldType.TEXT), context(table="\x00表"))
        assert masked is not None, name


def test_all_errors_are_ones_that_affidavit_raises_on_purpose() -> None:
    """Each operator against each type: it works, or it says why not."""
    for name in BUNDLED:
        settings = {**TEXT_OPERATORS, "noise": {"scale": 1.0}, "date_shift": {"subject": "who"}}.get(name, {})
        operator: Operator = BUNDLED[name](**settings)
        for values in [*OTHER_TYPES, pa.array(["a"]), pa.array([[1]]), pa.array([2**63], pa.uint64()), pa.array([1], pa.duration("ns"))]:
            try:
                operator.apply(pa.chunked_array([values]), field(), context(len(values)))
            except AffidavitError as error:
                assert "odd 'name'" in str(error)
