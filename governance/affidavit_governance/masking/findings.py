"""What a recognizer finds, what a recognizer is, and which of two overlapping findings stays."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of personal data in a text.

    Attributes
    ----------
    entity
        What it is, by Presidio's name where it has one (``EMAIL_ADDRESS``, ``CREDIT_CARD``…).
    start, end
        Position in characters, end exclusive.
    score
        How sure the recognizer is, between 0 and 1.
    evidence
        Why: the check that passed (``"mod 97"``) and whether words nearby spoke for it. Never the value.
    """

    entity: str
    start: int
    end: int
    score: float
    evidence: str = ""


class Recognizer(Protocol):
    """Finds one entity in text. Plugins register theirs under the kind ``recognizer``; it is made without arguments.

    A recognizer that is not one of the bundled pattern recognizers may be slow, so tables hand it text columns only, a value at a time.
    """

    entity: ClassVar[str]

    def scan(self, text: str) -> list[Finding]:
        """All findings in `text`, in any order; they may overlap."""
        ...


class PatternRecognizer:
    """Base of the bundled recognizers: regular expressions that cannot backtrack, then a validator.

    `find` gets text in which full-width digits and letters, unusual spaces and dashes are already plain ones, character for character.
    Values of many cells may stand in it at once, separated by U+001E, which no pattern matches.
    """

    entity: ClassVar[str]

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        """Findings in plain `text`; `hinted` says that the column's name speaks for this entity."""
        raise NotImplementedError

    def scan(self, text: str) -> list[Finding]:
        """All findings in `text`."""
        from affidavit_governance.masking.text import plain

        return list(self.find(plain(text)))


def resolve(findings: Iterable[Finding]) -> list[Finding]:
    """Keep of overlapping findings the surest, of equally sure ones the longest; in order of position. O(n log n)."""
    starts: list[int] = []
    kept: list[Finding] = []
    for finding in sorted(findings, key=lambda f: (-f.score, f.start - f.end, f.start, f.entity)):
        at = bisect_right(starts, finding.start)
        if at > 0 and kept[at - 1].end > finding.start:
            continue
        if at < len(kept) and kept[at].start < finding.end:
            continue
        starts.insert(at, finding.start)
        kept.insert(at, finding)
    return kept


def cover(findings: Iterable[Finding]) -> list[Finding]:
    """Join overlapping findings into one that covers them all, under the name of the surest: what masking must replace."""
    joined: list[Finding] = []
    for finding in sorted(findings, key=lambda f: f.start):
        if joined and finding.start < joined[-1].end:
            first = joined.pop()
            best = max(first, finding, key=lambda f: (f.score, f.end - f.start))
            finding = Finding(best.entity, first.start, max(first.end, finding.end), best.score, best.evidence)
        joined.append(finding)
    return joined
