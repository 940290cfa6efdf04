"""The page on texts and groups: its code is run."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import blocks, run_page

from affidavit_governance.explain.players.words import ABSENT, MOST_WORDS

PAGE = (Path(__file__).parents[2] / "docs/explaining-text.md").read_text()


def test_the_code_on_the_page_runs() -> None:
    space = run_page("explaining-text")
    assert sum(block.code.count("assert") for block in blocks("explaining-text")) >= 15
    assert space["found"].details["absent"] == ABSENT == "left out"


def test_the_numbers_on_the_page_are_those_of_the_code() -> None:
    from affidavit_governance.explain.estimators.partition import estimate_owen
    from affidavit_governance.explain.players.nesting import neighbours

    for players, answers in [(16, 172), (48, 1708)]:
        found = estimate_owen(lambda coalitions: coalitions.sum(axis=1).astype(float), neighbours([0.0] * players))
        assert found.evaluations == answers and str(answers) in PAGE
    assert f"has {MOST_WORDS} players at most" in PAGE
