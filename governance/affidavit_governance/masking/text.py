"""Personal data in text: one value or the cells of a column, in time that grows with the length and not faster."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from affidavit.errors import UsageError
from affidavit.interfaces.masking import Finding, Recognizer
from affidavit_governance.masking.recognizers.america import UsSsn
from affidavit_governance.masking.recognizers.base import CELL, PatternRecognizer
from affidavit_governance.masking.recognizers.contact import Email
from affidavit_governance.masking.recognizers.financial import CreditCard, Iban
from affidavit_governance.masking.recognizers.network import IpAddress
from affidavit_governance.masking.recognizers.overlaps import cover, resolve
from affidavit_governance.masking.recognizers.phones import Phone

DEFAULT_THRESHOLD = 0.6
_JOIN_CHARS = 1 << 20
"""Cells are scanned together up to this many characters, so that memory stays flat."""

_ROUNDS = 4

_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d"


@cache
def _plain_table() -> dict[int, str]:
    """Other scripts' digits, full-width ASCII, unusual spaces and dashes, each with its plain character."""
    table = {code: str(unicodedata.decimal(chr(code))) for code in range(0x80, sys.maxunicode + 1) if chr(code).isdecimal()}
    table |= {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    table |= dict.fromkeys(map(ord, _SPACES), " ")
    return table | dict.fromkeys(map(ord, _DASHES), "-")


@cache
def unusual() -> str:
    """A character class, for Python's and RE2's syntax both, of everything that `plain` changes but full-width punctuation."""
    codes = sorted(code for code, to in _plain_table().items() if to.isalnum() or to in " -@.+:_")
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"


@cache
def _unusual_pattern() -> re.Pattern[str]:
    return re.compile(unusual())


def plain(text: str) -> str:
    """`text` with full-width and other scripts' digits, full-width letters, unusual spaces and dashes as ASCII, character for character."""
    if text.isascii() or not _unusual_pattern().search(text):
        return text
    return text.translate(_plain_table())


PATTERNS: tuple[PatternRecognizer, ...] = (Email(), CreditCard(), Iban(), IpAddress(), UsSsn(), Phone())
"""The bundled recognizers, all of which scan many cells at once."""

DIGITS = (
    r"[0-9](?:(?:[ ./()-]{0,3}[0-9]){6}|[0-9]{0,2}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9])"
    r"|[A-Za-z]{2}[0-9]{2}(?:[ .-]?[0-9A-Za-z]){11}"
)
COLONS = r":[0-9A-Fa-f]{0,4}:"
PREFILTER = f"@|{COLONS}|{DIGITS}"
"""What every finding of the bundled recognizers contains, once text is plain. Any engine can run it in linear time; a test holds it true."""

_COLONS = re.compile(COLONS)
_DIGIT = re.compile(r"[0-9]{2}|[0-9][ .()/-]")


def _useful(text: str, recognizers: Sequence[PatternRecognizer]) -> Iterator[PatternRecognizer]:
    """The recognizers that can find something in `text`, by the characters that their patterns cannot do without."""
    digits = _DIGIT.search(text) is not None
    colons = _COLONS.search(text) is not None
    at = "@" in text
    for recognizer in recognizers:
        if isinstance(recognizer, Email):
            if at:
                yield recognizer
        elif digits or (colons and isinstance(recognizer, IpAddress)):
            yield recognizer


def scan_text(
    text: str,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    recognizers: Sequence[Recognizer] | None = None,
    hints: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Find personal data in a text.

    Parameters
    ----------
    text
        Any text; full-width and other scripts' digits count as digits.
    threshold
        Score from which a finding counts.
    recognizers
        What to look with; default: the bundled ones.
    hints
        Entities for which something outside the text speaks, such as the name of its column.

    Returns
    -------
    list of Finding
        In order of position, without overlaps: the surer finding stays, then the longer one.

    Raises
    ------
    UsageError
        `text` is no string.
    """
    if not isinstance(text, str):
        raise UsageError(f"scan_text takes a string, not {type(text).__name__}.")
    used = PATTERNS if recognizers is None else recognizers
    found = list(_scan_plain(plain(text), [r for r in used if isinstance(r, PatternRecognizer)], hints))
    for other in used:
        if not isinstance(other, PatternRecognizer):
            found += [finding for finding in other.scan([text])[0] if 0 <= finding.start < finding.end <= len(text)]
    return resolve(finding for finding in found if finding.score >= threshold)


def _scan_plain(text: str, recognizers: Sequence[PatternRecognizer], hints: frozenset[str]) -> Iterator[Finding]:
    for recognizer in _useful(text, recognizers):
        yield from recognizer.find(text, hinted=recognizer.entity in hints)


def scan_values(
    values: Sequence[str],
    *,
    threshold: float = DEFAULT_THRESHOLD,
    recognizers: Sequence[Recognizer] | None = None,
    hints: frozenset[str] = frozenset(),
    settle: Callable[[Iterable[Finding]], list[Finding]] = resolve,
) -> list[list[Finding]]:
    """Find personal data in many values: the same as `scan_text` for each, but the bundled recognizers read them joined.

    `settle` says what becomes of overlapping findings: `resolve` keeps the surest, `cover` joins them.
    """
    used = PATTERNS if recognizers is None else recognizers
    patterns = [r for r in used if isinstance(r, PatternRecognizer)]
    others = [r for r in used if not isinstance(r, PatternRecognizer)]
    found: list[list[Finding]] = [[] for _ in values]
    for first, last in _pages(values):
        _scan_page(values, first, last, patterns, hints, found)
    for other in others:
        for index, findings in enumerate(other.scan(values)):
            found[index] += [finding for finding in findings if 0 <= finding.start < finding.end <= len(values[index])]
    return [settle(f for f in each if f.score >= threshold) if each else each for each in found]


def _pages(values: Sequence[str]) -> Iterator[tuple[int, int]]:
    first, size = 0, 0
    for index, value in enumerate(values):
        size += len(value) + 1
        if size > _JOIN_CHARS:
            yield first, index + 1
            first, size = index + 1, 0
    if first < len(values):
        yield first, len(values)


def _scan_page(
    values: Sequence[str], first: int, last: int, patterns: Sequence[PatternRecognizer], hints: frozenset[str], found: list[list[Finding]]
) -> None:
    page = values[first:last]
    text = plain(CELL.join(page))
    hits = sorted(_scan_plain(text, patterns, hints), key=lambda f: f.start)
    cell, start = 0, 0
    for hit in hits:
        while hit.start >= start + len(page[cell]) + 1:
            start += len(page[cell]) + 1
            cell += 1
        found[first + cell].append(Finding(hit.entity, hit.start - start, hit.end - start, hit.score, hit.evidence))


def replace_findings(text: str, findings: Iterable[Finding]) -> str:
    """`text` with each finding (in order, not overlapping) replaced by its entity's name in angle brackets."""
    parts: list[str] = []
    done = 0
    for finding in findings:
        parts += (text[done : finding.start], f"<{finding.entity}>")
        done = finding.end
    return "".join(parts) + text[done:]


def mask_values(
    values: Sequence[str],
    *,
    threshold: float = DEFAULT_THRESHOLD,
    recognizers: Sequence[Recognizer] | None = None,
    hints: frozenset[str] = frozenset(),
    keep: frozenset[str] = frozenset(),
) -> tuple[list[str], list[list[Finding]]]:
    """Values with their personal data replaced, and what was found where in the originals; entities in `keep` stay.

    What is left is looked at again, because a number may show only once its neighbour is gone; a value that still shows something
    after a few rounds is replaced whole.
    """
    masked = list(values)
    first: list[list[Finding]] = []
    pending = list(range(len(masked)))
    for attempt in range(_ROUNDS):
        found = scan_values([masked[i] for i in pending], threshold=threshold, recognizers=recognizers, hints=hints, settle=cover)
        found = [[f for f in each if f.entity not in keep] for each in found]
        first = found if attempt == 0 else first
        changed = [(i, each) for i, each in zip(pending, found, strict=True) if each]
        for i, each in changed:
            masked[i] = replace_findings(masked[i], each)
        pending = [i for i, _ in changed]
        if not pending:
            return masked, first
    for i, each in changed:
        masked[i] = f"<{each[0].entity}>"
    return masked, first


def mask_text(text: str, *, threshold: float = DEFAULT_THRESHOLD, recognizers: Sequence[Recognizer] | None = None) -> tuple[str, list[Finding]]:
    """A text with its personal data replaced by placeholders such as ``<EMAIL_ADDRESS>``, and what was found where in the original."""
    if not isinstance(text, str):
        raise UsageError(f"mask_text takes a string, not {type(text).__name__}.")
    masked, found = mask_values([text], threshold=threshold, recognizers=recognizers)
    return masked[0], found[0]
