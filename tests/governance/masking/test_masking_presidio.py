"""Presidio as a recognizer: its patterns by themselves, a spaCy pipeline from a folder, and nothing from the network."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affidavit.errors import InvalidInput, MissingExtra, UsageError
from affidavit.plugins import PluginManager
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking import mask_text

spacy = pytest.importorskip("spacy", reason="needs the extra 'presidio'")
pytest.importorskip("presidio_analyzer", reason="needs the extra 'presidio'")

from affidavit_governance.masking.recognizers.presidio import _SECTION, Presidio, _Tokenizer  # noqa: E402  # after the check that it can be imported


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield


@pytest.fixture(scope="module")
def patterns() -> Presidio:
    return Presidio()


def shown(recognizer: Presidio, text: str, threshold: float = 0.6) -> set[tuple[str, str]]:
    return {(f.entity, text[f.start : f.end]) for f in recognizer.scan([text])[0] if f.score >= threshold}


def test_patterns_find_without_a_model_and_words_nearby_raise_their_score(patterns: Presidio) -> None:
    assert ("EMAIL_ADDRESS", "ann@example.com") in shown(patterns, "write to ann@example.com")
    assert ("PHONE_NUMBER", "(202) 555-0123") in shown(patterns, "my phone is (202) 555-0123")
    assert ("PHONE_NUMBER", "(202) 555-0123") not in shown(patterns, "it says (202) 555-0123")
    assert "PERSON" not in patterns.entities and "US_SSN" in patterns.entities


def test_findings_say_which_of_its_recognizers_found_them_and_never_the_value(patterns: Presidio) -> None:
    found = next(f for f in patterns.scan(["write to ann@example.com"])[0] if f.entity == "EMAIL_ADDRESS")
    assert found.evidence.startswith("Presidio ") and "Email" in found.evidence and "ann" not in found.evidence


def test_nothing_is_logged_when_it_is_made_or_used(caplog: pytest.LogCaptureFixture) -> None:
    Presidio(language="de").scan(["ann@example.com"])
    assert not caplog.records


def test_only_the_entities_that_are_named_are_looked_for() -> None:
    recognizer = Presidio(entities=["EMAIL_ADDRESS"])
    assert recognizer.entities == ("EMAIL_ADDRESS",)
    assert shown(recognizer, "ann@example.com on 2024-01-02 from 192.0.2.1") == {("EMAIL_ADDRESS", "ann@example.com")}


def test_long_and_odd_texts_are_read_to_their_end() -> None:
    recognizer = Presidio(entities=["EMAIL_ADDRESS"])
    text = "x " * (_SECTION // 2 - 4) + "ann@example.com" + " y" * (_SECTION // 2) + " bob@example.com"
    assert [(f.start, f.end) for f in recognizer.scan([text])[0] if f.score == 1] == [
        (text.index("ann"), text.index("ann") + 15),
        (text.index("bob"), len(text)),
    ]
    assert recognizer.scan(["", "\ud800 ann@example.com"])[1][0].start == 2


@pytest.mark.parametrize("mark", ["(", "a(", "x's"])
def test_a_long_word_is_handed_to_the_tokenizer_in_parts_and_moves_nothing(patterns: Presidio, mark: str) -> None:
    """Its time would grow with the square of the word's length: 40,000 brackets took minutes."""
    word = mark * (40_000 // len(mark))
    text = f"{word} ann@example.com  {word}\n192.0.2.1"
    begin = time.thread_time()
    found = {(f.entity, f.start) for f in patterns.scan([text])[0] if f.score >= 0.6}
    assert {("EMAIL_ADDRESS", text.index("ann@")), ("IP_ADDRESS", text.index("192."))} <= found
    assert time.thread_time() - begin < 20


def test_text_that_is_tokenized_in_parts_stays_as_it_is() -> None:
    plain = spacy.blank("en")
    ours = _Tokenizer(spacy.blank("en").tokenizer)
    for text in ("", " ", "a  b\n c ", "Don't go to the U.K.!", "x" * 199 + " y", "(" * 450 + " word  " + ")" * 201 + " "):
        assert ours(text).text == text
        if len(text) < 150:
            assert [token.text for token in ours(text)] == [token.text for token in plain(text)]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = spacy.blank("en")
    made.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Greta Novak"}, {"label": "GPE", "pattern": "Oslo"}])
    folder = tmp_path_factory.mktemp("spacy") / "pipeline"
    made.to_disk(folder)
    return folder


def test_a_pipeline_in_a_folder_finds_names(pipeline: Path) -> None:
    recognizer = Presidio(model=str(pipeline), entities=["PERSON", "LOCATION"])
    assert shown(recognizer, "I met Greta Novak in Oslo.") == {("PERSON", "Greta Novak"), ("LOCATION", "Oslo")}


def test_the_policy_line_uses_it(pipeline: Path) -> None:
    policy = MaskingPolicy(recognizers={"presidio": {"model": str(pipeline), "entities": ["PERSON"]}})
    assert mask_text("Greta Novak, ann@example.com", policy=policy)[0] == "<PERSON>, <EMAIL_ADDRESS>"


def test_wrong_settings_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no setting 'lang'.*language"):
        Presidio(lang="en")
    with pytest.raises(UsageError, match="finds no 'PERSON' in language 'en' without a model"):
        Presidio(entities=["PERSON"])
    with pytest.raises(UsageError, match="cannot read 'xq'"):
        Presidio(language="xq")
    with pytest.raises(UsageError, match="no spaCy package or folder 'en_core_web_absent'"):
        Presidio(model="en_core_web_absent")
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        Presidio(model=str(tmp_path))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "affidavit_governance.masking.recognizers.presidio")
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    manager = PluginManager()
    manager.load_plugins()
    with pytest.raises(MissingExtra, match=r"affidavit\[presidio\]"):
        manager.registry.get("recognizer", "presidio")


def test_masking_without_the_policy_line_does_not_import_it() -> None:
    code = (
        "import sys; from affidavit_governance.masking import mask_text; mask_text('ann@example.com'); "
        "sys.exit('presidio_analyzer' in sys.modules or 'spacy' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
