"""Each text is put to the model once, however many coalitions look like it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from affidavit.interfaces.dataset import Dataset

MOST_TEXTS = 2**17
"""Texts that are remembered; a run of more would keep them all in memory, and seldom meets the first ones again."""

Ask = Callable[[Dataset], NDArray[np.float64]]


class Once:
    """A score of data with one column of text, asked only for texts that are new."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[str | None, float] = {}

    def __call__(self, data: Dataset) -> NDArray[np.float64]:
        (field,) = data.schema
        texts = data.to_list(field.name)
        first = {text: place for place, text in reversed(list(enumerate(texts))) if text not in self._known}
        new = sorted(first.values())
        found = dict(zip([texts[place] for place in new], self._ask(data.take(np.array(new))).tolist(), strict=True)) if new else {}
        answers = np.array([found[text] if text in found else self._known[text] for text in texts])
        if len(self._known) < MOST_TEXTS:
            self._known |= found
        return answers
