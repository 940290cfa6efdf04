"""Whether cells of rows to predict may hold personal data, at a price that a prediction hardly notices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from affidavit.interfaces.masking import Recognizer
from affidavit_governance.masking.recognizers.base import DEFAULT_THRESHOLD, NO_THRESHOLDS, PatternRecognizer
from affidavit_governance.masking.text import scan_values

_REMEMBERED = 4096
_SHORT = 64
"""Longer values than this many characters are hardly categories that come again."""


class CleanCells:
    """Remembers the short values in which nothing was found: categories come again and again, and a set tells them in no time.

    Parameters
    ----------
    threshold, thresholds
        Score from which a finding counts: of any entity, of single ones.
    recognizers
        What to look with; those that are no patterns are left out.
    hints
        Entities that the columns' names speak for.
    """

    def __init__(
        self,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        thresholds: Mapping[str, float] = NO_THRESHOLDS,
        recognizers: Sequence[Recognizer],
        hints: frozenset[str] = frozenset(),
    ) -> None:
        self._threshold = threshold
        self._thresholds = thresholds
        self._recognizers = tuple(r for r in recognizers if isinstance(r, PatternRecognizer))
        self._hints = hints
        self._clean: set[Hashable] = {None}

    def suspect(self, values: Sequence[str | None]) -> bool:
        """Whether some value may hold personal data; also where one is no text at all."""
        try:
            if self._clean.issuperset(values):
                return False
            unknown = [value for value in dict.fromkeys(values) if value is not None and value not in self._clean]
            found = scan_values(unknown, threshold=self._threshold, thresholds=self._thresholds, recognizers=self._recognizers, hints=self._hints)
        except TypeError:
            return True
        if len(self._clean) + len(unknown) > _REMEMBERED:
            self._clean = {None}
        self._clean.update(value for value, findings in zip(unknown, found, strict=True) if not findings and len(value) <= _SHORT)
        return any(found)
