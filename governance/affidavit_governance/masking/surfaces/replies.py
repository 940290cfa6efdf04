"""Putting originals back in the place of what stands for them, in a whole text or in one that arrives in pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import groupby
from os.path import commonprefix
from typing import NoReturn


class Replies:
    """What stands for which original. At each position the longest of several that match is taken."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def __contains__(self, stand_in: str) -> bool:
        return stand_in in self._values

    def __reduce__(self) -> NoReturn:
        raise TypeError("What placeholders stand for cannot be pickled or copied: it is personal data.")

    def add(self, stand_in: str, value: str) -> None:
        """Let `stand_in` stand for `value`."""
        self._values[stand_in] = value
        self._pattern = None

    def restore(self, text: str) -> str:
        """`text` with every original back in its place."""
        if not self._values:
            return text
        return self._compiled().sub(lambda match: self._values[match.group()], text)

    def stream(self, *, inside_json: bool = False) -> ReplyStream:
        """A reader of pieces, for the originals known now."""
        if not inside_json:
            return ReplyStream(dict(self._values))
        forms = {}
        for stand_in, value in self._values.items():
            escaped, plain = _escaped(value), _escaped(stand_in)
            # Some encoders write angle brackets as escapes, in either case, and some all that is not ASCII.
            for form in (
                plain,
                plain.replace("<", "\\u003c").replace(">", "\\u003e"),
                plain.replace("<", "\\u003C").replace(">", "\\u003E"),
                json.dumps(stand_in)[1:-1],
            ):
                forms[form] = escaped
                if "\\u" in form:  # JSON in a string of JSON: what is written for the inner one is escaped again
                    forms[_escaped(form)] = _escaped(escaped)
        return ReplyStream(forms)

    def _compiled(self) -> re.Pattern[str]:
        if self._pattern is None:
            self._pattern = one_of(self._values)
        return self._pattern


def _escaped(text: str) -> str:
    """`text` as it stands between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def one_of(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of `words`, at each position the longest; it tries no word twice, so that many of them cost little more than few."""
    return re.compile(_branch(sorted(words)))


_DEEPEST = 16  # the compiler of patterns recurses; deeper branches, of words such as "*", "**", "***", are tried one after the other


def _branch(words: list[str], depth: int = 0) -> str:
    """What matches one of `words`, which are sorted and distinct: their common beginning, then a branch for each next character."""
    if depth == _DEEPEST:
        return f"(?:{'|'.join(re.escape(word) for word in sorted(words, key=len, reverse=True))})"
    begin = commonprefix([words[0], words[-1]])  # noqa: RUF071 - character by character is what is wanted
    rest = [word[len(begin) :] for word in words]
    longer = rest[1:] if rest[0] == "" else rest
    branches = [_branch(list(group), depth + 1) for _, group in groupby(longer, key=lambda word: word[0])]
    if not branches:
        return re.escape(begin)
    return f"{re.escape(begin)}(?:{'|'.join(branches)}){'?' if len(longer) < len(rest) else ''}"


class ReplyStream:
    """Unmasks a text that arrives in pieces.

    Whatever may be the beginning of a placeholder is held back until it is clear; everything else comes out at once. The pieces
    together are what the whole text would have given.
    """

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._pattern = one_of(values) if values else None
        self._beginnings = {word[:size] for word in values for size in range(1, len(word))}
        self._longest = max((len(word) for word in values), default=0)
        self._held = ""

    def __reduce__(self) -> NoReturn:
        raise TypeError("A reply's stream cannot be pickled or copied: it holds personal data.")

    def feed(self, piece: str) -> str:
        """What is clear after one more piece."""
        if self._pattern is None:
            return piece
        return self._advance(self._held + piece, last=False)

    def close(self) -> str:
        """What was held back; the text has ended."""
        held, self._held = self._held, ""
        return self._advance(held, last=True) if held else ""

    def _advance(self, text: str, *, last: bool) -> str:
        assert self._pattern is not None
        parts: list[str] = []
        at = 0
        while True:
            clear = len(text) if last else self._clear(text, at)
            match = self._pattern.search(text, at)
            # A match that begins before what is unclear is final: nothing longer could begin there.
            if match is None or match.start() >= clear:
                parts.append(text[at:clear])
                self._held = text[clear:]
                return "".join(parts)
            parts += (text[at : match.start()], self._values[match.group()])
            at = match.end()

    def _clear(self, text: str, at: int) -> int:
        """Where the part begins that could still become a longer word."""
        for start in range(max(at, len(text) - self._longest + 1), len(text)):
            if text[start:] in self._beginnings:
                return start
        return len(text)
