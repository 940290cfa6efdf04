"""Beeswarm: every row's φ of each player as a point, coloured by the player's value."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures.canvas import DOWN, GAP, INK, MUTED, Page, tidy
from affidavit_governance.explain.pictures.captions import ROUNDING, known_mean, shortened
from affidavit_governance.explain.pictures.drawing import ORDERED, Asked, Plan, headed, legend_of, values_over_rows

SHOWN = 12
_WHISKERS = 60
"""Rows up to which each point has its interval; more would be a grey band, and the caption gives the median instead."""


def plan(explanation: Explanation, asked: Asked) -> Plan:
    """All rows' attributions, largest mean |φ| at the top.

    Numbers run from dark (low) to light (high), categories have a colour each, gaps are grey.
    """
    mean, _ = known_mean(abs(explanation.values))
    known = [int(i) for i in np.argsort(-np.nan_to_num(mean), kind="stable") if np.isfinite(mean[i])]
    order = ([i for i in known if mean[i] > ROUNDING * np.nanmax(mean)] or known)[:SHOWN]
    if not known:
        raise UsageError("All attributions are withheld, so there are no points to draw.", hint="Draw a waterfall, which shows the order of reasons.")

    def paint(page: Page) -> None:
        axes = page.figure.add_subplot()
        reach = _reach(explanation, order)
        numbers = gaps = False
        legends = []
        for y, player in enumerate(order):
            scale = values_over_rows(explanation, player)
            _points(axes, explanation, player, y, scale.colours() if scale.known else [DOWN] * len(explanation), reach)
            numbers |= scale.known and not scale.categories
            gaps |= scale.known and not np.isfinite(scale.numbers).all()
            legends.append(legend_of(scale))
        axes.axvline(0, color=MUTED, linewidth=0.9, zorder=0)
        axes.set_yticks(range(len(order)), [page.text(shortened(explanation.players[i])) for i in order])
        axes.set_ylim(len(order) - 0.45, -0.55)
        axes.set_xlim(*reach)
        axes.set_xlabel(page.text(f"φ, {explanation.output}"), fontsize=9, color=INK)
        tidy(axes)
        _legends(page, axes, legends)
        if numbers:
            _colour_bar(page, axes)
        _notes(page, explanation, order, gaps)
        if len(known) > len(order):
            page.note(f"{len(known) - len(order)} other players, none with a larger mean |φ|, are not drawn")
        headed(page, explanation, f"Attributions of {len(explanation)} row{'s' if len(explanation) != 1 else ''}", None)

    return Plan(8.6, 2.0 + 0.45 * max(len(order), 3), paint)


def _reach(explanation: Explanation, order: list[int]) -> tuple[float, float]:
    values = explanation.values[:, order]
    errors = np.zeros_like(values) if explanation.errors is None or len(values) > _WHISKERS else np.nan_to_num(explanation.errors[:, order])
    low, high = min(0.0, float(np.nanmin(values - errors))), max(0.0, float(np.nanmax(values + errors)))
    span = (high - low) or 1.0
    return low - 0.03 * span, high + 0.03 * span


def _points(axes: Any, explanation: Explanation, player: int, y: int, colours: list[Any], reach: tuple[float, float]) -> None:
    values = explanation.values[:, player]
    known = np.flatnonzero(np.isfinite(values))
    offset = swarm(values[known], (reach[1] - reach[0]) / 110)
    if explanation.errors is not None and len(explanation) <= _WHISKERS:
        half = np.nan_to_num(explanation.errors[known, player])
        axes.hlines(y + offset, values[known] - half, values[known] + half, color=GAP, linewidth=0.7, alpha=0.7, zorder=1)
    size = 16 if len(known) <= 200 else 9
    axes.scatter(values[known], y + offset, s=size, c=[colours[i] for i in known], edgecolors="white", linewidths=0.25, zorder=2)


def swarm(values: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Offsets within ±0.38 that put points of like value above and below each other; the same for the same values."""
    bins = np.floor(values / width).astype(np.int64) if width > 0 else np.zeros(len(values), dtype=np.int64)
    order = np.lexsort((np.arange(len(values)), bins))
    _, first, counts = np.unique(bins[order], return_index=True, return_counts=True)
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values)) - np.repeat(first, counts)
    side = np.where(rank % 2, 1, -1) * ((rank + 1) // 2)
    step = min(0.09, 0.38 / max(int(counts.max(initial=0)) // 2, 1))
    return np.asarray(side * step, dtype=np.float64)


def _legends(page: Page, axes: Any, legends: list[list[tuple[str, str]]]) -> None:
    """The categories of a player, right of its row, as small coloured words under one another."""
    for y, legend in enumerate(legends):
        if not legend:
            continue
        shown = legend if len(legend) <= 4 else [*legend[:3], (f"{len(legend) - 3} more", legend[3][1])]
        for place, (name, colour) in enumerate(shown):
            height = y + 0.22 * (place - (len(shown) - 1) / 2)
            transform = axes.get_yaxis_transform()
            axes.plot([1.015], [height], "o", markersize=3.2, color=colour, transform=transform, clip_on=False)
            axes.text(1.03, height, page.text(name), fontsize=6.5, color=INK, va="center", transform=transform)


def _colour_bar(page: Page, axes: Any) -> None:
    bar = page.figure.colorbar(ScalarMappable(cmap=ORDERED), ax=axes, fraction=0.02, pad=0.02, aspect=30, ticks=[0, 1])
    bar.ax.set_yticklabels(["low", "high"], fontsize=8, color=INK)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)


def _notes(page: Page, explanation: Explanation, order: list[int], gaps: bool) -> None:
    if not explanation.inputs:
        page.note("this record holds no values, so points are not coloured by them")
    if gaps:
        page.note("grey points: the value is missing")
    if explanation.errors is not None:
        half = explanation.errors[:, order]
        if len(explanation) <= _WHISKERS:
            page.note("lines: 95 % intervals")
        elif np.isfinite(half).any():
            page.note(f"95 % intervals are not drawn for so many points; their median half-width is {float(np.nanmedian(half)):.2g}")
