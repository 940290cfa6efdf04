"""Identifiers of the United States."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers import national_ids, validators
from affidavit_governance.masking.recognizers.base import CONTEXT_BONUS, WORD, PatternRecognizer, near
from affidavit_governance.masking.recognizers.identifier import compact, windows, words
from affidavit_governance.masking.recognizers.plain import in_lower_case

_WITH_WORDS = 0.85
_LICENSE_WORDS = r"driv(?:er|ing)[^0-9\x1e]{0,5}licen[cs]e|\bdln\b|\bdl ?(?:no|num|#)"
_REACH = 40
"""How far behind the words for it a number may end."""


class UsSsn(PatternRecognizer):
    """US social security numbers: in the printed form, or nine digits where words speak for it."""

    entity: ClassVar[str] = "US_SSN"
    column_words: ClassVar[str | None] = r"\bssn\b|\bsocial sec|\btax id\b"
    shape: ClassVar[str | None] = r"\b[0-9]{3}(?:[0-9]{6}|-[0-9]{2}-[0-9]{4}| [0-9]{2} [0-9]{4}|\.[0-9]{2}\.[0-9]{4})\b"
    form = re.compile(r"[0-9](?<![0-9A-Za-z_][0-9])(?<![0-9][.-][0-9])([0-9]{2})([ .-]?)([0-9]{2})\2([0-9]{4})(?![0-9A-Za-z_]|[.-][0-9])")
    _words = re.compile(r"\bssns?\b|social.{0,3}sec|soc sec|tax.{0,3}id|\btin\b", re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self.form.finditer(text):
            area = text[match.start()] + match.group(1)
            if not validators.us_ssn(area, match.group(3), match.group(4)):
                continue
            supported = hinted or near(self._words, text, match.start(), match.end())
            score = {"-": 0.8, " ": 0.5, ".": 0.4}.get(match.group(2), 0.3) + CONTEXT_BONUS * supported
            yield Finding(self.entity, match.start(), match.end(), min(1.0, score), "assigned range" + (", words nearby" if supported else ""))


class UsItin(PatternRecognizer):
    """US taxpayer numbers of persons without a social security number, written as those are."""

    entity: ClassVar[str] = "US_ITIN"
    column_words: ClassVar[str | None] = r"\bitin\b|\btin\b|\btax(payer)? id\b"
    shape: ClassVar[str | None] = r"\b[0-9]{3}(?:[0-9]{6}|-[0-9]{2}-[0-9]{4}| [0-9]{2} [0-9]{4})\b"
    form = re.compile(r"9(?<![0-9A-Za-z_]9)(?<![0-9][.-]9)([0-9]{2})([ -]?)([0-9]{2})\2[0-9]{4}(?![0-9A-Za-z_]|[.-][0-9])")
    _words = words(r"\bitins?\b|taxpayer|tax.{0,3}id")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self.form.finditer(text):
            if not national_ids.us_itin("9" + match.group(1), match.group(3)):
                continue
            supported = hinted or near(self._words, text, match.start(), match.end())
            score = {"-": 0.8, " ": 0.5}.get(match.group(2), 0.3) + CONTEXT_BONUS * supported
            yield Finding(self.entity, match.start(), match.end(), min(1.0, score), "assigned range" + (", words nearby" if supported else ""))


class UsPassport(PatternRecognizer):
    """US passport numbers: nine digits, or a letter and eight. They have no check, so words must speak for them."""

    entity: ClassVar[str] = "US_PASSPORT"
    column_words: ClassVar[str | None] = r"\bpass ?port\b"
    shape: ClassVar[str | None] = r"\b[0-9A-Za-z][0-9]{8}\b"
    beside: ClassVar[tuple[str, ...]] = ("passport",)
    reach: ClassVar[int | None] = 64
    needs: ClassVar[str | None] = "passport"
    _number = re.compile(r"[0-9](?<![0-9][0-9])(?<![0-9][.-][0-9])[0-9]{7}(?:[0-9]|(?<=[A-Za-z][0-9]{8}))(?![0-9A-Za-z_]|[.-][0-9])")
    _words = words("passport")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        if not hinted and "passport" not in in_lower_case(text):
            return
        for match in self._number.finditer(text):
            start = match.start() - (match.end() - match.start() == 8)
            if WORD.match(text[max(0, start - 1) : start]):
                continue
            if hinted or near(self._words, text, start, match.end()):
                yield Finding(self.entity, start, match.end(), _WITH_WORDS, "form, words nearby")


class UsDriverLicense(PatternRecognizer):
    """US driver licence numbers. The states write them in fifty ways that other numbers share, so words must speak for them."""

    entity: ClassVar[str] = "US_DRIVER_LICENSE"
    column_words: ClassVar[str | None] = r"\bdriv(er|ers|er s|ing) ?licen[cs]e|\bdln?\b( (no|num|number))?$"
    shape: ClassVar[str | None] = r"[0-9](?:[ -]?[A-Za-z]{0,2}[ -]?[0-9]){4}"
    beside: ClassVar[tuple[str, ...]] = ("driver", "driving", "dln", "dl n", "dl#", "dl #")
    reach: ClassVar[int | None] = 128
    needs: ClassVar[str | None] = _LICENSE_WORDS
    # As the states publish them, without separators: how many digits, and letters in front, in between and behind.
    _states = re.compile(
        r"[0-9]{6,14}|[0-9]{16}|[A-Z][0-9]{5,14}|[A-Z][0-9]{18}|[A-Z]{2}[0-9]{5,7}|[A-Z]{3}[0-9]{6}"
        r"|[0-9]{7,9}[A-Z]|[0-9]{8}[A-Z]{2}|[A-Z]{2}[0-9]{6}[A-Z]|[A-Z][0-9]{6}R|[0-9]{3}[A-Z]{2}[0-9]{4}|[0-9]{2}[A-Z]{3}[0-9]{5}"
    )
    _printed = re.compile(
        r"[0-9A-Za-z](?<![0-9A-Za-z_][0-9A-Za-z])(?<![0-9][./-][0-9A-Za-z])(?:(?<=[A-Z])[A-Z]{0,2}(?=[ -])"
        r"|(?<=[A-Za-z])[A-Za-z]{0,2}[0-9][0-9A-Za-z]{0,20}+"
        r"|(?<=[0-9])[0-9A-Za-z]{0,20}+)(?:[ -][0-9A-Za-z]{0,5}[0-9][0-9A-Za-z]{0,5}){0,6}"
    )
    _words = words(_LICENSE_WORDS)
    _date = re.compile(r"(?:19|20)[0-9]{2}[ -][0-9]{1,2}[ -][0-9]{1,2}$|[0-9]{1,2}[ -][0-9]{1,2}[ -](?:19|20)[0-9]{2}$")
    _after = re.compile(r"[0-9A-Za-z_]|[./-][0-9]")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for start, end in windows(("driv", "dl"), self._words, text, reach=_REACH, hinted=hinted):
            for match in self._printed.finditer(text, start, end):
                if self._after.match(text, match.end()) or self._date.match(match.group()):
                    continue
                if self._states.fullmatch(compact(match.group())):
                    yield Finding(self.entity, match.start(), match.end(), _WITH_WORDS, "a state's form, words nearby")
                    if not hinted:
                        break
