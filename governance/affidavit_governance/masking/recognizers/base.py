"""What the bundled recognizers share.

Each pattern begins with a plain character or class, which Python's engine skips to fast, and looks back only from there. Quantifiers are
bounded or possessive and neighbours exclude each other, so the time grows with the length of the text and not faster.
Only ASCII letters and digits count as neighbours, so that numbers inside Chinese running text are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from affidavit.interfaces.masking import Finding

DEFAULT_THRESHOLD = 0.6
"""Score from which a finding counts where the policy says nothing else."""

NO_THRESHOLDS: Mapping[str, float] = MappingProxyType({})
"""No entity has a threshold of its own."""

CELL = "\x1e"
"""Separates the cells of a column when many are scanned at once: ASCII's record separator."""

_BEFORE = 40
_AFTER = 14
CONTEXT_BONUS = 0.35
"""What words nearby, or the column's name, add to the score of a weak finding: Presidio's context enhancement adds as much."""


def near(words: re.Pattern[str], text: str, start: int, end: int) -> bool:
    """Whether one of `words`, in any case, stands shortly before or after a finding, in the same cell."""
    quick = _QUICK.get((words.pattern, words.flags)) or _quick(words)
    before = text[start - _BEFORE if start > _BEFORE else 0 : start].lower()
    if CELL in before:
        before = before[before.rfind(CELL) + 1 :]
    if quick.search(before):
        return True
    return quick.search(text[end : end + _AFTER].partition(CELL)[0].lower()) is not None


_QUICK: dict[tuple[str, int], re.Pattern[str]] = {}
_UPPER = re.compile(r"\\.|[A-Z]")
_BOUNDARY_FIRST = re.compile(r"(?:^|(?<=[|(:]))\\b([a-z])")


def _quick(words: re.Pattern[str]) -> re.Pattern[str]:
    """The same for text in lower case. A branch that begins with its letter, and looks back from there, is passed over five times as fast."""
    lower = _UPPER.sub(lambda m: m.group().lower() if len(m.group()) == 1 else m.group(), words.pattern)
    made = re.compile(_BOUNDARY_FIRST.sub(r"\1(?<=\\b\1)", lower), words.flags & ~re.IGNORECASE)
    _QUICK[words.pattern, words.flags] = made
    return made


WORD = re.compile(r"[0-9A-Za-z_]")
_GROUP = re.compile(r"[0-9]+")


def whole_groups(text: str, start: int, end: int, *, followed: bool = False) -> list[tuple[int, int]]:
    """Where the groups of digits stand between `start` and `end`, without a last one that a letter continues (unless it may be `followed`)."""
    groups = [(start, end)] if text[start:end].isdigit() else [group.span() for group in _GROUP.finditer(text, start, end)]
    # Tested here and not in the pattern: a look-ahead that fails there would have every later group tried again, in quadratic time.
    if groups and not followed and groups[-1][1] == end and WORD.match(text, end):
        groups.pop()
    return groups


class PatternRecognizer:
    """Base of the bundled recognizers: regular expressions that cannot backtrack, then a validator.

    `find` gets text in which full-width digits and letters, unusual spaces and dashes are already plain ones, character for character.
    It is not handed whole documents but the pieces in which its findings can be, as `shape`, `literals` and `anchors` say; with none of
    them it reads everything, which is right but slow. A finding contains at least one of those that are declared. Pieces and the cells of
    a column are separated by U+001E, which no pattern may match: mind that ``\\s`` and negated classes do.

    Attributes
    ----------
    entity
        What it finds.
    column_words
        A regular expression, matched against a column's name in lower case with single spaces, of the names that speak for the entity.
    shape
        A regular expression of digits, searched in each cluster: a run from digit to digit with at most three other characters between,
        and the two characters on each side of it. It names classes and punctuation but no certain digit or ASCII letter, and nothing
        that looks around, because it is matched on a normalised text; a character of another script stands for all of them there, so a
        negated class names none. A finding begins at most 24 characters before the cluster and ends at most 80 behind it; what decides
        about it stands at most 64 before and 96 behind.
    excluded
        A regular expression of whole clusters, with the two characters on each side, in which there is no finding although their shape fits.
        It is matched on what `shape` is searched in, once for all clusters that look alike, and costs nothing after that.
    form
        A regular expression that stands, in the text as it is, in each finding around a cluster, from at most 24 characters before the
        cluster to at most 24 behind it; often what `find` itself begins with. A cluster whose shape fits is read only if its form does too,
        which costs less than `find`. It may look around.
    literals
        Strings, case and all. `find` reads the whole of a text that holds one.
    anchors
        Regular expressions likewise, for what has neither digits nor a literal; quickest where they begin with a certain character.
    reach
        How many characters on each side of a literal, a match of an anchor or a word beside decide about a finding, the finding itself
        included. `find` then reads no more of the text than that. None: all of it.
    beside
        Strings in lower case, for entities that only words make personal: one of them stands, in any case, within `reach` of every finding
        unless the entity is hinted. `find` then reads what is around them, and `shape` only says what hinted findings look like.
    needs
        A regular expression, searched ignoring case, of the words without which no finding reaches the default threshold unless hinted.
        None: findings can reach it by themselves. Empty: no finding reaches it.

    Where the entity is hinted, a recognizer without `shape` reads everything.

    `shape`, `anchors` and `needs` are run by Python and by RE2, so they do not look around nor back.
    """

    entity: ClassVar[str]
    column_words: ClassVar[str | None] = None
    shape: ClassVar[str | None] = None
    excluded: ClassVar[str | None] = None
    form: ClassVar[re.Pattern[str] | None] = None
    literals: ClassVar[tuple[str, ...]] = ()
    anchors: ClassVar[tuple[str, ...]] = ()
    reach: ClassVar[int | None] = None
    beside: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[str | None] = None

    @property
    def entities(self) -> Sequence[str]:
        """The one entity that it finds."""
        return (self.entity,)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        """Findings in plain `text`; `hinted` says that the column's name speaks for this entity."""
        raise NotImplementedError

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        """All findings in each text."""
        from affidavit_governance.masking.recognizers.plain import plain

        return [list(self.find(plain(text))) for text in texts]
