"""Words of a text as players: an absent one is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.dataset import Dataset
from affidavit_governance.explain.players.base import Block, Coalitions


class WordBlock(Block):
    """Players are the words of one text field. A long text is cut into runs of words.

    Names of players say positions, not words: records hold no text. The background is the text without any of its words.
    """

    def __init__(self, data: Dataset, field: str, limit: int = 48) -> None:
        self.fields = (field,)
        self._type = data.column(field).type
        self._runs = [_runs(text or "", limit) for text in data.to_list(field)]
        self.players = tuple(f"{field} [{position + 1}]" for position in range(max((len(runs) for runs in self._runs), default=0)))

    def active(self, row: int) -> NDArray[np.int64]:
        return np.arange(len(self._runs[row]))

    def columns(self, row: int, coalitions: Coalitions, reference: NDArray[np.int64]) -> Mapping[str, Any]:
        runs = self._runs[row]
        texts = [" ".join(run for run, inside in zip(runs, kept, strict=True) if inside) for kept in coalitions[:, : len(runs)]]
        return {self.fields[0]: pa.array(texts, type=self._type)}

    def labels(self, row: int) -> list[Any]:
        runs = self._runs[row]
        return [*runs, *[None] * (len(self.players) - len(runs))]


def _runs(text: str, limit: int) -> list[str]:
    words: Sequence[str] = re.findall(r"\S+", text)
    if len(words) <= limit:
        return list(words)
    return [" ".join(part) for part in np.array_split(np.array(words, dtype=object), limit)]
