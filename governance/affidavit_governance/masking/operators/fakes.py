"""What stands in for personal data of each kind. Names, places and companies come from Faker; numbers are made here."""

from __future__ import annotations

import ipaddress
import re
from random import Random
from typing import Any

from affidavit.errors import MissingExtra, UsageError

_KINDS = {
    "PERSON": "name",
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "LOCATION": "city",
    "ADDRESS": "address",
    "ORGANIZATION": "company",
    "URL": "url",
    "IP_ADDRESS": "ip",
    "IBAN_CODE": "iban",
    "CREDIT_CARD": "card",
    "US_SSN": "ssn",
    "CN_RESIDENT_ID": "resident_id",
    "DATE_OF_BIRTH": "date",
    "CN_DATE_OF_BIRTH": "date",
}
_FROM_FAKER = frozenset({"name", "email", "address", "city", "company", "url"})
_SCRIPTS = (
    ("ja_JP", re.compile(r"[\u3040-\u30ff]")),
    ("zh_CN", re.compile(r"[\u4e00-\u9fff]")),
    ("ko_KR", re.compile(r"[\uac00-\ud7af]")),
    ("ru_RU", re.compile(r"[\u0400-\u04ff]")),
)
_DOMAINS = ("example.com", "example.net", "example.org")
_HANZI = "安白成丹恩方光海和嘉建金静康兰林明宁平青仁山诗天文向小星雪言永雨元云正志"
_CARDS = {"34": "371449", "35": "353011", "36": "362272", "37": "378282", "4": "411111", "5": "555555", "62": "620000", "6": "601111", "2": "222300"}
"""By their beginning, the ranges of the numbers that payment processors publish for tests."""
_TWO_DIGIT_CODES = re.compile(r"20|27|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]")
"""Country calling codes of two digits (ITU-T E.164); 1 and 7 have one, all others three."""
_DATE = re.compile(r"(?P<year>[0-9]{4})(\D+)[0-9]{1,2}(\D+)[0-9]{1,2}(\D*)|[0-9]{1,2}(\D+)[0-9]{1,2}(\D+)[0-9]{4}")
_RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def kind_of(entity: str) -> str:
    """The kind that stands in for an entity."""
    return _KINDS.get(entity, "shape")


