"""Pictures of a model as a whole: importance with intervals, partial dependence with its individual lines, rules as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError, nearest
from affidavit.interfaces.explanation import GlobalExplanation
from affidavit.interfaces.model import Metric
from affidavit_governance.explain.pictures.canvas import DOWN, GAP, GRID, INK, MUTED, UP, Page, draw, ending, tidy
from affidavit_governance.explain.pictures.captions import number, shortened, shown_value
from affidavit_governance.explain.pictures.drawing import Plan

SHOWN = 20
CURVES_SHOWN = 9
LINES_SHOWN = 60
"""Individual lines drawn of a curve, evenly taken from all of them; more are a grey area."""

_RULE_WIDTH = 118


def plot_global_explanation(explanation: GlobalExplanation, path: str | Path, *, kind: str | None = None, field: str | None = None) -> None:
    """Draw what a model does as a whole to a PNG, SVG or HTML file.

    Parameters
    ----------
    kind
        ``"importance"``, ``"curves"`` or ``"rules"``; default the first of these that the explanation has.
    field
        Of curves, the only one to draw.

    Raises
    ------
    UsageError
        The kind, the field or the file ending does not exist, or the explanation has nothing of the kind.
    """
    ending(path)
    has = [name for name, there in (("importance", explanation.importance), ("curves", explanation.curves), ("rules", explanation.rules)) if there]
    if kind is not None and kind not in _KINDS:
        raise UsageError(f"There is no plot '{kind}' of a model as a whole.{nearest(kind, _KINDS)}", hint=f"Plots: {', '.join(_KINDS)}.")
    chosen = kind or ("curves" if field is not None else next(iter(has), None))
    if chosen not in has:
        raise UsageError(f"This explanation by '{explanation.method}' has no {chosen or 'importance, curves or rules'}.", hint=_hint(has))
    if field is not None and field not in explanation.curves:
        raise UsageError(f"There is no curve of '{field}'.{nearest(field, explanation.curves)}", hint=f"Curves: {', '.join(explanation.curves)}.")
    plan = _KINDS[chosen](explanation, field)
    draw(path, plan.width, plan.height, plan.paint, f"{explanation.method}: {chosen}")


def _hint(has: list[str]) -> str | None:
    return f"It has {', '.join(has)}." if has else None


def _headed(page: Page, explanation: GlobalExplanation, what: str) -> None:
    rows = f"{explanation.rows} row{'s' if explanation.rows != 1 else ''}"
    lines = [f"{explanation.method} over {rows}: {explanation.output}"]
    if explanation.fidelity:
        lines.append("fidelity to the model: " + ", ".join(f"{name} {_metric(metric)}" for name, metric in explanation.fidelity.items()))
    page.title(what, lines)


def _metric(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return number(metric.value)
    return f"{number(metric.value)} ({number(metric.low)} to {number(metric.high)})"


def _importance(explanation: GlobalExplanation, field: str | None) -> Plan:
    ordered = sorted(explanation.importance.items(), key=lambda item: -item[1].value)
    shown, rest = ordered[:SHOWN], len(ordered) - SHOWN

    def paint(page: Page) -> None:
        axes = page.figure.add_subplot()
        ends = [0.0]
        for y, (_, metric) in enumerate(shown):
            low, high = (metric.value, metric.value) if metric.low is None or metric.high is None else (metric.low, metric.high)
            axes.barh(y, metric.value, height=0.62, color=DOWN if metric.value >= 0 else UP)
            if high > low:
                reach = [[max(metric.value - low, 0.0)], [max(high - metric.value, 0.0)]]
                axes.errorbar(metric.value, y, xerr=reach, fmt="none", ecolor="white", elinewidth=3)
                axes.errorbar(metric.value, y, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.8)
            ends += [low, high, metric.value]
        span = (max(ends) - min(ends)) or 1.0
        for y, (_, metric) in enumerate(shown):
            right = max(metric.value, metric.high if metric.high is not None else metric.value, 0.0)
            axes.text(right + 0.015 * span, y, _metric(metric), va="center", fontsize=8.2, color=INK)
        axes.set_xlim(min(ends) - 0.02 * span, max(ends) + 0.32 * span)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_yticks(range(len(shown)), [page.text(shortened(name)) for name, _ in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel("importance", fontsize=9, color=INK)
        tidy(axes)
        if any(metric.low is not None for _, metric in shown):
            page.note("whiskers: 95 % intervals; one that reaches zero says that the field may not matter")
        if rest > 0:
            page.note(f"{rest} fields of less importance are not drawn")
        _headed(page, explanation, "Importance of each field")

    return Plan(8.4, 1.8 + 0.33 * max(len(shown), 3), paint)


def _curves(explanation: GlobalExplanation, field: str | None) -> Plan:
    names = [field] if field is not None else list(explanation.curves)[:CURVES_SHOWN]
    left_out = 0 if field is not None else len(explanation.curves) - len(names)
    columns = min(len(names), 3)
    lines = -(-len(names) // columns)

    def paint(page: Page) -> None:
        grid = page.figure.subplots(lines, columns, squeeze=False)
        drawn = [explanation.curves[name] for name in names]
        individual, sure = any(curve.get("ice") for curve in drawn), any(curve.get("low") for curve in drawn)
        for place, axes in enumerate(grid.ravel()):
            if place >= len(names):
                axes.axis("off")
                continue
            _curve(page, axes, names[place], drawn[place])
            if place % columns == 0:
                axes.set_ylabel(page.text(shortened(explanation.output)), fontsize=8.5, color=INK)
        said = [
            "strong line or point: mean",
            *(["band or whisker: 95 % interval"] if sure else []),
            *(["thin lines: single rows (ICE)"] if individual else []),
        ]
        page.note("; ".join(said))
        if left_out:
            page.note(f"{left_out} other curves are not drawn: name one with field=")
        _headed(page, explanation, "Partial dependence")

    return Plan(3.6 * columns + (1.6 if columns == 1 else 0.2), 1.1 + 2.9 * lines, paint)


def _curve(page: Page, axes: Any, name: str, curve: Mapping[str, list[Any]]) -> None:
    """One field's curve, its interval and its individual lines."""
    values = curve["value"]
    categories = not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    x = np.arange(len(values), dtype=np.float64) if categories else np.array(values, dtype=np.float64)
    mean = np.array(curve["mean"], dtype=np.float64)
    ice = _taken(np.array(curve["ice"], dtype=np.float64)) if curve.get("ice") else np.empty((0, len(x)))
    for line in ice:
        axes.plot(x, line, color=GAP, linewidth=0.6, alpha=0.4, zorder=1)
    known = curve.get("low") is not None and curve.get("high") is not None
    low, high = (np.array(curve[key] if known else curve["mean"], dtype=np.float64) for key in ("low", "high"))
    if categories:
        axes.plot(x, mean, "o", color=DOWN, markersize=6, zorder=3)
        if known:
            axes.errorbar(x, mean, yerr=np.maximum([mean - low, high - mean], 0), fmt="none", ecolor=INK, elinewidth=1.1, capsize=3, zorder=3)
        axes.set_xticks(x, [page.text(shortened(shown_value(value), 12)) for value in values], rotation=30 if len(values) > 3 else 0)
        if len(values) > 3:
            for tick in axes.get_xticklabels():
                tick.set_horizontalalignment("right")
        axes.set_xlim(-0.5, len(x) - 0.5)
    else:
        if known:
            axes.fill_between(x, low, high, color=DOWN, alpha=0.35, linewidth=0, zorder=2)
        axes.plot(x, mean, color="white", linewidth=3.4, zorder=2.5)
        axes.plot(x, mean, color=DOWN, linewidth=2, zorder=3)
    tidy(axes, grid="y")
    axes.tick_params(labelsize=8)
    axes.set_title(page.text(shortened(name)), fontsize=9.5, color=INK, loc="left")


