"""A text as a reader sees it: words, or characters where a script has no spaces, and the strength of the breaks between them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # 々〆〇
    (0x3040, 0x312F),  # kana, bopomofo
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # half-width kana
    (0x20000, 0x3347F),
)
"""Code points of scripts that put no spaces between words."""

SENTENCE, PHRASE = 2.0, 1.0
"""Strength of a break after a sentence's end, and after a comma or its like; between other pieces it is zero."""

_ENDS = {SENTENCE: ".!?…。！？\u0964\n", PHRASE: ",;:，；：、)]}）」』》”"}
_CLOSERS = "\"'”’»›"

_JOINERS = "\u200d\ufe0e\ufe0f"

_VOWELS_BEFORE, _VOWELS_AFTER = "เแโใไເແໂໃໄ", "ะาำๅະາຳ"
"""Thai and Lao vowels that are written before and after their consonant, and are no marks to Unicode."""


def pieces(text: str) -> list[str]:
    """Cut a text into what a reader sees as its words, with the spaces and punctuation that follow each; joined they are the text again.

    Scripts without spaces are cut into characters: a combining mark stays with its character, punctuation with the piece before it, an opening
    bracket with the one after it. A text of nothing but spaces has no pieces.
    """
    if not text.strip():
        return []
    found: list[str] = []
    for character in text:
        if found and not _starts(found[-1], character):
            found[-1] += character
        else:
            found.append(character)
    if not found[0].strip():
        found[:2] = ["".join(found[:2])]
    return found


def _starts(before: str, character: str) -> bool:
    """Whether `character` begins a new piece after the piece `before`."""
    last = before[-1]
    category = unicodedata.category(character)
    if character.isspace() or category.startswith("M") or character in _JOINERS + _VOWELS_AFTER or last == "\u200d":
        return False
    if last.isspace():
        return bool(before.strip())
    opened = unicodedata.category(last) in ("Ps", "Pi") or last in _VOWELS_BEFORE
    if opened and is_unspaced(character):
        return False
    if is_unspaced(character):
        return True
    return any(is_unspaced(each) for each in before) and not (category.startswith("P") and category not in ("Ps", "Pi"))


def is_unspaced(character: str) -> bool:
    """Whether a script without spaces has this character."""
    code = ord(character)
    return code >= UNSPACED[0][0] and any(low <= code <= high for low, high in UNSPACED)


def break_before(pieces: Sequence[str]) -> list[float]:
    """For each piece the strength of the break before it: `SENTENCE`, `PHRASE` or zero."""
    return [0.0, *(_break_after(piece) for piece in pieces[:-1])][: len(pieces)]


def _break_after(piece: str) -> float:
    if "\n" in piece:
        return SENTENCE
    bare = piece.rstrip()
    last = bare.rstrip(_CLOSERS)[-1:] or bare[-1:]
    return next((strength for strength, ends in _ENDS.items() if last in ends), 0.0)


def runs(pieces: Sequence[str], limit: int) -> list[str]:
    """Join neighbouring pieces until there are `limit` at most: even runs within phrases, and whole phrases together where there are too many."""
    if len(pieces) <= limit:
        return list(pieces)
    phrases: list[list[str]] = []
    for piece, strength in zip(pieces, break_before(pieces), strict=True):
        if strength or not phrases:
            phrases.append([])
        phrases[-1].append(piece)
    if len(phrases) > limit:
        return ["".join(piece for phrase in part for piece in phrase) for part in _even(phrases, limit)]
    counts = [1] * len(phrases)
    for _ in range(limit - len(phrases)):
        longest = max(range(len(phrases)), key=lambda place: len(phrases[place]) / counts[place])
        counts[longest] += 1
    return ["".join(part) for phrase, count in zip(phrases, counts, strict=True) for part in _even(phrase, count)]


def _even(values: Sequence[T], parts: int) -> list[Sequence[T]]:
    """Cut into `parts` runs whose lengths differ by one at most."""
    ends = [len(values) * part // parts for part in range(parts + 1)]
    return [values[start:stop] for start, stop in pairwise(ends)]
