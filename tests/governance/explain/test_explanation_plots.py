"""Plots: files that open, labels with values, intervals where there are some, and no global state of matplotlib touched."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures.plots import plot_explanation


@pytest.fixture
def explanation():
    players = tuple(f"field_{i}" for i in range(20))
    values = np.random.default_rng(0).normal(size=(3, 20))
    base = np.array([0.1, 0.1, 0.1])
    inputs = [[f"cost $5 <b>{i}" if i % 2 else 1.23456 * i for i in range(20)] for _ in range(3)]
    return Explanation(
        "permutation", "probability of good", players, values, base, base + values.sum(axis=1), inputs, abs(values) / 10, {"exact": False}
    )


@pytest.mark.parametrize("kind", ["waterfall", "bar"])
def test_png_and_svg_are_written_and_the_same_each_time(explanation, tmp_path, kind):
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
        plot_explanation(explanation, first, kind=kind, row=1)
        plot_explanation(explanation, second, kind=kind, row=1)
        assert first.read_bytes().startswith(magic)
        if ending == "png":
            assert first.read_bytes() == second.read_bytes() and len(first.read_bytes()) > 10_000


def test_a_waterfall_shows_rows_of_its_own_and_intervals_only_where_there_are_some(explanation, tmp_path):
    pictures = []
    for number, (shown, row) in enumerate([(explanation, 0), (explanation, 1), (replace(explanation, errors=None), 0)]):
        plot_explanation(shown, tmp_path / f"{number}.png", row=row)
        pictures.append((tmp_path / f"{number}.png").read_bytes())
    assert len(set(pictures)) == 3


def test_odd_shapes_are_drawn(tmp_path):
    for count, value in ((1, 0.0), (2, 1e-9), (13, 5e7)):
        values = np.full((1, count), value)
        explanation = Explanation(
            "linear", "value", tuple(f"f{i}" for i in range(count)), values, np.zeros(1), values.sum(axis=1), [[None] * count], None, {"exact": True}
        )
        for kind in ("waterfall", "bar"):
            plot_explanation(explanation, tmp_path / f"{count}{kind}.png", kind=kind)
            assert (tmp_path / f"{count}{kind}.png").stat().st_size > 3000


def test_matplotlib_keeps_no_figure_and_no_backend_is_chosen(explanation, tmp_path):
    import subprocess

    code = (
        "import sys, numpy as np; from affidavit.interfaces.explanation import Explanation;"
        "from affidavit_governance.explain.pictures.plots import plot_explanation;"
        f"plot_explanation(Explanation('linear','value',('a',),np.ones((1,1)),np.zeros(1),np.ones(1),[['x']]), r'{tmp_path / 'x.png'}');"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_wrong_use_is_refused(explanation, tmp_path):
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        plot_explanation(explanation, tmp_path / "x.jpeg")
    with pytest.raises(UsageError, match="no row 3"):
        plot_explanation(explanation, tmp_path / "x.png", row=3)
    with pytest.raises(UsageError, match="no plot 'force'"):
        plot_explanation(explanation, tmp_path / "x.png", kind="force")
    assert not (tmp_path / "x.png").exists()
