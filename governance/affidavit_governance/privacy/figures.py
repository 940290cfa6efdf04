"""Pictures of a budget and of a privacy/utility curve, as PNG or SVG files, drawn with matplotlib's objects: no global figure is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from affidavit.errors import UsageError
from affidavit.interfaces.governance import JSON
from affidavit.store import writing

SPENT, LIMIT, INK, MUTED, GRID = "#1d4ed8", "#c2410c", "#1f2937", "#6b7280", "#e5e7eb"
"""Blue and orange differ for colour-blind readers too, and in grey print."""

IMAGES = (".png", ".svg")
LEAST_SECONDS = 60.0
"""A budget's picture spans at least so long, so that a single run is not at the edge of an empty axis."""


def plot_spending(history: Sequence[Mapping[str, JSON]], path: str | Path) -> None:
    """Draw what each data set spent over time: a panel a data set, a step a call, the limit as a line, unsettled calls as hollow dots.

    Parameters
    ----------
    history
        As `Budget.history` gives it. Data sets appear by the first digits of their fingerprint.

    Raises
    ------
    UsageError
        Nothing was spent, or the file is neither .png nor .svg.
    """
    roots = list(dict.fromkeys(point["root"] for point in history))
    if not roots:
        raise UsageError("No data set has spent any privacy yet: there is nothing to draw.")
    figure = Figure(figsize=(8.2, 0.6 + 2.5 * len(roots)), dpi=150, layout="constrained")
    panels = figure.subplots(len(roots), squeeze=False)[:, 0]
    for axes, root in zip(panels, roots, strict=True):
        _spending(axes, [point for point in history if point["root"] == root])
        axes.set_title(f"Data set {root[:12]}", loc="left", fontsize=10.5, color=INK, pad=8)
    panels[-1].set_xlabel("time (UTC)", fontsize=9, color=INK)
    _write(figure, Path(path))


def plot_curve(points: Sequence[Mapping[str, JSON]], metric: str, path: str | Path) -> None:
    """Draw quality against ε: a dot and its 95 % interval for each ε, and each single run as a small mark.

    Parameters
    ----------
    points
        As a sweep gives them: ``epsilon``, ``value``, ``low``, ``high``, and ``values`` of the single runs.

    Raises
    ------
    UsageError
        The file is neither .png nor .svg.
    """
    figure = Figure(figsize=(8.2, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    epsilons, values = [point["epsilon"] for point in points], [point["value"] for point in points]
    axes.plot(epsilons, values, color=SPENT, linewidth=1.4, marker="o", markersize=6, label="mean" if len(points[0]["values"]) > 1 else metric)
    bounded = [point for point in points if point["low"] is not None]
    if bounded:
        reach = [[point["value"] - point["low"] for point in bounded], [point["high"] - point["value"] for point in bounded]]
        at = [point["epsilon"] for point in bounded]
        axes.errorbar(at, [point["value"] for point in bounded], yerr=reach, fmt="none", ecolor=SPENT, elinewidth=1, capsize=3, label="95 % interval")
    if any(len(point["values"]) > 1 for point in points):
        runs = [(point["epsilon"], value) for point in points for value in point["values"]]
        axes.plot(*zip(*runs, strict=True), linestyle="none", marker="_", markersize=9, color=LIMIT, label="single runs")
    axes.set_xscale("log")
    axes.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
    axes.minorticks_off()
    axes.set_xlabel("ε of one run (log scale): smaller is more private", fontsize=9, color=INK)
    axes.set_ylabel(metric, fontsize=9, color=INK)
    axes.set_title("Quality against privacy", loc="left", fontsize=10.5, color=INK, pad=8)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    _dress(axes)
    _write(figure, Path(path))


def _spending(axes: Axes, points: Sequence[Mapping[str, JSON]]) -> None:
    # Matplotlib wants days; the time of a first run is drawn from zero.
    times = [datetime.fromisoformat(point["time"]) for point in points]
    span = max((times[-1] - times[0]).total_seconds(), LEAST_SECONDS) / 86_400
    days = [moment.timestamp() / 86_400 for moment in times]
    right = days[0] + span * 1.15
    axes.step(
        [days[0] - span * 0.08, *days, right], [0.0, *(p["spent"] for p in points), points[-1]["spent"]], where="post", color=SPENT, linewidth=1.6
    )
    for day, point in zip(days, points, strict=True):
        axes.plot(day, point["spent"], marker="o", markersize=6, color=SPENT, markerfacecolor=SPENT if point["settled"] else "white")
    axes.step([*days, right], [*(p["limit"] for p in points), points[-1]["limit"]], where="post", color=LIMIT, linewidth=1.4, linestyle=(0, (5, 3)))
    last = points[-1]
    # Above its line the limit, below its line what was spent: they do not meet, unless hardly anything was spent.
    below = last["spent"] > 0.1 * last["limit"]
    _note(axes, right, last["limit"], f"limit {last['limit']:g}", LIMIT, below=False)
    _note(axes, right, last["spent"], f"spent {last['spent']:.3g}", SPENT, below=below)
    if not all(point["settled"] for point in points):
        axes.plot([], [], marker="o", markersize=6, linestyle="none", color=SPENT, markerfacecolor="white", label="not settled")
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left", bbox_to_anchor=(0.0, 0.92))
    axes.set_ylim(0, 1.15 * max(max(p["limit"], p["spent"]) for p in points))
    axes.set_xlim(days[0] - span * 0.08, right)
    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]  # matplotlib types it in part
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # see above
    axes.set_ylabel("ε, composed jointly", fontsize=9, color=INK)
    _dress(axes)


def _note(axes: Axes, x: float, y: float, text: str, colour: str, *, below: bool) -> None:
    va, offset = ("top", -3) if below else ("bottom", 3)
    axes.annotate(text, (x, y), xytext=(0, offset), textcoords="offset points", color=colour, fontsize=8.5, ha="right", va=va)


def _dress(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(axis="both", which="both", length=0, labelsize=9, labelcolor=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _write(figure: Figure, target: Path) -> None:
    ending = target.suffix.lower()
    if ending not in IMAGES:
        raise UsageError(f"A plot is written as .png or .svg, not as '{target.suffix}'.")
    canvas = FigureCanvasSVG(figure) if ending == ".svg" else FigureCanvasAgg(figure)
    metadata = {"Date": None} if ending == ".svg" else {"Software": "affidavit"}
    with writing(target), target.open("wb") as file:
        canvas.print_figure(file, format=ending[1:], metadata=metadata)
