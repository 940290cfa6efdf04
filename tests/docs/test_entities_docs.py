"""The table of entities holds what is bundled, with the scores that its examples get."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from affidavit_governance.masking.recognizers.base import PatternRecognizer
from affidavit_governance.masking.recognizers.catalogue import BUNDLED, patterns
from affidavit_governance.masking.recognizers.plain import plain

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/entities.md").read_text()
ROWS = {
    name: (entity or name, needed, score)
    for name, entity, needed, score in re.findall(r"^\| `(\w+)`(?: \(finds `(\w+)`\))? \|.*\| ([a-z ]+) \| ([0-9.]+) \|$", PAGE, re.M)
}
EXAMPLES = json.loads((ROOT / "tests/governance/masking/recognizer_examples.json").read_text())
MADE: dict[str, PatternRecognizer] = {name: made for (name, _), made in zip(BUNDLED, patterns(), strict=True)}


def test_the_table_has_a_row_for_each_bundled_recognizer_and_no_other() -> None:
    assert set(ROWS) == set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_a_row_says_the_entity_whether_words_are_needed_and_the_highest_score(name: str) -> None:
    recognizer = MADE[name]
    needed = {None: "no", "": "never enough"}.get(recognizer.needs, "yes")
    score = max(finding.score for text in EXAMPLES[name] for finding in recognizer.find(plain(text)))
    assert ROWS[name] == (recognizer.entity, needed, f"{score:.2f}")
