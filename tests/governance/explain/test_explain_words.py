"""Words as players: what a reader sees, in any script."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.governance.explain.explain_models import Formula, sms, spam

from affidavit import Dataset
from affidavit_governance.explain.estimators.partition import players_in
from affidavit_governance.explain.methods.partition import Partition
from affidavit_governance.explain.methods.sampled import Exact, Permutation
from affidavit_governance.explain.players.asking import Once
from affidavit_governance.explain.players.reading import PHRASE, SENTENCE, break_before, pieces, runs
from affidavit_governance.explain.players.words import MOST_WORDS, WordBlock

NONE = np.zeros(1, dtype=int)


def shown(text, *inside, limit=MOST_WORDS):
    """The text with only the words at those places."""
    block = WordBlock(sms([text]), "text", limit=limit)
    kept = np.isin(np.arange(len(block.players)), inside)[None]
    return block.columns(0, kept, NONE)["text"].to_pylist()[0]


@pytest.mark.parametrize("explainer", [Permutation, Partition])
def test_words_are_players_and_records_hold_no_text(explainer):
    data = sms(["call now for a free prize", "hello there", "", None, " ".join(["word"] * 70 + ["free", "now"])])
    found = explainer().explain(Formula(spam, data), data, data)
    np.testing.assert_allclose(found.values[0, :6], [0, 0.15, 0, 0, 0.35, 0], atol=1e-12)
    np.testing.assert_allclose(found.values[1:4], 0, atol=1e-12)
    np.testing.assert_allclose(found.residual, 0, atol=1e-12)
    assert found.inputs[0][:6] == ["call", "now", "for", "a", "free", "prize"] and found.inputs[0][6] is None
    assert len(found.players) == 48 and found.players[0] == "text [1]"
    assert "free" not in str(found.to_json()) and "prize" not in str(found.to_json())
    assert found.details["absent"] == "left out"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world! It's a test.", ["Hello, ", "world! ", "It's ", "a ", "test."]),
        ("two  spaces\nnew line ", ["two  ", "spaces\n", "new ", "line "]),
        ("  lead", ["  lead"]),
        ("味道很好！推荐（30分钟）", ["味", "道", "很", "好！", "推", "荐", "（30", "分", "钟）"]),
        ("我爱iPhone手机", ["我", "爱", "iPhone", "手", "机"]),
        ("“你好”，他说。", ["“你", "好”，", "他", "说。"]),
        ("日本語のテスト", ["日", "本", "語", "の", "テ", "ス", "ト"]),
        ("가나다 라마", ["가나다 ", "라마"]),
        ("ไม่มีน้ำ", ["ไม่", "มี", "น้ำ"]),
        ("👍🏽 👨‍👩‍👧 ok", ["👍🏽 ", "👨‍👩‍👧 ", "ok"]),
        ("e\u0301te\u0301 fini", ["e\u0301te\u0301 ", "fini"]),
        ("http://a.b/c?d=e 2,000.50!", ["http://a.b/c?d=e ", "2,000.50!"]),
        ("...", ["..."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_pieces_are_what_a_reader_sees_as_words(text, words):
    assert pieces(text) == words


LETTERS = st.text(st.sampled_from(" \n\tab,.(\"'“”（）。，我的カーไำé\u0301👍\u200d。1$가"), max_size=60)


@settings(max_examples=300, deadline=None)
@given(st.one_of(LETTERS, st.text(max_size=40)), st.integers(1, 12))
def test_pieces_and_runs_joined_are_the_text_and_each_shows_something(text, limit):
    cut = pieces(text)
    assert "".join(cut) == (text if text.strip() else "")
    assert all(piece.strip() for piece in cut)
    joined = runs(cut, limit)
    assert "".join(joined) == "".join(cut) and len(joined) == min(limit, len(cut))
    assert len(break_before(joined)) == len(joined)


def test_words_that_become_neighbours_keep_apart_unless_their_script_has_no_spaces():
    assert shown("买iPhone手机Pro吧", 1, 4) == "iPhone Pro"
    assert shown("买iPhone手机Pro吧", 0, 3, 5) == "买机吧"
    assert shown("买iPhone手机Pro吧", 0, 1, 2, 3, 4, 5) == "买iPhone手机Pro吧"
    assert shown("one two  three", 0, 2) == "one three"
    assert shown("one two  three", 1) == "two"


def test_with_all_words_the_text_is_what_it_was_and_without_any_it_is_empty():
    for text in (" spaced  out\t", "我 爱 你。", "plain"):
        count = len(pieces(text))
        assert shown(text, *range(count)) == text
        assert shown(text) == ""
    data = sms([None, "   ", "x"])
    block = WordBlock(data, "text")
    for row, text in enumerate([None, "   "]):
        assert len(block.active(row)) == 0
        assert block.columns(row, np.zeros((1, 1), dtype=bool), NONE)["text"].to_pylist() == [text], "as the model sees it"


def test_word_block_cuts_long_texts_and_keeps_every_word():
    text = " ".join(f"w{i}" for i in range(100))
    block = WordBlock(sms([text]), "text", limit=10)
    assert block.columns(0, np.ones((1, 10), dtype=bool), NONE)["text"].to_pylist() == [text]
    assert block.columns(0, np.zeros((1, 10), dtype=bool), NONE)["text"].to_pylist() == [""]
    assert [len(label.split()) for label in block.labels(0)] == [10] * 10


def test_runs_do_not_reach_across_sentences_where_that_can_be_helped():
    text = "One two three. Four five. Six seven eight nine ten eleven twelve."
    assert runs(pieces(text), 4) == ["One two three. ", "Four five. ", "Six seven eight ", "nine ten eleven twelve."]
    assert len(runs(pieces("a. b. c. d. e. f."), 3)) == 3


def test_breaks_are_strongest_between_sentences():
    assert break_before(["Well, ", "(so) ", 'he "said." ', "Yes\n", "no ", "end"]) == [0, PHRASE, PHRASE, SENTENCE, SENTENCE, 0]
    assert break_before(["好。", "是，", "的", "吗？", "哦"]) == [0, SENTENCE, PHRASE, 0, SENTENCE]


def test_a_hierarchy_is_cut_where_phrases_end():
    block = WordBlock(sms(["Come early, bring a friend. Free entry now"]), "text")
    assert block.hierarchy(0) == [[[0, 1], [2, [3, 4]]], [5, [6, 7]]]
    assert players_in(WordBlock(sms(["x " * 300]), "text").hierarchy(0)) == list(range(MOST_WORDS))


def test_an_equal_text_is_put_to_the_model_once():
    seen = []

    def watched(data):
        seen.extend(data.to_list("text"))
        return spam(data)

    data = sms(["free free free free now", "other"])
    model = Formula(watched, data)
    found = Exact().explain(model, data.head(1), data)
    asked = seen[: len(seen) - 1]  # the last one is the answer that the residual needs
    assert len(asked) == len(set(asked)) == 10, "five numbers of 'free', with and without 'now'"
    np.testing.assert_allclose(found.values.sum(), spam(data)[0] - 0.1, atol=1e-12)
    free = found.values[0, :4]
    np.testing.assert_allclose(free, free[0], atol=1e-12)


def test_answers_are_remembered_by_text_and_kept_in_order():
    calls = []

    def ask(data):
        calls.append(data.to_list("text"))
        return np.array([float(len(text or "")) for text in calls[-1]])

    once = Once(ask)
    np.testing.assert_array_equal(once(sms(["bb", "a", "bb", None])), [2, 1, 2, 0])
    np.testing.assert_array_equal(once(sms(["a", "ccc", "bb"])), [1, 3, 2])
    np.testing.assert_array_equal(once(sms(["a"])), [1])
    assert calls == [["bb", "a", None], ["ccc"]]


def test_a_text_beside_fields_has_its_words_as_players_in_one_group():
    columns = {"text": ["free now", "hello you there"] * 5, "n": np.arange(10.0)}
    data = Dataset.from_arrow(pa.table(columns), fields={"text": {"type": "text"}})
    model = Formula(lambda d: spam(d) * (d.to_numpy("n") > 4) / 2 + 0.1, data)
    found = Partition().explain(model, data.take([6, 7]), data)
    assert found.players == ("n", "text [1]", "text [2]", "text [3]")
    np.testing.assert_allclose(found.residual, 0, atol=1e-12)
    whole = Exact().explain(model, data.take([6, 7]), data, players={"text": "field"})
    assert found.details["exact"] and whole.details["exact"]
    assert found.values[0, 3] == 0 and found.inputs[1] == [7.0, "hello", "you", "there"]


def test_chinese_characters_carry_what_they_say():
    data = sms(["味道很好，推荐！", "太慢了"])
    model = Formula(lambda d: np.array([0.2 + 0.5 * ("好" in (t or "")) - 0.1 * ("慢" in (t or "")) for t in d.to_list("text")]), data)
    found = Partition().explain(model, data, data)
    assert found.inputs[0] == ["味", "道", "很", "好，", "推", "荐！"]
    np.testing.assert_allclose(found.values[0], [0, 0, 0, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found.values[1, :3], [0, -0.1, 0], atol=1e-12)
