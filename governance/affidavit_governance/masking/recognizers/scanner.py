"""Many recognizers over one text at the price of a few passes: each reads only the pieces where its findings can be.

Running forty regular expressions over every text would take forty passes. But most findings hold digits, and digits are rare in running
text, so one pass finds the clusters of digits; what a cluster looks like (``000-00-0000``) says which recognizers may find something there,
and is remembered by its looks. Those read the cluster with its surroundings, all such pieces of a text at once.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Sequence

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import CELL, PatternRecognizer
from affidavit_governance.masking.recognizers.plain import in_lower_case
from affidavit_governance.masking.recognizers.present import Present

_GAP, _EDGE = 3, 2
_CLUSTER = re.compile(rf"[0-9](?:[^0-9{CELL}]{{0,{_GAP}}}+[0-9])*+")
_BEFORE, _AFTER = 64, 96
"""How much a recognizer sees around a cluster: see `PatternRecognizer.shape`."""

_MARGIN = 16
"""A finding of a cluster, which begins at most 24 characters before it and ends at most 80 behind, stays this far from the edges at least."""

_FORM = 24
"""How far around its cluster a form reaches."""

_LONG = 64
_REMEMBERED = 1 << 14
"""Looks of clusters, of up to `_LONG` characters, that are remembered: some 2 MB at most."""


class _Looks(dict[int, str]):
    """What characters become before a shape is searched: digits ``0``, letters ``A`` and ``a``, unless a shape names them."""

    def __init__(self, named: Collection[str]) -> None:
        super().__init__({code: chr(code) for code in range(128)})
        self |= {code: "0" if chr(code).isdigit() else "A" if chr(code).isupper() else "a" for code in range(128) if chr(code).isalnum()}
        self |= {ord(char): char for char in named if not char.isascii()}

    def __missing__(self, code: int) -> str:
        return "\x1f"


class Scanner:
    """Finds what `recognizers` find, each of them by itself over the whole text."""

    def __init__(self, recognizers: Sequence[PatternRecognizer]) -> None:
        self.recognizers = tuple(recognizers)
        self._always: list[int] = []
        self._wordy: list[int] = []
        self._literals: dict[str, list[int]] = {}
        self._beside: dict[str, list[int]] = {}
        self._anchors: list[tuple[re.Pattern[str], int]] = []
        self._shapes: list[tuple[re.Pattern[str], int]] = []
        for at, recognizer in enumerate(self.recognizers):
            if recognizer.shape is None and not (recognizer.anchors or recognizer.literals or recognizer.beside):
                self._always.append(at)
            for literal in recognizer.literals:
                self._literals.setdefault(literal, []).append(at)
            self._anchors += [(re.compile(anchor), at) for anchor in recognizer.anchors]
            for word in recognizer.beside:
                self._beside.setdefault(word, []).append(at)
            if recognizer.shape is None or recognizer.beside:
                self._wordy.append(at)
            else:
                self._shapes.append((re.compile(recognizer.shape, re.ASCII), at))
        self._looks = _Looks({char for recognizer in self.recognizers for char in recognizer.shape or ""})
        self._seen: dict[str, tuple[tuple[int, re.Pattern[str] | None], ...]] = {}
        self._present = Present(list(self._literals), list(self._beside))

    def find(self, text: str, hints: Collection[str] = ()) -> list[Finding]:
        """All findings in plain `text`, in no order; `hints` are entities that something outside the text speaks for."""
        windows = self._by_shape(text)
        whole = self._by_mark(text, windows)
        if hints:
            whole.update(at for at in self._wordy if self.recognizers[at].entity in hints)
        found: list[Finding] = []
        for at in whole:
            recognizer = self.recognizers[at]
            found += recognizer.find(text, hinted=recognizer.entity in hints)
        for at, mine in windows.items():
            if at not in whole:
                recognizer = self.recognizers[at]
                found += _find_in(recognizer, text, mine, hinted=recognizer.entity in hints)
        return found

    def _by_shape(self, text: str) -> dict[int, list[int]]:
        """The parts of the text around clusters of digits, apart from each other, by the recognizer that may find something there.

        Each part is two entries, its start and its end.
        """
        windows: dict[int, list[int]] = {}
        table, seen = self._looks, self._seen
        for match in _CLUSTER.finditer(text):
            start, end = match.span()
            looks = text[start - _EDGE if start > _EDGE else 0 : end + _EDGE].translate(table)
            chosen = seen.get(looks)
            if chosen is None:
                chosen = self._match(looks)
            for at, form in chosen:
                if form is not None and form.search(text, start - _FORM if start > _FORM else 0, end + _FORM) is None:
                    continue
                mine = windows.get(at)
                if mine is None:
                    windows[at] = [max(0, start - _BEFORE), end + _AFTER]
                elif start - _BEFORE <= mine[-1]:
                    mine[-1] = end + _AFTER
                else:
                    mine += (start - _BEFORE, end + _AFTER)
        return windows

    def _by_mark(self, text: str, windows: dict[int, list[int]]) -> set[int]:
        """Add the parts around literals, words and anchors to `windows`; the recognizers that have to read the whole text."""
        whole = set(self._always)
        near: dict[int, list[tuple[int, int]]] = {}
        lower = in_lower_case(text)
        literals, words = self._present(text, lower)
        for owners, marks, where in ((self._literals, literals, text), (self._beside, words, lower)):
            for mark in marks:
                for at in owners[mark]:
                    reach = self.recognizers[at].reach
                    if reach is None:
                        whole.add(at)
                        continue
                    spans = near.setdefault(at, [])
                    i = where.find(mark)
                    while i >= 0:
                        spans.append((i - reach, i + len(mark) + reach))
                        i = where.find(mark, i + 1)
        for anchor, at in self._anchors:
            # Most texts hold few of the anchors, and a search that fails is half the price of an iterator.
            if at in whole or (match := anchor.search(text)) is None:
                continue
            reach = self.recognizers[at].reach
            if reach is None:
                whole.add(at)
            else:
                near.setdefault(at, []).extend((m.start() - reach, m.end() + reach) for m in anchor.finditer(text, match.start()))
        for at, spans in near.items():
            if at not in whole:
                windows[at] = _apart(spans, windows.get(at, []))
        return whole

    def _match(self, looks: str) -> tuple[tuple[int, re.Pattern[str] | None], ...]:
        """The recognizers whose shape stands in a cluster that looks so, each with its form."""
        chosen = tuple((at, self.recognizers[at].form) for shape, at in self._shapes if shape.search(looks))
        if len(looks) <= _LONG:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[looks] = chosen
        return chosen


def _apart(spans: list[tuple[int, int]], windows: list[int]) -> list[int]:
    """Parts of a text, and parts given as starts and ends in turn, in order and joined where they overlap."""
    joined: list[int] = []
    for start, end in sorted([*spans, *zip(windows[::2], windows[1::2], strict=True)]):
        if not joined:
            joined = [max(0, start), end]
        elif start <= joined[-1]:
            joined[-1] = max(joined[-1], end)
        else:
            joined += (start, end)
    return joined


def _find_in(recognizer: PatternRecognizer, text: str, windows: list[int], *, hinted: bool) -> list[Finding]:
    """Findings in some parts of the text, which are read in one go."""
    starts, ends = windows[::2], windows[1::2]
    parts, joins, size = [], [], 0
    for start, end in zip(starts, ends, strict=True):
        part = text[start:end]
        parts.append(part)
        joins.append(size)
        size += len(part) + 1
    margin = 0 if recognizer.shape is None or recognizer.beside else _MARGIN
    found = []
    for each in recognizer.find(CELL.join(parts) if len(parts) > 1 else parts[0], hinted=hinted):
        at = bisect_right(joins, each.start) - 1
        moved = starts[at] - joins[at]
        start, end = each.start + moved, each.end + moved
        # A number of the surroundings that the part's edge cuts off can look like another.
        if (start - starts[at] >= margin or not starts[at]) and (ends[at] - end >= margin or ends[at] >= len(text)):
            found.append(Finding(each.entity, start, end, each.score, each.evidence))
    return found
