"""Dependence: a player's value against its φ over all rows, coloured by the player that it interacts with most."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from affidavit.errors import UsageError, nearest
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures.canvas import DOWN, GAP, INK, MUTED, Page, tidy
from affidavit_governance.explain.pictures.captions import known_mean, number, shortened
from affidavit_governance.explain.pictures.drawing import ORDERED, Asked, Plan, Scale, headed, legend_of, values_over_rows

_CATEGORIES = 12
_BINS, _BIN_ROWS = 8, 12
"""Bins of the player's own value at most, and rows in each at least."""


def plan(explanation: Explanation, asked: Asked) -> Plan:
    """Points with their 95 % intervals.

    The colour is the player with the largest mean interaction, where interactions were measured; otherwise the one whose values go along most
    with what the first player's own value leaves open (adjusted R² within bins), and the caption says which of the two it is.
    """
    if len(explanation.inputs) < len(explanation):
        raise UsageError("This record holds no values to draw φ against.", hint="Draw an explanation that was just made.")
    player = _index(explanation, asked.player) if asked.player is not None else _strongest(explanation)
    x = values_over_rows(explanation, player)
    if not x.known or not np.isfinite(explanation.values[:, player]).any():
        name = explanation.players[player]
        raise UsageError(f"'{name}' has no values of its own to draw its attributions against.", hint="Name another player=.")
    other, why = _other(explanation, player, x, asked.colour)

    def paint(page: Page) -> None:
        axes = page.figure.add_subplot()
        scale = None if other is None else values_over_rows(explanation, other)
        _points(axes, explanation, player, x, scale)
        _axis(page, axes, x, explanation.players[player])
        axes.set_ylabel(page.text(f"φ, {explanation.output}"), fontsize=9, color=INK)
        axes.axhline(0, color=MUTED, linewidth=0.8, zorder=0)
        if scale is not None and other is not None:
            _key(page, axes, scale, explanation.players[other])
            page.note(f"colour: {shortened(explanation.players[other])}, {why}")
            if not np.isfinite(scale.numbers).all():
                page.note(f"grey points: {shortened(explanation.players[other])} is missing")
        if explanation.errors is not None:
            page.note("lines: 95 % intervals")
        headed(page, explanation, f"{shortened(explanation.players[player])}: value and attribution", None)

    return Plan(7.6, 5.0, paint)


def _index(explanation: Explanation, name: str) -> int:
    if name not in explanation.players:
        raise UsageError(f"There is no player '{name}' in this explanation.{nearest(name, explanation.players)}")
    return explanation.players.index(name)


def _strongest(explanation: Explanation) -> int:
    """The player with the largest mean |φ| among those that have values."""
    mean, _ = known_mean(abs(explanation.values))
    able = np.array([values_over_rows(explanation, i).known for i in range(len(explanation.players))])
    return int(np.argmax(np.where(able & np.isfinite(mean), mean, -1.0)))


def _other(explanation: Explanation, player: int, x: Scale, asked: str | None) -> tuple[int | None, str]:
    if asked is not None:
        return _index(explanation, asked), "as asked for"
    if explanation.interactions is not None and np.isfinite(explanation.interactions).any():
        strength, _ = known_mean(abs(explanation.interactions[:, player, :]))
        strength = np.nan_to_num(strength)
        strength[player] = 0.0
        best = int(np.argmax(strength))
        return (best, "the strongest interaction") if strength[best] > 0 else (None, "")
    scores = [_goes_along(explanation, player, x, other) if other != player else 0.0 for other in range(len(explanation.players))]
    best = int(np.argmax(scores))
    return (best, "which goes along most with what is left open; interactions were not measured") if scores[best] > 0 else (None, "")


def _goes_along(explanation: Explanation, player: int, x: Scale, other: int) -> float:
    """How much of φ's spread within bins of the player's own value another player's values tell: R² of ranks, or of category means.

    R² is adjusted for what it is by chance, so that a player with many categories is not preferred; bins count by their spread.
    """
    scale = values_over_rows(explanation, other)
    values = explanation.values[:, player]
    known = np.isfinite(values) & np.isfinite(x.numbers) & np.isfinite(scale.numbers)
    bins = _bins(x, known)
    told = spread = 0.0
    for each in np.unique(bins[known]):
        inside = known & (bins == each)
        left = values[inside] - values[inside].mean()
        square = float((left**2).sum())
        spread += square
        if square > 1e-20 * len(left) * max(1.0, float(abs(values[inside]).max())) ** 2:
            told += square * max(_adjusted(left, scale.numbers[inside], bool(scale.categories)), 0.0)
    return told / spread if spread > 0 else 0.0


