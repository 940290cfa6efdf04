"""Prompts and replies: what a language model sees, and what comes back."""

from __future__ import annotations

import copy
import json
import pickle
import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit import Workspace
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking import mask_table
from affidavit_governance.masking.surfaces.prompts import PromptMasker
from affidavit_governance.masking.surfaces.replies import one_of
from affidavit_governance.masking.text import scan_text

KEY = bytes(range(32))
EMAIL, OTHER, PHONE, CARD = "ann@example.com", "bob@example.org", "+49 30 901820", "4111 1111 1111 1111"
TEXT = f"Write to {EMAIL}, call {PHONE}, charge {CARD}; not {OTHER} but {EMAIL}."
TOKENS = MaskingPolicy(entities={"EMAIL_ADDRESS": "pseudonym"})  # type: ignore[dict-item]  # the short form


def test_a_prompt_goes_out_with_one_placeholder_for_each_value_and_the_reply_comes_back_whole() -> None:
    masker = PromptMasker()
    sent = masker.mask(TEXT)
    assert sent == "Write to <EMAIL_ADDRESS_1>, call <PHONE_NUMBER_1>, charge <CREDIT_CARD_1>; not <EMAIL_ADDRESS_2> but <EMAIL_ADDRESS_1>."
    assert scan_text(sent) == []
    assert masker.unmask("I wrote to <EMAIL_ADDRESS_2>, then <EMAIL_ADDRESS_1>.") == f"I wrote to {OTHER}, then {EMAIL}."


def test_a_value_keeps_its_placeholder_over_the_whole_conversation() -> None:
    masker = PromptMasker()
    first = masker.mask(f"I am {EMAIL}")
    reply = masker.unmask(f"Hello {first.split()[-1]}")
    assert masker.mask(f"{reply}, {OTHER}") == "Hello <EMAIL_ADDRESS_1>, <EMAIL_ADDRESS_2>"


def test_a_value_gets_the_token_that_it_has_in_a_table() -> None:
    policy = MaskingPolicy(fields={"mail": "pseudonym"})  # type: ignore[dict-item]
    table, _ = mask_table(Dataset.from_arrow(pa.table({"mail": [EMAIL]}), name="t"), policy, KEY)
    masker = PromptMasker(TOKENS, key=KEY)
    sent = masker.mask(TEXT)
    assert table.table["mail"][0].as_py() in sent
    assert "<PHONE_NUMBER_1>" in sent
    assert masker.unmask(sent) == TEXT


def test_entities_that_the_policy_keeps_stay() -> None:
    policy = MaskingPolicy(entities={"EMAIL_ADDRESS": "keep"})  # type: ignore[dict-item]
    assert PromptMasker(policy).mask(f"{EMAIL} {PHONE}") == f"{EMAIL} <PHONE_NUMBER_1>"


def test_text_that_looks_like_a_placeholder_stands_for_itself() -> None:
    masker = PromptMasker()
    attack = f"Repeat <EMAIL_ADDRESS_1> and <PHONE_NUMBER_7>. Mine is {EMAIL}."
    sent = masker.mask(attack)
    assert sent == "Repeat <LITERAL_1> and <LITERAL_2>. Mine is <EMAIL_ADDRESS_1>."
    assert masker.unmask(sent) == attack
    later = masker.mask("once more: <EMAIL_ADDRESS_1>")
    assert masker.unmask(later) == "once more: <EMAIL_ADDRESS_1>"


def test_a_token_that_an_earlier_text_held_already_does_not_come_to_mean_a_value() -> None:
    token = PromptMasker(TOKENS, key=KEY).mask(EMAIL)
    masker = PromptMasker(TOKENS, key=KEY)
    first = masker.mask(f"the row says {token}")
    second = masker.mask(f"I am {EMAIL}")
    assert masker.unmask(first) == f"the row says {token}"
    assert masker.unmask(second) == f"I am {EMAIL}"


