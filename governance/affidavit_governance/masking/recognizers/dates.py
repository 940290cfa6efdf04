"""Calendar dates as people write them, each checked against the calendar."""

from __future__ import annotations

import re
from collections.abc import Callable

from affidavit_governance.masking.recognizers.national_ids import real_date

LONGEST = 28
"""Characters of the longest date: ``25 de septiembre del 1990``."""

_FIRST_YEAR, _LAST_YEAR = 1850, 2099

_MONTH_NAMES = (
    "january jan januar jänner janvier janv enero ene gennaio gen januari janeiro",
    "february feb februar février févr fevrier febrero febbraio februari fevereiro fev",
    "march mar märz mrz mars marzo maart março",
    "april apr avril avr abril abr aprile",
    "may mai mayo maggio mag mei maio",
    "june jun juni juin junio giugno giu junho",
    "july jul juli juillet juil julio luglio lug julho",
    "august aug août aout agosto ago augustus",
    "september sep sept septembre septiembre settembre set setembro",
    "october oct oktober okt octobre octubre ottobre ott outubro out",
    "november nov novembre noviembre novembro",
    "december dec dezember dez décembre decembre diciembre dic dicembre dezembro",
)
_MONTHS = {name: month for month, names in enumerate(_MONTH_NAMES, 1) for name in names.split()}
"""Months in English, German, French, Spanish, Italian, Dutch and Portuguese, with the usual short forms."""

_START = r"[0-9](?<![0-9A-Za-z_][0-9])(?<![0-9][./-][0-9])"
_YEAR = r"[12](?<![0-9A-Za-z_][12])(?<![0-9][./-][12])[0-9]{3}"
_BEFORE_TIME = r"(?![0-9A-SU-Za-z_]|[./-][0-9])"
_END = r"(?![0-9A-Za-z_]|[./-][0-9])"
_LETTER = r"[A-Za-z\u00c0-\u00ff]"


def _possible(year: str, month: int, day: str) -> bool:
    if len(year) == 2:
        # Which century is not said; 29 February is possible in either.
        return real_date(2000 + int(year), month, int(day))
    return _FIRST_YEAR <= int(year) <= _LAST_YEAR and real_date(int(year), month, int(day))


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], bool]], ...] = (
    # 1990-01-31, also in front of a time; 19900131
    (re.compile(_YEAR + r"([./-])([0-9]{1,2})\1([0-9]{1,2})" + _BEFORE_TIME), lambda m: _possible(m.group()[:4], int(m.group(2)), m.group(3))),
    (re.compile(_YEAR + r"[0-9]{4}" + _BEFORE_TIME), lambda m: _possible(m.group()[:4], int(m.group()[4:6]), m.group()[6:])),
    # 31.01.1990, 1/31/90: day and month in either order
    (
        re.compile(rf"({_START}[0-9]?)([ /-]|\. ?)([0-9]{{1,2}})\2([0-9]{{4}}|[0-9]{{2}}){_END}"),
        lambda m: _possible(m.group(4), int(m.group(3)), m.group(1)) or _possible(m.group(4), int(m.group(1)), m.group(3)),
    ),
    # 31st of January, 1990; 31-Jan-90; 31 de enero de 1990
    (
        re.compile(
            rf"({_START}[0-9]?)(?:st|nd|rd|th|er|º|\.)?[ -]?(?:of |de |den )?({_LETTER}{{3,10}})\.?,?[ -]?(?:de |del |of )?"
            rf"([0-9]{{4}}|(?<=-)[0-9]{{2}}){_END}"
        ),
        lambda m: _possible(m.group(3), _MONTHS.get(m.group(2).lower(), 0), m.group(1)),
    ),
    # January 31, 1990
    (
        re.compile(rf"([A-Za-z](?<![0-9A-Za-z_][A-Za-z]){_LETTER}{{2,9}})\.?[ -]([0-9]{{1,2}})(?:st|nd|rd|th)?,?[ -]([0-9]{{4}}){_END}"),
        lambda m: _possible(m.group(3), _MONTHS.get(m.group(1).lower(), 0), m.group(2)),
    ),
)

_DIGIT = re.compile("[0-9]")


def dates(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Where real dates that begin between `start` and `end` stand, in order and without overlaps."""
    found: list[tuple[int, int]] = []
    limit = min(len(text), end + LONGEST + 2)
    if _DIGIT.search(text, start, limit) is None:
        return found
    spans = [match.span() for pattern, real in _FORMS for match in pattern.finditer(text, start, limit) if match.start() < end and real(match)]
    for span in sorted(spans):
        if not found or span[0] >= found[-1][1]:
            found.append(span)
    return found
