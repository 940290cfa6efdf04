"""Personal data in text: one value or the cells of a column, in time that grows with the length and not faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from affidavit.errors import UsageError
from affidavit.interfaces.masking import Finding, Recognizer
from affidavit_governance.masking.recognizers.base import CELL, DEFAULT_THRESHOLD, NO_THRESHOLDS, PatternRecognizer
from affidavit_governance.masking.recognizers.catalogue import patterns
from affidavit_governance.masking.recognizers.overlaps import resolve
from affidavit_governance.masking.recognizers.plain import plain
from affidavit_governance.masking.recognizers.scanner import Scanner

_JOIN_CHARS = 1 << 20
"""Cells are scanned together up to this many characters, so that memory stays flat."""


@lru_cache(maxsize=16)
def _split(recognizers: tuple[Recognizer, ...] | None) -> tuple[Scanner, tuple[Recognizer, ...]]:
    """A scanner for those that are patterns, and the others; of the bundled ones by default."""
    used = patterns() if recognizers is None else recognizers
    return Scanner([r for r in used if isinstance(r, PatternRecognizer)]), tuple(r for r in used if not isinstance(r, PatternRecognizer))


def scan_text(
    text: str,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    thresholds: Mapping[str, float] = NO_THRESHOLDS,
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
    thresholds
        The same for single entities.
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
    scanner, others = _split(None if recognizers is None else tuple(recognizers))
    found = scanner.find(plain(text), hints)
    for other in others:
        found += [finding for finding in other.scan([text])[0] if 0 <= finding.start < finding.end <= len(text)]
    return resolve(finding for finding in found if finding.score >= thresholds.get(finding.entity, threshold))


def scan_values(
    values: Sequence[str],
    *,
    threshold: float = DEFAULT_THRESHOLD,
    thresholds: Mapping[str, float] = NO_THRESHOLDS,
    recognizers: Sequence[Recognizer] | None = None,
    hints: frozenset[str] = frozenset(),
    settle: Callable[[Iterable[Finding]], list[Finding]] = resolve,
) -> list[list[Finding]]:
    """Find personal data in many values: the same as `scan_text` for each, but the bundled recognizers read them joined.

    `settle` says what becomes of overlapping findings: `resolve` keeps the surest, `cover` joins them.
    """
    scanner, others = _split(None if recognizers is None else tuple(recognizers))
    found: list[list[Finding]] = [[] for _ in values]
    for first, last in _pages(values):
        _scan_page(values, first, last, scanner, hints, found)
    for other in others:
        for index, findings in enumerate(other.scan(values)):
            found[index] += [finding for finding in findings if 0 <= finding.start < finding.end <= len(values[index])]
    return [settle(f for f in each if f.score >= thresholds.get(f.entity, threshold)) if each else each for each in found]


def _pages(values: Sequence[str]) -> Iterator[tuple[int, int]]:
    first, size = 0, 0
    for index, value in enumerate(values):
        size += len(value) + 1
        if size > _JOIN_CHARS:
            yield first, index + 1
            first, size = index + 1, 0
    if first < len(values):
        yield first, len(values)


def _scan_page(values: Sequence[str], first: int, last: int, scanner: Scanner, hints: frozenset[str], found: list[list[Finding]]) -> None:
    page = values[first:last]
    hits = sorted(scanner.find(plain(CELL.join(page)), hints), key=lambda f: f.start)
    cell, start = 0, 0
    for hit in hits:
        while hit.start >= start + len(page[cell]) + 1:
            start += len(page[cell]) + 1
            cell += 1
        found[first + cell].append(Finding(hit.entity, hit.start - start, hit.end - start, hit.score, hit.evidence))
