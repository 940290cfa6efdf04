"""Which of many strings stand in a text, without a search for each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.masking.recognizers.plain import in_lower_case

_SHORT = 96
"""Up to so many characters, searching for each string is quicker than looking up triples."""

_TRIPLES = 2
"""Of longer strings these many: more would rule out hardly any other."""

_NUMBERS = 255
"""Numbers for triples: as many as a byte holds beside 0. If there are more triples, some share one."""

_BLOCK = 1 << 16
"""Bytes whose triples are looked up at once, so that long texts take no memory beside themselves."""

_COMMON = b" etaoinshrdlucmfwypvbgkqjxz"
"""English letters, commonest first: a triple of letters late in the order, or of other characters, is likely rare."""

_WORD = np.dtype("<u4")
_SPREAD = np.uint32(0x9E3779B1 << 8 & 0xFFFFFFFF)
_SHIFT = np.uint32(16)


class Present:
    """Tells which strings a text contains: some as they are, others in any case.

    A string can only stand in a text that has its triples of neighbouring bytes (in UTF-8, with small letters). The two rarest of each
    string have numbers in a table of 65,536 places. One pass looks up the triples of the text there; most strings are ruled out, because
    their numbers do not come up, and only the others are searched.

    Parameters
    ----------
    exact
        Strings that count as they are.
    lower
        Strings with small letters that count in any case.
    """

    def __init__(self, exact: Sequence[str], lower: Sequence[str]) -> None:
        self._exact = list(exact)
        self._lower = [(string, string.encode()) for string in lower]
        self._table = np.zeros(1 << 16, dtype=np.uint8)
        self._needs: list[set[int]] = []
        self._with: dict[int, list[int]] = {}
        count = 0
        for i, string in enumerate((*exact, *lower)):
            numbers = []
            for triple in _rarest(in_lower_case(string).encode()):
                place = int(_places(triple)[0])
                if not self._table[place]:
                    self._table[place] = count % _NUMBERS + 1
                    count += 1
                numbers.append(int(self._table[place]))
            self._needs.append(set(numbers))
            self._with.setdefault(numbers[0] if numbers else 0, []).append(i)

    def __call__(self, text: str, small: bytes) -> tuple[list[str], list[str]]:
        """The strings that stand in `text` as they are, and those that stand in `small`, the same text with small letters in UTF-8."""
        exact, lower = self._exact, self._lower
        if len(text) > _SHORT:
            noted = {0}
            for first in range(0, len(small), _BLOCK):
                noted.update(self._table.take(_places(small[first : first + _BLOCK + 2])).tobytes().translate(None, b"\0"))
            there = sorted(i for number in noted & self._with.keys() for i in self._with[number] if self._needs[i] <= noted)
            after = bisect_left(there, len(exact))
            lower = [lower[i - len(exact)] for i in there[after:]]
            exact = [exact[i] for i in there[:after]]
        return [string for string in exact if string in text], [string for string, encoded in lower if encoded in small]


def _rarest(string: bytes) -> list[bytes]:
    """The triples of `string` that are likely the rarest in texts, rarest first."""
    triples = dict.fromkeys(string[i : i + 3] for i in range(len(string) - 2))
    return sorted(triples, key=lambda triple: -sum(_COMMON.find(byte) % len(_COMMON) for byte in triple))[:_TRIPLES]


def _places(data: bytes) -> NDArray[np.uint32]:
    """Where the triples of `data` are noted: the upper half of their products with a constant that spreads them (Fibonacci hashing).

    Four bytes are read at each place, one beyond the last; the constant ends in eight zero bits, so the fourth byte leaves the product.
    """
    places = np.ndarray(max(0, len(data) - 2), _WORD, data + b"\0", strides=(1,)) * _SPREAD
    places >>= _SHIFT
    return places
