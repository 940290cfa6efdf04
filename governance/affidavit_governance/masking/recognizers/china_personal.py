"""Dates of birth and postal codes as Chinese texts write them: numbers that only the words beside them make personal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import PatternRecognizer

_LINK = r"(?: ?\([^()0-9\x1e]{1,6}\))?[ \t]*+(?:[:=]|就?是|为|為|在)?[ \t]*+"


class CnDateOfBirth(PatternRecognizer):
    """Dates right after or before 出生, 生日, 生于 and the like; other dates in the text stay.

    先生于… ("the gentleman, on…"), 学生于… and their kin end in the same two characters and say nothing of a birth.
    """

    entity: ClassVar[str] = "DATE_OF_BIRTH"
    column_words: ClassVar[str] = r"出生|生日"
    shape: ClassVar[str] = r"[0-9] ?年|[0-9] ?月|[0-9]{4}[./-][0-9]|\b[0-9]{8}\b"
    beside: ClassVar[tuple[str, ...]] = ("生", "诞", "誕")
    reach: ClassVar[int] = 64
    needs: ClassVar[str] = r"出生|生日|生于|生於|生辰|生人|诞|誕|(?:日|号|號|月|年) ?生"
    _numeral = "零〇○一二三四五六七八九"
    _date = re.compile(
        r"(?:(?:(?:18|19|20)[0-9]{2}|(?:民国|民國) ?[0-9]{1,3}|[0-9]{2}) ?年 ?)?[0-9]{1,2} ?月(?: ?[0-9]{1,2} ?[日号號])?"
        rf"|(?:一九|二[零〇○])[{_numeral}]{{2}}年(?:[{_numeral}十]{{1,2}}月(?:[{_numeral}十]{{1,3}}[日号號])?)?"
        r"|(?:18|19|20)[0-9]{2}([-/.])[0-9]{1,2}\1[0-9]{1,2}(?![0-9]|[-/.][0-9])"
        r"|(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?![0-9A-Za-z_])"
        r"|(?:18|19|20)[0-9]{2}(?: ?年|[-/.](?:0[1-9]|1[0-2])(?![0-9]|[-/.][0-9]))"
    )
    _start = re.compile(r"[0-9一二民](?<![0-9A-Za-z_./-].)")
    _before = re.compile(
        r"[出生诞誕](?:(?<=出)生(?:日期|年月日?|时间|時間|日)?|(?<=生)[日辰]|(?<![发發产產先学學医醫考新招业業究习習师師女男]生)(?<=生)[于於]|(?<=[诞誕])[辰生]于?)于?"
        rf"{_LINK}(?:[农農阴陰阳陽公][历曆])?[ \t]*+"
    )
    _after = re.compile(r" ?\(?(?:出生(?!率|地|证)|生人|生于|诞生|(?:是|为)[^，。0-9\x1e]{0,4}生日|生(?=[，,。；;、 )的\n\x1e]|$))")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        if hinted:
            yield from self._everywhere(text)
        else:
            for words in self._before.finditer(text):
                if date := self._date.match(text, words.end()):
                    yield Finding(self.entity, date.start(), date.end(), 0.85, "date, words before")
            for finding in self._everywhere(text):
                if self._after.match(text, finding.end):
                    yield Finding(self.entity, finding.start, finding.end, 0.85, "date, words after")

    def _everywhere(self, text: str) -> Iterator[Finding]:
        done = 0
        for start in self._start.finditer(text):
            if start.start() >= done and (date := self._date.match(text, start.start())):
                done = date.end()
                yield Finding(self.entity, date.start(), done, 0.75, "date, column name")


class CnPostalCode(PatternRecognizer):
    """Postal codes right beside 邮编 or 郵遞區號: six digits, in Taiwan three, five or six."""

    entity: ClassVar[str] = "POSTAL_CODE"
    column_words: ClassVar[str] = r"邮编|邮政编码|郵遞區號|郵政編碼"
    shape: ClassVar[str] = r"\b[0-9]{6}\b"
    beside: ClassVar[tuple[str, ...]] = ("邮编", "邮政编码", "邮码", "郵遞區號", "郵政編碼", "郵編")
    reach: ClassVar[int] = 48
    needs: ClassVar[str] = "|".join(beside)
    _labelled = re.compile(rf"(?:{needs}){_LINK}([0-9]{{6}}|[0-9]{{5}}|[0-9]{{3}})(?![0-9A-Za-z_])")
    _followed = re.compile(rf"[0-8](?<![0-9A-Za-z_.-][0-8])[0-9]{{5}}(?= ?\((?:{needs})\))")
    _bare = re.compile(r"[0-8](?<![0-9A-Za-z_.-][0-8])[0-9]{5}(?![0-9A-Za-z_]|[.-][0-9])")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._labelled.finditer(text):
            yield Finding(self.entity, match.start(1), match.end(1), 0.85, "digits, words before")
        for match in self._followed.finditer(text):
            yield Finding(self.entity, match.start(), match.end(), 0.85, "digits, words after")
        if hinted:
            for match in self._bare.finditer(text):
                yield Finding(self.entity, match.start(), match.end(), 0.75, "digits, column name")
