"""Addresses of machines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers import validators
from affidavit_governance.masking.recognizers.base import CONTEXT_BONUS, WORD, PatternRecognizer, near


class IpAddress(PatternRecognizer):
    """IP addresses, version 4 and 6."""

    entity: ClassVar[str] = "IP_ADDRESS"
    column_words: ClassVar[str | None] = r"\bip\b|\bip ?addr"
    shape: ClassVar[str | None] = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"
    # Without `::` an address has seven colons; times and ratios have two.
    anchors: ClassVar[tuple[str, ...]] = (r":(?:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4})?:",)
    reach: ClassVar[int | None] = 64
    form = re.compile(r"[0-9](?<![0-9A-Za-z_.][0-9])[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![0-9A-Za-z_]|\.[0-9])")
    _version = re.compile(r"(?:\bv|version|release|build|kernel|firmware)[ .:=]{0,3}$", re.IGNORECASE)
    _colon = re.compile(r":[0-9A-Fa-f]{0,4}:")
    _left = re.compile(r"[0-9A-Fa-f:]{0,40}")
    _right = re.compile(r"[0-9A-Fa-f:]{1,40}(?:\.[0-9]{1,3}){0,3}")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self.form.finditer(text):
            if validators.ipv4(match.group()):
                score = 0.3 if self._version.search(text[max(0, match.start() - 12) : match.start()]) and not hinted else 0.8
                yield Finding(self.entity, match.start(), match.end(), score, "four numbers up to 255")
        done = 0
        for colon in self._colon.finditer(text):
            if colon.start() < done:
                continue
            left = self._left.match(text[max(0, colon.start() - 40) : colon.start()][::-1])
            right = self._right.match(text, colon.start())
            assert left is not None and right is not None
            start, end = colon.start() - left.end(), right.end()
            done = end
            if finding := self._v6(text, start, end):
                yield finding

    def _v6(self, text: str, start: int, end: int) -> Finding | None:
        while end > start and text[end - 1] == ":" and text[end - 2 : end] != "::":
            end -= 1
        neighbours = text[max(0, start - 1) : start] + text[end : end + 1]
        value = text[start:end]
        if WORD.search(neighbours) or not validators.ipv6(value):
            return None
        groups = [group for group in value.split(":") if group]
        # `a::b` and `std::dec` style names are valid addresses too; an address that people write has more groups, or a digit.
        if len(groups) < 3 and not any(c.isdigit() for c in value):
            return None
        return Finding(self.entity, start, end, 0.9 if len(groups) > 2 else 0.65, "RFC 4291")


class MacAddress(PatternRecognizer):
    """Hardware addresses (EUI-48, IEEE 802): six pairs with colons or hyphens, or three groups of four with dots."""

    entity: ClassVar[str] = "MAC_ADDRESS"
    column_words: ClassVar[str | None] = r"\bmac\b( addr|$)|\b(hardware|ethernet|wifi|bluetooth) addr"
    anchors: ClassVar[tuple[str, ...]] = (r":[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}:", r"-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-", r"\.[0-9A-Fa-f]{4}\.")
    reach: ClassVar[int | None] = 80
    _pairs = re.compile(
        r"([:-])(?<=[0-9A-Fa-f]{2}[:-])(?<![0-9A-Za-z_][0-9A-Fa-f]{2}[:-])(?<![0-9A-Za-z][:-][0-9A-Fa-f]{2}[:-])"
        r"(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![0-9A-Za-z_]|[:-][0-9A-Za-z])"
    )
    _fours = re.compile(r"\.(?<=[0-9A-Fa-f]{4}\.)(?<![0-9A-Za-z_.][0-9A-Fa-f]{4}\.)[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}(?![0-9A-Za-z_]|\.[0-9A-Za-z])")
    _words = re.compile(r"\bmac\b|hardware|ethernet|bluetooth|wi-?fi|\bbssid|device|interface", re.IGNORECASE)
    _separators = str.maketrans("", "", ":-.")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for pattern, before in ((self._pairs, 2), (self._fours, 4)):
            for match in pattern.finditer(text):
                start, end = match.start() - before, match.end()
                digits = text[start:end].translate(self._separators)
                if len(set(digits)) == 1:
                    continue  # nobody's: the null and the broadcast address
                supported = hinted or near(self._words, text, start, end)
                # Pairs of digits alone may be dates, times or codes; colons and a hexadecimal letter are hardly used for anything else.
                score = (0.85 if match.group()[0] == ":" else 0.75) if not digits.isdigit() else 0.6 if match.group()[0] == ":" else 0.4
                evidence = "hexadecimal groups" + (", words nearby" if supported else "")
                yield Finding(self.entity, start, end, min(1.0, score + CONTEXT_BONUS * supported), evidence)
