"""Checks of identifiers of mainland China, Hong Kong, Macau and Taiwan: pure functions with published definitions."""

from __future__ import annotations

import datetime

_PREFECTURES = (
    "11:00-02 12:00-02 13:00-11,21-30,90 14:00-11,21-27,90 15:00-09,21-29 21:00-14,21-22,90 22:00-08,21-26,90 23:00-12,21-27,90 31:00-02 "
    "32:00-13,21-27,90 33:00-11,21-28,90 34:00-18,21-29 35:00-09,21-27,90 36:00-11,21-26 37:00-17,21-29,90 41:00-17,21-30,90 "
    "42:00-13,21-29,90 43:00-13,21-31,90 44:00-29,51-53,90 45:00-14,21-28 46:00-04,90 50:00-03 51:00-39,90 52:00-06,21-27 53:00-09,21-35 "
    "54:00-06,21-27 61:00-10,21-27 62:00-12,21-30 63:00-02,21-28 64:00-05,21-22 65:00-05,21-32,40-43,90 71:00 81:00 82:00 83:00"
)
"""GB/T 2260 by province: prefectures that are or ever were; 81, 82 and 83 stand on the residence permits of Hong Kong, Macau and Taiwan residents."""


def _expanded(table: str) -> frozenset[str]:
    codes = set()
    for province, _, ranges in (entry.partition(":") for entry in table.split()):
        for first, _, last in (part.partition("-") for part in ranges.split(",")):
            codes |= {f"{province}{code:02}" for code in range(int(first), int(last or first) + 1)}
    return frozenset(codes)


REGIONS = _expanded(_PREFECTURES)
"""First four digits of an administrative division code."""

OLDEST_BIRTH = 1880
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_VALUE = {letter: value for value, letter in enumerate(_USCC_ALPHABET)}
_USCC_DEPARTMENTS = {
    "1": "1239", "2": "19", "3": "123459", "4": "19", "5": "12349", "6": "129", "7": "129", "8": "19", "9": "123", "A": "19", "N": "1239", "Y": "1",
}  # fmt: skip
"""GB 32100-2015, table 1, and its amendment: registering department and the kinds of organisation that it registers."""

_TAIWAN_LETTERS = {letter: value for value, letter in enumerate("ABCDEFGHJKLMNPQRSTUVXYWZIO", start=10)}


def birth_date(digits: str) -> bool:
    """Whether eight ASCII digits are a day on which somebody may have been born: YYYYMMDD, not before 1880, not after today."""
    try:
        born = datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return False
    return born.year >= OLDEST_BIRTH and born <= datetime.date.today()


def mod_11_2(text: str) -> bool:
    """Whether ASCII digits end in a right check character, a digit or X, by ISO 7064 MOD 11-2."""
    total = 0
    for digit in text[:-1]:
        total = (total + int(digit)) * 2 % 11
    return (total + (10 if text[-1] in "Xx" else int(text[-1]))) % 11 == 1


def resident_id(text: str) -> bool:
    """Whether 17 digits and a digit or X are a citizen identity number (GB 11643-1999): region, date of birth, check character."""
    return text[:4] in REGIONS and birth_date(text[6:14]) and mod_11_2(text)


def permanent_resident_id(text: str) -> bool:
    """Whether 18 characters are the number of a foreigner's permanent residence card of 2023: 9, province, country, date of birth, check."""
    return text[0] == "9" and text[1:3] + "00" in REGIONS and "004" <= text[3:6] <= "894" and birth_date(text[6:14]) and mod_11_2(text)


def old_resident_id(digits: str) -> bool:
    """Whether 15 digits have the form of an identity number before 1999: region, date of birth with two digits for the year, three more."""
    return digits[:4] in REGIONS and birth_date("19" + digits[6:12]) and digits[12:] != "000"


def uscc(text: str) -> bool:
    """Whether 18 upper-case characters are a unified social credit code (GB 32100-2015): department, region, MOD 31 check character."""
    if text[1] not in _USCC_DEPARTMENTS.get(text[0], "") or not (text[2:6] in REGIONS or text[2:8] == "100000"):
        return False
    try:
        values = [_USCC_VALUE[letter] for letter in text]
    except KeyError:
        return False
    total = sum(value * pow(3, place, 31) for place, value in enumerate(values[:17]))
    return (total + values[17]) % 31 == 0


def organisation_code(text: str) -> bool:
    """Whether nine upper-case characters end in the check character of GB 11714 (MOD 11): characters 9 to 17 of a unified social credit code."""
    total = sum(int(letter, 36) * weight for letter, weight in zip(text[:8], (3, 7, 9, 10, 5, 8, 4, 2), strict=True))
    return text[8] == "0123456789X0"[11 - total % 11]


def hong_kong_id(text: str) -> bool:
    """Whether one or two letters, six digits and a digit or A, without brackets, have a right check character (MOD 11, weights 9 to 1)."""
    values = [36] * (9 - len(text)) + [int(letter, 36) for letter in text[:-1]]
    check = 10 if text[-1] in "Aa" else int(text[-1])
    return (sum(value * weight for value, weight in zip(values, range(9, 1, -1), strict=True)) + check) % 11 == 0


def taiwan_id(text: str) -> bool:
    """Whether a letter and nine digits (or, on old resident certificates, two letters and eight digits) are a Taiwanese identity number.

    The second character says sex and status: 1, 2 nationals; 8, 9 residents since 2021; A to D residents before.
    """
    if text[1] not in "1289ABCD":
        return False
    first = _TAIWAN_LETTERS[text[0]]
    second = int(text[1]) if text[1].isdigit() else _TAIWAN_LETTERS[text[1]] % 10
    digits = [first // 10, first % 10, second, *map(int, text[2:])]
    return sum(digit * weight for digit, weight in zip(digits, (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True)) % 10 == 0
