"""Identity numbers of Hong Kong, Macau and Taiwan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers import validators_china as validators
from affidavit_governance.masking.recognizers.base import CONTEXT_BONUS, PatternRecognizer, near


class HkId(PatternRecognizer):
    """Hong Kong identity card numbers: with the check digit in brackets alone, without brackets where words speak for them."""

    entity: ClassVar[str] = "HK_ID"
    column_words: ClassVar[str] = r"\bhk ?id\b|香港身份|身份證"
    shape: ClassVar[str] = r"[A-Za-z] ?[0-9]{6}(?:[0-9A-Za-z]\b| ?[(（])"
    _check = re.compile(r"\(([0-9Aa])\)")
    _before = re.compile(r"(?<![0-9A-Za-z_])([A-Za-z]{1,2}) ?([0-9]{6}) ?\Z")
    _bare = re.compile(r"[0-9](?<=[A-Za-z][0-9])[0-9]{5}[0-9Aa](?![0-9A-Za-z_])")
    _words = re.compile(r"香港|身份證|身份证|證件|\bhkid|hong kong|identity card|\bid card", re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for check in self._check.finditer(text):
            # One character more than the longest number, so that its left neighbour is seen.
            first = max(0, check.start() - 11)
            body = self._before.search(text[first : check.start()])
            if body and validators.hong_kong_id(body.group(1) + body.group(2) + check.group(1)):
                yield Finding(self.entity, first + body.start(), check.end(), 0.9, "check digit")
        for match in self._bare.finditer(text):
            start, end = match.start() - 1, match.end()
            start -= _ascii_alpha(text[start - 1 : start])
            before = text[start - 1 : start] if start else ""
            if before == "_" or (before.isascii() and before.isalnum()) or not validators.hong_kong_id(text[start:end]):
                continue
            supported = hinted or near(self._words, text, start, end)
            yield Finding(self.entity, start, end, 0.45 + CONTEXT_BONUS * supported, "check digit" + (", words nearby" if supported else ""))


class MoId(PatternRecognizer):
    """Macau resident identity card numbers: seven digits and one in brackets or behind strokes, where words speak for them."""

    entity: ClassVar[str] = "MO_ID"
    column_words: ClassVar[str] = r"澳门身份|澳門身份|\bbir\b"
    shape: ClassVar[str] = r"\b[0-9]{7} ?[(（]|[0-9]/[0-9]{6}/[0-9]"
    needs: ClassVar[str] = r"澳门|澳門|macau|macao|\bbir\b"
    _number = re.compile(r"[157](?<![0-9A-Za-z_/][157])(?:[0-9]{6} ?\([0-9]\)|/[0-9]{6}/[0-9](?![0-9A-Za-z_/]))")
    _words = re.compile(needs, re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._number.finditer(text):
            supported = hinted or near(self._words, text, match.start(), match.end())
            score = 0.45 + CONTEXT_BONUS * supported
            yield Finding(self.entity, match.start(), match.end(), score, "number format" + (", words nearby" if supported else ""))


class TwId(PatternRecognizer):
    """Taiwanese national identity and resident certificate numbers, with check digit, where words speak for them."""

    entity: ClassVar[str] = "TW_ID"
    column_words: ClassVar[str] = r"身分證|身分证|身份證|居留證|台湾身份|\btw ?id\b"
    shape: ClassVar[str] = r"[A-Za-z][0-9]{8,9}\b"
    needs: ClassVar[str] = r"身分證|身分证|身份證|身份证|居留證|居留证|統一證號|證號|证号|台灣|臺灣|台湾|taiwan|national id"
    form = re.compile(r"[A-Za-z](?<![0-9A-Za-z_][A-Za-z])[0-9A-Za-z][0-9]{8}(?![0-9A-Za-z_])")
    _words = re.compile(needs, re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self.form.finditer(text):
            start, end = match.span()
            if not validators.taiwan_id(match.group().upper()):
                continue
            supported = hinted or near(self._words, text, start, end)
            # Without words one article number in fifty of this form would pass.
            yield Finding(self.entity, start, end, 0.5 + CONTEXT_BONUS * supported, "check digit" + (", words nearby" if supported else ""))


def _ascii_alpha(character: str) -> bool:
    return character.isascii() and character.isalpha()
