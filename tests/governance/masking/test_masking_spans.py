"""Findings inside texts get the token that the policy's line for their entity makes, the same on every surface."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.masking import Finding, MaskContext, Operator
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking import PromptMasker, mask_table, mask_text
from affidavit_governance.masking.recognizers.catalogue import patterns
from affidavit_governance.masking.spans import Spans, mask_values
from affidavit_governance.masking.surfaces.files import mask_file
from affidavit_governance.masking.text import scan_values
from affidavit_governance.masking.tools import Tools

KEY = bytes(range(32))
EMAIL, OTHER, PHONE, IBAN, CARD = "ann.lee@example.com", "bob@example.org", "+4915112345678", "GB29NWBK60161331926819", "4111111111111111"


def policy(**section: Any) -> MaskingPolicy:
    return MaskingPolicy.model_validate(section)


def table(**columns: Any) -> Dataset:
    return Dataset(pa.table(columns), Schema(tuple(Field(name, FieldType.TEXT) for name in columns)), name="people")


@pytest.mark.parametrize("line", ["pseudonym", "token", {"pseudonym": {"namespace": "n"}}, "ff1", "synthetic", {"replace": {"value": "somebody"}}])
def test_a_value_gets_one_token_in_a_column_a_cell_a_text_a_file_and_a_prompt(line: Any, tmp_path: Path) -> None:
    rule = policy(entities={"CREDIT_CARD": line})
    masked, _ = mask_table(table(card=[CARD] * 4, note=[f"paid by {CARD} at noon", "nothing", None, f"{CARD} and {CARD}"]), rule, KEY)
    token = masked.to_list("card")[0]
    assert token not in (CARD, "[REDACTED]", "<CREDIT_CARD>")
    assert masked.to_list("note") == [f"paid by {token} at noon", "nothing", None, f"{token} and {token}"]
    assert mask_text(f"Card {CARD}.", policy=rule, key=KEY)[0] == f"Card {token}."
    (tmp_path / "in.txt").write_text(f"one {CARD}\ntwo\n")
    mask_file(tmp_path / "in.txt", tmp_path / "out.txt", policy=rule, key=KEY)
    assert (tmp_path / "out.txt").read_text() == f"one {token}\ntwo\n"
    pa.parquet.write_table(pa.table({"anything": [f"by card {CARD}, he said"] * 3}), tmp_path / "other.parquet")
    mask_file(tmp_path / "other.parquet", tmp_path / "masked.parquet", policy=rule, key=KEY)
    assert pa.parquet.read_table(tmp_path / "masked.parquet")["anything"].to_pylist() == [f"by card {token}, he said"] * 3
    if line not in ("ff1", "synthetic"):
        assert token in PromptMasker(rule, key=KEY).mask(f"Card {CARD}.")


def test_the_line_of_a_column_binds_its_tokens_to_the_column_and_the_line_of_an_entity_does_not() -> None:
    rule = policy(fields={"a": "ff1", "b": "ff1"}, entities={"CREDIT_CARD": "ff1"})
    masked, report = mask_table(table(a=[CARD], b=[CARD], c=[CARD], d=[CARD]), rule, KEY)
    a, b, c, d = (masked.to_list(name)[0] for name in "abcd")
    assert c == d
    assert len({a, b, c}) == 3
    assert report.columns["a"]["bound"] == {"table": "people", "field": "a"}
    assert report.columns["c"]["bound"] == {"table": "", "field": "CREDIT_CARD"}
    assert masked.schema["a"].masked_in == "people"
    assert masked.schema["c"].masked_in is None


@pytest.mark.parametrize("line", ["redact", {"generalise": {"prefix": 3}}, "drop"])
def test_an_operator_that_fits_no_span_leaves_the_entitys_name(line: Any) -> None:
    assert mask_text(f"to {EMAIL}", policy=policy(entities={"EMAIL_ADDRESS": line}), key=KEY)[0] == "to <EMAIL_ADDRESS>"


def test_the_default_line_counts_for_entities_without_one_and_keep_leaves_them() -> None:
    text = f"{EMAIL} {PHONE}"
    token = mask_text(EMAIL, policy=policy(default="pseudonym"), key=KEY)[0]
    assert mask_text(text, policy=policy(default="pseudonym", entities={"PHONE_NUMBER": "keep"}), key=KEY)[0] == f"{token} {PHONE}"
    assert mask_text(text, policy=policy(default="keep", entities={"EMAIL_ADDRESS": "pseudonym"}), key=KEY)[0] == f"{token} {PHONE}"
    assert PromptMasker(policy(default="keep", entities={"EMAIL_ADDRESS": "pseudonym"}), key=KEY).mask(text) == f"{token} {PHONE}"


def test_a_policy_that_does_not_detect_leaves_texts_alone() -> None:
    assert mask_text(EMAIL, policy=policy(detect=False), key=KEY) == (EMAIL, [])


def test_tokens_need_a_key_and_placeholders_do_not() -> None:
    assert mask_text(EMAIL, policy=policy())[0] == "<EMAIL_ADDRESS>"
    with pytest.raises(UsageError, match="no key"):
        mask_text(EMAIL, policy=policy(default="pseudonym"))
    with pytest.raises(UsageError, match="16 to 64 bytes"):
        mask_text(EMAIL, policy=policy(), key=b"short")


class Counted(Operator):
    """Upper case, in batches that are counted."""

    name = "counted"
    spans = True
    calls: list[tuple[str, list[str]]] = []  # noqa: RUF012  # one list for all, on purpose

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        self.calls.append((field.name, column.to_pylist()))
        return pa.chunked_array([pa.array([f"[{value.upper()}]" for value in column.to_pylist()])])


def counted() -> Spans:
    Counted.calls.clear()
    return Spans(default=Counted(), context=MaskContext(KEY))


def test_all_spans_of_one_entity_are_masked_in_one_call_each_value_once() -> None:
    masked, _ = mask_values([f"{EMAIL} and {OTHER}", f"again {EMAIL}", PHONE, "none"], spans=counted())
    assert masked == [f"[{EMAIL.upper()}] and [{OTHER.upper()}]", f"again [{EMAIL.upper()}]", f"[{PHONE}]", "none"]
    assert sorted(Counted.calls) == [("EMAIL_ADDRESS", [EMAIL, OTHER]), ("PHONE_NUMBER", [PHONE])]


class Around:
    """Finds what a placeholder stands in, as a URL may be found once the address in it is gone."""

    entities = ("URL",)

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [[Finding("URL", m.start(), m.end(), 0.9) for m in re.finditer(r"x:<[A-Z_]+>(?=!)|S> and <E", text)] for text in texts]


def test_a_finding_across_placeholders_swallows_them_whole() -> None:
    found = (*patterns(), Around())
    masked, _ = mask_values([f"x:{EMAIL}! and {OTHER}", f"{OTHER} and {EMAIL} and {PHONE}"], recognizers=found, spans=counted())
    assert masked == [f"<URL>! and [{OTHER.upper()}]", f"<EMAIL_ADDRESS> and [{PHONE}]"]
    assert EMAIL.upper() not in str(masked)


def test_no_round_looks_at_a_token_that_looks_like_personal_data() -> None:
    class Echo(Counted):
        def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
            return pa.chunked_array([pa.array(["carl@example.net"] * len(column))])

    masked, found = mask_values([f"to {EMAIL}"], spans=Spans(default=Echo(), context=MaskContext(KEY)))
    assert masked == ["to carl@example.net"]
    assert [len(each) for each in found] == [1]


def test_one_value_that_an_operator_cannot_take_costs_only_itself_its_token() -> None:
    rule = policy(entities={"EMAIL_ADDRESS": {"ff1": {"alphabet": "0123456789"}}})
    texts = [f"mail 1234567{i}@example.com" for i in range(9)]
    masked, _ = mask_values([*texts, "mail ann@b.co", "none"], spans=Spans.of(rule, Tools(), KEY))
    assert masked[9:] == ["mail <EMAIL_ADDRESS>", "none"]
    assert all(text.endswith("@example.com") for text in masked[:9])
    assert not set(masked) & set(texts)


PIECES = st.lists(st.sampled_from([EMAIL, OTHER, PHONE, IBAN, CARD, " ", "x", "12", "<EMAIL_ADDRESS>", "@", "１", "\n", "-"]), max_size=10).map(
    "".join
)


@given(st.lists(PIECES, max_size=5))
@settings(max_examples=150, deadline=None)
def test_what_stands_outside_the_placeholders_is_clean_and_of_the_original(texts: list[str]) -> None:
    plain, _ = mask_values(texts)
    assert not any(scan_values(plain))
    spans = counted()
    tokens, _ = mask_values(texts, spans=spans)
    for text, masked in zip(texts, tokens, strict=True):
        for _, values in Counted.calls:
            for value in values:
                masked = masked.replace(f"[{value.upper()}]", value)
        if "<" not in masked.replace("<EMAIL_ADDRESS>", "") and "<EMAIL_ADDRESS>" not in masked:
            assert masked == text


def test_the_tokens_of_a_join_are_equal_across_a_column_and_texts() -> None:
    rule = policy(entities={"EMAIL_ADDRESS": "pseudonym"})
    left, _ = mask_table(table(mail=[EMAIL, OTHER]), rule, KEY)
    right, _ = mask_table(table(note=[f"reply to {OTHER} please, and soon"]), rule, KEY)
    assert [token in right.to_list("note")[0] for token in left.to_list("mail")] == [False, True]


def test_a_subjects_operator_has_no_subject_inside_a_text_and_leaves_the_entitys_name() -> None:
    rule = policy(entities={"EMAIL_ADDRESS": {"token": {"subject": "who"}}})
    assert mask_text(f"to {EMAIL}", policy=rule, key=KEY)[0] == "to <EMAIL_ADDRESS>"


def test_values_with_lone_surrogates_get_a_placeholder_and_no_traceback() -> None:
    assert mask_values([f"{EMAIL} \ud800"], spans=counted())[0][0].startswith(f"[{EMAIL.upper()}]")


def test_tools_are_made_from_the_policy_where_none_are_given() -> None:
    rule = policy(recognizers={"patterns": {"STAFF_ID": "E-[0-9]{6}"}}, entities={"STAFF_ID": "pseudonym"})
    masked, found = mask_text("ask E-123456", policy=rule, key=KEY)
    assert found[0].entity == "STAFF_ID"
    assert "E-123456" not in masked
    assert Tools().entities.isdisjoint({"STAFF_ID"})


@pytest.mark.parametrize("stays", ["CREDIT_CARD", "EMAIL_ADDRESS", "URL"])
def test_an_entity_that_stays_takes_no_other_along(stays: str, tmp_path: Path) -> None:
    planted = {"CREDIT_CARD": CARD, "EMAIL_ADDRESS": EMAIL}
    text = f"see https://shop.example.net/?card={CARD}&mail={EMAIL} now"
    rule = policy(entities={stays: "keep"})
    (tmp_path / "in.txt").write_text(text)
    mask_file(tmp_path / "in.txt", tmp_path / "out.txt", policy=rule, key=KEY)
    cell = mask_table(table(note=[text, "nothing"]), rule, KEY)[0].to_list("note")[0]
    prompt = PromptMasker(rule, key=KEY).mask(text)
    for masked in (mask_text(text, policy=rule, key=KEY)[0], (tmp_path / "out.txt").read_text(), cell, prompt):
        assert not [entity for entity, value in planted.items() if entity != stays and value in masked]


def test_what_lies_inside_a_finding_that_stays_and_is_no_surer_stays_with_it() -> None:
    inside = [
        Finding("URL", 0, 30, 0.9),
        Finding("PHONE_NUMBER", 5, 15, 0.7),
        Finding("EMAIL_ADDRESS", 20, 28, 0.98),
        Finding("IBAN_CODE", 25, 40, 0.7),
    ]
    spans = Spans.of(policy(entities={"URL": "keep"}), Tools(), KEY)
    assert [(f.entity, f.start, f.end) for f in spans.settle(inside)] == [("EMAIL_ADDRESS", 20, 40)]
