"""The bundled recognizers but for telephone numbers.

Each pattern begins with a plain character or class, which Python's engine skips to fast, and looks back only from there. Quantifiers are
bounded or possessive and neighbours exclude each other, so the time grows with the length of the text and not faster.
Only ASCII letters and digits count as neighbours, so that numbers inside Chinese running text are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit_governance.masking import validators
from affidavit_governance.masking.findings import Finding, PatternRecognizer

CELL = "\x1e"
"""Separates the cells of a column when many are scanned at once: ASCII's record separator."""

_BEFORE = 40
_AFTER = 14
CONTEXT_BONUS = 0.35
"""What words nearby, or the column's name, add to the score of a weak finding: Presidio's context enhancement adds as much."""


def near(words: re.Pattern[str], text: str, start: int, end: int) -> bool:
    """Whether one of `words` stands shortly before or after a finding, in the same cell."""
    before = text[max(0, start - _BEFORE) : start]
    after = text[end : end + _AFTER]
    return words.search(before[before.rfind(CELL) + 1 :]) is not None or words.search(after.partition(CELL)[0]) is not None


_WORD = re.compile(r"[0-9A-Za-z_]")
_GROUP = re.compile(r"[0-9]+")


def whole_groups(text: str, start: int, end: int, *, followed: bool = False) -> list[tuple[int, int]]:
    """Where the groups of digits stand between `start` and `end`, without a last one that a letter continues (unless it may be `followed`)."""
    groups = [group.span() for group in _GROUP.finditer(text, start, end)]
    # Tested here and not in the pattern: a look-ahead that fails there would have every later group tried again, in quadratic time.
    if groups and not followed and groups[-1][1] == end and _WORD.match(text, end):
        groups.pop()
    return groups


class Email(PatternRecognizer):
    """E-mail addresses: an unquoted local part (RFC 5321, 4.1.2; accents allowed as in RFC 6531) and a domain with a top-level name."""

    entity: ClassVar[str] = "EMAIL_ADDRESS"
    _local = re.compile(r"[A-Za-z0-9\u00c0-\u04ff._%+&'~^!#$*=/-]{1,64}")
    _domain = re.compile(r"@(?:[A-Za-z0-9\u00c0-\u04ff_-]{1,63}+\.){1,30}(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z\u00c0-\u04ff]{2,24})")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        at = text.find("@")
        while at >= 0:
            local = self._local.match(text[max(0, at - 64) : at][::-1])
            domain = self._domain.match(text, at) if local else None
            if local and domain:
                name = local.group()[::-1].lstrip(".'/=*!#$^~&")
                if name:
                    yield Finding(self.entity, at - len(name), domain.end(), 0.98, "address syntax")
            at = text.find("@", at + 1)


class CreditCard(PatternRecognizer):
    """Payment cards: 12–19 digits, plain or in the groups that cards print, with issuer range and Luhn digit."""

    entity: ClassVar[str] = "CREDIT_CARD"
    _run = re.compile(r"[0-9](?<![0-9A-Za-z_][0-9])(?<![0-9][.,][0-9])[0-9]{3,}+(?:[ .-]?+[0-9]{2,}+)*+")
    _words = re.compile(r"card|credit|debit|\bcc\b|visa|master|amex|maestro|diners|\bjcb\b|unionpay|payment|卡", re.IGNORECASE)
    _printed = re.compile(r"4(?:,4){2,3}(?:,[1-4])?|4,6,[45]|6,1[03]|4,4,[45]|8,8|6,6,4")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for run in self._run.finditer(text):
            groups = whole_groups(text, run.start(), run.end())
            at = 0
            while at < len(groups):
                size = self._size(text, groups[at : at + 5])
                if size:
                    start, end = groups[at][0], groups[at + size - 1][1]
                    yield self._finding(text, start, end, hinted=hinted)
                at += size or 1

    def _size(self, text: str, groups: list[tuple[int, int]]) -> int:
        """How many of `groups` make a card; the most, where several would."""
        for size in range(len(groups), 0, -1):
            lengths = [end - start for start, end in groups[:size]]
            if not 12 <= sum(lengths) <= 19:
                continue
            if size > 1 and not self._printed.fullmatch(",".join(map(str, lengths))):
                continue
            digits = "".join(text[start:end] for start, end in groups[:size])
            if validators.card_issuer(digits) and validators.luhn(digits):
                return size
        return 0

    def _finding(self, text: str, start: int, end: int, *, hinted: bool) -> Finding:
        # A short number passes Luhn and a range by chance more often (one 13-digit article number in thirty), so it needs words for it.
        size = sum(c.isdigit() for c in text[start:end])
        score = 0.9 if size >= 16 else 0.7 if size >= 14 else 0.5
        supported = hinted or near(self._words, text, start, end)
        return Finding(
            self.entity, start, end, min(1.0, score + CONTEXT_BONUS * supported), "issuer and Luhn digit" + (", words nearby" if supported else "")
        )


