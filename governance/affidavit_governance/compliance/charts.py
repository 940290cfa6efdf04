"""Small charts as inline SVG: pure functions from numbers to markup. Colours are CSS variables of the page, so they follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from affidavit_governance.compliance.markup import Markup, join, tag

Points = Sequence[tuple[float, float]]

_LABEL = 34
"""Characters of a label that fit beside its bar; the whole stands in its tooltip."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: a value with its 95 % interval, and a mark beside the label where it needs care."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = ""
    note: str = ""


def curve(points: Points, *, title: str, x: str, y: str, diagonal: bool = False, dots: bool = False) -> Markup:
    """A line through `points` on the unit square, with axes; `diagonal` draws the line of chance or of perfect calibration."""
    left, top, size = 46, 12, 220
    place = [(left + size * _unit(a), top + size * (1 - _unit(b))) for a, b in points]
    grid = [
        join(
            tag("line", x1=left, x2=left + size, y1=top + size * (1 - t), y2=top + size * (1 - t), class_="grid"),
            tag("line", x1=left + size * t, x2=left + size * t, y1=top, y2=top + size, class_="grid"),
            tag("text", f"{t:g}", x=left - 6, y=top + size * (1 - t) + 3.5, class_="tick end"),
            tag("text", f"{t:g}", x=left + size * t, y=top + size + 15, class_="tick mid"),
        )
        for t in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    return tag(
        "svg",
        tag("title", title),
        grid,
        tag("line", x1=left, y1=top + size, x2=left + size, y2=top, class_="chance") if diagonal else None,
        tag("path", d="M" + " L".join(f"{a:.1f},{b:.1f}" for a, b in place), class_="curve") if place else None,
        [tag("circle", cx=a, cy=b, r=3.2, class_="dot") for a, b in place] if dots else None,
        tag("text", x, x=left + size / 2, y=top + size + 34, class_="axis mid"),
        tag("text", y, x=12, y=top + size / 2, class_="axis mid", transform=f"rotate(-90 12 {top + size / 2})"),
        viewBox=f"0 0 {left + size + 12} {top + size + 42}",
        role="img",
        aria_label=title,
        class_="chart square",
    )


def bars(rows: Sequence[Bar], *, title: str, most: float | None = None) -> Markup:
    """Horizontal bars from zero to `most` (default: the largest value or interval end), with intervals as whiskers."""
    width, height, step = 680, 26 * len(rows) + 10, 26
    label_width = min(24 + 6.6 * max((min(len(row.label), _LABEL) for row in rows), default=0), 250.0)
    span = width - label_width - 100
    ends = [value for row in rows for value in (row.value, row.high) if value is not None]
    most = most or max([*ends, 0.0]) or 1.0
    drawn = [_bar(row, 6 + step * index, label_width, span, most) for index, row in enumerate(rows)]
    return tag(
        "svg",
        tag("title", title),
        tag("line", x1=label_width, x2=label_width, y1=2, y2=height - 4, class_="zero"),
        drawn,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=title,
        class_="chart wide",
    )


def _bar(row: Bar, y: float, left: float, span: float, most: float) -> Markup:
    middle = y + 9
    label = tag("text", _cut(row.label), tag("title", row.label), x=left - 8, y=middle + 4, class_="label end")
    if row.value is None:
        return join(label, tag("text", "not measured", x=left + 8, y=middle + 4, class_="tick"))
    length = span * min(max(row.value / most, 0.0), 1.0)
    end = left + length
    whisker = None
    if row.low is not None and row.high is not None:
        a, b = (left + span * min(max(edge / most, 0.0), 1.0) for edge in (row.low, row.high))
        end = max(end, b)
        caps = f"M{a:.1f},{middle - 4} V{middle + 4} M{b:.1f},{middle - 4} V{middle + 4}"
        whisker = tag("path", d=f"M{a:.1f},{middle} L{b:.1f},{middle} {caps}", class_="whisker")
    return join(
        label,
        tag("rect", x=left, y=y, width=max(length, 0.5), height=18, rx=2, class_="bar small" if row.note else "bar"),
        whisker,
        tag("text", row.text + (f" {row.note}" if row.note else ""), x=end + 7, y=middle + 4, class_="value"),
    )


def interval(value: float, low: float | None, high: float | None, *, most: float = 1.0) -> Markup:
    """A dot on a line from 0 to `most`, with its interval: a picture for a table cell."""
    width, height = 150, 16
    x = [4 + (width - 8) * min(max(v / most, 0.0), 1.0) for v in (value, low if low is not None else value, high if high is not None else value)]
    return tag(
        "svg",
        tag("line", x1=4, x2=width - 4, y1=8, y2=8, class_="track"),
        tag("line", x1=x[1], x2=x[2], y1=8, y2=8, class_="range"),
        tag("circle", cx=x[0], cy=8, r=4, class_="dot"),
        viewBox=f"0 0 {width} {height}",
        aria_hidden="true",
        class_="inline",
    )


def meter(spent: float, before: float, limit: float) -> Markup:
    """A budget: what was spent before, what this run spent, and what is left."""
    width = 680
    scale = (width - 2) / max(limit, spent, 1e-12)
    return tag(
        "svg",
        tag("title", f"{spent:.3g} of {limit:.3g} spent"),
        tag("rect", x=1, y=2, width=width - 2, height=18, rx=3, class_="left"),
        tag("rect", x=1, y=2, width=max(spent * scale, 1.0), height=18, rx=3, class_="bar"),
        tag("rect", x=1, y=2, width=max(before * scale, 0.0), height=18, rx=3, class_="earlier"),
        viewBox=f"0 0 {width} 22",
        role="img",
        aria_label=f"Budget: {spent:.3g} of {limit:.3g} spent",
        class_="chart wide",
    )


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _cut(text: str) -> str:
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"
