"""Many recognizers over one text at the price of a few passes: each reads only the pieces where its findings can be.

Running forty regular expressions over every text would take forty passes. But most findings hold digits, and digits are rare in running
text, so one pass finds the clusters of digits; what a cluster looks like (``000-00-0000``) says which recognizers may find something there,
and is remembered by its looks. Those read the cluster with its surroundings, all such pieces of a text at once.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import CELL, NO_THRESHOLDS, PatternRecognizer
from affidavit_governance.masking.recognizers.present import Present

_GAP, _EDGE = 3, 2
_CLUSTER = re.compile(rf"0(?:[^0{CELL}]{{0,{_GAP}}}+0)*+".encode())
"""Of the looks of a text."""

_BEFORE, _AFTER = 64, 96
"""How much a recognizer sees around a cluster: see `PatternRecognizer.shape`."""

_MARGIN = 16
"""A finding of a cluster, which begins at most 24 characters before it and ends at most 80 behind, stays this far from the edges at least."""

_FORM = 24
"""How far around its cluster a form reaches."""

_LONG = 64
_REMEMBERED = 1 << 14
"""Looks of clusters, of up to `_LONG` characters, that are remembered: some 2 MB at most."""


_LOOKS = bytes(ord("0" if char.isdigit() else "A" if char.isupper() else "a" if char.islower() else char) for char in map(chr, range(128))).ljust(
    256, b"?"
)


def _looks(text: str) -> bytes:
    """What a text becomes before shapes are searched, character for character: digits ``0``, letters ``A`` and ``a``, other scripts ``?``."""
    return text.encode("ascii", "replace").translate(_LOOKS)


class Scanner:
    """Finds what `recognizers` find, each of them by itself over the whole text."""

    def __init__(self, recognizers: Sequence[PatternRecognizer]) -> None:
        self.recognizers = tuple(recognizers)
        self._always: list[int] = []
        self._wordy: list[int] = []
        self._literals: dict[str, list[int]] = {}
        self._beside: dict[str, list[int]] = {}
        self._anchors: list[tuple[re.Pattern[str], int]] = []
        self._shapes: list[tuple[re.Pattern[bytes], re.Pattern[bytes] | None, int]] = []
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
                excluded = None if recognizer.excluded is None else re.compile(recognizer.excluded.encode())
                self._shapes.append((re.compile(recognizer.shape.encode("ascii", "replace")), excluded, at))
        self._seen: dict[bytes, tuple[tuple[int, re.Pattern[str] | None], ...]] = {}
        self._present = Present(list(self._literals), list(self._beside))

    def find(
        self, text: str, hints: Collection[str] = (), *, threshold: float = 0.0, thresholds: Mapping[str, float] = NO_THRESHOLDS
    ) -> list[Finding]:
        """The findings in plain `text` from a score on, of any entity or of single ones, in no order.

        `hints` are entities that something outside the text speaks for.
        """
        windows = self._by_shape(text)
        whole = self._by_mark(text, windows)
        if hints:
            whole.update(at for at in self._wordy if self.recognizers[at].entity in hints)
        found: list[Finding] = []
        for at in whole:
            recognizer = self.recognizers[at]
            least = thresholds.get(recognizer.entity, threshold)
            found += [each for each in recognizer.find(text, hinted=recognizer.entity in hints) if each.score >= least]
        for at, mine in windows.items():
            if at not in whole:
                recognizer = self.recognizers[at]
                least = thresholds.get(recognizer.entity, threshold)
                found += _find_in(recognizer, text, mine, least, hinted=recognizer.entity in hints)
        return found

    def _by_shape(self, text: str) -> dict[int, list[int]]:
        """The parts of the text around clusters of digits, apart from each other, by the recognizer that may find something there.

        Each part is two entries, its start and its end.
        """
        windows: dict[int, list[int]] = {}
        whole, seen = _looks(text), self._seen
        for match in _CLUSTER.finditer(whole):
            start, end = match.span()
            looks = whole[start - _EDGE if start > _EDGE else 0 : end + _EDGE]
            chosen = seen.get(looks)
            if chosen is None:
                chosen = self._match(looks)
            for at, form in chosen:
                if form is not None and form.search(text, start - _FORM if start > _FORM else 0, end + _FORM) is None:
                    continue
                mine = windows.get(at)
                if mine is None:
                    windows[at] = [start - _BEFORE if start > _BEFORE else 0, end + _AFTER]
                elif start - _BEFORE <= mine[-1]:
                    mine[-1] = end + _AFTER
                else:
                    mine += (start - _BEFORE, end + _AFTER)
        return windows

    def _by_mark(self, text: str, windows: dict[int, list[int]]) -> set[int]:
        """Add the parts around literals, words and anchors to `windows`; the recognizers that have to read the whole text."""
        whole = set(self._always)
        near: dict[int, list[tuple[int, int]]] = {}
        small = text.encode(errors="surrogatepass").lower()
        literals, words = self._present(text, small)
        lower = small.decode(errors="surrogatepass") if words else ""
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
                if mine := windows.get(at):
                    spans += zip(mine[::2], mine[1::2], strict=True)
                windows[at] = _apart(spans)
        return whole

    def _match(self, looks: bytes) -> tuple[tuple[int, re.Pattern[str] | None], ...]:
        """The recognizers whose shape stands in a cluster that looks so, each with its form."""
        chosen = tuple(
            (at, self.recognizers[at].form)
            for shape, excluded, at in self._shapes
            if shape.search(looks) and not (excluded is not None and excluded.fullmatch(looks))
        )
        if len(looks) <= _LONG:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[looks] = chosen
        return chosen


def _apart(spans: list[tuple[int, int]]) -> list[int]:
    """Parts of a text in order, starts and ends in turn, joined where they overlap."""
    spans.sort()
    joined = [max(0, spans[0][0]), spans[0][1]]
    for start, end in spans[1:]:
        if start <= joined[-1]:
            joined[-1] = max(joined[-1], end)
        else:
            joined += (start, end)
    return joined


def _find_in(recognizer: PatternRecognizer, text: str, windows: list[int], least: float, *, hinted: bool) -> list[Finding]:
    """Findings from a score on in some parts of the text, which are read in one go."""
    joins = [0]
    if len(windows) == 2:
        joined = text[windows[0] : windows[1]]
    else:
        parts = []
        for start, end in zip(windows[::2], windows[1::2], strict=True):
            part = text[start:end]
            parts.append(part)
            joins.append(joins[-1] + len(part) + 1)
        joined = CELL.join(parts)
    margin = 0 if recognizer.shape is None or recognizer.beside else _MARGIN
    found = []
    for entity, start, end, score, evidence in recognizer.find(joined, hinted=hinted):
        if score < least:
            continue
        at = bisect_right(joins, start) - 1
        first, last = windows[2 * at], windows[2 * at + 1]
        moved = first - joins[at]
        # A number of the surroundings that the part's edge cuts off can look like another.
        if (start + moved - first >= margin or not first) and (last - end - moved >= margin or last >= len(text)):
            found.append(Finding(entity, start + moved, end + moved, score, evidence))
    return found