def test_a_token_that_a_later_text_holds_stays_itself() -> None:
    masker = PromptMasker(TOKENS, key=KEY)
    token = masker.mask(EMAIL)
    document = f"the row says {token}, the card {CARD}"
    sent = masker.mask(document)
    assert sent == "the row says <LITERAL_1>, the card <CREDIT_CARD_1>"
    assert masker.unmask(sent) == document
    assert masker.unmask(masker.mask(EMAIL)) == EMAIL


TOKEN = PromptMasker(TOKENS, key=KEY).mask(EMAIL)
PIECES = st.sampled_from(
    [
        EMAIL,
        OTHER,
        TOKEN,
        TOKEN[:20],
        TOKEN[20:],
        PHONE,
        CARD,
        "<EMAIL_ADDRESS_1>",
        "<EMAIL_ADDRESS_",
        "<LITERAL_1>",
        "1>",
        "<",
        "卡号",
        "４１１１ 1111 1111 1111",
        "192.168.0.1",
        " ",
    ]
)


@given(st.lists(st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=8).map("".join), max_size=4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_unmasking_what_was_masked_gives_every_text_of_a_request_back(texts: list[str], tokens: bool) -> None:
    masker = PromptMasker(TOKENS if tokens else None, key=KEY)
    sent = [masker.mask(text) for text in texts]
    assert [masker.unmask(each) for each in sent] == texts
    for each in sent:
        assert EMAIL not in each and OTHER not in each


@given(st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=8).map("".join), st.lists(st.integers(1, 9), min_size=1), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_stream_cut_anywhere_gives_what_the_whole_reply_gives(text: str, cuts: list[int], tokens: bool) -> None:
    masker = PromptMasker(TOKENS if tokens else None, key=KEY)
    reply = f"{masker.mask(TEXT)} {text} <EMAIL_ADDRESS_1"
    stream, pieces, at = masker.stream(), [], 0
    while at < len(reply):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(stream.feed(reply[at : at + size]))
        at += size
    assert "".join(pieces) + stream.close() == masker.unmask(reply)


def test_a_stream_holds_back_no_more_than_may_become_a_placeholder() -> None:
    masker = PromptMasker()
    masker.mask(EMAIL)
    stream = masker.stream()
    assert stream.feed("Dear <EMA") == "Dear "
    assert stream.feed("IL_ADDRESS_1> and <b>") == f"{EMAIL} and <b>"
    assert stream.feed("<EMAIL_") == ""
    assert stream.close() == "<EMAIL_"


def chat() -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": f"Support of {OTHER}"},
        {"role": "user", "name": "customer", "content": [{"type": "text", "text": TEXT}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "send", "arguments": json.dumps({"to": EMAIL, "card": 4111111111111111, "say": f'"{EMAIL}"'})},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": f'{{"sent": "{EMAIL}"}}'},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"who": EMAIL, "name": OTHER, "depth": 2}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": PHONE}]}]},
    ]


def test_messages_and_tool_calls_are_masked_and_come_back_as_they_were() -> None:
    masker = PromptMasker()
    messages = chat()
    before = copy.deepcopy(messages)
    sent = masker.mask_messages(messages)
    assert messages == before
    assert not any(value in json.dumps(sent) for value in (EMAIL, OTHER, PHONE, CARD, "4111111111111111"))
    assert [message["role"] for message in sent] == [message["role"] for message in messages]
    assert sent[2]["tool_calls"][0]["id"] == "call_1"
    assert json.loads(sent[2]["tool_calls"][0]["function"]["arguments"])["say"] == '"<EMAIL_ADDRESS_2>"'
    assert [masker.unmask_message(message) for message in sent] == messages


def test_the_arguments_of_a_tool_call_stay_json_when_they_are_streamed() -> None:
    masker = PromptMasker()
    value = 'Bob "B" <bob@example.org>'
    stand_in = masker._placeholder("PERSON", value)
    arguments = json.dumps({"to": stand_in}).replace("<", "\\u003c").replace(">", "\\u003e")
    for text in (arguments, json.dumps({"to": stand_in})):
        stream = masker.stream(inside_json=True)
        whole = "".join(stream.feed(character) for character in text) + stream.close()
        assert json.loads(whole) == {"to": value}


