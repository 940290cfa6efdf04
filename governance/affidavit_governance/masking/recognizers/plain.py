"""Text as the recognizers read it: full-width and other scripts' characters as the ASCII ones that they stand for."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d"
_AS_THEY_ARE = ",!?;"
"""Full-width punctuation that stays: Chinese text is full of it, and no pattern names it."""


@cache
def _table() -> dict[int, str]:
    """Other scripts' digits, full-width ASCII, unusual spaces and dashes, each with its plain character."""
    table = {code: str(unicodedata.decimal(chr(code))) for code in range(0x80, sys.maxunicode + 1) if chr(code).isdecimal()}
    table |= {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code - 0xFEE0) not in _AS_THEY_ARE}
    table |= dict.fromkeys(map(ord, _SPACES), " ")
    return table | dict.fromkeys(map(ord, _DASHES), "-")


@cache
def unusual() -> str:
    """A character class, for Python's and RE2's syntax both, of everything that `plain` changes."""
    ranges: list[list[int]] = []
    for code in sorted(_table()):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"


@cache
def _pattern() -> re.Pattern[str]:
    # Two ranges first, which rule out ASCII with one comparison and Chinese characters with two: the class itself takes forty to say no.
    return re.compile(rf"[^\x00-\x9f\u4e00-\u9fff](?<={unusual()}){unusual()}*+")


def _run(match: re.Match[str]) -> str:
    return match.group().translate(_table())


def plain(text: str) -> str:
    """`text` with full-width and other scripts' digits, full-width ASCII, unusual spaces and dashes as plain ASCII, character for character."""
    return text if text.isascii() else _pattern().sub(_run, text)


def in_lower_case(text: str) -> str:
    """`text` with small letters for ASCII's capitals. Of other scripts `str.lower` would take ten times as long, and make two characters of one."""
    return text.lower() if text.isascii() else text.encode(errors="surrogatepass").lower().decode(errors="surrogatepass")
