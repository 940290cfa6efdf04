"""Payment cards and bank accounts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers import validators
from affidavit_governance.masking.recognizers.base import CONTEXT_BONUS, PatternRecognizer, near, whole_groups
from affidavit_governance.masking.recognizers.countries import COUNTRIES

_FEWEST = 12
"""Digits of the shortest card number."""


class CreditCard(PatternRecognizer):
    """Payment cards: 12–19 digits, plain or in the groups that cards print, with issuer range and Luhn digit."""

    entity: ClassVar[str] = "CREDIT_CARD"
    column_words: ClassVar[str | None] = r"\bcards?\b|\bcc\b|\bpan\b|卡号"
    shape: ClassVar[str | None] = r"\b[0-9](?:[ .-]?[0-9]){11}"
    _run = re.compile(r"[0-9](?<![0-9A-Za-z_][0-9])(?<![0-9][.,][0-9])[0-9]{3,}+(?:[ .-]?+[0-9]{2,}+)*+")
    _words = re.compile(r"card|credit|debit|\bcc\b|visa|master|amex|maestro|diners|\bjcb\b|unionpay|payment|卡", re.IGNORECASE)
    _separators = str.maketrans("", "", " .-")
    _printed = re.compile(r"4(?:,4){2,3}(?:,[1-4])?|4,6,[45]|6,1[03]|4,4,[45]|8,8|6,6,4")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for run in self._run.finditer(text):
            if run.end() - run.start() < _FEWEST:
                continue
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
        lengths = [end - start for start, end in groups]
        for size in range(len(groups), 0, -1):
            if not _FEWEST <= sum(lengths[:size]) <= 19:
                continue
            if size > 1 and not self._printed.fullmatch(",".join(map(str, lengths[:size]))):
                continue
            digits = "".join(text[start:end] for start, end in groups[:size])
            if validators.luhn(digits) and validators.card_issuer(digits):
                return size
        return 0

    def _finding(self, text: str, start: int, end: int, *, hinted: bool) -> Finding:
        # A short number passes Luhn and a range by chance more often (one 13-digit article number in thirty), so it needs words for it.
        size = len(text[start:end].translate(self._separators))
        score = 0.9 if size >= 16 else 0.7 if size >= 14 else 0.5
        supported = hinted or near(self._words, text, start, end)
        return Finding(
            self.entity, start, end, min(1.0, score + CONTEXT_BONUS * supported), "issuer and Luhn digit" + (", words nearby" if supported else "")
        )


class Iban(PatternRecognizer):
    """International bank account numbers, plain or in groups, any case."""

    entity: ClassVar[str] = "IBAN_CODE"
    column_words: ClassVar[str | None] = r"\biban\b|\bbank account\b|账号"
    shape: ClassVar[str | None] = r"[A-Za-z]{2}[0-9]{2}[ .-]?[0-9A-Za-z]"
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


class SwiftCode(PatternRecognizer):
    """Business identifier codes (ISO 9362): bank, country, place, branch. They have no check digit, so words have to speak for one."""

    entity: ClassVar[str] = "SWIFT_CODE"
    column_words: ClassVar[str | None] = r"\bswift\b|\bbic\b"
    beside: ClassVar[tuple[str, ...]] = ("swift", "bic", "银行国际代码")
    reach: ClassVar[int | None] = 96
    _code = re.compile(r"[A-Z](?<![0-9A-Za-z_][A-Z])[A-Z]{3}([A-Z]{2})[0-9A-Z]{2}(?:[0-9A-Z]{3})?(?![0-9A-Za-z_])")
    needs: ClassVar[str | None] = r"swift|\bbic\b|银行国际代码"
    _words = re.compile(r"swift|\bbic\b|银行国际代码", re.IGNORECASE | re.ASCII)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._code.finditer(text):
            # Kosovo has no ISO code; banks use XK.
            country = match.group(1) in COUNTRIES or match.group(1) == "XK"
            if country and (hinted or near(self._words, text, match.start(), match.end())):
                yield Finding(self.entity, match.start(), match.end(), 0.7, "country code, words nearby")
