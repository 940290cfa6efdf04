"""What the bundled recognizers share.

Each pattern begins with a plain character or class, which Python's engine skips to fast, and looks back only from there. Quantifiers are
bounded or possessive and neighbours exclude each other, so the time grows with the length of the text and not faster.
Only ASCII letters and digits count as neighbours, so that numbers inside Chinese running text are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from affidavit.interfaces.masking import Finding

CELL = "\x1e"
"""Separates the cells of a column when many are scanned at once: ASCII's record separator."""

_BEFORE = 40
_AFTER = 14
CONTEXT_BONUS = 0.35
"""What words nearby, or the column's name, add to the score of a weak finding: Presidio's context enhancement adds as much."""


def near(words: re.Pattern[str], text: str, start: int, end: int) -> bool:
    """Whether one of `words` stands shortly before or after a finding, in the same cell."""
    before = text[max(0, start - _BEFORE) : start]
    after = text[end : end + _AFTER]
    return words.search(before[before.rfind(CELL) + 1 :]) is not None or words.search(after.partition(CELL)[0]) is not None


WORD = re.compile(r"[0-9A-Za-z_]")
_GROUP = re.compile(r"[0-9]+")


def whole_groups(text: str, start: int, end: int, *, followed: bool = False) -> list[tuple[int, int]]:
    """Where the groups of digits stand between `start` and `end`, without a last one that a letter continues (unless it may be `followed`)."""
    groups = [group.span() for group in _GROUP.finditer(text, start, end)]
    # Tested here and not in the pattern: a look-ahead that fails there would have every later group tried again, in quadratic time.
    if groups and not followed and groups[-1][1] == end and WORD.match(text, end):
        groups.pop()
    return groups


class PatternRecognizer:
    """Base of the bundled recognizers: regular expressions that cannot backtrack, then a validator.

    `find` gets text in which full-width digits and letters, unusual spaces and dashes are already plain ones, character for character.
    Values of many cells may stand in it at once, separated by U+001E, which no pattern matches.

    Attributes
    ----------
    entity
        What it finds.
    column_words
        A regular expression, matched against a column's name in lower case with single spaces, of the names that speak for the entity.
    """

    entity: ClassVar[str]
    column_words: ClassVar[str | None] = None

    @property
    def entities(self) -> Sequence[str]:
        """The one entity that it finds."""
        return (self.entity,)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        """Findings in plain `text`; `hinted` says that the column's name speaks for this entity."""
        raise NotImplementedError

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        """All findings in each text."""
        from affidavit_governance.masking.text import plain

        return [list(self.find(plain(text))) for text in texts]
