"""Personal data in text: one value or the cells of a column, in time that grows with the length and not faster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter

from affidavit.errors import PluginError, UsageError
from affidavit.interfaces.masking import Finding, Recognizer
from affidavit_governance.masking.recognizers.base import CELL, DEFAULT_THRESHOLD, NO_THRESHOLDS, PatternRecognizer
from affidavit_governance.masking.recognizers.catalogue import patterns
from affidavit_governance.masking.recognizers.overlaps import resolve
from affidavit_governance.masking.recognizers.plain import plain
from affidavit_governance.masking.recognizers.scanner import Scanner

_JOIN_CHARS = 1 << 20
"""Cells are scanned together up to this many characters, so that memory stays flat."""


@lru_cache(maxsize=16)
def _split(recognizers: tuple[Recognizer, ...] | None, weak: bool) -> tuple[Scanner, tuple[Recognizer, ...]]:
    """A scanner for those that are patterns, and the others; of the bundled ones by default.

    Patterns all of whose findings are below the default threshold are left out unless `weak` findings count.
    """
    used = patterns() if recognizers is None else recognizers
    scanned = [r for r in used if isinstance(r, PatternRecognizer) and (weak or r.needs != "")]
    return Scanner(scanned), tuple(r for r in used if not isinstance(r, PatternRecognizer))


def _made_for(
    recognizers: Sequence[Recognizer] | None, threshold: float, thresholds: Mapping[str, float], hints: Collection[str]
) -> tuple[Scanner, tuple[Recognizer, ...]]:
    lowered = threshold < DEFAULT_THRESHOLD or (bool(thresholds) and min(thresholds.values()) < DEFAULT_THRESHOLD)
    return _split(None if recognizers is None else tuple(recognizers), lowered or bool(hints))


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
    scanner, others = _made_for(recognizers, threshold, thresholds, hints)
    found = scanner.find(plain(text), hints, threshold=threshold, thresholds=thresholds)
    for other in others:
        found += _counted(other.scan([text])[0], text, threshold, thresholds)
    return resolve(found)


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
    scanner, others = _made_for(recognizers, threshold, thresholds, hints)
    found: list[list[Finding]] = [[] for _ in values]
    for first, last in _pages(values):
        page = values[first:last]
        hits = scanner.find(plain(CELL.join(page)), hints, threshold=threshold, thresholds=thresholds)
        _deal(hits, page, found[first:last])
    for other in others:
        given = other.scan(values)
        if len(given) != len(values):
            raise PluginError(f"The recognizer '{type(other).__name__}' gave findings of {len(given)} texts for {len(values)}; nothing was masked.")
        for findings, value, mine in zip(given, values, found, strict=True):
            mine += _counted(findings, value, threshold, thresholds)
    return [settle(each) if each else each for each in found]


def _counted(findings: Iterable[Finding], text: str, threshold: float, thresholds: Mapping[str, float]) -> list[Finding]:
    """Those of a plugin's findings that lie inside the text and reach the threshold."""
    return [f for f in findings if 0 <= f.start < f.end <= len(text) and f.score >= thresholds.get(f.entity, threshold)]


def _pages(values: Sequence[str]) -> Iterator[tuple[int, int]]:
    first, size = 0, 0
    for index, value in enumerate(values):
        size += len(value) + 1
        if size > _JOIN_CHARS:
            yield first, index + 1
            first, size = index + 1, 0
    if first < len(values):
        yield first, len(values)


def _deal(hits: Iterable[Finding], page: Sequence[str], found: Sequence[list[Finding]]) -> None:
    """Give each finding in joined values to the value that it stands in."""
    cell, start = 0, 0
    for hit in sorted(hits, key=attrgetter("start")):
        while hit.start >= start + len(page[cell]) + 1:
            start += len(page[cell]) + 1
            cell += 1
        found[cell].append(Finding(hit.entity, hit.start - start, hit.end - start, hit.score, hit.evidence) if start else hit)
