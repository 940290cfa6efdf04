"""Pictures of explanations, as PNG or SVG files. Drawn with matplotlib's objects, so that no global figure or backend is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit.store import writing

UP, DOWN, INK, MUTED, GRID = "#c2410c", "#1d4ed8", "#1f2937", "#6b7280", "#e5e7eb"
"""Orange and blue differ for colour-blind readers too, and in grey print."""

SHOWN = 12
"""Bars drawn; the rest are summed in one."""

_STYLE: dict[str, Any] = {"fontsize": 9, "color": INK}

_HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}


def plot_explanation(explanation: Explanation, path: str | Path, *, row: int = 0, kind: str = "waterfall") -> None:
    """Draw an explanation to a PNG or SVG file, with 95 % intervals where the attributions are estimates.

    Parameters
    ----------
    row
        Which row a waterfall shows.
    kind
        ``"waterfall"``: one row from the base to its prediction; ``"bar"``: mean |φ| over all rows.

    Raises
    ------
    UsageError
        The row, the kind or the file ending does not exist.
    """
    target = Path(path)
    if target.suffix.lower() not in {".png", ".svg"}:
        raise UsageError(f"A plot is written as .png or .svg, not as '{target.suffix}'.")
    if kind not in {"waterfall", "bar"}:
        raise UsageError(f"There is no plot '{kind}'.", hint="Plots: waterfall, bar.")
    if not 0 <= row < len(explanation):
        raise UsageError(f"There is no row {row} in this explanation of {len(explanation)} rows.")
    count = min(len(explanation.players), SHOWN + 1)
    figure = Figure(figsize=(8.2, 1.7 + 0.36 * max(count, 3)), dpi=150, layout="constrained")
    canvas = FigureCanvasSVG(figure) if target.suffix.lower() == ".svg" else FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if kind == "waterfall":
        _waterfall(axes, explanation, row)
    else:
        _bars(axes, explanation)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(axis="both", length=0, labelsize=9, labelcolor=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    metadata = {"Date": None} if target.suffix.lower() == ".svg" else {"Software": "affidavit"}
    with writing(target), target.open("wb") as file:
        canvas.print_figure(file, format=target.suffix.lower()[1:], metadata=metadata)


def _order(size: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Players to show, largest first, and those to sum up."""
    order = [int(i) for i in np.argsort(-size, kind="stable")]
    keep = len(order) if len(order) <= SHOWN + 1 else SHOWN
    return order[:keep], order[keep:]


def _waterfall(axes: Axes, explanation: Explanation, row: int) -> None:
    values = explanation.values[row]
    errors = None if explanation.errors is None else explanation.errors[row]
    base, predicted = float(explanation.base[row]), float(explanation.predicted[row])
    shown, rest = _order(abs(values))
    labels = [_label(explanation.players[i], explanation.inputs[row][i]) for i in shown]
    steps = [float(values[i]) for i in shown]
    if rest:
        labels.append(f"{len(rest)} others")
        steps.append(float(values[rest].sum()))
    ends = base + np.cumsum(steps[::-1])[::-1]
    starts = np.append(ends[1:], base)
    height = np.arange(len(steps), dtype=np.float64)
    axes.barh(height, ends - starts, left=starts, height=0.62, color=[UP if step >= 0 else DOWN for step in steps])
    for y, start in zip(height[:-1], starts[:-1], strict=True):
        axes.plot([start, start], [y - 0.31, y + 1.31], color=MUTED, linewidth=0.7)
    if errors is not None:
        axes.errorbar(ends[: len(shown)], height[: len(shown)], xerr=errors[shown], fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    reach = np.zeros(len(ends))
    if errors is not None:
        reach[: len(shown)] = errors[shown]
    low, high = float(min((ends - reach).min(), base, predicted)), float(max((ends + reach).max(), base, predicted))
    span = (high - low) or 1.0
    for y, step, left, right in zip(height, steps, np.minimum(starts, ends), np.maximum(starts, ends), strict=True):
        half = float(reach[int(y)])
        right_side = step >= 0
        x = right + half + 0.012 * span if right_side else left - half - 0.012 * span
        axes.text(x, y, f"{step:+.3g}", va="center", ha="left" if right_side else "right", fontsize=8.5, color=UP if right_side else DOWN, bbox=_HALO)
    axes.axvline(base, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.axvline(predicted, color=INK, linewidth=0.9, zorder=0)
    axes.set_yticks(height, labels)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    axes.set_xlim(low - 0.13 * span, high + 0.13 * span)
    axes.set_xlabel(f"{explanation.output}      base {base:.3g} (dashed)  →  prediction {predicted:.3g}", **_STYLE)
    axes.set_title(_title(explanation, f"row {row}"), loc="left", fontsize=10.5, color=INK, pad=10)


def _bars(axes: Axes, explanation: Explanation) -> None:
    mean = abs(explanation.values).mean(axis=0)
    shown, rest = _order(mean)
    labels = [explanation.players[i] for i in shown] + ([f"{len(rest)} others"] if rest else [])
    sizes = [float(mean[i]) for i in shown] + ([float(mean[rest].sum())] if rest else [])
    height = np.arange(len(sizes), dtype=np.float64)
    axes.barh(height, sizes, height=0.62, color=[DOWN] * len(shown) + [MUTED] * bool(rest))
    for y, size in zip(height, sizes, strict=True):
        axes.text(size + 0.01 * max(sizes), y, f"{size:.3g}", va="center", fontsize=8.5, color=INK)
    axes.set_yticks(height, labels)
    axes.set_ylim(len(sizes) - 0.4, -0.6)
    axes.set_xlim(0, (max(sizes) or 1.0) * 1.12)
    axes.set_xlabel(f"mean |φ|, {explanation.output}", **_STYLE)
    axes.set_title(_title(explanation, f"{len(explanation)} rows"), loc="left", fontsize=10.5, color=INK, pad=10)


def _title(explanation: Explanation, what: str) -> str:
    if not explanation.details.get("additive", True):
        return f"{explanation.method}, {what}: a local surrogate, need not add up"
    kind = "exact" if explanation.details.get("exact") else ("95 % intervals" if explanation.errors is not None else "estimated")
    return f"{explanation.method}, {what}: {kind}, adds up to within {float(explanation.residual.max()):.0e}"


def _label(player: str, value: Any) -> str:
    """``player = value``, cut to a readable length; dollar signs would start a formula."""
    if value is None:
        return player.replace("$", r"\$")
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{player} = {text if len(text) <= 26 else text[:25] + '…'}".replace("$", r"\$")
