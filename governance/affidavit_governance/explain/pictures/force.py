"""Force: what raises one row's answer pushes from the left, what lowers it from the right."""

from __future__ import annotations

from typing import Any

import numpy as np

from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures.canvas import INK, MUTED, PAPER, Page, tidy
from affidavit_governance.explain.pictures.captions import Step, number, steps, with_error
from affidavit_governance.explain.pictures.drawing import Asked, Plan, headed, nothing_to_draw, sign_colour

SHOWN = 8
_LINE = 0.42
"""Height of a label's line, in units of the bar."""


def plan(explanation: Explanation, asked: Asked) -> Plan:
    """One bar that ends at the prediction from both sides; each piece is as long as its |φ|, its whisker the 95 % interval of its outer end."""
    row = asked.row
    found = [step for step in steps(explanation, row, SHOWN) if np.isfinite(step.value) and step.value != 0]
    title = f"Row {row}: {explanation.output}"
    if not found or not np.isfinite(explanation.base[row]):
        return Plan(7, 3, lambda page: nothing_to_draw(page, explanation, row, title))
    lines = max(sum(step.value > 0 for step in found), sum(step.value < 0 for step in found))

    def paint(page: Page) -> None:
        _paint(page, found, float(explanation.base[row]), float(explanation.predicted[row]), lines)
        headed(page, explanation, title, row)

    return Plan(9.2, 2.5 + 0.24 * lines, paint)


def _paint(page: Page, found: list[Step], base: float, predicted: float, lines: int) -> None:
    axes = page.figure.add_subplot()
    up = [step for step in found if step.value > 0]
    down = [step for step in found if step.value < 0]
    error = max((step.error or 0.0 for step in found), default=0.0)
    reach = [abs(sum(step.value for step in side)) + error for side in (up, down)]
    total = max(sum(reach), abs(predicted - base), 1e-12)
    # A one-sided row's other side has room for its prediction's label all the same; the base must be seen too.
    low = min(predicted - max(reach[0], 0.2 * total), base) - 0.06 * total
    high = max(predicted + max(reach[1], 0.2 * total), base) + 0.06 * total
    frame = (low, high)
    _side(page, axes, up, predicted, -1.0, frame)
    _side(page, axes, down, predicted, 1.0, frame)
    axes.plot([predicted, predicted], [-0.1, 1.45], color=INK, linewidth=1.4)
    axes.text(predicted, 1.55, page.text(f"prediction {number(predicted)}"), ha="center", va="bottom", fontsize=9.5, color=INK, fontweight="bold")
    axes.plot([base, base], [-0.1, 1.15], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    level = 2.15 if abs(base - predicted) < 0.25 * (high - low) else 1.55
    axes.text(base, level, page.text(f"base {number(base)}"), ha="center", va="bottom", fontsize=8.5, color=MUTED)
    axes.set_xlim(low, high)
    axes.set_ylim(-0.75 - _LINE * lines, 2.7)
    axes.set_yticks([])
    tidy(axes, grid=None)


def _side(page: Page, axes: Any, side: list[Step], start: float, direction: float, frame: tuple[float, float]) -> None:
    """Pieces from the prediction outwards, largest first, with labels on lines of their own below."""
    edge = start
    for line, step in enumerate(side):
        outer = edge + direction * abs(step.value)
        hidden = step.kind == "withheld"
        low, high = min(edge, outer), max(edge, outer)
        point = min(0.12 * (high - low), 0.01 * (frame[1] - frame[0])) * -direction
        corners = [(outer, 0), (edge - point, 0), (edge, 0.5), (edge - point, 1), (outer, 1), (outer + point, 0.5)]
        axes.fill(
            *zip(*corners, strict=True),
            facecolor=PAPER if hidden else sign_colour(step.value),
            edgecolor=MUTED if hidden else "white",
            hatch="////" if hidden else None,
            linewidth=0.9,
        )
        if step.error:
            axes.errorbar(outer, 1.14, xerr=step.error, fmt="none", ecolor=INK, elinewidth=1, capsize=2.4)
        _label(page, axes, step, (low + high) / 2, -0.55 - _LINE * (len(side) - 1 - line), direction, frame)
        edge = outer


def _label(page: Page, axes: Any, step: Step, middle: float, y: float, direction: float, frame: tuple[float, float]) -> None:
    """A leader from the middle of the piece, and the label outwards from there as far as there is room.

    The outermost piece has the highest line, so that no leader runs through the label of another piece.
    """
    said = f"{step.name}  {with_error(step.value, step.error)}"
    width = page.measure(said, 8.2) / _POINTS * (frame[1] - frame[0])
    anchor = max(middle, frame[0] + width) if direction < 0 else min(middle, frame[1] - width)
    axes.plot([middle, middle], [-0.04, y + 0.12], color=MUTED, linewidth=0.6, zorder=1)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.text(anchor, y, page.text(said), ha="right" if direction < 0 else "left", va="center", fontsize=8.2, color=INK, bbox=box, zorder=2)


_POINTS = 9.2 * 72 * 0.97
"""The width of the axes in points, nearly that of the picture."""
