"""Which of many strings stand in a text, without a search for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SHORT = 512
"""Up to so many characters, searching for each string is quicker than counting pairs."""


class Present:
    """Tells which of `strings` (of two bytes in UTF-8 at least) a text contains.

    A string can only stand in a text that has each of its pairs of neighbouring bytes. One pass notes the pairs of the text; most strings
    are ruled out by theirs, and only the others are searched.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = list(strings)
        codes = [string.encode() for string in strings]
        longest = max(map(len, codes), default=2)
        # Short ones repeat their last pair, so that all are rows of one array.
        self._pairs = np.array(
            [[int.from_bytes(code[min(i, len(code) - 2) :][:2], "little") for i in range(longest - 1)] for code in codes], dtype=np.uint16
        ).reshape(len(codes), longest - 1)

    def __call__(self, text: str) -> list[str]:
        """The strings that stand in `text`."""
        if len(text) <= _SHORT:
            return [string for string in self._strings if string in text]
        seen = np.zeros(1 << 16, dtype=np.bool_)
        data = text.encode(errors="surrogatepass")
        for first in (0, 1):
            seen[np.frombuffer(data, dtype="<u2", count=(len(data) - first) // 2, offset=first)] = True
        possible = seen[self._pairs].all(axis=1)
        return [self._strings[i] for i in np.flatnonzero(possible) if self._strings[i] in text]
