"""Telephone numbers.

Own patterns and tables instead of the `phonenumbers` library: masking belongs to the core install, the library takes 0.1 s to import and
some 50 µs a candidate, and it needs to know the country before it can judge a national number, which running text does not say.
A plugin may still register a recognizer that uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers import validators
from affidavit_governance.masking.recognizers.base import CONTEXT_BONUS, PatternRecognizer, near, whole_groups

_MAX_DIGITS = 15
"""E.164 allows fifteen."""

_FEWEST_IN_A_ROW = 10
"""Digits of the shortest number that is taken out of several in a row."""

Groups = list[tuple[int, int]]


class Phone(PatternRecognizer):
    """Telephone numbers: international, North American, Chinese mobiles, and national forms of Europe and Asia.

    A form that other numbers share (``467 3395``) counts only where a word nearby, or the column's name, speaks for a telephone.
    """

    entity: ClassVar[str] = "PHONE_NUMBER"
    column_words: ClassVar[str | None] = r"\b(tele)?phones?\b|\bmobile\b|\bcell\b|\btel\b|\bfax\b|\bmsisdn\b|电话|手机"
    shape: ClassVar[str | None] = r"[0-9](?:[ ./()-]{0,3}[0-9]){6}"
    # More than fifteen digits in one group, a date with its time, a date with strokes, a social security number; none behind a plus sign.
    excluded: ClassVar[str | None] = (
        r"[^0-9+(]{0,2}(?:[0-9]{16,}|[0-9]{4}-[0-9]{2}-[0-9]{2}[ A][0-9]{2}:[0-9]{2}(?::[0-9]{2})?|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}"
        r"|[0-9]{3}-[0-9]{2}-[0-9]{4})[^0-9]{0,2}"
    )
    _plus = re.compile(r"\+(?<![0-9A-Za-z]\+)[ ]?\(?[0-9](?:[ ./()-]{0,3}+[0-9]){6,}+")
    # More than twelve digits in one group are no number, unless a country code or trunk prefix may begin them: `_score` says so too, but later.
    _run = re.compile(
        r"[0-9](?<![0-9A-Za-z_+][0-9])(?<![0-9][.,:/-][0-9])(?<![A-Za-z][/-][0-9])(?!(?<![08])[0-9]{12,}+(?![ ./()-]{1,3}[0-9]|[ ]?[xXeE]))"
        r"(?:[ ./()-]{0,3}+[0-9]){6,}+"
        r"([ ]?(?:[xX]|[eE][xX][tT]\.?)[ ]?[0-9]{1,6})?+"
    )
    _group = re.compile(r"[0-9]+")
    _mobile = re.compile(r"(?:86|0086)?1[3-9][0-9]{9}")
    _words = re.compile(
        r"phone|\btel\b|telef|\bcall|mobile|\bcell|\bfax|\bdesk\b|contact|\bdial|\bsms\b|whatsapp|text me"
        r"|office(?:\W{0,3}$|(?<=^office)|(?<=^\Woffice)|(?<=^\W\Woffice)|(?<=^\W\W\Woffice))|messag|answer|reach|\bring\b|hotline|电话|手机|联系|致电|热线|座机|传真",
        re.IGNORECASE,
    )
    _continued = re.compile(r"[:,][0-9]")
    _date = re.compile(
        r"(?:19|20)[0-9]{2}[./-][0-9]{1,2}[./-][0-9]{1,2}(?![0-9]|[./-][0-9])"
        r"|[0-9]{1,2}[./-][0-9]{1,2}[./-](?:19|20)?[0-9]{2}(?![0-9]|[./-][0-9])"
    )

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._plus.finditer(text):
            if finding := self._international(text, match):
                yield finding
        for match in self._run.finditer(text):
            extension = match.group(1) is not None
            groups = whole_groups(text, match.start(), match.start(1) if extension else match.end(), followed=extension)
            if groups and not self._continued.match(text, match.end()):
                end = match.end() if extension else groups[-1][1]
                yield from self._national(text, match.start(), end, groups, hinted=hinted)

    def _international(self, text: str, match: re.Match[str]) -> Finding | None:
        digits, end = "", match.start()
        for group in self._group.finditer(text, match.start(), match.end()):
            if len(digits) + group.end() - group.start() > _MAX_DIGITS:
                break
            digits, end = digits + group.group(), group.end()
        if len(digits) < 7 or validators.calling_code(digits) is None:
            return None
        return Finding(self.entity, match.start(), end, 0.96, "country code")

    def _national(self, text: str, start: int, end: int, groups: Groups, *, hinted: bool) -> Iterator[Finding]:
        score, evidence = self._score(text, start, groups) if len(groups) <= 6 else (0.0, "")
        if score:
            supported = hinted or near(self._words, text, start, end)
            opening = start - 1 if text[start - 1 : start] == "(" and ")" in text[start:end] else start
            yield Finding(self.entity, opening, end, min(0.95, score + CONTEXT_BONUS * supported), evidence + (", words nearby" if supported else ""))
        if score or len(groups) == 1 or sum(last - first for first, last in groups) < _FEWEST_IN_A_ROW:
            return
        # Several numbers in a row: of these only forms that nothing else has.
        at = 0
        while at < len(groups):
            lengths = [last - first for first, last in groups[at : at + 3]]
            size = 3 if lengths in ([3, 3, 4], [3, 4, 4]) else 1 if lengths[0] == 11 else 0
            number = groups[at : at + size]
            if number and self._score(text, number[0][0], number)[0] >= 0.7:
                yield Finding(self.entity, number[0][0], number[-1][1], 0.7, "national form")
                at += size
            else:
                at += 1

    def _score(self, text: str, start: int, groups: Groups) -> tuple[float, str]:
        """How sure a run of digit groups is one telephone number, and why; 0 where it is not."""
        parts = [text[first:last] for first, last in groups]
        digits = "".join(parts)
        if not 7 <= len(digits) <= _MAX_DIGITS:
            return 0.0, ""
        lengths = list(map(len, parts))
        if len(groups) > 1 and self._other(text, start, groups, parts, lengths):
            return 0.0, ""
        if len(digits) >= 11 and self._mobile.fullmatch(digits) and lengths in ([11], [13], [15], [3, 4, 4], [3, 8], [2, 11], [2, 3, 4, 4]):
            return 0.75, "Chinese mobile"
        if lengths in ([3, 3, 4], [10], [1, 3, 3, 4], [3, 3, 3, 4], [11]) and (found := _north_american(digits, lengths)):
            return found, "numbering plan"
        if digits.startswith("00") and len(digits) >= 9 and validators.calling_code(digits[2:]):
            return (0.75 if len(digits) >= 11 and len(groups) > 1 else 0.5), "country code"
        if digits[0] == "0" and 9 <= len(digits) <= 12:
            return (0.65 if len(groups) > 1 and 2 <= lengths[0] <= 5 else 0.4), "trunk prefix"
        if text[start - 1 : start] == "(" and ")" in text[start : groups[-1][1]] and len(digits) <= 11:
            return 0.65, "area code in brackets"
        if len(groups) == 1:
            return (0.3 if len(digits) <= 12 else 0.0), "length"
        if len(digits) <= 12 and max(lengths) <= 6 and min(lengths[1:]) >= 2 and lengths[0] >= 2:
            return 0.4, "groups"
        return 0.0, ""

    def _other(self, text: str, start: int, groups: Groups, parts: list[str], lengths: list[int]) -> bool:
        """Whether the run is surely something else: a date, a range of years, an address, a social security number, a postal code."""
        if self._date.match(text, start) or text[start : groups[-1][1]].count("/") > 1:
            return True
        if lengths == [4, 4] and all(part[:2] in ("19", "20") for part in parts):
            return True
        if len(parts) in (2, 4) and _separated(text, groups, "."):
            return len(parts) == 2 or all(int(part) <= 255 and len(part) <= 3 for part in parts)
        return lengths in ([3, 2, 4], [5, 4]) and _separated(text, groups, "-")


def _separated(text: str, groups: Groups, sign: str) -> bool:
    """Whether nothing but one `sign` stands between each two groups."""
    return all(text[last:first] == sign for (_, last), (first, _) in pairwise(groups))


def _north_american(digits: str, lengths: list[int]) -> float:
    prefix, area, exchange = digits[:-10], digits[-10:-7], digits[-7:-4]
    if prefix not in ("", "1", "001") or not validators.nanp(area, exchange):
        return 0.0
    if prefix == "1" and lengths == [11]:
        return 0.4
    return 0.4 if lengths == [10] else 0.75