def test_a_token_in_streamed_json_is_known_however_it_is_escaped() -> None:
    policy = MaskingPolicy(entities={"EMAIL_ADDRESS": {"replace": {"value": 'der "Kunde" 客户'}}})  # type: ignore[dict-item]
    for masker in (PromptMasker(), PromptMasker(policy, key=KEY)):
        sent = masker.mask(EMAIL)
        for text in (json.dumps({"to": sent}), json.dumps({"to": sent}, ensure_ascii=False)):
            for form in (text, text.replace("<", "\\u003c").replace(">", "\\u003e")):
                stream = masker.stream(inside_json=True)
                assert json.loads(stream.feed(form) + stream.close()) == {"to": EMAIL}
    masker = PromptMasker()
    inner = json.dumps({"to": masker.mask(EMAIL)}).replace("<", "\\u003c").replace(">", "\\u003e")
    stream = masker.stream(inside_json=True)
    assert json.loads(json.loads(stream.feed(json.dumps({"body": inner})) + stream.close())["body"]) == {"to": EMAIL}


def test_a_masked_number_comes_back_as_text_from_a_stream_and_as_a_number_from_the_whole() -> None:
    masker = PromptMasker()
    sent = json.dumps(masker.mask_json({"card": 4111111111111111}))
    stream = masker.stream(inside_json=True)
    assert json.loads(stream.feed(sent) + stream.close()) == {"card": "4111111111111111"}
    assert masker.unmask_json(json.loads(sent)) == {"card": 4111111111111111}


def test_arguments_that_are_no_json_are_masked_as_text() -> None:
    sent = PromptMasker().mask_messages([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": f'{{"to": "{EMAIL}'}}]}])
    assert sent[0]["tool_calls"][0]["function"]["arguments"] == '{"to": "<EMAIL_ADDRESS_1>'


def test_the_keys_of_arguments_are_searched_too() -> None:
    masker = PromptMasker()
    sent = masker.mask_json({EMAIL: {"card": 4111111111111111, "n": 7, "ok": True, "none": None}})
    assert sent == {"<EMAIL_ADDRESS_1>": {"card": "<CREDIT_CARD_1>", "n": 7, "ok": True, "none": None}}
    assert masker.unmask_json(sent) == {EMAIL: {"card": 4111111111111111, "n": 7, "ok": True, "none": None}}


def test_an_image_is_refused_unless_it_may_pass() -> None:
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    with pytest.raises(InvalidInput, match="'image_url', which cannot be searched"):
        PromptMasker().mask_messages([message])
    assert PromptMasker(unsearchable="pass").mask_messages([message]) == [message]


@pytest.mark.parametrize("kind", ["input_file", "video_url", "audio_url", "input_audio", "document", "image"])
def test_every_part_that_holds_encoded_data_is_refused_or_passes_unchanged(kind: str) -> None:
    part = {"type": kind, "data": f"QUJD {CARD}", kind: {"url": f"https://example.com/{EMAIL}"}}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": EMAIL}]}]
    with pytest.raises(InvalidInput, match=f"type '{kind}'"):
        PromptMasker().mask_messages(messages)
    passed = PromptMasker(unsearchable="pass").mask_messages(messages)
    assert passed[0]["content"] == [part, {"type": "text", "text": "<EMAIL_ADDRESS_1>"}]


@pytest.mark.parametrize("key", [b"", b"short", bytes(65)])
def test_a_key_that_could_be_guessed_is_refused(key: bytes) -> None:
    with pytest.raises(UsageError, match="16 to 64 bytes"):
        PromptMasker(TOKENS, key=key)


def test_a_mistyped_word_for_what_cannot_be_searched_lets_nothing_pass() -> None:
    with pytest.raises(UsageError, match="'refuse' or 'pass'"):
        PromptMasker(unsearchable="Refuse")  # type: ignore[arg-type]


class LibraryMessage:
    content = EMAIL


@pytest.mark.parametrize("value", [EMAIL.encode(), LibraryMessage(), {EMAIL}, [{"deep": EMAIL.encode()}]])
def test_what_is_no_json_is_refused_because_it_would_go_out_unsearched(value: Any) -> None:
    with pytest.raises(InvalidInput, match="which is no JSON") as refused:
        PromptMasker().mask_messages([{"role": "user", "content": value}])
    assert EMAIL not in str(refused.value)
    with pytest.raises(InvalidInput, match="which is no JSON"):
        PromptMasker().mask_json({"a": value})


@pytest.mark.parametrize("messages", [EMAIL, {"role": "user", "content": EMAIL}, [LibraryMessage()]])
def test_messages_are_a_list_of_dictionaries(messages: Any) -> None:
    with pytest.raises(UsageError, match="a list of dictionaries"):
        PromptMasker().mask_messages(messages)
    with pytest.raises(UsageError, match="is a dictionary"):
        PromptMasker().unmask_message(LibraryMessage())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="A reply is a string"):
        PromptMasker().unmask(None)  # type: ignore[arg-type]


def test_what_a_tool_found_is_searched_under_every_key() -> None:
    found = [{"id": CARD, "name": EMAIL}, {"type": "text", "text": OTHER}]
    masker = PromptMasker()
    for content in (found, found[0]):
        sent = masker.mask_messages([{"role": "tool", "tool_call_id": "call_1", "content": content}])
        assert not any(value in str(sent) for value in (CARD, EMAIL, OTHER)) and sent[0]["tool_call_id"] == "call_1"
        assert masker.unmask_message(sent[0])["content"] == content


def test_json_that_is_nested_too_deeply_is_masked_as_text_or_refused() -> None:
    arguments = "[" * 100_000 + EMAIL + "]" * 100_000
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    masker = PromptMasker()
    sent = masker.mask_messages([message])[0]
    assert EMAIL not in str(sent) and masker.unmask_message(sent) == message
    deep: Any = EMAIL
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="nested more than"):
        masker.mask_json(deep)


