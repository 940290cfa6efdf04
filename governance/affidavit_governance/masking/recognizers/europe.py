"""Identifiers of persons in European states."""

from __future__ import annotations

import re
from typing import ClassVar

from affidavit_governance.masking.recognizers import national_ids
from affidavit_governance.masking.recognizers.identifier import Identifier, words

_DIGIT = r"[0-9](?<![0-9A-Za-z_][0-9])(?<![0-9][.-][0-9])"
_LETTER = r"[A-Za-z](?<![0-9A-Za-z_][A-Za-z])"
_BSN_WORDS = r"\bbsn\b|burgerservice|sofi.?num"
_END = r"(?![0-9A-Za-z_]|[.-][0-9])"


class UkNhs(Identifier):
    """NHS numbers: ten digits, printed 3-3-4."""

    entity: ClassVar[str] = "UK_NHS"
    column_words: ClassVar[str | None] = r"\bnhs\b"
    shape: ClassVar[str | None] = r"\b[0-9]{3}(?:[0-9]{7}| [0-9]{3} [0-9]{4}|-[0-9]{3}-[0-9]{4})\b"
    form = re.compile(_DIGIT + r"[0-9]{2}([ -]?)[0-9]{3}\1[0-9]{4}" + _END)
    _words = words(r"\bnhs\b|national health service")
    _evidence = "mod 11"

    def _valid(self, value: str) -> bool:
        return national_ids.uk_nhs(value)

    def _alone(self, printed: str) -> float:
        # American telephone numbers are grouped likewise and one in eleven passes; 4xx, 6xx and 7xx are what England and Wales give out.
        return 0.65 if printed[3] == " " and printed[0] in "467" else 0.4


class UkNino(Identifier):
    """UK national insurance numbers: ``AB 12 34 56 C``."""

    entity: ClassVar[str] = "UK_NINO"
    column_words: ClassVar[str | None] = r"\bnino\b|\bnational insurance\b|\bni (no|nr|num|number)\b"
    shape: ClassVar[str | None] = r"(?:[A-Za-z]{2}|[A-Za-z][ -])[0-9]{2}(?:[0-9]{4}| [0-9]{2} [0-9]{2}|-[0-9]{2}-[0-9]{2})(?:[ -]?[A-Za-z])?\b"
    form = re.compile(_LETTER + r"[A-Za-z][ -]?[0-9]{2}([ -]?)[0-9]{2}\1[0-9]{2}[ -]?[A-Da-d](?![0-9A-Za-z_])")
    _words = words(r"national.insurance|\bnino\b|\bni.?(?:no|num|#)")
    _evidence = "assigned prefix"

    def _valid(self, value: str) -> bool:
        return national_ids.uk_nino(value)

    def _alone(self, printed: str) -> float:
        if not printed.isupper():
            return 0.3
        return 0.65 if printed.isalnum() else 0.85


class DeTaxId(Identifier):
    """German tax ids (Steuer-IdNr.): eleven digits, printed 2-3-3-3."""

    entity: ClassVar[str] = "DE_TAX_ID"
    column_words: ClassVar[str | None] = r"\bsteuer ?(id|identifikation)|\bidnr\b|\btax id\b|\btin\b"
    shape: ClassVar[str | None] = r"\b[0-9]{2}(?:[0-9]{9}|(?: [0-9]{3}){3}|(?:/[0-9]{3}){3})\b"
    form = re.compile(_DIGIT + r"[0-9]([ /]?)[0-9]{3}\1[0-9]{3}\1[0-9]{3}" + _END)
    _words = words(r"steuer.{0,3}id|steueridentifikation|steuerliche.identifikation|\bidnr\b|tax.{0,4}id")
    _evidence = "repeated digit and MOD 11,10"

    def _valid(self, value: str) -> bool:
        return national_ids.de_tax_id(value)

    def _alone(self, printed: str) -> float:
        # Of random runs of eleven digits one in three hundred passes both checks.
        return 0.65 if printed.isdigit() else 0.85


class EsNif(Identifier):
    """Spanish NIF of persons: DNI number and letter, with or without dots and hyphen."""

    entity: ClassVar[str] = "ES_NIF"
    column_words: ClassVar[str | None] = r"\bnif\b|\bdni\b"
    shape: ClassVar[str | None] = r"\b[0-9]{8}[ -]?[A-Za-z]\b|[A-Za-z]-?[0-9]{7}[ -]?[A-Za-z]\b|\b[0-9]{2}\.[0-9]{3}\.[0-9]{3}[ -]?[A-Za-z]\b"
    form = re.compile(
        rf"(?:{_DIGIT}(?:[0-9]{{7}}|[0-9]\.[0-9]{{3}}\.[0-9]{{3}})|[KLMklm](?<![0-9A-Za-z_][KLMklm])-?[0-9]{{7}})[ -]?[A-Za-z](?![0-9A-Za-z_])"
    )
    _words = words(r"\bd\.?n\.?i\b|\bn\.?i\.?f\b|documento nacional|identificaci[oó]n fiscal")
    _evidence = "letter mod 23"

    def _valid(self, value: str) -> bool:
        return national_ids.es_nif(value)

    def _alone(self, printed: str) -> float:
        if not printed[-1].isupper() or " " in printed:
            return 0.4
        return 0.85 if "." in printed else 0.7