def _taken(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    return lines[np.unique(np.linspace(0, len(lines) - 1, min(len(lines), LINES_SHOWN)).astype(np.int64))]


def _rules(explanation: GlobalExplanation, field: str | None) -> Plan:
    wrapped = [textwrap.wrap(" ".join(rule.split()), _RULE_WIDTH) or [""] for rule in explanation.rules[:SHOWN]]
    lines = sum(map(len, wrapped)) + 0.6 * len(wrapped)

    def paint(page: Page) -> None:
        axes = page.figure.add_subplot()
        axes.axis("off")
        axes.set_xlim(0, 1)
        axes.set_ylim(lines, 0)
        y = 0.8
        for place, rule in enumerate(wrapped):
            axes.text(0.0, y, f"{place + 1}", fontsize=9, color=MUTED, va="center")
            for text in rule:
                axes.text(0.04, y, page.text(shortened(text, _RULE_WIDTH)), fontsize=9, color=INK, va="center")
                y += 1
            axes.axhline(y - 0.2, color=GRID, linewidth=0.8)
            y += 0.6
        if len(explanation.rules) > len(wrapped):
            page.note(f"{len(explanation.rules) - len(wrapped)} more rules are not drawn")
        _headed(page, explanation, "Rules, in the order in which they are tried")

    return Plan(9.0, 1.1 + 0.2 * max(lines, 3), paint)


_KINDS: dict[str, Callable[[GlobalExplanation, str | None], Plan]] = {"importance": _importance, "curves": _curves, "rules": _rules}
