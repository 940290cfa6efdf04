"""Tables: planted personal data never survive, everything else does, and pseudonyms join."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.masking import Finding
from affidavit.interfaces.schema import Field, FieldType, Role, Schema
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking import mask_table, scan_table
from affidavit_governance.masking.applying import apply
from affidavit_governance.masking.columns import name_hints
from affidavit_governance.masking.plan import MaskingPlan, plan_for
from affidavit_governance.masking.recognizers.catalogue import patterns
from affidavit_governance.masking.tools import Tools

KEY = bytes(range(32))
EMAIL, IBAN, CARD, PHONE = "ann.lee@example.com", "GB29NWBK60161331926819", "4111111111111111", "+4915112345678"
SECRETS = (EMAIL, IBAN, CARD, PHONE)


def policy(**section: Any) -> MaskingPolicy:
    return MaskingPolicy.model_validate(section)


def dataset(table: Any, **roles: str) -> Dataset:
    """A data set whose schema is written out here, so that these tests depend on no inference."""
    table = table if isinstance(table, pa.Table) else pa.table(table)
    fields = []
    for field in table.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        fields.append(Field(field.name, FieldType.NUMERIC if number else FieldType.TEXT, Role(roles.get(field.name, "feature"))))
    return Dataset(table, Schema(tuple(fields)))


def ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def every_type() -> pa.Table:
    """Each Arrow type that can hold text, with personal data in a single row."""
    note = ["fine", f"write to {EMAIL}", None, f"pay {IBAN} by {CARD} or {PHONE}"]
    nested = [["a", None], None, [f"x {EMAIL}"], [IBAN, "b"]]
    offsets = np.array([0, 1, 20, 21, 22], np.int32).tobytes()
    hidden = pa.Array.from_buffers(pa.string(), 4, [pa.py_buffer(b"\x0d"), pa.py_buffer(offsets), pa.py_buffer(b"a" + EMAIL.encode() + b"bc")])
    assert hidden.to_pylist() == ["a", None, "b", "c"]
    return pa.table(
        {
            "string": note,
            "large": pa.array(note, pa.large_string()),
            "view": pa.array(note, pa.string_view()),
            "dictionary": pa.array(["x", EMAIL, "x", None]).dictionary_encode(),
            "unused": pa.DictionaryArray.from_arrays(pa.array([0, 0, None, 0]), pa.array(["x", EMAIL])),
            "under_null": hidden,
            "bytes": pa.array([n.encode() if n else None for n in note], pa.binary()),
            "bytes_view": pa.array([n.encode() if n else None for n in note], pa.binary_view()),
            "fixed": pa.array([EMAIL.encode(), None, b"1234567890123456789", b"\xff" * 19], pa.binary(19)),
            "list": nested,
            "large_list": pa.array(nested, pa.large_list(pa.string())),
            "fixed_list": pa.array([["a", "b"], None, [EMAIL, "c"], ["d", None]], pa.list_(pa.string(), 2)),
            "struct": [{"to": EMAIL, "n": 1}, None, {"to": "x", "n": 2}, {"to": None, "n": int(CARD)}],
            "map": pa.array([[("k", EMAIL)], None, [(EMAIL, "v")], []], pa.map_(pa.string(), pa.string())),
            "deep": [[{"to": [EMAIL]}], None, [], [{"to": None}]],
            "int": [1, int(CARD), None, 3],
            "float": [1.5, float(CARD), None, float("nan")],
            "decimal": pa.array([Decimal("1.50"), Decimal(CARD), None, Decimal(3)], pa.decimal128(20, 2)),
            "ok": ["a", "b", None, "c"],
        },
        metadata={"note": EMAIL},
    )


def test_personal_data_in_one_cell_of_every_type_survive_nowhere_in_the_output() -> None:
    source = dataset(every_type())
    before = ipc(source.table)
    masked, report = mask_table(source, policy(), KEY)
    written = ipc(masked.table)
    for secret in SECRETS:
        assert secret.encode() in before
        assert secret.encode() not in written
        assert secret not in json.dumps(report.to_json())
    assert int(CARD).to_bytes(8, "little") in before
    assert int(CARD).to_bytes(8, "little") not in written
    assert np.float64(CARD).tobytes() not in written
    assert ipc(source.table) == before
    masked.table.validate(full=True)
    assert masked.table.num_rows == 4
    assert masked.table.column_names == source.table.column_names
    assert masked.table.column("ok").equals(source.table.column("ok"))
    for name in set(masked.table.column_names) - {"ok", "unused", "under_null"}:
        assert masked.table.schema.field(name).type == source.table.schema.field(name).type, name
        assert masked.table.column(name).null_count >= source.table.column(name).null_count
        assert report.columns[name]["cells"] >= 1, name
    assert masked.to_list("string") == ["fine", "write to <EMAIL_ADDRESS>", None, "pay <IBAN_CODE> by <CREDIT_CARD> or <PHONE_NUMBER>"]
    assert masked.to_list("list") == [["a", None], None, ["x <EMAIL_ADDRESS>"], ["<IBAN_CODE>", "b"]]
    assert masked.to_list("map") == [[("k", "<EMAIL_ADDRESS>")], None, [("<EMAIL_ADDRESS>", "v")], []]
    assert masked.to_list("int") == [1, None, None, 3]
    assert masked.to_list("fixed") == [None, None, b"1234567890123456789", b"\xff" * 19]


def test_chunks_and_slices_are_masked_like_whole_tables() -> None:
    table = every_type()
    sliced = pa.concat_tables([table, table]).slice(1, 6)
    whole, _ = mask_table(dataset(table), policy(), KEY)
    masked, _ = mask_table(dataset(sliced), policy(), KEY)
    expected = pa.concat_tables([whole.table, whole.table]).slice(1, 6)
    assert [str(row) for row in masked.table.to_pylist()] == [str(row) for row in expected.to_pylist()]
    assert all(secret.encode() not in ipc(masked.table) for secret in SECRETS)


@given(
    st.lists(
        st.one_of(st.none(), st.text(max_size=20), st.sampled_from([EMAIL, IBAN, CARD, PHONE, f"to {EMAIL}, {IBAN}", "１" * 3])),
        min_size=1,
        max_size=20,
    ),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.just(int(CARD))), min_size=20, max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_masking_never_fails_and_never_leaves_a_planted_value(texts: list[str | None], numbers: list[int | None]) -> None:
    source = dataset({"t": pa.array(texts, pa.string()), "n": pa.array(numbers[: len(texts)], pa.int64())})
    masked, _ = mask_table(source, policy(), KEY)
    written = ipc(masked.table)
    assert all(secret.encode() not in written for secret in SECRETS)
    assert int(CARD) not in masked.to_list("n")
    assert masked.column("t").null_count >= texts.count(None)
    assert scan_table(masked) == {}


def test_a_column_that_mostly_is_an_entity_is_masked_whole_and_reaches_no_model() -> None:
    source = dataset({"contact": [EMAIL, "bob@example.org", "unknown mail", None] * 5, "x": list(range(20))})
    found = scan_table(source)["contact"]
    assert (found.entity, found.whole, found.cells, found.share) == ("EMAIL_ADDRESS", True, 10, 0.6667)
    masked, report = mask_table(source, policy(), KEY)
    assert masked.to_list("contact") == ["[REDACTED]", "[REDACTED]", "[REDACTED]", None] * 5
    field = masked.schema["contact"]
    assert (field.entity, field.masked, field.role) == ("EMAIL_ADDRESS", "redact", Role.IDENTIFIER)
    assert report.columns["contact"]["operator"] == "redact"


def test_texts_that_only_mention_an_entity_keep_the_rest_of_their_words() -> None:
    source = dataset({"note": [f"please write to p{i}@example.com about it" for i in range(10)]})
    assert not scan_table(source)["note"].whole
    masked, _ = mask_table(source, policy(), KEY)
    assert masked.to_list("note") == ["please write to <EMAIL_ADDRESS> about it"] * 10
    assert masked.schema["note"].role is Role.FEATURE


def test_categories_that_become_one_placeholder_stay_a_proper_dictionary() -> None:
    values = pa.array(["x", "x", "x", "ask a@b.org", "ask c@d.org", None]).dictionary_encode()
    masked, report = mask_table(dataset({"c": values}), policy(), KEY)
    assert masked.table.column("c").chunk(0).dictionary.to_pylist() == ["x", "ask <EMAIL_ADDRESS>"]
    assert list(masked.to_pandas()["c"].cat.categories) == ["x", "ask <EMAIL_ADDRESS>"]
    assert report.columns["c"]["cells"] == 2


def test_numbers_are_cards_or_telephones_only_on_strong_evidence() -> None:
    generator = np.random.default_rng(3)
    phones = [2025550100 + i for i in range(30)]
    table = {
        "amount": generator.integers(1, 10**7, 30),
        "created_ms": 1_700_000_000_000 + generator.integers(0, 10**9, 30),
        "created_us": 1_700_000_000_000_000 + generator.integers(0, 10**12, 30),
        "unix": 1_700_000_000 + generator.integers(0, 10**7, 30),
        "phone_minutes": generator.integers(10**8, 10**9, 30),
        "home_phone": phones,
        "code": phones,
        "mobile": [13812345678 + i for i in range(30)],
    }
    found = scan_table(pa.table(table))
    assert set(found) == {"home_phone", "code", "mobile"}
    assert all(finding.entity == "PHONE_NUMBER" and finding.whole for finding in found.values())
    masked, _ = mask_table(dataset(table), policy(), KEY)
    assert masked.column("home_phone").null_count == 30
    assert masked.column("amount").equals(pa.chunked_array([table["amount"]]))


def test_a_column_name_speaks_for_values_that_alone_are_too_weak() -> None:
    assert name_hints("customerPhone_2") == {"PHONE_NUMBER"}
    assert name_hints("E-Mail") == {"EMAIL_ADDRESS"}
    assert name_hints("credit_amount") == name_hints("telephony") == frozenset()
    values = ["467 3395", "781 1704"]
    assert scan_table(pa.table({"part": values})) == {}
    assert scan_table(pa.table({"telephone": values}))["telephone"].whole
    assert scan_table(pa.table({"telephone": [True, False]})) == {}


def test_the_name_of_a_structs_field_speaks_as_a_columns_does() -> None:
    numbers = ["467 3395", "467 3396", None] * 200  # enough for the quick look before the search
    flat, _ = mask_table(dataset({"phone": numbers}), policy(default="pseudonym"), KEY)
    assert None not in flat.to_list("phone")[:2]
    cells = [{"phone": number, "code": number} for number in numbers]
    for nested in (pa.array(cells), pa.array([[cell] for cell in cells])):
        masked, report = mask_table(dataset({"contact": nested}), policy(), KEY)
        leaves = masked.table.column("contact").combine_chunks()
        leaves = leaves.flatten() if pa.types.is_list(leaves.type) else leaves
        assert leaves.field("phone").to_pylist() == ["<PHONE_NUMBER>", "<PHONE_NUMBER>", None] * 200
        assert leaves.field("code").to_pylist() == numbers
        assert (report.cells, report.columns["contact"]["findings"]) == (400, {"PHONE_NUMBER": 2})


def test_german_credit_style_columns_are_left_alone() -> None:
    table = {
        "checking": ["... < 0 DM", "0 <= ... < 200 DM", "no checking account"] * 4,
        "purpose": ["radio/television", "car (new)", "education"] * 4,
        "telephone": [True, False, True] * 4,
        "amount": [1169, 5951, 2096] * 4,
        "when": [dt.date(2020, 1, 2)] * 12,
    }
    source = dataset(table)
    masked, report = mask_table(source, policy(), KEY)
    assert masked.table.equals(source.table)
    assert report.columns == {}


# -- operators ------------------------------------------------------------------------------------------------------------------------------


def test_pseudonyms_are_equal_for_equal_values_and_a_join_on_them_gives_the_same_rows() -> None:
    people = pd.DataFrame({"id": [3, 1, 2, 2, None], "city": list("abcde")})
    loans = pl.DataFrame({"id": ["1", "2", "9", "3"], "amount": [10, 20, 30, 40]})
    rule = policy(fields={"id": "pseudonym"})
    left, _ = mask_table(Dataset.from_arrow(people, fields={"id": {"role": "identifier"}}), rule, KEY)
    right, _ = mask_table(dataset(pa.table(loans)), rule, KEY)
    assert left.column("id").null_count == 1
    plain = people.dropna().assign(id=lambda f: f["id"].astype(int).astype(str)).merge(loans.to_pandas(), on="id")
    joined = left.to_pandas().dropna().merge(right.to_pandas(), on="id")
    assert sorted(zip(plain.city, plain.amount, strict=True)) == sorted(zip(joined.city, joined.amount, strict=True))
    other, _ = mask_table(dataset(pa.table(loans)), rule, bytes(32))
    assert set(other.to_list("id")).isdisjoint(right.to_list("id"))
    apart, _ = mask_table(dataset(pa.table(loans)), policy(fields={"id": {"pseudonym": {"namespace": "loans"}}}), KEY)
    assert set(apart.to_list("id")).isdisjoint(right.to_list("id"))


def test_a_pseudonym_is_keyed_blake2b_of_the_value() -> None:
    import hashlib
    import struct

    masked, _ = mask_table(dataset({"id": ["Ann"]}), policy(fields={"id": "pseudonym"}), KEY)
    digest = hashlib.blake2b(b"\0\0\0\0Ann", digest_size=16, key=KEY, person=b"affidavit-pn-1").digest()
    secret = struct.unpack("<5Q", hashlib.blake2b(digest_size=40, key=KEY, person=b"affidavit-pm-1").digest())
    mark = (sum(a * w for a, w in zip(secret, struct.unpack("<4I", digest), strict=False)) + secret[4]) % 2**64 >> 32
    assert masked.to_list("id") == [digest.hex() + struct.pack("<I", mark).hex()]


@given(st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=30))
@settings(deadline=None, max_examples=60)
def test_pseudonyms_keep_exactly_the_equalities_of_a_column(values: list[str | None]) -> None:
    source = dataset({"v": pa.array(values, pa.string()), "w": pa.array(values, pa.string()).dictionary_encode()})
    masked, _ = mask_table(source, policy(detect=False, fields={"v": "pseudonym", "w": "pseudonym"}), KEY)
    out = masked.to_list("v")
    assert out == masked.to_list("w")
    assert len(set(zip(values, out, strict=True))) == len(set(values)) == len(set(out))
    assert [v is None for v in values] == [o is None for o in out]


def test_numbers_become_the_lower_edge_the_midpoint_or_the_label_of_their_bin() -> None:
    def run(values: Any, **setting: Any) -> pa.ChunkedArray:
        masked, _ = mask_table(dataset({"age": values}), policy(fields={"age": {"generalise": setting}}), KEY)
        return masked.column("age")

    ages = [30, 34, 35, None, -1]
    assert run(ages, width=5).to_pylist() == [30, 30, 35, None, -5]
    assert run(ages, width=5).type == pa.int64()
    assert run(ages, width=5, show="midpoint").to_pylist() == [32.5, 32.5, 37.5, None, -2.5]
    assert run(ages, width=10, origin=5).to_pylist() == [25, 25, 35, None, -5]
    assert run(ages, width=5, show="label").to_pylist() == ["[30, 35)", "[30, 35)", "[35, 40)", None, "[-5, 0)"]
    assert run(pa.array([0.3, 0.71, float("nan")], pa.float32()), width=0.1).to_pylist()[:2] == [pytest.approx(0.3), pytest.approx(0.7)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.sampled_from([0.1, 0.25, 1.0, 3.0, 5.0, 7.5]))
@settings(deadline=None, max_examples=100)
def test_generalising_twice_is_generalising_once(values: list[float], width: float) -> None:
    rule = policy(fields={"x": {"generalise": {"width": width}}})
    once, _ = mask_table(dataset({"x": values}), rule, KEY)
    again, _ = mask_table(dataset(once.table), rule, KEY)
    assert again.table.equals(once.table)
    shown = np.array(once.to_list("x"))
    assert np.all(shown <= np.array(values) + 1e-6)
    assert np.all(np.array(values) < shown + width + 1e-6)


def test_dates_and_texts_are_cut_down_and_keep_their_type() -> None:
    table = {"born": [dt.date(1990, 5, 17), None], "zip": ["94107", "9"], "seen": [dt.datetime(2020, 2, 3, 4, 5), None]}
    rule = policy(fields={"born": {"generalise": {"unit": "year"}}, "zip": {"generalise": {"prefix": 3}}, "seen": {"generalise": {"unit": "month"}}})
    masked, _ = mask_table(dataset(table), rule, KEY)
    assert masked.table.to_pydict() == {
        "born": [dt.date(1990, 1, 1), None],
        "zip": ["941*", "9"],
        "seen": [dt.datetime(2020, 2, 1), None],
    }
    assert masked.table.schema.field("born").type == pa.date32()


def test_redaction_keeps_types_and_missing_values_and_drop_leaves_a_column_out() -> None:
    table = pa.table({"s": ["a", None], "i": [1, 2], "d": pa.array(["p", "q"]).dictionary_encode(), "gone": ["x", "y"]})
    rule = policy(fields={"s": "redact", "i": "redact", "d": "redact", "gone": "drop"})
    masked, _ = mask_table(dataset(table), rule, KEY)
    assert masked.table.to_pydict() == {"s": ["[REDACTED]", None], "i": [None, None], "d": ["[REDACTED]"] * 2}
    assert [f.type for f in masked.table.schema] == [f.type for f in table.schema][:3]


def test_the_policy_line_of_a_column_wins_over_its_entity_and_the_entity_over_the_role() -> None:
    table = {"a": [EMAIL] * 3, "b": ["x@y.org"] * 3, "c": ["k1", "k2", "k3"], "d": [PHONE] * 3}
    source = dataset(table, a="identifier", b="identifier", c="identifier")
    rule = policy(fields={"a": "keep"}, entities={"EMAIL_ADDRESS": "pseudonym"}, default="drop")
    masked, report = mask_table(source, rule, KEY)
    assert masked.schema.names == ("a", "b")
    assert masked.to_list("a") == [EMAIL] * 3
    assert masked.schema["b"].masked == "pseudonym"
    assert report.columns["d"]["reason"].startswith("masking.default")
    declared = Dataset(pa.table({"n": ["Ann", "Bob"]}), Schema((Field("n", FieldType.TEXT, entity="PERSON"),)))
    assert mask_table(declared, policy(), KEY)[0].to_list("n") == ["[REDACTED]"] * 2


def test_target_and_protected_columns_are_searched_too_and_keep_their_role() -> None:
    source = dataset({"y": ["good", f"ask {EMAIL}"], "sex": ["f", f"m {PHONE}"]}, y="target", sex="protected")
    masked, _ = mask_table(source, policy(), KEY)
    assert masked.table.to_pydict() == {"y": ["good", "ask <EMAIL_ADDRESS>"], "sex": ["f", "m <PHONE_NUMBER>"]}
    assert masked.schema["y"].role is Role.TARGET
    assert masked.schema["sex"].role is Role.PROTECTED
    assert masked.schema["sex"].masked == "spans"
    with pytest.raises(UsageError, match="target"):
        mask_table(source, policy(fields={"y": "drop"}), KEY)


def test_entities_that_the_policy_keeps_stay_and_the_threshold_decides() -> None:
    source = dataset({"t": [f"{EMAIL} at 192.0.2.235", "x"]})
    assert mask_table(source, policy(entities={"IP_ADDRESS": "keep"}), KEY)[0].to_list("t")[0] == "<EMAIL_ADDRESS> at 192.0.2.235"
    assert mask_table(source, policy(threshold=0.97), KEY)[0].to_list("t")[0] == "<EMAIL_ADDRESS> at 192.0.2.235"
    assert mask_table(source, policy(detect=False), KEY)[0].table.equals(source.table)


# -- lineage, plans, streams ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "pseudonym",
        "redact",
        {"generalise": {"width": 10}},
        {"generalise": {"width": 0.3, "show": "midpoint"}},
        {"generalise": {"width": 10, "show": "label"}},
        {"generalise": {"width": 0.1, "origin": -3, "show": "label"}},
    ],
)
def test_masking_masked_data_gives_them_back_whatever_their_history(line: Any) -> None:
    rule = policy(fields={"x": line})
    once, _ = mask_table(dataset({"x": [31, 42, None, -7, 10**6]}), rule, KEY)
    again, _ = mask_table(Dataset(once.table, once.schema), rule, KEY)
    assert again.table.equals(once.table)


def test_a_pseudonym_of_another_key_or_a_text_that_only_looks_like_one_is_a_value() -> None:
    rule = policy(fields={"id": "pseudonym"})
    theirs = mask_table(dataset({"id": ["a", "b"]}), rule, bytes(32))[0].to_list("id")
    ours = mask_table(dataset({"id": ["a", "b"]}), rule, KEY)[0].to_list("id")
    values = [*theirs, *ours, "0" * 40, "F" * 40, "é" * 20]
    masked = mask_table(dataset({"id": values}), rule, KEY)[0].to_list("id")
    assert [before == after for before, after in zip(values, masked, strict=True)] == [False, False, True, True, False, False, False]


def test_the_result_names_its_root_and_lets_go_of_the_data_that_it_was_made_from() -> None:
    import gc
    import weakref

    source = dataset({"t": [EMAIL, "x"]})
    root = source.fingerprint
    masked, _ = mask_table(source, policy(), KEY)
    gone = weakref.ref(source)
    del source
    gc.collect()
    assert gone() is None
    assert masked.roots == {root}
    assert masked.lineage[-1].operation == "mask"


def test_a_plan_is_json_without_values_and_applies_again_the_same() -> None:
    source = dataset({"id": ["a", "b"], "t": [f"hi {EMAIL}", "y"], "mail": [EMAIL, "b@c.org"]}, id="identifier")
    plan = plan_for(source, policy(fields={"id": "pseudonym"}))
    text = json.dumps(plan.to_json())
    assert EMAIL not in text
    again = MaskingPlan.from_json(json.loads(text))
    assert apply(again, source, KEY)[0].table.equals(apply(plan, source, KEY)[0].table)
    assert again.to_json() == plan.to_json()
    for broken in ({}, {"version": 3}, {"version": 2}, {"version": 1, "columns": [{}], "threshold": 1, "keep": [], "policy": ""}, []):
        with pytest.raises(InvalidInput):
            MaskingPlan.from_json(broken)


def test_a_plan_of_the_first_version_is_read_and_does_what_it_did() -> None:
    column = {"name": "t", "operator": None, "settings": {}, "entity": None, "scan": True, "reason": "searched cell by cell"}
    other = {"name": "id", "operator": "pseudonym", "settings": {"namespace": "n"}, "entity": None, "scan": False, "reason": "masking.fields.id"}
    old = {"version": 1, "policy": "0" * 64, "threshold": 0.6, "keep": ["IP_ADDRESS"], "columns": [other, column]}
    source = dataset({"id": ["a", "b"], "t": [f"hi {EMAIL}", "at 192.0.2.235"]})
    masked, _ = apply(MaskingPlan.from_json(old), source, KEY)
    assert masked.to_list("t") == ["hi <EMAIL_ADDRESS>", "at 192.0.2.235"]
    same, _ = mask_table(source, policy(fields={"id": {"pseudonym": {"namespace": "n"}}}, entities={"IP_ADDRESS": "keep"}), KEY)
    assert masked.to_list("id") == same.to_list("id")


def test_an_identifier_gets_the_default_line_where_that_is_a_token_and_is_redacted_otherwise() -> None:
    source = dataset({"id": ["a1", "b2"]}, id="identifier")
    assert mask_table(source, policy(default={"generalise": {"prefix": 1}}), KEY)[0].to_list("id") == ["[REDACTED]"] * 2
    assert mask_table(source, policy(default="keep"), KEY)[0].to_list("id") == ["[REDACTED]"] * 2
    assert len(set(mask_table(source, policy(default="token"), KEY)[0].to_list("id")) - {"a1", "b2", "[REDACTED]"}) == 2


def test_streamed_data_stay_streamed_and_are_masked_batch_by_batch() -> None:
    table = pa.table({"id": [f"k{i}" for i in range(100)], "age": list(range(100)), "t": ["x"] * 99 + [EMAIL]})
    rule = policy(fields={"id": "pseudonym", "age": {"generalise": {"width": 10}}})
    whole, _ = mask_table(dataset(table), rule, KEY)
    streamed = Dataset(lambda: iter(table.to_batches(max_chunksize=7)), dataset(table).schema)
    masked, report = mask_table(streamed, rule, KEY)
    assert masked.streamed
    assert report.counted is False
    assert masked.fingerprint == whole.fingerprint
    assert masked.table.to_pydict() == whole.table.to_pydict()


class Slow:
    """A recognizer that is no pattern, as plugins bring them."""

    entities = ("PERSON",)

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [[Finding("PERSON", text.find("Ann"), text.find("Ann") + 3, 0.9)] if "Ann" in text else [] for text in texts]


def test_other_recognizers_read_text_columns_and_never_categories() -> None:
    table = pa.table({"note": ["ask Ann now", "no"], "kind": ["Ann", "b"]})
    schema = Schema((Field("note", FieldType.TEXT), Field("kind", FieldType.CATEGORICAL)))
    masked, _ = mask_table(Dataset(table, schema), policy(), KEY, tools=Tools((*patterns(), Slow())))
    assert masked.table.to_pydict() == {"note": ["ask <PERSON> now", "no"], "kind": ["Ann", "b"]}


# -- refusals -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"fields": {"agee": "redact"}}, r"unknown column in the policy.*'age'"),
        ({"fields": {"age": "generalize"}}, "no masking operator 'generalize'. Did you mean 'generalise'"),
        ({"fields": {"age": {"generalise": {"widht": 5}}}}, "no setting 'widht'. Did you mean 'width'"),
        ({"fields": {"age": {"generalise": {"width": 0}}}}, "setting 'width'"),
        ({"fields": {"age": "generalise"}}, "exactly one of width"),
        ({"fields": {"age": {"generalise": {"prefix": 2}}}}, "Column 'age' has the Arrow type int64"),
        ({"fields": {"t": {"generalise": {"width": 2}}}}, "Column 't' has the Arrow type string"),
        ({"fields": {"t": {"redact": {"with": "x"}}}}, "takes none"),
        ({"entities": {"EMAIL": "redact"}}, "no recognizer finds this entity.*EMAIL_ADDRESS"),
        ({"default": "hide"}, "masking.default.*'hide'"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused_with_its_line(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mask_table(dataset({"age": [1, 2], "t": ["a", "b"]}), policy(**section), KEY)


def test_a_column_or_data_set_named_by_personal_data_is_refused_without_repeating_it() -> None:
    with pytest.raises(InvalidInput, match=r"column 2 of 2 .*EMAIL_ADDRESS") as caught:
        mask_table(dataset({"a": [1], EMAIL: [2]}), policy(), KEY)
    assert EMAIL not in str(caught.value)
    named = dataset({"a": [1]})
    named.name = EMAIL
    with pytest.raises(InvalidInput, match="data set's name") as caught:
        mask_table(named, policy(), KEY)
    assert EMAIL not in str(caught.value)


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([{EMAIL: 1}, None]),
        pa.array([[{"a": {EMAIL: "x"}}], []]),
        pa.array([[("k", {EMAIL: 1})], None], pa.map_(pa.string(), pa.struct([(EMAIL, pa.int64())]))),
    ],
)
def test_a_name_inside_a_nested_column_that_is_personal_data_is_refused_unless_the_column_is_dropped(cells: pa.Array) -> None:
    source = dataset({"ok": [1, 2], "nested": cells})
    with pytest.raises(InvalidInput, match=r"inside column 2 of 2 .*EMAIL_ADDRESS") as caught:
        mask_table(source, policy(), KEY)
    assert EMAIL not in str(caught.value)
    masked, _ = mask_table(source, policy(fields={"nested": "drop"}), KEY)
    assert EMAIL.encode() not in ipc(masked.table)


def test_declared_categories_and_entities_hold_no_personal_data_also_where_no_row_has_them() -> None:
    declared = Schema((Field("city", FieldType.CATEGORICAL, categories=("Berlin", EMAIL)),))
    masked, report = mask_table(Dataset(pa.table({"city": ["Berlin", "Berlin"]}), declared, name="t"), policy(), KEY)
    assert masked.schema["city"].categories == ("Berlin", "<EMAIL_ADDRESS>")
    assert report.cells == 0
    masked, report = mask_table(Dataset(pa.table({"city": ["Berlin", EMAIL]}), declared, name="t"), policy(), KEY)
    assert (masked.schema["city"].categories, masked.schema["city"].masked) == (("Berlin", "<EMAIL_ADDRESS>"), "spans")
    assert (report.cells, report.columns["city"]["findings"]) == (1, {"EMAIL_ADDRESS": 1})
    named = Dataset(pa.table({"city": ["Berlin"]}), Schema((Field("city", FieldType.CATEGORICAL, entity=EMAIL),)), name="t")
    with pytest.raises(InvalidInput, match="entity declared for column 1") as caught:
        mask_table(named, policy(), KEY)
    assert EMAIL not in str(caught.value)


def test_text_that_is_not_utf8_and_types_that_cannot_be_searched_are_refused() -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, 4], np.int32).tobytes()), pa.py_buffer(b"\xff\xfe@a")])
    with pytest.raises(InvalidInput, match="Column 't' holds text that is not UTF-8"):
        mask_table(dataset({"t": broken}), policy(), KEY)
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([EMAIL, "b"]), pa.array([1, 2])])
    with pytest.raises(InvalidInput, match="cannot be searched"):
        mask_table(dataset({"u": union}), policy(), KEY)


def test_a_short_key_and_a_table_without_columns_left_are_refused() -> None:
    with pytest.raises(UsageError, match="16 to 64 bytes"):
        mask_table(dataset({"a": [1]}), policy(), b"short")
    with pytest.raises(InvalidInput, match="no column"):
        mask_table(dataset({"a": [1]}), policy(fields={"a": "drop"}), KEY)


def test_odd_names_empty_tables_and_pandas_indexes_survive() -> None:
    frame = pd.DataFrame({"": [EMAIL, "x"], "ä b": [1, 2]}, index=[7, 7])
    source = dataset(pa.Table.from_pandas(frame))
    masked, _ = mask_table(source, policy(), KEY)
    assert masked.table.column_names == ["", "ä b", "__index_level_0__"]
    assert masked.to_list("__index_level_0__") == [7, 7]
    empty, report = mask_table(dataset({"t": pa.array([], pa.string()), "n": pa.array([], pa.int64())}), policy(fields={"t": "redact"}), KEY)
    assert len(empty) == 0
    assert report.cells == 0
