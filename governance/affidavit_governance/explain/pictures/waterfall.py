"""Waterfall: one row from the base to its prediction, a step a player."""

from __future__ import annotations

import numpy as np

from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures.canvas import INK, MUTED, PAPER, Page, tidy
from affidavit_governance.explain.pictures.captions import Step, number, steps, with_error
from affidavit_governance.explain.pictures.drawing import Asked, Plan, headed, nothing_to_draw, sign_colour

_WIDTH = 8.2
SHOWN = 12
"""Bars drawn; the rest are summed in one."""


def plan(explanation: Explanation, asked: Asked) -> Plan:
    """A row's waterfall. Steps go upwards from the base, the largest at the top; whiskers are the step's own 95 % interval."""
    row = asked.row
    found = [step for step in steps(explanation, row, SHOWN) if np.isfinite(step.value)]
    title = f"Row {row}: {explanation.output}"
    if not found or not np.isfinite(explanation.base[row]):
        return Plan(7, 2.2 + 0.25 * 4, lambda page: nothing_to_draw(page, explanation, row, title))

    def paint(page: Page) -> None:
        _paint(page, found, float(explanation.base[row]), float(explanation.predicted[row]), explanation.output)
        headed(page, explanation, title, row)

    return Plan(_WIDTH, 1.9 + 0.36 * max(len(found), 3), paint)


def _paint(page: Page, found: list[Step], base: float, predicted: float, output: str) -> None:
    axes = page.figure.add_subplot()
    values = np.array([step.value for step in found])
    errors = np.array([step.error or 0.0 for step in found])
    ends = base + np.cumsum(values[::-1])[::-1]
    starts = np.append(ends[1:], base)
    low = float(min((ends - errors).min(), base, predicted))
    high = float(max((ends + errors).max(), base, predicted))
    span = (high - low) or 1.0
    room = [14.0, 14.0]
    for y, (step, start, end) in enumerate(zip(found, starts, ends, strict=True)):
        hidden = step.kind == "withheld"
        colour = PAPER if hidden else sign_colour(step.value)
        axes.barh(y, end - start, left=start, height=0.62, color=colour, edgecolor=MUTED if hidden else colour, hatch="////" if hidden else None)
        if y + 1 < len(found):
            axes.plot([start, start], [y - 0.31, y + 1.31], color=MUTED, linewidth=0.7)
        if step.error:
            axes.errorbar(end, y, xerr=step.error, fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.8)
        right = step.value >= 0
        x = max(start, end) + errors[y] + 0.018 * span if right else min(start, end) - errors[y] - 0.018 * span
        said = with_error(step.value, step.error)
        room[right] = max(room[right], page.measure(said, 8.5) + 10)
        axes.text(x, y, said, va="center", ha="left" if right else "right", fontsize=8.5, color=INK, bbox=_HALO)
    axes.axvline(base, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.axvline(predicted, color=INK, linewidth=0.9, zorder=0)
    axes.set_yticks(range(len(found)), [page.text(step.name) for step in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    # The numbers beside the bars must stay off the names left of the axes, and inside the picture on the right.
    wide = _WIDTH * 72 * 0.97 - max(page.measure(step.name, 9) for step in found)
    inside = max(1 - sum(room) / wide, 0.2)
    axes.set_xlim(low - room[0] / wide * span / inside, high + room[1] / wide * span / inside)
    axes.set_xlabel(page.text(f"base {number(base)} (dashed)  →  prediction {number(predicted)}"), fontsize=9, color=INK)
    tidy(axes)


_HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