class EsNie(Identifier):
    """Spanish NIE, the number of foreigners: ``X-1234567-L``."""

    entity: ClassVar[str] = "ES_NIE"
    column_words: ClassVar[str | None] = r"\bnie\b|\bnif\b|\bdni\b"
    shape: ClassVar[str | None] = r"[A-Za-z][ -]?[0-9]{7}[ -]?[A-Za-z]\b"
    form = re.compile(r"[XYZxyz](?<![0-9A-Za-z_][XYZxyz])[ -]?[0-9]{7}[ -]?[A-Za-z](?![0-9A-Za-z_])")
    _words = words(r"\bn\.?i\.?[ef]\b|\bd\.?n\.?i\b|extranjer|foreigner")
    _evidence = "letter mod 23"

    def _valid(self, value: str) -> bool:
        return national_ids.es_nie(value)

    def _alone(self, printed: str) -> float:
        return 0.8 if printed[-1].isupper() and " " not in printed else 0.4


class ItFiscalCode(Identifier):
    """Italian codice fiscale of persons, in one piece or in the groups of the card, also with letters for digits (omocodia).

    The tax office replaces digits from the right. One with five letters for digits or more is not looked for: it looks like words.
    """

    entity: ClassVar[str] = "IT_FISCAL_CODE"
    column_words: ClassVar[str | None] = r"\bcodice fiscale\b|\bcod fisc|\bfiscal code\b|\bcf\b"
    shape: ClassVar[str | None] = r"[A-Za-z] ?[0-9]{2}[A-Za-z][0-9]"
    _digit = "[0-9LMNPQRSTUVlmnpqrstuv]"
    form = re.compile(
        rf"{_LETTER}[A-Za-z]{{2}} ?[A-Za-z]{{3}} ?{_digit}{{2}}[ABCDEHLMPRSTabcdehlmprst]{_digit}{{2}}"
        rf" ?[A-Za-z]{_digit}{{3}} ?[A-Za-z](?![0-9A-Za-z_])"
    )
    _words = words(r"codice.fisc|cod\.? ?fisc|fiscal code|tax code")
    _evidence = "check letter and date"

    def _valid(self, value: str) -> bool:
        return national_ids.it_fiscal_code(value)

    def _alone(self, printed: str) -> float:
        return 0.95


class FrNir(Identifier):
    """French NIR (numéro de sécurité sociale): thirteen characters and their key."""

    entity: ClassVar[str] = "FR_NIR"
    column_words: ClassVar[str | None] = r"\bnir\b|\bs[eé]curit[eé] sociale\b|\bnum s[eé]cu\b|\binsee\b"
    shape: ClassVar[str | None] = r"\b[0-9][ .-]?[0-9]{2}[ .-]?[0-9]{2}[ .-]?[0-9][0-9A-Za-z][ .-]?[0-9]{3}[ .-]?[0-9]{3}[ ./|-]{0,3}[0-9]{2}\b"
    form = re.compile(
        r"[1-478](?<![0-9A-Za-z_][1-478])(?<![0-9][.-][1-478])([ .-]?)[0-9]{2}\1(?:0[1-9]|1[0-2]|20|3[0-9]|4[0-2]|[5-9][0-9])\1"
        r"(?:[0-9]{2}|2[ABab])\1[0-9]{3}\1[0-9]{3}(?: ?[/|] ?|[ .-]?)[0-9]{2}" + _END
    )
    _words = words(r"\bnir\b|s[eé]curit[eé] sociale|n[°o]? ?s[eé]cu|insee|carte vitale")
    _evidence = "key mod 97"

    def _valid(self, value: str) -> bool:
        return national_ids.fr_nir(value)

    def _alone(self, printed: str) -> float:
        return 0.8 if printed.isalnum() else 0.95


class PlPesel(Identifier):
    """Polish PESEL. Its check is weak, so words must speak for it."""

    entity: ClassVar[str] = "PL_PESEL"
    column_words: ClassVar[str | None] = r"\bpesel\b"
    shape: ClassVar[str | None] = r"\b[0-9]{11}\b"
    needs: ClassVar[str | None] = "pesel"
    form = re.compile(_DIGIT + r"[0-9]{10}" + _END)
    _stems: ClassVar[tuple[str, ...]] = ("pesel",)
    _words = words("pesel")
    _evidence = "date and mod 10"

    def _valid(self, value: str) -> bool:
        return national_ids.pl_pesel(value)


class NlBsn(Identifier):
    """Dutch burgerservicenummer. One number in eleven passes its check, so words must speak for it."""

    entity: ClassVar[str] = "NL_BSN"
    column_words: ClassVar[str | None] = r"\bbsn\b|\bburgerservice|\bsofi\b"
    shape: ClassVar[str | None] = (
        r"\b(?:[0-9]{9}|[0-9]{4} [0-9]{2} [0-9]{3}|[0-9]{4}\.[0-9]{2}\.[0-9]{3}|[0-9]{3} [0-9]{3} [0-9]{3}"
        r"|[0-9]{3}\.[0-9]{3}\.[0-9]{3})\b"
    )
    needs: ClassVar[str | None] = _BSN_WORDS
    form = re.compile(_DIGIT + r"(?:[0-9]{3}([ .]?)[0-9]{2}\1[0-9]{3}|[0-9]{2}([ .])[0-9]{3}\2[0-9]{3})" + _END)
    _stems: ClassVar[tuple[str, ...]] = ("bsn", "burgerservice", "sofi")
    _words = words(_BSN_WORDS)
    _evidence = "mod 11"

    def _valid(self, value: str) -> bool:
        return national_ids.nl_bsn(value)
