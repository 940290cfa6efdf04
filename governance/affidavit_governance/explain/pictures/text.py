"""Text heat map: the words of one row, shaded by their attributions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures.canvas import GAP, INK, MUTED, Page
from affidavit_governance.explain.pictures.captions import error_of, number, row_values, shortened, value_of
from affidavit_governance.explain.pictures.drawing import DIVERGING, Asked, Plan, headed

_WIDTH = 8.2
_SIZE, _SMALL = 11.0, 6.3
_LINE, _GAP = 34.0, 5.0
"""Points between the lines, and between words."""

_POSITION = re.compile(r"^(?P<field>.+) \[[0-9]+\]$")


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its place in points from the top left corner of the text."""

    text: str
    value: float
    error: float | None
    x: float
    y: float
    width: float


def plan(explanation: Explanation, asked: Asked) -> Plan:
    """Words in their order. Under each stands its attribution, with half of its 95 % interval; where that holds zero, the word has a dotted edge."""
    row = asked.row
    if row >= len(explanation.inputs):
        raise UsageError("This record holds no text, so no words can be drawn.", hint="Draw an explanation that was just made, or a waterfall.")
    words = [(i, str(value_of(explanation, row, i))) for i, player in enumerate(explanation.players) if _is_word(explanation, row, i, player)]
    if not words:
        raise UsageError(f"Row {row} has no words among its players.", hint="Draw a waterfall.")
    largest = float(np.nanmax(abs(explanation.values[row])) if np.isfinite(explanation.values[row]).any() else 0.0) or 1.0
    probe = Page(1, 1, ".svg")
    laid = _laid_out(probe, explanation, row, words)
    depth = max(word.y for word in laid) + _LINE

    def paint(page: Page) -> None:
        axes = page.figure.add_subplot()
        axes.axis("off")
        axes.set_xlim(0, _WIDTH * 72)
        axes.set_ylim(depth, -4)
        for word in laid:
            _word(page, axes, word, largest)
        page.note(f"darkest shade: ±{number(largest)}; orange raises {explanation.output}, blue lowers it")
        rest = [i for i in range(len(explanation.players)) if i not in {number for number, _ in words} and explanation.values[row, i] != 0]
        if rest:
            page.note(f"{len(rest)} other players, not drawn: {number(float(np.nansum(explanation.values[row, rest])), sign=True)} together")
        if explanation.errors is not None:
            page.note("dotted: the 95 % interval holds zero")
        headed(page, explanation, f"Row {row}: {explanation.output} {number(float(explanation.predicted[row]))}", row)

    return Plan(_WIDTH, 1.3 + depth / 72, paint)


def _is_word(explanation: Explanation, row: int, player: int, name: str) -> bool:
    value = value_of(explanation, row, player)
    found = _POSITION.match(name)
    if not isinstance(value, str) or found is None:
        return False
    kinds = explanation.details.get("players", {})
    return not kinds or kinds.get(found["field"], "words") == "words"


def _laid_out(page: Page, explanation: Explanation, row: int, words: list[tuple[int, str]]) -> list[Word]:
    """Words in lines as wide as the picture; a field of its own begins a line."""
    laid: list[Word] = []
    values = row_values(explanation, row)
    x = y = 0.0
    field = None
    for player, text in words:
        shown = shortened(" ".join(text.split()), 60)
        error = error_of(explanation, row, player)
        value = float(values[player])
        width = max(page.measure(shown, _SIZE), page.measure(_said(value, error), _SMALL)) + 6
        own = player_field(explanation.players[player])
        if x > 0 and (x + width > _WIDTH * 72 - 8 or own != field):
            x, y = 0.0, y + _LINE + (6 if own != field else 0)
        field = own
        laid.append(Word(shown, value, error, x, y, width))
        x += width + _GAP
    return laid


def player_field(player: str) -> str:
    """The field that a word belongs to."""
    found = _POSITION.match(player)
    return found["field"] if found else player


def _said(value: float, error: float | None) -> str:
    return (number(value, sign=True) + (f" ± {error:.1g}" if error else "")) if np.isfinite(value) else "withheld"


def _word(page: Page, axes: Any, word: Word, largest: float) -> None:
    unsure = bool(word.error) and abs(word.value) <= (word.error or 0.0)
    known = np.isfinite(word.value)
    shade = DIVERGING(0.5 + 0.5 * word.value / largest) if known else "white"
    dark = known and np.dot(shade[:3], (0.299, 0.587, 0.114)) < 0.5
    edge = MUTED if unsure or not known else "none"
    box = Rectangle(
        (word.x, word.y),
        word.width,
        18,
        facecolor=shade,
        edgecolor=edge,
        linestyle=":" if unsure else "-",
        linewidth=0.9,
        hatch=None if known else "////",
    )
    axes.add_patch(box)
    middle = word.x + word.width / 2
    colour = "white" if dark else INK
    # Room for glyphs that matplotlib cannot measure is not wanted here: the box was measured with them.
    text = page.text(word.text).lstrip("\u00a0")
    axes.text(middle, word.y + 9.5, text, ha="center", va="center", fontsize=_SIZE, color=colour)
    said = page.text(_said(word.value, word.error))
    axes.text(middle, word.y + 23, said, ha="center", va="center", fontsize=_SMALL, color=INK if known else GAP)
