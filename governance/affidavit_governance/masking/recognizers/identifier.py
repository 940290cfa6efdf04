"""Identifiers that carry their own check: a pattern, a validator, and words that speak for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import CELL, PatternRecognizer, near
from affidavit_governance.masking.recognizers.plain import in_lower_case

WITH_WORDS = 0.97
"""Score of an identifier that passes its check and that a word nearby, or the column's name, names: surer than a telephone number's shape."""

_SEPARATORS = str.maketrans("", "", " .-/|\u00b7")


def words(pattern: str) -> re.Pattern[str]:
    """`pattern` ignoring case, with only ASCII letters as neighbours, so that ``\\b`` holds beside Chinese characters."""
    return re.compile(pattern, re.IGNORECASE | re.ASCII)


def occurrences(strings: Sequence[str], text: str) -> list[int]:
    """Where one of `strings` begins in `text`, in order. Far faster than a regular expression that ignores case."""
    found = []
    for each in strings:
        at = text.find(each)
        while at >= 0:
            found.append(at)
            at = text.find(each, at + 1)
    return sorted(found)


def windows(stems: Sequence[str], named: re.Pattern[str], text: str, *, reach: int, hinted: bool = False) -> Iterator[tuple[int, int]]:
    """The stretches of `text` that follow words, up to `reach` characters and inside their cell; all of it where `hinted`.

    The words match `named`, and each alternative of it begins with one of `stems`, which are in lower case.
    """
    if hinted:
        yield 0, len(text)
        return
    done = 0
    for at in occurrences(stems, in_lower_case(text)):
        match = named.match(text, at)
        if match is None:
            continue
        start = max(done, match.end())
        end = min(len(text), match.end() + reach)
        cell = text.find(CELL, match.end(), end)
        done = max(done, end if cell < 0 else cell)
        if start < done:
            yield start, done


def compact(text: str) -> str:
    """`text` in upper case without the separators that identifiers are printed with."""
    return text.translate(_SEPARATORS).upper()


class Identifier(PatternRecognizer):
    """Base of recognizers whose entity has a check of its own.

    Attributes
    ----------
    form
        How it is written, separators included.
    _words
        What names it in running text.
    _evidence
        The check's name.
    _stems
        Of one whose check is too weak without words: lower-case strings, one of which is in all of `_words`.
    """

    form: ClassVar[re.Pattern[str]]
    _words: ClassVar[re.Pattern[str]]
    _evidence: ClassVar[str]
    _stems: ClassVar[tuple[str, ...]] = ()

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        if self._stems and not hinted:
            lowered = in_lower_case(text)
            if not any(stem in lowered for stem in self._stems):
                return
        for match in self.form.finditer(text):
            printed = match.group()
            if not self._valid(compact(printed)):
                continue
            supported = hinted or near(self._words, text, match.start(), match.end())
            score = WITH_WORDS if supported else self._alone(printed)
            if score > 0:
                yield Finding(self.entity, match.start(), match.end(), score, self._evidence + (", words nearby" if supported else ""))

    def _valid(self, value: str) -> bool:
        """Whether the compact form passes the check."""
        raise NotImplementedError

    def _alone(self, printed: str) -> float:
        """How sure it is without words; 0: not at all."""
        return 0.0
