"""Pictures of attacks, as PNG or SVG files. Drawn with matplotlib's objects, so that no global figure or backend is touched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from affidavit.errors import UsageError
from affidavit.store import writing
from affidavit_governance.privacy.attacks.membership import largest_true_positive_rate

if TYPE_CHECKING:
    from affidavit_governance.privacy.attacks.membership import MembershipReport
    from affidavit_governance.privacy.attacks.one_run import AuditReport

FOUND, CLAIM, INK, MUTED, GRID = "#c2410c", "#1d4ed8", "#1f2937", "#6b7280", "#e5e7eb"
"""Orange and blue differ for colour-blind readers too, and in grey print."""

NAMES = {"rmia": "RMIA", "lira": "LiRA"}


def plot_audit(report: AuditReport, path: str | Path) -> None:
    """Draw an audit: for each number of guesses the lower bound and the most it could have shown, with the claimed ε as a line."""
    figure, axes = _figure(path, (7.2, 1.5 + 0.45 * len(report.plans)))
    places = np.arange(len(report.plans))[::-1]
    lower = np.array([plan.epsilon_lower for plan in report.plans])
    most = np.array([plan.epsilon_detectable for plan in report.plans])
    axes.hlines(places, 0, most, color=GRID, linewidth=6, zorder=1)
    axes.hlines(places, 0, lower, color=FOUND, linewidth=6, zorder=2, label=f"ε at least ({report.confidence:.0%} confidence over all)")
    axes.plot(most, places, "|", color=MUTED, markersize=14, markeredgewidth=2, zorder=3, label="most that could have been shown")
    for place, plan in zip(places, report.plans, strict=True):
        axes.annotate(
            f"{plan.epsilon_lower:.2f}", (plan.epsilon_lower, place), (0, 7), textcoords="offset points", ha="center", fontsize=8, color=INK
        )
    if report.epsilon_upper is not None:
        axes.axvline(report.epsilon_upper, color=CLAIM, linewidth=1.6, linestyle="--", label=f"accountant: at most {report.epsilon_upper:.2f}")
    axes.set_yticks(places, [f"{plan.correct} of {plan.guesses} right" for plan in report.plans])
    axes.set_ylim(-0.6, len(report.plans) - 0.2)
    axes.set_xlim(0, 1.08 * max([*most, report.epsilon_upper or 0.0]))
    axes.set_xlabel(f"ε at δ = {report.delta:g}", fontsize=9, color=INK)
    axes.set_title(f"One-run audit, {report.attack}, {report.canaries} canaries", fontsize=10, color=INK, loc="left")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False, labelcolor=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    _save(figure, axes, path)


def plot_membership(report: MembershipReport, path: str | Path, *, epsilon: float | None, delta: float) -> None:
    """Draw the ROC curve of a membership attack on logarithmic axes, down to half a false positive."""
    figure, axes = _figure(path, (5.6, 5.4))
    floor = 0.5 / report.non_members
    false, true = report.curve
    grid = np.geomspace(floor, 1, 200)
    axes.plot(grid, grid, color=MUTED, linewidth=1, linestyle=":", label="guessing")
    if epsilon is not None:
        bound = largest_true_positive_rate(grid, epsilon, delta)
        axes.plot(grid, bound, color=CLAIM, linewidth=1.6, linestyle="--", label=f"most under ε = {epsilon:g}, δ = {delta:g}")
    # Left of the first false positive the curve is flat: it starts at the floor, where a logarithm still exists, as high as it got by then.
    start = int(np.searchsorted(false, floor, "right")) - 1
    false, true = np.maximum(false[start:], floor), np.maximum(true[start:], floor)
    label = f"{NAMES.get(report.method, report.method)}, AUC {report.auc.value:.3f} ({report.auc.low:.3f} to {report.auc.high:.3f})"
    axes.step(false, true, where="post", color=FOUND, linewidth=1.8, label=label)
    for point in report.points:
        rate = point.true_positive_rate
        assert rate.low is not None and rate.high is not None
        place = max(point.limit, floor)
        low, high = max(rate.low, floor), max(rate.high, floor)
        axes.plot([place, place], [low, high], color=INK, linewidth=1.4, zorder=4)
        axes.plot(place, max(rate.value, floor), "o", color=INK, markersize=4.5, zorder=5)
        axes.annotate(
            f"{100 * rate.value:.3g}% at {100 * point.limit:g}%",
            (place, low if low > 3 * floor else high),  # below the curve, which rises, where there is room
            (5, -10) if low > 3 * floor else (5, 5),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )
    axes.set(xscale="log", yscale="log", xlim=(floor, 1.15), ylim=(floor, 1.6))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axes.set_xlabel(f"false-positive rate ({report.non_members} non-members)", fontsize=9, color=INK)
    axes.set_ylabel(f"true-positive rate ({report.members} members)", fontsize=9, color=INK)
    axes.legend(loc="lower right", fontsize=8, framealpha=0.9, edgecolor=GRID, labelcolor=INK)
    axes.grid(color=GRID, linewidth=0.8)
    _save(figure, axes, path)


def _figure(path: str | Path, size: tuple[float, float]) -> tuple[Figure, Axes]:
    if Path(path).suffix.lower() not in {".png", ".svg"}:
        raise UsageError(f"A plot is written as .png or .svg, not as '{Path(path).suffix}'.")
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: Figure, axes: Axes, path: str | Path) -> None:
    target = Path(path)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(axis="both", which="both", length=0, labelsize=9, labelcolor=INK)
    axes.set_axisbelow(True)
    kind = target.suffix.lower()[1:]
    canvas = FigureCanvasSVG(figure) if kind == "svg" else FigureCanvasAgg(figure)
    with writing(target), target.open("wb") as file:
        canvas.print_figure(file, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": "affidavit"})