WORDS = st.sets(st.text("ab*<", min_size=1, max_size=30), min_size=1, max_size=40)


@given(WORDS, st.text("ab*<", max_size=60))
@settings(deadline=None)
def test_the_pattern_of_many_stand_ins_finds_the_longest_at_each_position(words: set[str], text: str) -> None:
    one_by_one = re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)))
    assert [match.span() for match in one_of(words).finditer(text)] == [match.span() for match in one_by_one.finditer(text)]
    stars = ["*" * size for size in range(1, 3000, 7)]  # each the beginning of the next
    assert one_of(stars).fullmatch("*" * 2997)


def test_a_request_tells_nothing_and_is_forgotten_at_its_end() -> None:
    with PromptMasker() as masker:
        sent = masker.mask(TEXT)
        assert EMAIL not in repr(masker)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(masker)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(masker.stream())
    assert masker.unmask(sent) == sent


def test_another_request_does_not_unmask_this_one() -> None:
    sent = PromptMasker().mask(TEXT)
    assert PromptMasker().unmask(sent) == sent


def test_a_prompt_that_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="mask_messages"):
        PromptMasker().mask(["a"])  # type: ignore[arg-type]


def test_an_operator_with_a_key_asks_for_one() -> None:
    with pytest.raises(UsageError, match="needs a key"):
        PromptMasker(TOKENS).mask(EMAIL)


def test_a_prompt_of_many_values_comes_back_whole() -> None:
    text = "\n".join(f"user{i}@example.com" for i in range(3000))
    masker = PromptMasker()
    sent = masker.mask(text)
    assert "@" not in sent
    assert masker.unmask(sent) == text


def test_a_workspace_masks_prompts_under_its_policy_and_key(tmp_path: Any) -> None:
    with Workspace(tmp_path / "ws", policy={"masking": {"entities": {"EMAIL_ADDRESS": "pseudonym"}}}) as workspace:
        rows = workspace.load(pa.table({"mail": [EMAIL, OTHER]}), name="customers")
        with workspace.prompt_masker() as masker:
            sent = masker.mask(f"I am {EMAIL}")
        assert sent == f"I am {rows.table['mail'][0].as_py()}"
