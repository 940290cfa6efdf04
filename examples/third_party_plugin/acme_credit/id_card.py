"""Numbers of German identity cards: nine letters and digits, in print followed by the check digit of ICAO 9303."""

import re

from affidavit.interfaces.masking import Finding

# No vowels, and no letters that look like digits; the first letter names the authority. Three digits at least: else it is a word.
NUMBER = re.compile(r"\b(?=(?:[A-Z]*\d){3})([CFGHJKLMNPRTVWXYZ][0-9CFGHJKLMNPRTVWXYZ]{8})(\d?)\b", re.ASCII)


class IdCard:
    entities = ("DE_ID_CARD",)
    every_column = True  # it is quick: let tables give it columns of short values too

    def scan(self, texts):
        return [[finding for match in NUMBER.finditer(text) if (finding := judge(match))] for text in texts]


def judge(match):
    number, check = match.groups()
    if check and sum(int(char, 36) * (7, 3, 1)[place % 3] for place, char in enumerate(number)) % 10 != int(check):
        return None
    return Finding("DE_ID_CARD", *match.span(), 0.95 if check else 0.65, "check digit mod 10, weights 7 3 1" if check else "form")
