"""What personal data looks like without being shown: its shape."""

from __future__ import annotations

import re

import pyarrow as pa

from affidavit.interfaces.masking import MaskContext, Operator
from affidavit.interfaces.schema import Field

SHORT = 6
"""A value with fewer letters and digits than this shows none of them."""
LONG = 40
"""Of a longer shape only the beginning is shown."""
_RUN = re.compile(r"[^\W_]+")
_LETTERS = 4
_ENDING = re.compile(r"\.[a-z]{2,6}$")
_MARK = "@"


def shape(value: str) -> str:
    """A value with stars for its letters and digits: ``jane@example.com`` becomes ``j***@e******.com``.

    A word of four letters or more keeps its first one, an e-mail address its last ending; no digit is kept, and of a value with fewer than six
    letters and digits nothing is.
    """
    shown = value.strip()
    if sum(map(str.isalnum, shown)) < SHORT:
        return _cut(_RUN.sub(lambda run: "*" * len(run.group()), shown))
    ending = _ENDING.search(shown) if _MARK in shown else None
    body = shown[: ending.start()] if ending else shown
    return _cut(_RUN.sub(_word, body)) + (ending.group() if ending else "")


def _word(run: re.Match[str]) -> str:
    word = run.group()
    return (word[0] if len(word) >= _LETTERS and word.isascii() and word.isalpha() else "*") + "*" * (len(word) - 1)


def _cut(text: str) -> str:
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= LONG else f"{text[:LONG]}…"


class Shape(Operator):
    """Puts the shape of each value in its place: for showing where personal data stand, not for masking, so policies cannot name it."""

    name = "shape"
    spans = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array([None if value is None else shape(str(value)) for value in column.to_pylist()], pa.string())])
