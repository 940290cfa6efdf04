"""Identifiers of the United States."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers import validators
from affidavit_governance.masking.recognizers.base import CONTEXT_BONUS, PatternRecognizer, near


class UsSsn(PatternRecognizer):
    """US social security numbers: in the printed form, or nine digits where words speak for it."""

    entity: ClassVar[str] = "US_SSN"
    _printed = re.compile(r"[0-9](?<![0-9A-Za-z_][0-9])(?<![0-9][.-][0-9])([0-9]{2})([ .-]?)([0-9]{2})\2([0-9]{4})(?![0-9A-Za-z_]|[.-][0-9])")
    _words = re.compile(r"\bssns?\b|social.{0,3}sec|soc sec|tax.{0,3}id|\btin\b", re.IGNORECASE)

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._printed.finditer(text):
            area = text[match.start()] + match.group(1)
            if not validators.us_ssn(area, match.group(3), match.group(4)):
                continue
            supported = hinted or near(self._words, text, match.start(), match.end())
            score = {"-": 0.8, " ": 0.5, ".": 0.4}.get(match.group(2), 0.3) + CONTEXT_BONUS * supported
            yield Finding(self.entity, match.start(), match.end(), min(1.0, score), "assigned range" + (", words nearby" if supported else ""))
