"""Bars: the mean |φ| of each player over all rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures.canvas import DOWN, INK, MUTED, Page, tidy
from affidavit_governance.explain.pictures.captions import ROUNDING, known_mean, number, shortened
from affidavit_governance.explain.pictures.drawing import Asked, Plan, headed

SHOWN = 15


def plan(explanation: Explanation, asked: Asked) -> Plan:
    """Mean |φ| with the 95 % interval of the mean over rows (Student's t); none for a single row."""
    mean, half, counts = mean_absolute(explanation.values)
    order = [int(i) for i in np.argsort(-np.nan_to_num(mean), kind="stable") if np.isfinite(mean[i])]
    if not order:
        raise UsageError("All attributions are withheld, so there is no mean to draw.", hint="Draw a waterfall, which shows the order of reasons.")
    moving = [i for i in order if mean[i] > ROUNDING * np.nanmax(mean)]
    named = order if len(order) - len(moving) <= 1 else moving
    cut = SHOWN if len(named) > SHOWN + 1 else len(named)
    shown, rest = named[:cut], order[cut:]
    rows = len(explanation)

    def paint(page: Page) -> None:
        axes = page.figure.add_subplot()
        sizes = [float(mean[i]) for i in shown] + ([float(mean[rest].sum())] if rest else [])
        reach = [float(half[i]) if np.isfinite(half[i]) else 0.0 for i in shown] + [0.0] * bool(rest)
        names = [page.text(_name(explanation.players[i], int(counts[i]), rows)) for i in shown] + [f"{len(rest)} others"] * bool(rest)
        axes.barh(range(len(sizes)), sizes, height=0.62, color=[DOWN] * len(shown) + [MUTED] * bool(rest))
        most = max(size + error for size, error in zip(sizes, reach, strict=True)) or 1.0
        for y, (size, error) in enumerate(zip(sizes, reach, strict=True)):
            if error:
                # White under the part that lies on the bar, dark on the paper.
                axes.errorbar(size, y, xerr=[[min(error, size)], [error]], fmt="none", ecolor="white", elinewidth=3, capsize=0)
                axes.errorbar(size, y, xerr=[[min(error, size)], [error]], fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.8)
            said = number(size) + (f" ± {error:.2g}" if error else "")
            axes.text(size + error + 0.012 * most, y, said, va="center", fontsize=8.5, color=INK)
        axes.set_yticks(range(len(sizes)), names)
        axes.set_ylim(len(sizes) - 0.4, -0.6)
        axes.set_xlim(0, most * 1.2)
        axes.set_xlabel(page.text(f"mean |φ|, {explanation.output}"), fontsize=9, color=INK)
        tidy(axes)
        if any(reach):
            page.note("whiskers: 95 % interval of the mean over rows")
        headed(page, explanation, f"Mean |φ| over {rows} row{'s' if rows != 1 else ''}", None)

    return Plan(8.2, 1.9 + 0.36 * max(len(shown) + bool(rest), 3), paint)


def mean_absolute(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean |φ| of each player over the rows where it is known, half of its 95 % interval (NaN below two rows), and the number of those rows."""
    from scipy.stats import t

    mean, counts = known_mean(abs(values))
    spread = np.where(np.isfinite(values), abs(values) - mean, 0.0)
    freedom = np.where(counts > 1, counts - 1, np.nan)
    half = t.ppf(0.975, freedom) * np.sqrt((spread**2).sum(axis=0) / freedom / np.maximum(counts, 1))
    return mean, np.asarray(half, dtype=np.float64), counts


def _name(player: str, known: int, rows: int) -> str:
    return shortened(player) if known == rows else f"{shortened(player)} ({known} of {rows} rows known)"
