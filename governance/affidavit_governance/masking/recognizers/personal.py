"""Numbers that only the words beside them make personal: dates of birth, postal codes, licence plates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import PatternRecognizer, near
from affidavit_governance.masking.recognizers.dates import dates
from affidavit_governance.masking.recognizers.identifier import occurrences, windows, words
from affidavit_governance.masking.recognizers.plain import in_lower_case

_WITH_WORDS = 0.85

_BIRTH_STEMS = ("born", "birth", "dob", "d.o.b", "geb", "naissance", "n\u00e9", "n\u00c9", "naci", "nato ", "nata ", "nasc")
_POST_STEMS = ("zip", "post", "plz", "kod pocztowy", "pincode", "pin code")
_PLATE_NAMES = ("plate", "kennzeichen", "immatriculation", "targa", "matr", "kenteken", "vrm")
_PLATE_WORDS = (
    r"\bplates?\b|registration (?:plate|mark|number)|\breg\.? ?(?:no|num|nr)|vehicle reg|kennzeichen|immatriculation|\btarga\b|matr.{1,2}cula"
    r"|kenteken|\bvrm\b"
)


class DateOfBirth(PatternRecognizer):
    """Dates of birth: the first real calendar date after words such as "born" or "date of birth", or one that "is my birthday" follows."""

    entity: ClassVar[str] = "DATE_OF_BIRTH"
    column_words: ClassVar[str | None] = (
        r"\bbirth ?(day|date)\b|\b(date|day) of birth\b|\bdobs?\b|\bborn\b|\bgeburts ?(tag|datum)\b|\bgeboren\b|\bgeb ?(dat|am)|\bnaissance\b"
        r"|\bnacimiento\b|\bnascita\b|\bnascimento\b|\bgeboortedatum\b"
    )
    shape: ClassVar[str | None] = r"\b[0-9]{4}(?:\b|[0-9]{4})|[0-9]{1,2}[ ./-] ?[0-9]{1,2}[ ./-] ?[0-9]{2}|[A-Za-z]-[0-9]{2}"
    beside: ClassVar[tuple[str, ...]] = _BIRTH_STEMS
    reach: ClassVar[int | None] = 128
    needs: ClassVar[str | None] = (
        r"\bborn\b|birth|\bdob\b|d\.o\.b|geboren|geburts|geboorte|\bgeb\.|naissance|\bnée? le|nacid|nacimiento|\bnat[oa] (?:il|a)\b|nasci"
    )
    _words = words(
        r"born\b|birth|dob\b|d\.o\.b\b|geboren|geburts|geboorte|\bgeb\.|naissance|\bnée? le\b|nacid[oa]\b|nacimiento|\bnat[oa] (?:il|a)\b"
        r"|nascita|nascid[oa]|nascimento"
    )
    _follow = words(r"(?:,? |[ (]{1,2}|,? (?:is|was) (?:my |his |her |their |the )?)(?:birth ?da(?:y|te)\b|date of birth|dob\b|geboren\b)")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for start, end in windows(_BIRTH_STEMS, self._words, text, reach=35, hinted=hinted):
            for first, last in dates(text, start, end)[: None if hinted else 1]:
                yield Finding(self.entity, first, last, _WITH_WORDS, "calendar, words nearby")
        if hinted:
            return
        for at in occurrences(("birth", "dob", "geboren"), in_lower_case(text)):
            for first, last in dates(text, max(0, at - 45), at):
                if self._follow.match(text, last):
                    yield Finding(self.entity, first, last, _WITH_WORDS, "calendar, words nearby")


_UK_AREAS = (
    "A[BL]|B[ABDHLNRST]?|C[ABFHMORTVW]|D[ADEGHLNTY]|E[CHNX]?|F[KY]|G[LUY]?|H[ADGPRSUX]|I[GMPV]|JE|K[ATWY]|L[ADELNSU]?|M[EKL]?|N[EGNPRW]?"
    "|O[LX]|P[AEHLOR]|R[GHM]|S[AEGKLMNOPRSTWY]?|T[ADFNQRSW]|UB|W[ACDFNRSV]?|YO|ZE"
)
_UK_POSTCODE = rf"(?:{_UK_AREAS})[0-9][0-9A-HJKMNP-Y]? ?[0-9][ABD-HJLNP-UW-Z]{{2}}"
_CA_POSTCODE = r"[ABCEGHJ-NPRSTVXY][0-9][ABCEGHJ-NPRSTV-Z] ?[0-9][ABCEGHJ-NPRSTV-Z][0-9]"


class PostalCode(PatternRecognizer):
    """Postal codes of any country right after words such as "zip code", "postcode" or "PLZ"."""

    entity: ClassVar[str] = "POSTAL_CODE"
    column_words: ClassVar[str | None] = r"\bzip( ?code)?\b|\bpost(al)? ?(code|nr)\b|\bplz\b|\bpostleitzahl\b|\bpin ?code\b"
    shape: ClassVar[str | None] = r"\b[0-9]{3,7}(?:\b| ?[A-Za-z]{2}\b)|[0-9]{2}-[0-9]{3}|[A-Za-z][0-9][0-9A-Za-z]? ?[0-9][A-Za-z]"
    beside: ClassVar[tuple[str, ...]] = _POST_STEMS
    reach: ClassVar[int | None] = 64
    needs: ClassVar[str | None] = r"\bzip|postal|post ?code|\bplz|postleitzahl|postn|kod pocztowy|\bpin ?code"
    _named = words(
        r"(?:\bzip(?: ?code)?|postal(?: code)?|post ?code|\bplz|postleitzahl|postn(?:umme)?r|kod pocztowy|\bpin ?code)s?\b"
        r"[ :=#-]{0,3}(?:(?:no|number|is|was|ist|est|es)\b[.:]? ?)?[\"'(]?"
    )
    _code = re.compile(
        rf"(?:{_UK_POSTCODE}|{_CA_POSTCODE}|[0-9]{{5}}-[0-9]{{4}}|[0-9]{{4}}-[0-9]{{3}}|[0-9]{{3}}-[0-9]{{4}}|[0-9]{{2}}-[0-9]{{3}}"
        r"|[0-9]{4} ?[A-Z]{2}|[0-9]{3} [0-9]{2,3}|[0-9]{3,7})(?![0-9A-Za-z_]|[.,-][0-9])",
        re.IGNORECASE | re.ASCII,
    )
    _begin = re.compile(r"[0-9A-Za-z](?<![0-9A-Za-z_.-][0-9A-Za-z])")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        if hinted:
            starts = [match.start() for match in self._begin.finditer(text)]
        else:
            named = (self._named.match(text, at) for at in occurrences(_POST_STEMS, in_lower_case(text)))
            starts = [match.end() for match in named if match]
        done = 0
        for start in starts:
            code = self._code.match(text, start) if start >= done else None
            if code:
                done = code.end()
                yield Finding(self.entity, start, done, _WITH_WORDS, "form, words nearby")


class AddressPostalCode(PatternRecognizer):
    """Postal codes that their form shows in an address: American behind a state (``IL 62704``), British and Canadian where a street is near."""

    entity: ClassVar[str] = "POSTAL_CODE"
    shape: ClassVar[str | None] = r"[A-Z] [0-9]{5}\b|[A-Z][0-9]{1,2}[A-Z]? ?[0-9][A-Z][0-9A-Z]\b"
    _states = frozenset(re.findall("..", "ALAKAZARCACOCTDEDCFLGAHIIDILINIAKSKYLAMEMDMAMIMNMSMOMTNENVNHNJNMNYNCNDOHOKORPAPRRISCSDTNTXUTVTVAWAWVWIWY"))
    _american = re.compile(r"[A-Z](?<=, [A-Z])[A-Z] ([0-9]{5}(?:-[0-9]{4})?)(?![0-9A-Za-z_]|[.,-][0-9])")
    _lettered = re.compile(r"[A-Z](?<![0-9A-Za-z_-][A-Z])(?:[A-Z]?[0-9][0-9A-Z]? ?[0-9][A-Z]{2}|[0-9][A-Z] ?[0-9][A-Z][0-9])(?![0-9A-Za-z_]|-[0-9])")
    form = re.compile(f"{_american.pattern}|{_lettered.pattern}")
    _strict = re.compile(rf"{_UK_POSTCODE}|{_CA_POSTCODE}")
    _place = words(r"address|street|\bst\b|\broad\b|\brd\b|\blane\b|\bave(?:nue)?\b|\bsquare\b|\blondon\b")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._american.finditer(text):
            if match.group()[:2] in self._states:
                yield Finding(self.entity, match.start(1), match.end(), 0.65, "state before it")
        for match in self._lettered.finditer(text):
            if self._strict.fullmatch(match.group()) and near(self._place, text, match.start(), match.end()):
                yield Finding(self.entity, match.start(), match.end(), 0.7, "form, words nearby")


class LicensePlate(PatternRecognizer):
    """Vehicle registration plates, in capitals, after words such as "licence plate" or "Kennzeichen"."""

    entity: ClassVar[str] = "LICENSE_PLATE"
    column_words: ClassVar[str | None] = (
        r"\blicen[cs]e plate|\bnumber plate|\bplate( (no|num|number))?$|\bregistration (plate|mark)\b|\bkennzeichen\b|\bimmatriculation\b|\btarga\b"
        r"|\bmatr[ií]cula\b|\bkenteken\b|\bvrm\b|\bvehicle reg"
    )
    shape: ClassVar[str | None] = r"[A-Z][ -]?[0-9]{1,4}|[0-9]{1,4}[ -]?[A-Z]"
    # `reg` alone begins too many other words.
    beside: ClassVar[tuple[str, ...]] = (*_PLATE_NAMES, "vehicle reg", "registration ", "reg n", "regn", "reg.n", "reg. n")
    reach: ClassVar[int | None] = 96
    needs: ClassVar[str | None] = _PLATE_WORDS
    _words = words(_PLATE_WORDS.replace("vehicle reg", "(?<=vehicle )reg"))
    _begin = re.compile(r"[0-9A-Z\u00c4\u00d6\u00dc](?<![0-9A-Za-z_-][0-9A-Z\u00c4\u00d6\u00dc])")
    _plate = re.compile(
        r"(?:[A-Z]{2}[0-9]{2} ?[A-Z]{3}|[A-Z][0-9]{1,3} [A-Z]{3}"  # United Kingdom
        r"|[A-Z\u00c4\u00d6\u00dc]{1,3}(?:-|[ -][A-Z]{1,2} |-[A-Z]{1,2}[ -]?)[0-9]{1,4}[EH]?"  # Germany, Austria
        r"|[A-Z]{2}[ -]?[0-9]{3,4}[ -]?[A-Z]{2}"  # France, Italy, Ukraine
        r"|[0-9]{4}[ -]?[BCDFGHJ-NPR-TV-Z]{3}"  # Spain
        r"|[0-9A-Z]{1,3}-[0-9A-Z]{2,3}-[0-9A-Z]{1,2}"  # Netherlands, Portugal, Ireland
        r"|[A-Z]{2}[ -]?[0-9]{1,2}[ -]?[A-Z]{1,3}[ -]?[0-9]{4}"  # India
        r"|[A-Z]{2,3} [0-9A-Z]{4,5}|[A-Z]{3}[ -]?[0-9]{2}[0-9A-Z]"  # Poland, Sweden
        r"|[A-Z]{3}[ -]?[0-9]{3,4}|[0-9][A-Z]{3}[0-9]{3}|[0-9]{3}[ -]?[A-Z]{3})"  # United States, Canada
        r"(?![0-9A-Za-z_]|-[0-9A-Z])"
    )

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for start, end in windows((*_PLATE_NAMES, "reg"), self._words, text, reach=30, hinted=hinted):
            done = start
            for begin in self._begin.finditer(text, start, end):
                plate = self._plate.match(text, begin.start()) if begin.start() >= done else None
                if plate and any(char.isdigit() for char in plate.group()) and any(char.isalpha() for char in plate.group()):
                    done = plate.end()
                    yield Finding(self.entity, plate.start(), done, _WITH_WORDS, "form, words nearby")
                    if not hinted:
                        break
