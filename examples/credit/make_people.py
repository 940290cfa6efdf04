"""Adds made-up people to the German credit data, so that masking has real work. The rows' order and figures stay as published.

    python make_people.py PUBLISHED.csv german_credit.csv

Every name, address and number is drawn from a seeded generator; the e-mail domain is reserved (RFC 2606), the phone numbers lie in the range
that the German regulator keeps for fiction, and the bank code of the IBANs is not in use. Their check digits are right, so that validators
accept them.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

GIVEN = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hannes", "Ida", "Jonas", "Karla", "Leon", "Mia", "Nils", "Ole", "Paula"]
GIVEN += ["Quirin", "Rosa", "Simon", "Thea", "Uwe", "Vera", "Willi", "Yara"]
FAMILY = ["Adler", "Bauer", "Conrad", "Dietz", "Ebert", "Fuchs", "Graf", "Huber", "Igel", "Jansen", "Krause", "Lang", "Moser", "Neumann"]
FAMILY += ["Otto", "Peters", "Roth", "Sommer", "Thiel", "Urban", "Vogt", "Wolf"]


def iban(account: int) -> str:
    """A German IBAN with right check digits (ISO 13616, mod 97-10) at a bank code that no bank has."""
    bban = f"99999999{account:010d}"
    check = 98 - int(bban + "131400") % 97
    return f"DE{check:02d}{bban}"


def person(number: int, source: random.Random) -> dict[str, str]:
    """One made-up person."""
    given, family = source.choice(GIVEN), source.choice(FAMILY)
    return {
        "full_name": f"{given} {family}",
        "email": f"{given}.{family}{number}@example.org".lower(),
        "phone": f"+49 30 23125{source.randrange(1000):03d}",
        "iban": iban(source.randrange(10**10)),
        "national_id": f"L{source.randrange(10**8):08d}",
    }


def main(published: str, target: str) -> None:
    """Read the published rows and write them with people in front."""
    source = random.Random(20240501)
    with Path(published).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    people = [person(number, source) for number in range(len(rows))]
    with Path(target).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*people[0], *rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**who, **row} for who, row in zip(people, rows, strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:3])
