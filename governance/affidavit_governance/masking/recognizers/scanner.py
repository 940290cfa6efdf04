"""Many recognizers over one text at the price of a few passes: each reads only the pieces where its findings can be.

Running forty regular expressions over every text would take forty passes. But most findings hold digits, and digits are rare in running
text, so one pass finds the clusters of digits; what a cluster looks like (``000-00-0000``) says which recognizers may find something there,
and is remembered by its looks. Those read the cluster with its surroundings, all such pieces of a text at once.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import CELL, PatternRecognizer
from affidavit_governance.masking.recognizers.plain import in_lower_case
from affidavit_governance.masking.recognizers.present import Present

_GAP, _EDGE = 3, 2
_CLUSTER = re.compile(rf"[0-9](?:[^0-9{CELL}]{{0,{_GAP}}}+[0-9])*+")
_BEFORE, _AFTER = 64, 96
"""How much a recognizer sees around a cluster: see `PatternRecognizer.shape`."""

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
        self._seen: dict[str, tuple[int, ...]] = {}
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
            for at in chosen:
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
                    else:
                        near.setdefault(at, []).extend((i - reach, i + len(mark) + reach) for i in _occurrences(where, mark))
        for anchor, at in self._anchors:
            reach = self.recognizers[at].reach
            if reach is not None:
                if found := [(match.start() - reach, match.end() + reach) for match in anchor.finditer(text)]:
                    near.setdefault(at, []).extend(found)
            elif at not in whole and anchor.search(text):
                whole.add(at)
        for at, spans in near.items():
            if at not in whole:
                windows[at] = _apart(spans, windows.get(at, []))
        return whole

    def _match(self, looks: str) -> tuple[int, ...]:
        """The recognizers whose shape stands in a cluster that looks so."""
        chosen = tuple(at for shape, at in self._shapes if shape.search(looks))
        if len(looks) <= _LONG:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[looks] = chosen
        return chosen


def _occurrences(text: str, literal: str) -> Iterator[int]:
    at = text.find(literal)
    while at >= 0:
        yield at
        at = text.find(literal, at + 1)


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
    if len(windows) == 2:
        first, last = windows
        alone = recognizer.find(text[first:last], hinted=hinted)
        return [Finding(f.entity, f.start + first, f.end + first, f.score, f.evidence) for f in alone] if first else list(alone)
    starts = windows[::2]
    parts = [text[start:end] for start, end in zip(starts, windows[1::2], strict=True)]
    joins = list(accumulate((len(part) + 1 for part in parts[:-1]), initial=0))
    found = []
    for each in recognizer.find(CELL.join(parts), hinted=hinted):
        part = bisect_right(joins, each.start) - 1
        moved = starts[part] - joins[part]
        found.append(Finding(each.entity, each.start + moved, each.end + moved, each.score, each.evidence))
    return found