class Iban(PatternRecognizer):
    """International bank account numbers, plain or in groups, any case."""

    entity: ClassVar[str] = "IBAN_CODE"
    _head = re.compile(r"[0-9](?<=[A-Za-z]{2}[0-9])(?<![0-9A-Za-z_][A-Za-z]{2}[0-9])[0-9](?=[ .-]?[0-9A-Za-z])")
    _body: ClassVar[dict[int, re.Pattern[str]]] = {
        size: re.compile(rf"[A-Za-z]{{2}}[0-9]{{2}}(?:[ .-]?+[0-9A-Za-z]){{{size - 4}}}(?![0-9A-Za-z_])")
        for size in set(validators.IBAN_LENGTHS.values())
    }
    _separators = str.maketrans("", "", " .-")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for head in self._head.finditer(text):
            start = head.start() - 2
            size = validators.IBAN_LENGTHS.get(text[start : start + 2].upper())
            body = self._body[size].match(text, start) if size else None
            if body and validators.iban(body.group().translate(self._separators)):
                yield Finding(self.entity, start, body.end(), 1.0, "country length and mod 97")


class IpAddress(PatternRecognizer):
    """IP addresses, version 4 and 6."""

    entity: ClassVar[str] = "IP_ADDRESS"
    _v4 = re.compile(r"[0-9](?<![0-9A-Za-z_.][0-9])[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![0-9A-Za-z_]|\.[0-9])")
    _version = re.compile(r"(?:\bv|version|release|build|kernel|firmware)[ .:=]{0,3}$", re.IGNORECASE)
    _colon = re.compile(r":[0-9A-Fa-f]{0,4}:")
    _left = re.compile(r"[0-9A-Fa-f:]{0,40}")
    _right = re.compile(r"[0-9A-Fa-f:]{1,40}(?:\.[0-9]{1,3}){0,3}")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._v4.finditer(text):
            if validators.ipv4(match.group()):
                score = 0.3 if self._version.search(text[max(0, match.start() - 12) : match.start()]) and not hinted else 0.8
                yield Finding(self.entity, match.start(), match.end(), score, "four numbers up to 255")
        done = 0
        for colon in self._colon.finditer(text):
            if colon.start() < done:
                continue
            left = self._left.match(text[max(0, colon.start() - 40) : colon.start()][::-1])
            right = self._right.match(text, colon.start())
            assert left is not None and right is not None
            start, end = colon.start() - left.end(), right.end()
            done = end
            if finding := self._v6(text, start, end):
                yield finding

    def _v6(self, text: str, start: int, end: int) -> Finding | None:
        while end > start and text[end - 1] == ":" and text[end - 2 : end] != "::":
            end -= 1
        neighbours = text[max(0, start - 1) : start] + text[end : end + 1]
        value = text[start:end]
        if _WORD.search(neighbours) or not validators.ipv6(value):
            return None
        groups = [group for group in value.split(":") if group]
        # `a::b` and `std::dec` style names are valid addresses too; an address that people write has more groups, or a digit.
        if len(groups) < 3 and not any(c.isdigit() for c in value):
            return None
        return Finding(self.entity, start, end, 0.9 if len(groups) > 2 else 0.65, "RFC 4291")


class UsSsn(PatternRecognizer):
    """US social security numbers: in the printed form, or nine digits where words speak for it."""

    entity: ClassVar[str] = "US_SSN"
    _printed = re.compile(r"[0-9](?<![0-9A-Za-z_][0-9])(?<![0-9][.-][0-9])([0-9]{2})([ .-]?)([0-9]{2})\2([0-9]{4})(?![0-9A-Za-z_]|[.-][0-9])")
    _words = re.compile(r"\bssns?\b|social.{0,3}sec|soc sec|tax.{0,3}id|\btin\b", re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._printed.finditer(text):
            area = text[match.start()] + match.group(1)
            if not validators.us_ssn(area, match.group(3), match.group(4)):
                continue
            supported = hinted or near(self._words, text, match.start(), match.end())
            score = {"-": 0.8, " ": 0.5, ".": 0.4}.get(match.group(2), 0.3) + CONTEXT_BONUS * supported
            yield Finding(self.entity, match.start(), match.end(), min(1.0, score), "assigned range" + (", words nearby" if supported else ""))