class Maker:
    """Makes stand-ins of one kind.

    Raises
    ------
    MissingExtra
        The kind needs Faker, which is not installed.
    UsageError
        Faker has no such locale.
    """

    def __init__(self, kind: str, locale: str | None) -> None:
        self._kind = kind
        self._locale = locale
        self._random = Random()
        self._generators: dict[str, Any] = {}  # Faker's generators have other methods in each locale
        if kind in _FROM_FAKER:
            self._faker("")

    def make(self, value: str, seed: int) -> str:
        """The stand-in for `value` under this seed."""
        self._random.seed(seed)
        made: str = getattr(self, f"_{self._kind}")(value)
        return made

    def _faker(self, value: str) -> Any:
        locale = self._locale or next((name for name, script in _SCRIPTS if script.search(value)), "en_US")
        if locale not in self._generators:
            try:
                from faker import Factory
            except ImportError:
                raise MissingExtra("Masking operator 'synthetic'", extra="synthetic", library="faker") from None
            try:
                generator = Factory.create(locale)
            except AttributeError:
                raise UsageError(f"Masking operator 'synthetic': Faker has no locale '{locale}'.", hint="Such as en_US, de_DE, zh_CN.") from None
            generator.random = self._random
            self._generators[locale] = generator
        return self._generators[locale]

    # -- words ----------------------------------------------------------------------------------------------------------------------------

    def _name(self, value: str) -> str:
        faker = self._faker(value)
        if "," in value:
            return _cased(f"{faker.last_name()}, {faker.first_name()}", value)
        if not value.isascii() and " " not in value and self._locale is None:
            return _cased(str(faker.name()), value)
        return _cased(f"{faker.first_name()} {faker.last_name()}" if " " in value.strip() else str(faker.last_name()), value)

    def _email(self, value: str) -> str:
        made = f"{self._faker('').user_name()}{self._random.randrange(10_000):04d}@{self._random.choice(_DOMAINS)}"
        return _cased(made, value)

    def _address(self, value: str) -> str:
        made = str(self._faker(value).address())
        return _cased(made if "\n" in value else made.replace("\n", ", "), value)

    def _city(self, value: str) -> str:
        return _cased(str(self._faker(value).city()), value)

    def _company(self, value: str) -> str:
        return _cased(str(self._faker(value).company()), value)

    def _url(self, value: str) -> str:
        scheme = value.split("://", 1)[0] + "://" if "://" in value else ""
        made = f"{self._faker('').domain_word()}{self._random.randrange(10_000)}.{self._random.choice(_DOMAINS)}"
        return scheme + made + (f"/{self._faker('').slug()}" if "/" in value[len(scheme) :] else "")

    # -- numbers --------------------------------------------------------------------------------------------------------------------------

    def _digits(self, count: int) -> str:
        return "".join(self._random.choices("0123456789", k=count))

    def _shape(self, value: str) -> str:
        return "".join(self._like(character) for character in value)

    def _like(self, character: str) -> str:
        if character.isdecimal():
            return self._random.choice("0123456789")
        if not character.isalpha():
            return character
        if "\u4e00" <= character <= "\u9fff":
            return self._random.choice(_HANZI)
        letter = self._random.choice("abcdefghijklmnopqrstuvwxyz")
        return letter.upper() if character.isupper() else letter

    def _phone(self, value: str) -> str:
        digits = "".join(character for character in value if character.isdecimal())
        international = value.lstrip().startswith("+")
        code = _code_length(digits) if international else 1 if digits.startswith(("0", "1")) else 0
        made = list(digits[:code] + self._digits(max(len(digits) - code, 0)))
        if code < len(made):  # no number within a country starts with 0 or 1; a Chinese mobile goes on with 3 to 9
            made[code] = self._random.choice("3456789")
        if international and digits.startswith("1") and len(made) == 11:
            made[4] = self._random.choice("23456789")
        return _filled(value, made)

    def _ssn(self, value: str) -> str:
        """Numbers from 900 on were never given out."""
        made = list(self._digits(sum(character.isdecimal() for character in value)))
        return _filled(value, ["9", *made[1:]]) if made else self._shape(value)

    def _ip(self, value: str) -> str:
        try:
            version = ipaddress.ip_address(value.strip()).version
        except ValueError:
            return self._shape(value)
        if version == 4:
            return str(ipaddress.IPv4Address((10 << 24) + self._random.getrandbits(24)))  # RFC 1918
        return str(ipaddress.IPv6Address((0x20010DB8 << 96) + self._random.getrandbits(96)))  # RFC 3849

    def _card(self, value: str) -> str:
        digits = "".join(character for character in value if character.isdecimal())
        start = next((test for begin, test in _CARDS.items() if digits.startswith(begin)), "411111")
        if not 12 <= len(digits) <= 19:
            return self._shape(value)
        body = start + self._digits(len(digits) - 7)
        return _filled(value, [*body, _luhn_digit(body)])

    def _iban(self, value: str) -> str:
        plain = "".join(character for character in value if character.isalnum())
        if not re.fullmatch(r"[A-Za-z]{2}[0-9]{2}[0-9A-Za-z]{11,30}", plain):
            return self._shape(value)
        country, bank = plain[:2].upper(), "".join(self._like(character) for character in plain[4:]).upper()
        number = int("".join(str(int(character, 36)) for character in bank + country + "00"))
        made = _filled(value, list(f"{country}{98 - number % 97:02d}{bank}"))
        return made.lower() if value.islower() else made

    def _date(self, value: str) -> str:
        if not (found := _DATE.fullmatch(value)):
            return self._shape(value)
        # Day and month below 13 make a date in either order.
        year, month, day = self._random.randrange(1940, 2010), self._random.randrange(1, 13), self._random.randrange(1, 13)
        if found["year"]:
            return f"{year}{found[2]}{month:02d}{found[3]}{day:02d}{found[4]}"
        return f"{day:02d}{found[5]}{month:02d}{found[6]}{year}"

    def _resident_id(self, value: str) -> str:
        if not re.fullmatch(r"[0-9]{17}[0-9Xx]", value):
            return self._shape(value)
        body = self._random.choice(("110101", "310101", "440103", "510104", "330102", "420102"))
        body += f"{self._random.randrange(1940, 2010)}{self._random.randrange(1, 13):02d}{self._random.randrange(1, 29):02d}{self._digits(3)}"
        # GB 11643-1999: ISO 7064 MOD 11-2.
        return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, _RESIDENT_WEIGHTS, strict=True)) % 11]


def _cased(made: str, value: str) -> str:
    return made.upper() if value.isupper() else made.lower() if value.islower() else made


def _filled(value: str, made: list[str]) -> str:
    """`value` with its letters and digits replaced by those in `made`, in order; where `made` has digits only, by them in the places of digits."""
    rest = iter(made)
    only_digits = all(character.isdecimal() for character in made)
    return "".join(next(rest) if (c.isdecimal() if only_digits else c.isalnum()) else c for c in value)


def _code_length(digits: str) -> int:
    return 1 if digits[:1] in ("1", "7") else 2 if _TWO_DIGIT_CODES.match(digits) else 3


def _luhn_digit(body: str) -> str:
    total = sum(int(d) if i % 2 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(body)))
    return str(-total % 10)
