"""Identifiers of mainland China."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers import validators_china as validators
from affidavit_governance.masking.recognizers.base import CONTEXT_BONUS, PatternRecognizer, near

_SEPARATORS = str.maketrans("", "", " -")


class CnResidentId(PatternRecognizer):
    """Citizen identity numbers (GB 11643): 18 characters alone, the old 15 digits where words speak for them.

    Residence permits of Hong Kong, Macau and Taiwan residents and permanent residence cards of foreigners carry numbers of the same form.
    An underscore is no neighbour here: file names such as ``id_110105….jpg`` hold such numbers, and their check leaves little to chance.
    """

    entity: ClassVar[str] = "CN_RESIDENT_ID"
    column_words: ClassVar[str] = r"身份证|身份證|证件号|證件號|公民身份|居住证|\bid ?card\b|\bsfz\b|\bresident id\b"
    shape: ClassVar[str] = r"[0-9](?:[ -]?[0-9]){16}|\b[0-9]{6}(?:[0-9]{9}| [0-9]{6} [0-9]{3}|-[0-9]{6}-[0-9]{3})\b"
    _new = re.compile(r"[1-9](?<![0-9A-Za-z][1-9])(?:[ -]?+[0-9]){16}[ -]?+[0-9Xx](?![0-9A-Za-z])")
    _old = re.compile(
        r"[1-9](?<![0-9A-Za-z_][1-9])(?<![0-9][.,-][1-9])[0-9]{5}([ -]?+)[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9]\1[0-9]{3}(?![0-9A-Za-z_]|[.,-][0-9])"
    )
    form = re.compile(f"{_new.pattern}|{_old.pattern}")
    _words = re.compile(r"身份证|身份證|证件|證件|公民身份|身份号|居民证|居住证|户口|户籍|\bid[ -]?(?:card|no|number)|\bsfz\b", re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._new.finditer(text):
            value = match.group().translate(_SEPARATORS)
            if validators.resident_id(value) or validators.permanent_resident_id(value):
                yield Finding(self.entity, match.start(), match.end(), 0.99, "region, date of birth and MOD 11-2")
        for match in self._old.finditer(text):
            value = match.group().translate(_SEPARATORS)
            if validators.old_resident_id(value) and (hinted or near(self._words, text, match.start(), match.end())):
                yield Finding(self.entity, match.start(), match.end(), 0.55 + CONTEXT_BONUS, "region and date of birth, words nearby")


class CnUscc(PatternRecognizer):
    """Unified social credit codes of organisations and one-person businesses (GB 32100-2015)."""

    entity: ClassVar[str] = "CN_USCC"
    column_words: ClassVar[str] = r"信用代码|信用代碼|税号|稅號|纳税人识别|\buscc\b"
    shape: ClassVar[str] = r"(?:^|[^0-9A-Za-z])[0-9A-Za-z][0-9](?:[ -]?[0-9]){6}(?:(?:[ -]?[0-9]){10}|(?:[ -]?[0-9]){0,9}[ -]?[A-Za-z])"
    form = re.compile(
        r"[1-9](?<![0-9A-Za-z][1-9ANYany][1-9])(?<=[1-9ANYany][1-9])(?:[ -]?+[0-9]){6}(?:[ -]?+[0-9A-HJ-NP-RTUW-Ya-hj-np-rtuw-y]){10}(?![0-9A-Za-z])"
    )
    _words = re.compile(r"信用代码|信用代碼|税号|稅號|纳税|营业执照|注册号|统一代码|\buscc\b", re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self.form.finditer(text):
            start, end = match.start() - 1, match.end()
            value = text[start:end].translate(_SEPARATORS).upper()
            if not validators.uscc(value):
                continue
            # One in five hundred order numbers of 18 digits passes MOD 31 and the table of regions.
            if not value.isdigit() or validators.organisation_code(value[8:17]):
                yield Finding(self.entity, start, end, 0.95, "department, region and MOD 31")
                continue
            supported = hinted or near(self._words, text, start, end)
            yield Finding(self.entity, start, end, 0.5 + CONTEXT_BONUS * supported, "region and MOD 31" + (", words nearby" if supported else ""))


class _Lettered(PatternRecognizer):
    """Numbers of travel documents: letters and seven to ten digits, which count only where words speak for them, because article numbers look so."""

    shape: ClassVar[str] = r"[A-Za-z][0-9]{7,8}\b"
    _number: ClassVar[re.Pattern[str]]
    _words: ClassVar[re.Pattern[str]]

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._number.finditer(text):
            start, end = match.span()
            supported = hinted or near(self._words, text, start, end)
            yield Finding(self.entity, start, end, 0.4 + CONTEXT_BONUS * supported, "number format" + (", words nearby" if supported else ""))


def _standing_alone(forms: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9A-Za-z_])(?:{forms})(?![0-9A-Za-z_])", re.IGNORECASE | re.ASCII)


class CnPassport(_Lettered):
    """Chinese passports: ordinary (E, G), diplomatic (D, DE), service (S, SE) and public affairs (P, PE), Hong Kong (K, KJ) and Macau (MA, MB)."""

    entity: ClassVar[str] = "CN_PASSPORT"
    column_words: ClassVar[str] = r"护照|護照|\bpassport\b"
    form = _number = _standing_alone(r"[EGDSPK][0-9]{8}|[DSP][0-9]{7}|E[A-HJ-NP-Z][0-9]{7}|(?:DE|SE|PE|KJ|MA|MB)[0-9]{7}")
    needs: ClassVar[str] = r"护照|護照|证件号|證件號|passport"
    _words = re.compile(needs, re.IGNORECASE)


class CnTravelPermit(_Lettered):
    """Permits for travel between the mainland and Hong Kong, Macau (C, W, H, M) and Taiwan (L, T, or eight digits)."""

    entity: ClassVar[str] = "CN_TRAVEL_PERMIT"
    column_words: ClassVar[str] = r"通行证|通行證|回乡证|回鄉證|台胞证|台胞證|\btravel permit\b"
    _number = _standing_alone(r"[CWHMLT][0-9]{8}|C[A-HJ-NP-Z][0-9]{7}|[HM][0-9]{10}")
    shape: ClassVar[str] = r"[A-Za-z](?:[0-9]{7,8}|[0-9]{10})\b|\b[0-9]{8}(?:\b|[0-9]{2} ?[(（])"
    needs: ClassVar[str] = r"通行证|通行證|回乡证|回鄉證|台胞证|台胞證|臺胞證|往来港澳|来往内地|来往大陆|travel permit|home return"
    _words = re.compile(needs, re.IGNORECASE)
    _taiwan = re.compile(r"[0-9](?<![0-9A-Za-z_][0-9])(?<![0-9][.,/-][0-9])[0-9]{7}(?:[0-9]{2} ?\([A-Za-z]\))?(?![0-9A-Za-z_]|[.,/-][0-9])")
    form = re.compile(f"{_number.pattern}|{_taiwan.pattern}", re.IGNORECASE | re.ASCII)
    _taiwan_words = re.compile(r"(?:台胞证|台胞證|臺胞證|来往大陆通行证|來往大陸通行證|台湾通行证)[^0-9。；;\n\x1e]{0,12}$")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        yield from super().find(text, hinted=hinted)
        for match in self._taiwan.finditer(text):
            if hinted or self._taiwan_words.search(text[max(0, match.start() - 24) : match.start()]):
                yield Finding(self.entity, match.start(), match.end(), 0.4 + CONTEXT_BONUS, "number format, words nearby")


class CnLicensePlate(PatternRecognizer):
    """Vehicle plates (GA 36-2018): province, letter, five characters, six on new-energy vehicles; also those of Hong Kong and Macau cars.

    Province characters that are everyday words too (新 is "new", 黑 is "black") need other words that speak for a plate, or the plate's dot.
    """

    entity: ClassVar[str] = "CN_LICENSE_PLATE"
    column_words: ClassVar[str] = r"车牌|車牌|牌照|号牌|\b(license )?plate\b"
    literals: ClassVar[tuple[str, ...]] = tuple("京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼")
    reach: ClassVar[int] = 64
    _body = "0-9A-HJ-NP-Z"
    _plate = re.compile(
        r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼] ?[A-Z][ .·•・‧∙-]?"
        rf"(?:[A-HJK][{_body}][0-9]{{4}}|[0-9]{{5}}[A-HJK]|[{_body}]{{5}}|[{_body}]{{4}}[挂学警港澳试超])(?![0-9A-Z_])",
        re.IGNORECASE,
    )
    _everyday = "新黑青云"
    _dot = re.compile("[·•・‧∙]")
    _words = re.compile(
        r"车牌|車牌|车号|号牌|牌照|挪车|停车|车主|车辆|违章|违停|司机|轿车|货车|汽车|开车|驾驶|车险|追尾|剐蹭|肇事|交警|限行|超速|plate",
        re.IGNORECASE,
    )

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._plate.finditer(text):
            start, end = match.span()
            if sum(c.isdigit() for c in match.group()) < 3:
                continue
            supported = hinted or near(self._words, text, start, end)
            sure = text[start] not in self._everyday or self._dot.search(match.group()) is not None
            score = (0.8 if sure else 0.5) + CONTEXT_BONUS * supported
            yield Finding(self.entity, start, end, min(0.95, score), "plate format" + (", words nearby" if supported else ""))
