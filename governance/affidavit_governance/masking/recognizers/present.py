"""Which of many strings stand in a text, without a search for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.masking.recognizers.plain import in_lower_case

_SHORT = 96
"""Up to so many characters, searching for each string is quicker than noting triples."""

_TRIPLES = 4
"""Of longer strings these many at the end: more would rule out hardly any other."""

_BLOCK = 1 << 16
"""Bytes whose triples are noted at once, so that long texts take no memory beside themselves."""

_WORD = np.dtype("<u4")
_SPREAD = np.uint32(0x9E3779B1 << 8 & 0xFFFFFFFF)
_SHIFT = np.uint32(16)


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
        self._places = np.zeros((_TRIPLES, len(exact) + len(lower)), dtype=np.intp)
        for i, string in enumerate((*exact, *lower)):
            # Short ones repeat a triple; those without any keep the place that is always noted.
            if len(places := _places(in_lower_case(string).encode())):
                self._places[:, i] = np.resize(places[-_TRIPLES:], _TRIPLES)

    def __call__(self, text: str, lower: str) -> tuple[list[str], list[str]]:
        """The strings that stand in `text` as they are, and those that stand in `lower`, the same text with small letters."""
        exact, words = self._exact, self._lower
        if len(text) > _SHORT:
            noted = np.zeros(1 << 16, dtype=np.bool_)
            data = lower.encode(errors="surrogatepass")
            for first in range(0, len(data), _BLOCK):
                noted[_places(data[first : first + _BLOCK + 2])] = True
            noted[0] = True
            there = np.nonzero(noted[self._places].all(axis=0))[0].tolist()
            words = [words[i - len(exact)] for i in there if i >= len(exact)]
            exact = [exact[i] for i in there if i < len(exact)]
        return [string for string in exact if string in text], [string for string in words if string in lower]


def _places(data: bytes) -> NDArray[np.uint32]:
    """Where the triples of `data` are noted: the upper half of their products with a constant that spreads them (Fibonacci hashing).

    Four bytes are read at each place, one beyond the last; the constant ends in eight zero bits, so the fourth byte leaves the product.
    """
    places = np.ndarray(max(0, len(data) - 2), _WORD, data + b"\0", strides=(1,)) * _SPREAD
    places >>= _SHIFT
    return places
