"""Checks that tell personal data from numbers that only look like them: pure functions with published definitions."""

from __future__ import annotations

import ipaddress

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28, "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18,
    "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23,
    "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27,
    "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28,
    "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""Total length of an IBAN by country: SWIFT IBAN registry, release 99."""

_ISSUERS: tuple[tuple[str, tuple[str, str], tuple[int, ...]], ...] = (
    ("Visa", ("4", "4"), (13, 16, 19)),
    ("Mastercard", ("51", "55"), (16,)),
    ("Mastercard", ("2221", "2720"), (16,)),
    ("American Express", ("34", "34"), (15,)),
    ("American Express", ("37", "37"), (15,)),
    ("Diners Club", ("300", "305"), (14,)),
    ("Diners Club", ("3095", "3095"), (14,)),
    ("Diners Club", ("36", "36"), (14, 16, 17, 18, 19)),
    ("Diners Club", ("38", "39"), (14, 16)),
    ("JCB", ("35", "35"), (16, 17, 18, 19)),
    ("JCB", ("1800", "1800"), (15,)),
    ("JCB", ("2131", "2131"), (15,)),
    ("Discover", ("6011", "6011"), (16, 17, 18, 19)),
    ("Discover", ("644", "659"), (16, 17, 18, 19)),
    ("UnionPay", ("62", "62"), (16, 17, 18, 19)),
    ("UnionPay", ("81", "81"), (16, 17, 18, 19)),
    ("Mir", ("2200", "2204"), (16, 17, 18, 19)),
    ("RuPay", ("60", "60"), (16,)),
    ("RuPay", ("82", "82"), (16,)),
    ("RuPay", ("508", "508"), (16,)),
    ("Troy", ("9792", "9792"), (16,)),
    ("Maestro", ("50", "50"), (12, 13, 14, 15, 16, 17, 18, 19)),
    ("Maestro", ("56", "58"), (12, 13, 14, 15, 16, 17, 18, 19)),
    ("Maestro", ("63", "63"), (12, 13, 14, 15, 16, 17, 18, 19)),
    ("Maestro", ("67", "67"), (12, 13, 14, 15, 16, 17, 18, 19)),
    ("Maestro", ("0604", "0604"), (12, 13, 14, 15, 16, 17, 18, 19)),
)
"""Issuer, first and last of a range of leading digits, lengths: ISO/IEC 7812 ranges as the networks publish them."""

_THREE_DIGIT_CODES = (
    "211 212 213 216 218 220-258 260-269 290 291 297-299 350-359 370-383 385-387 389 420 421 423 500-509 590-599 670 672-683 685-692 "
    "800 808 850 852 853 855 856 870 878 880-883 886 888 960-968 970-977 979 992-996 998"
)
_TWO_DIGIT_CODES = "20 27 30-34 36 39-41 43-49 51-58 60-66 81 82 84 86 90-95 98"


def _codes(text: str) -> frozenset[str]:
    ranges = (part.partition("-") for part in text.split())
    return frozenset(str(code) for first, _, last in ranges for code in range(int(first), int(last or first) + 1))


CALLING_CODES = frozenset({"1", "7"}) | _codes(_TWO_DIGIT_CODES) | _codes(_THREE_DIGIT_CODES)
"""Country calling codes that are assigned: ITU-T E.164, list of 2023."""

_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))


def luhn(digits: str) -> bool:
    """Whether ASCII `digits` end in a right Luhn check digit (ISO/IEC 7812-1, annex B)."""
    codes = digits.encode()
    plain = codes[::-2]
    return (sum(plain) - ord("0") * len(plain) + sum(codes[-2::-2].translate(_DOUBLED))) % 10 == 0


_BY_DIGIT = {digit: [issuer for issuer in _ISSUERS if issuer[1][0][0] <= digit <= issuer[1][1][0]] for digit in "0123456789"}


def card_issuer(digits: str) -> str | None:
    """The card network whose range and length ASCII `digits` fit, or None. Luhn is not checked."""
    size = len(digits)
    for issuer, (first, last), lengths in _BY_DIGIT.get(digits[:1], ()):
        if size in lengths and first <= digits[: len(first)] <= last:
            return issuer
    return None


def iban(text: str) -> bool:
    """Whether `text` (letters and digits only, any case) is an IBAN: country, its length, check digits mod 97 (ISO 13616, ISO 7064)."""
    text = text.upper()
    if IBAN_LENGTHS.get(text[:2]) != len(text) or not (text.isascii() and text.isalnum() and text[2:4].isdigit()):
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def us_ssn(area: str, group: str, serial: str) -> bool:
    """Whether the three parts can be a US social security number: SSA never assigns area 000, 666 or 900–999, group 00, serial 0000."""
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def ipv4(text: str) -> bool:
    """Whether `text` is a dotted quad of numbers up to 255."""
    parts = text.split(".")
    return len(parts) == 4 and all(part.isdecimal() and len(part) <= 3 and int(part) <= 255 for part in parts)


def ipv6(text: str) -> bool:
    """Whether `text` is an IPv6 address (RFC 4291, section 2.2)."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def calling_code(digits: str) -> str | None:
    """The country calling code that ASCII `digits` begin with, or None."""
    return next((digits[:size] for size in (1, 2, 3) if digits[:size] in CALLING_CODES), None)


def nanp(area: str, exchange: str) -> bool:
    """Whether area and exchange code follow the North American Numbering Plan: first digit 2–9, and not N11."""
    return area[0] in "23456789" and exchange[0] in "23456789" and area[1:] != "11"
