"""A regular expression that every cell with a finding matches: Arrow runs it over a column before any recognizer does."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from affidavit_governance.masking.recognizers.base import DEFAULT_THRESHOLD, PatternRecognizer


def prefilter(
    recognizers: Sequence[PatternRecognizer],
    *,
    threshold: float = DEFAULT_THRESHOLD,
    thresholds: Mapping[str, float] | None = None,
    hints: Collection[str] = (),
) -> str | None:
    """What plain text contains in which `recognizers` find something at the threshold; None where that may be anything.

    The expression may match where nothing is found. It runs in Python and in RE2.

    Parameters
    ----------
    recognizers
        Which to cover.
    threshold, thresholds
        Score from which a finding counts: of any entity, of single ones.
    hints
        Entities that the column's name speaks for.
    """
    parts: dict[str, None] = {}
    for recognizer in recognizers:
        places = [*recognizer.anchors, *map(re.escape, recognizer.literals)]
        if recognizer.shape is not None:
            places.append(recognizer.shape)
        hinted = recognizer.entity in hints
        if recognizer.shape is None and (hinted or not (places or recognizer.beside)):
            return None
        lowered = (thresholds or {}).get(recognizer.entity, threshold) < DEFAULT_THRESHOLD
        if recognizer.beside and not hinted:
            places = [f"(?i:{re.escape(word)})" for word in recognizer.beside]
        if recognizer.needs is not None and not lowered and not hinted:
            places = [f"(?i:{recognizer.needs})"] if recognizer.needs else []
        parts |= dict.fromkeys(places)
    # RE2 does not know this escape.
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match.group(1), 16)), "|".join(parts))
