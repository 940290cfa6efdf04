"""A row's explanation for the command line: bars of characters, coloured where the terminal has colours, readable where it has none."""

from __future__ import annotations

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures import captions
from affidavit_governance.explain.pictures.captions import Step, number

SHOWN = 12

_HALF = 14
"""Characters on each side of zero."""

_UP, _DOWN = "dark_orange", "dodger_blue2"


def explanation_text(explanation: Explanation, row: int = 0) -> RenderableType:
    """Bars for one row, the largest first, with 95 % intervals in numbers; ``?`` marks an interval that holds zero.

    Raises
    ------
    UsageError
        There is no such row.
    """
    captions.check_row(explanation, row)
    base, predicted = float(explanation.base[row]), float(explanation.predicted[row])
    output = captions.shortened(explanation.output, 200)  # it holds the name of a class, which comes from data
    head = Text(f"row {row}: {output}, base {number(base)} → prediction {number(predicted)}", style="bold")
    lines = [f"{explanation.method}: {captions.how_sure(explanation)}", *captions.notes(explanation, row)]
    notes = [Text(captions.shortened(line, 400), style="dim") for line in lines]
    reasons = captions.reasons_in_order(explanation, row)
    return Group(head, _reasons(reasons) if reasons else _bars(explanation, row), *notes)


def _reasons(reasons: list[tuple[int, str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for rank, player, sign in reasons:
        table.add_row(Text(f"{rank}."), Text(captions.shortened(player)), Text(captions.SIGNS.get(sign, "direction not certain")))
    return table


def _bars(explanation: Explanation, row: int) -> Table:
    found = captions.steps(explanation, row, SHOWN)
    largest = max((abs(step.value) for step in found if np.isfinite(step.value)), default=0.0) or 1.0
    table = Table(box=None, show_header=False, pad_edge=False)
    # Columns that may wrap are narrowed first: in a narrow window the names are cut, never the bars and the numbers.
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for step in found:
        table.add_row(Text(step.name, no_wrap=True, overflow="ellipsis"), _bar(step, largest), Text(_said(step)))
    return table


def _said(step: Step) -> str:
    if not np.isfinite(step.value):
        return "withheld"
    unsure = step.error is not None and step.error > 0 and abs(step.value) <= step.error
    return captions.with_error(step.value, step.error) + (" ?" if unsure else "")


def _bar(step: Step, largest: float) -> Text:
    """Half characters are the finest step, the same to the left and to the right."""
    if not np.isfinite(step.value):
        return Text("╌" * (2 * _HALF + 1), style="dim")
    halves = round(2 * _HALF * abs(step.value) / largest)
    full, half = divmod(halves, 2)
    if step.kind == "withheld":
        part = "░" * (full + half)
        left, right = (part.rjust(_HALF), " " * _HALF) if step.value < 0 else (" " * _HALF, part)
        return Text(f"{left}│{right}", style="dim")
    if step.value < 0:
        left = ("▐" * half + "█" * full).rjust(_HALF)
        return Text.assemble((left, _DOWN), ("│", "dim"), " " * _HALF)
    return Text.assemble(" " * _HALF, ("│", "dim"), (("█" * full + "▌" * half).ljust(_HALF), _UP))
