"""Pictures of spending and of the privacy/utility curve: what stands in them, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from affidavit.errors import UsageError
from affidavit_governance.privacy.figures import plot_curve, plot_spending

ROOT, OTHER = "a1" * 32, "b2" * 32


def point(root: str, day: int, spent: float, limit: float = 8.0, *, settled: bool = True) -> dict[str, Any]:
    time = f"2026-03-{day:02}T09:00:00+00:00"
    return {"root": root, "time": time, "call": f"call-{root[:2]}-{day}", "settled": settled, "epsilon": 1.0, "spent": spent, "limit": limit}


def words(path: Path) -> str:
    """The text of an SVG: matplotlib writes each label as a comment beside its glyphs."""
    return " | ".join(re.findall(r"<!-- (.*?) -->", path.read_text()))


def test_spending_has_a_panel_a_data_set_its_steps_and_the_limit(tmp_path: Path) -> None:
    history = [point(ROOT, 1, 1.0), point(ROOT, 9, 2.25), point(ROOT, 20, 2.5, 10.0, settled=False), point(OTHER, 3, 0.5)]
    plot_spending(history, tmp_path / "spending.svg")
    text = words(tmp_path / "spending.svg")
    for word in (
        "Data set a1a1a1a1a1a1",
        "Data set b2b2b2b2b2b2",
        "limit 10",
        "limit 8",
        "spent 2.5",
        "spent 0.5",
        "not settled",
        "time (UTC)",
        "ε, composed jointly",
    ):
        assert word in text
    assert "call-" not in text and ROOT[:13] not in text
    plot_spending(history, tmp_path / "again.svg")
    assert words(tmp_path / "again.svg") == text


def test_a_curve_names_its_axes_and_its_marks(tmp_path: Path) -> None:
    points = [{"epsilon": e, "value": v, "low": v - 0.1, "high": v + 0.1, "values": [v - 0.01, v + 0.01]} for e, v in ((0.5, 0.6), (2.0, 0.7))]
    plot_curve(points, "roc_auc", tmp_path / "curve.svg")
    text = words(tmp_path / "curve.svg")
    for word in ("roc_auc", "ε of one run", "mean", "95 % interval", "single runs", "0.5", "2"):
        assert word in text
    plot_curve([{**points[0], "values": [0.6], "low": None, "high": None}], "r2", tmp_path / "single.svg")
    assert "interval" not in words(tmp_path / "single.svg") and "single runs" not in words(tmp_path / "single.svg")


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        plot_spending([], tmp_path / "spending.png")
    with pytest.raises(UsageError, match=r"\.pdf"):
        plot_spending([point(ROOT, 1, 1.0)], tmp_path / "spending.pdf")
    assert list(tmp_path.iterdir()) == []
