"""Which of many strings stand in a text, without a search for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.masking.recognizers.plain import in_lower_case

_SHORT = 512
"""Up to so many characters, searching for each string is quicker than noting triples."""


_TRIPLES = 4
"""Of longer strings these many at the end: more would rule out hardly any other."""


class Present:
    """Tells which strings a text contains: some as they are, others in any case.

    A string can only stand in a text that has each of its triples of neighbouring bytes (in UTF-8). One pass notes the triples of the text,
    with small letters, in a table of 65,536 places; most strings are ruled out by theirs, and only the others are searched.

    Parameters
    ----------
    exact
        Strings that count as they are.
    lower
        Strings with small letters that count in any case.
    """

    def __init__(self, exact: Sequence[str], lower: Sequence[str]) -> None:
        self._exact = list(exact)
        self._lower = list(lower)
        self._places = np.zeros((_TRIPLES, len(exact) + len(lower)), dtype=np.uint16)
        for i, string in enumerate((*exact, *lower)):
            # Short ones repeat a triple; those without any keep the place that is always noted.
            if len(places := _places(in_lower_case(string).encode())):
                self._places[:, i] = np.resize(places[-_TRIPLES:], _TRIPLES)

    def __call__(self, text: str, lower: str) -> tuple[list[str], list[str]]:
        """The strings that stand in `text` as they are, and those that stand in `lower`, the same text with small letters."""
        exact, words = self._exact, self._lower
        if len(text) > _SHORT:
            noted = np.zeros(1 << 16, dtype=np.bool_)
            noted[_places(lower.encode(errors="surrogatepass"))] = True
            noted[0] = True
            first, *others = self._places
            possible = noted[first]
            for places in others:
                possible &= noted[places]
            there = np.flatnonzero(possible).tolist()
            words = [words[i - len(exact)] for i in there if i >= len(exact)]
            exact = [exact[i] for i in there if i < len(exact)]
        return [string for string in exact if string in text], [string for string in words if string in lower]


def _places(data: bytes) -> NDArray[np.uint16]:
    """Where the triples of `data` are noted: a sum that wraps around, which letters spread well over the table."""
    codes = np.frombuffer(data, dtype=np.uint8)
    places = codes[:-2] * np.uint16(2533)
    places += codes[1:-1] * np.uint16(61)
    places += codes[2:]
    return places
