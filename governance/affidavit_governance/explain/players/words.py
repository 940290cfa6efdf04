"""Words of a text as players: an absent one is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.dataset import Dataset
from affidavit_governance.explain.estimators.partition import Hierarchy
from affidavit_governance.explain.players.base import Block, Coalitions
from affidavit_governance.explain.players.nesting import neighbours
from affidavit_governance.explain.players.reading import break_before, is_unspaced, pieces, runs

MOST_WORDS = 48
"""Players that a text has at most; a longer one is cut into runs of words. Owen values of so many take about 1700 texts."""


ABSENT = "left out"
"""What becomes of an absent word. With [MASK], [UNK] or "..." in its place MiniLM took 1.3 to 2.4 times as long on the same coalitions of SMS
messages, because no text gets shorter; and the answer to a text of nothing else told as little (below 0.01 each, where 0.13 are spam)."""


class WordBlock(Block):
    """Players are the words of one text field, sub-words and punctuation with them; characters where a script has no spaces.

    Absent words are left out. With all of them the text is what it was, to the last space. Names of players say positions, not words: records
    hold no text.
    """

    def __init__(self, data: Dataset, field: str, limit: int = MOST_WORDS) -> None:
        self.fields = (field,)
        self._type = data.column(field).type
        self._texts: list[str | None] = data.to_list(field)
        self._runs = [runs(pieces(text or ""), limit) for text in self._texts]
        self.players = tuple(f"{field} [{position + 1}]" for position in range(max((len(words) for words in self._runs), default=0)))

    def active(self, row: int) -> NDArray[np.int64]:
        return np.arange(len(self._runs[row]))

    def hierarchy(self, row: int) -> Hierarchy:
        """Halves that end where phrases do."""
        return neighbours(break_before(self._runs[row]))

    def columns(self, row: int, coalitions: Coalitions, reference: NDArray[np.int64]) -> Mapping[str, Any]:
        words = self._runs[row]
        kept = coalitions[:, : len(words)]
        join = _joiner(words)
        texts = [self._texts[row] if all(inside) else join(inside) for inside in kept.tolist()]
        return {self.fields[0]: pa.array(texts, type=self._type)}

    def labels(self, row: int) -> list[Any]:
        words = [word.strip() for word in self._runs[row]]
        return [*words, *[None] * (len(self.players) - len(words))]


def _joiner(words: list[str]) -> Callable[[list[bool]], str]:
    """A function that joins the words that are in.

    Words that only became neighbours because what stood between them is left out get a space, unless their script has none.
    """
    bare = [not word[-1].isspace() and not is_unspaced(word[-1]) for word in words[:-1]]
    if not any(bare):
        return lambda inside: "".join(compress(words, inside)).rstrip()

    def join(inside: list[bool]) -> str:
        found = ""
        last = -1
        for place in compress(range(len(words)), inside):
            apart = last >= 0 and place > last + 1 and bare[last] and not is_unspaced(words[place][0])
            found += f" {words[place]}" if apart else words[place]
            last = place
        return found.rstrip()

    return join