def _bins(x: Scale, known: NDArray[np.bool_]) -> NDArray[np.int64]:
    if x.categories:
        return np.nan_to_num(x.numbers, nan=-1).astype(np.int64)
    count = int(np.clip(known.sum() // _BIN_ROWS, 1, _BINS))
    edges = np.unique(np.quantile(x.numbers[known], np.linspace(0, 1, count + 1)[1:-1])) if known.any() else np.empty(0)
    return np.searchsorted(edges, np.nan_to_num(x.numbers), side="right")


def _adjusted(left: NDArray[np.float64], values: NDArray[np.float64], categories: bool) -> float:
    """Adjusted R² of one bin; 0 where there are too few rows to tell."""
    if categories:
        _, codes = np.unique(values, return_inverse=True)
        counts = np.bincount(codes)
        used, square = len(counts), float(((np.bincount(codes, weights=left) ** 2) / counts).sum() / (left**2).sum())
    elif np.ptp(values) > 0:
        used, square = 2, float(np.corrcoef(_ranks(values), _ranks(left))[0, 1] ** 2)
    else:
        return 0.0
    return 1 - (1 - square) * (len(left) - 1) / (len(left) - used) if len(left) > used > 1 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _points(axes: Any, explanation: Explanation, player: int, x: Scale, scale: Scale | None) -> None:
    values = explanation.values[:, player]
    places = x.numbers.copy()
    if x.categories:
        places = np.minimum(places, _CATEGORIES)
        # Points of one category stand beside each other, in an order that depends on nothing but the row.
        places += 0.5 * (((np.arange(len(places)) * 0.618034) % 1.0) - 0.5)
    shown = np.flatnonzero(np.isfinite(values) & np.isfinite(places))
    if explanation.errors is not None:
        axes.vlines(
            places[shown],
            values[shown] - np.nan_to_num(explanation.errors[shown, player]),
            values[shown] + np.nan_to_num(explanation.errors[shown, player]),
            color=GAP,
            linewidth=0.8,
            alpha=0.8,
            zorder=1,
        )
    colours = scale.colours() if scale is not None and scale.known else [DOWN] * len(values)
    axes.scatter(places[shown], values[shown], s=22, c=[colours[i] for i in shown], edgecolors="white", linewidths=0.35, zorder=2)
    gaps = np.flatnonzero(np.isfinite(values) & ~np.isfinite(places))
    if len(gaps):
        low, high = axes.get_xlim()
        at = low - 0.06 * (high - low)
        axes.scatter(np.full(len(gaps), at), values[gaps], s=22, c=[colours[i] for i in gaps], edgecolors=INK, linewidths=0.5, marker="s", zorder=2)
        axes.annotate(
            "gap", (at, 0), xycoords=("data", "axes fraction"), xytext=(0, -8), textcoords="offset points", ha="center", va="top", fontsize=8
        )


def _axis(page: Page, axes: Any, x: Scale, name: str) -> None:
    tidy(axes, grid="y")
    axes.set_xlabel(page.text(shortened(name)), fontsize=9, color=INK)
    if x.categories:
        names = [*(shortened(each, 14) for each in x.categories[:_CATEGORIES]), *(["others"] if len(x.categories) > _CATEGORIES else [])]
        long = len(names) > 5 or max(map(len, names)) > 10
        axes.set_xticks(range(len(names)), [page.text(each) for each in names], rotation=30 if long else 0, ha="right" if long else "center")


def _key(page: Page, axes: Any, scale: Scale, name: str) -> None:
    if scale.categories:
        axes.text(1.015, 1.03, page.text(shortened(name, 16)), fontsize=8, color=MUTED, va="center", transform=axes.transAxes)
        for place, (each, colour) in enumerate(legend_of(scale)):
            axes.plot([1.02], [0.97 - 0.055 * place], "o", markersize=5, color=colour, transform=axes.transAxes, clip_on=False)
            axes.text(1.04, 0.97 - 0.055 * place, page.text(each), fontsize=8, color=INK, va="center", transform=axes.transAxes)
        return
    known = scale.numbers[np.isfinite(scale.numbers)]
    if not len(known):
        return
    bar = page.figure.colorbar(ScalarMappable(Normalize(0, 1), ORDERED), ax=axes, fraction=0.03, pad=0.02, ticks=[0, 0.5, 1])
    distinct = np.unique(known)  # colours go by rank among the distinct values
    bar.ax.set_yticklabels([number(float(distinct[round(share * (len(distinct) - 1))])) for share in (0, 0.5, 1)], fontsize=8, color=INK)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.set_label(page.text(shortened(name)), fontsize=8.5, color=INK)
