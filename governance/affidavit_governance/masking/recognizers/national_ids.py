"""Checks of the identifiers that western states and India give to persons: pure functions with published definitions.

All take the compact form: ASCII digits and upper-case letters, without separators.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import mul

# Verhoeff, Error Detecting Decimal Codes (1969): multiplication in the dihedral group D5, and the powers of the permutation (1 5 8 9 4 2 7 0)(3 6).
_D5 = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_PERMUTED = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 5, 7, 6, 2, 8, 3, 0, 9, 4),
    (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
    (9, 4, 5, 3, 1, 2, 6, 8, 7, 0),
    (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5),
    (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)

_ITIN_GROUPS = frozenset([*range(50, 66), *range(70, 89), *range(90, 93), *range(94, 100)])

_NINO = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]")

_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_NIF = re.compile(r"[0-9KLM][0-9]{7}[A-Z]")
_NIE_DIGITS = str.maketrans("XYZ", "012")
_NIE = re.compile(r"[XYZ][0-9]{7}[A-Z]")

_CODICE_FISCALE = re.compile(r"[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]")
_OMOCODIA = str.maketrans("LMNPQRSTUV", "0123456789")
_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21) * 2 + (2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)
_EVEN = dict(zip(_ODD, [*range(10), *range(26)], strict=True))
_MONTH_DAYS = dict(zip("ABCDEHLMPRST", (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))

_NIR = re.compile(r"[1-478][0-9]{2}(?:0[1-9]|1[0-2]|20|3[0-9]|4[0-2]|[5-9][0-9])(?:[0-9]{2}|2[AB])[0-9]{8}")

_PAN = re.compile(r"[A-Z]{3}[ABCFGHJKLPT][A-Z](?!0000)[0-9]{4}[A-Z]")


def _weighted(weights: Sequence[int], digits: str) -> int:
    return sum(map(mul, weights, map(int, digits)))


def verhoeff(digits: str) -> bool:
    """Whether `digits` end in a right check digit of Verhoeff's dihedral code (1969)."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = _D5[check][_PERMUTED[place % 8][int(digit)]]
    return check == 0


def mod_11_10(digits: str) -> bool:
    """Whether `digits` end in a right check digit of the hybrid system MOD 11,10 (ISO/IEC 7064, clause 9)."""
    product = 10
    for digit in digits[:-1]:
        product = 2 * ((product + int(digit)) % 10 or 10) % 11
    return (product + int(digits[-1])) % 10 == 1


def us_itin(area: str, group: str) -> bool:
    """Whether a US taxpayer number begins as the IRS issues them: 9xx, group 50–65, 70–88, 90–92 or 94–99 (Publication 4757)."""
    return area[0] == "9" and int(group) in _ITIN_GROUPS


def uk_nhs(digits: str) -> bool:
    """Whether ten `digits` are an NHS number: weights 10 to 2, modulus 11, check digit 10 unused (NHS Data Dictionary)."""
    return len(digits) == 10 and _weighted((10, 9, 8, 7, 6, 5, 4, 3, 2, 1), digits) % 11 == 0


def uk_nino(text: str) -> bool:
    """Whether `text` is a national insurance number with prefix letters that are given out (HMRC, NIM39110)."""
    return _NINO.fullmatch(text) is not None


def de_tax_id(digits: str) -> bool:
    """Whether eleven `digits` are a German tax id (Steuer-Identifikationsnummer).

    The first is no zero; of the first ten exactly one digit stands there twice, or three times but not in a row; the last is a check digit
    by ISO/IEC 7064 MOD 11,10 (Bundeszentralamt für Steuern, § 139b AO).
    """
    if len(digits) != 11 or digits[0] == "0":
        return False
    repeated = [digit for digit in set(digits[:10]) if digits.count(digit, 0, 10) > 1]
    if len(repeated) != 1 or digits.count(repeated[0], 0, 10) > 3 or repeated[0] * 3 in digits[:10]:
        return False
    return mod_11_10(digits)


def es_nif(text: str) -> bool:
    """Whether `text` is a person's NIF: eight digits (or K, L, M and seven) and the letter of the number mod 23 (Real Decreto 1065/2007)."""
    return _NIF.fullmatch(text) is not None and _DNI_LETTERS[int(text[:-1].lstrip("KLM")) % 23] == text[-1]


def es_nie(text: str) -> bool:
    """Whether `text` is a foreigner's NIE: X, Y or Z standing for 0, 1, 2, then as a NIF (Orden INT/2058/2008)."""
    return _NIE.fullmatch(text) is not None and _DNI_LETTERS[int(text[:-1].translate(_NIE_DIGITS)) % 23] == text[-1]


def it_fiscal_code(text: str) -> bool:
    """Whether `text` is a person's codice fiscale: shape, a day that its month has, check letter (DM 12 March 1974, DM 23 December 1976).

    Letters may stand for digits, as the tax office writes them where two persons would get the same code (omocodia).
    """
    if not _CODICE_FISCALE.fullmatch(text):
        return False
    year, day = int(text[6:8].translate(_OMOCODIA)), int(text[9:11].translate(_OMOCODIA))
    day -= 40 if day > 40 else 0  # Women's days are written with 40 added.
    if not 1 <= day <= _MONTH_DAYS[text[8]] or (text[8] == "B" and day == 29 and year % 4):
        return False
    total = sum(_ODD[char] if place % 2 == 0 else _EVEN[char] for place, char in enumerate(text[:15]))
    return chr(65 + total % 26) == text[15]


def fr_nir(text: str) -> bool:
    """Whether fifteen characters are a French NIR: sex, year, month, place (2A and 2B for Corsica), order, key 97 − n mod 97 (INSEE)."""
    if not _NIR.fullmatch(text):
        return False
    number = text[:13].replace("2A", "19").replace("2B", "18")
    return 97 - int(number) % 97 == int(text[13:])


def pl_pesel(digits: str) -> bool:
    """Whether eleven `digits` are a PESEL: date of birth with the century in the month, weights 1 3 7 9, modulus 10 (Dz.U. 2010 nr 217 poz. 1427)."""
    if len(digits) != 11 or _weighted((1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), digits) % 10:
        return False
    shift, month = divmod(int(digits[2:4]), 20)
    return real_date((1900, 2000, 2100, 2200, 1800)[shift] + int(digits[:2]), month, int(digits[4:6]))


def nl_bsn(digits: str) -> bool:
    """Whether nine `digits` are a burgerservicenummer: weights 9 to 2 and −1, modulus 11, not all zero (Logisch Ontwerp BSN)."""
    if len(digits) != 9 or not digits.strip("0"):
        return False
    return _weighted((9, 8, 7, 6, 5, 4, 3, 2, -1), digits) % 11 == 0


def in_aadhaar(digits: str) -> bool:
    """Whether twelve `digits` are an Aadhaar number: first 2–9, no palindrome, Verhoeff check digit (UIDAI numbering scheme)."""
    return len(digits) == 12 and digits[0] > "1" and digits != digits[::-1] and verhoeff(digits)


def in_pan(text: str) -> bool:
    """Whether `text` has the structure of a PAN, whose fourth letter says who holds it (Income-tax Rules, rule 114). Its check is not public."""
    return _PAN.fullmatch(text) is not None


def real_date(year: int, month: int, day: int) -> bool:
    """Whether the Gregorian calendar has the day."""
    if not (1 <= month <= 12 and day >= 1):
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return day <= (29 if leap else 28) if month == 2 else day <= (30 if month in (4, 6, 9, 11) else 31)
