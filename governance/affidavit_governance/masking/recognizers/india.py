"""Identifiers of persons in India."""

from __future__ import annotations

import re
from typing import ClassVar

from affidavit_governance.masking.recognizers import national_ids
from affidavit_governance.masking.recognizers.identifier import Identifier, words


class InAadhaar(Identifier):
    """Aadhaar numbers: twelve digits, printed 4-4-4."""

    entity: ClassVar[str] = "IN_AADHAAR"
    column_words: ClassVar[str | None] = r"\baadh?aa?r\b|\buidai\b|\buid (no|num|number)\b"
    shape: ClassVar[str | None] = r"\b[0-9]{4}(?:[0-9]{8}| [0-9]{4} [0-9]{4}|-[0-9]{4}-[0-9]{4})\b"
    # Four more digits in the same grouping make it a part of a card number.
    form = re.compile(
        r"[2-9](?<![0-9A-Za-z_][2-9])(?<![0-9][.-][2-9])"
        r"(?:[0-9]{11}|(?<![0-9]{4} [2-9])[0-9]{3}([ -])[0-9]{4}\1[0-9]{4}(?! [0-9]{4}(?![0-9])))(?![0-9A-Za-z_]|[.-][0-9])"
    )
    _words = words(r"aadh?aa?r|\buidai\b|\buid\b|आधार")
    _evidence = "Verhoeff digit"

    def _valid(self, value: str) -> bool:
        return national_ids.in_aadhaar(value)

    def _alone(self, printed: str) -> float:
        return 0.5 if printed.isdigit() else 0.8


class InPan(Identifier):
    """Permanent account numbers of the Indian income tax: five letters, the fourth of which says who holds it, four digits, a letter."""

    entity: ClassVar[str] = "IN_PAN"
    column_words: ClassVar[str | None] = r"\bpan\b|\bpermanent account\b"
    shape: ClassVar[str | None] = r"[A-Za-z]{2}[0-9]{4}[A-Za-z]\b"
    form = re.compile(r"[A-Za-z](?<![0-9A-Za-z_][A-Za-z])[A-Za-z]{4}[0-9]{4}[A-Za-z](?![0-9A-Za-z_])")
    _words = words(r"\bpan\b|permanent.account|income.tax")
    _evidence = "structure"

    def _valid(self, value: str) -> bool:
        return national_ids.in_pan(value)

    def _alone(self, printed: str) -> float:
        return 0.8 if printed.isupper() else 0.4
