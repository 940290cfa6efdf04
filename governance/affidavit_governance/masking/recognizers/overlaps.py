"""Which of two overlapping findings stays, or what covers them both."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter

from affidavit.interfaces.masking import Finding

_START = attrgetter("start")


def resolve(findings: Iterable[Finding]) -> list[Finding]:
    """Keep of overlapping findings the surest, of equally sure ones the longest; in order of position. O(n log n)."""
    kept: list[Finding] = []
    group: list[Finding] = []
    reach = 0
    for finding in sorted(findings, key=_START):
        if finding.start >= reach and group:
            kept += group if len(group) == 1 else _surest(group)
            group = []
        group.append(finding)
        reach = max(reach, finding.end)
    return kept + (group if len(group) < 2 else _surest(group))


def _surest(findings: list[Finding]) -> list[Finding]:
    """`resolve` for findings that hang together."""
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
    for finding in sorted(findings, key=_START):
        if joined and finding.start < joined[-1].end:
            first = joined.pop()
            best = max(first, finding, key=lambda f: (f.score, f.end - f.start))
            finding = Finding(best.entity, first.start, max(first.end, finding.end), best.score, best.evidence)
        joined.append(finding)
    return joined
