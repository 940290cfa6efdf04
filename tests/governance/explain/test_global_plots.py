"""Pictures of a model as a whole: importance, curves, rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.governance.explain.picture_cases import words_in

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import GlobalExplanation
from affidavit.interfaces.model import Metric
from affidavit_governance.explain.pictures.overall import LINES_SHOWN, SHOWN, _taken, plot_global_explanation


@pytest.fixture
def whole():
    ages = np.linspace(18, 80, 12)
    ice = [(0.3 + 0.005 * ages + shift).tolist() for shift in np.linspace(-0.1, 0.1, 200)]
    mean = np.mean(ice, axis=0)
    curves = {
        "age": {"value": ages.tolist(), "mean": mean.tolist(), "low": (mean - 0.02).tolist(), "high": (mean + 0.02).tolist(), "ice": ice},
        "colour": {"value": ["red", "green", None, "a very long name of a colour"], "mean": [0.3, 0.4, 0.2, 0.5]},
        "$income": {"value": [1, 2, 3], "mean": [0.1, 0.2, 0.3]},
    }
    importance = {f"field_{i}": Metric(0.3 / (i + 1), 0.3 / (i + 1) - 0.05, 0.3 / (i + 1) + 0.05) for i in range(4)} | {"plain": Metric(0.01)}
    rules = ("if age ≤ 31 and colour in {red, <b>green}: yes", "if " + " and ".join(f"f{i} > {i}" for i in range(60)) + ": no", "otherwise: no")
    return GlobalExplanation("surrogate-tree", "probability of yes", 200, importance, curves, rules, {"r2": Metric(0.91, 0.88, 0.94)})


@pytest.mark.parametrize("kind", ["importance", "curves", "rules"])
def test_each_kind_is_written_the_same_each_time(whole, tmp_path, kind):
    for ending in ("png", "svg", "html"):
        first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
        whole.plot(str(first), kind=kind)
        plot_global_explanation(whole, second, kind=kind)
        assert first.read_bytes() == second.read_bytes() and len(first.read_bytes()) > 5000
    drawn = words_in(tmp_path / "a.svg")
    assert any("surrogate-tree over 200 rows: probability of yes" in word for word in drawn)
    assert any("fidelity to the model: r2 0.91 (0.88 to 0.94)" in word for word in drawn)


def test_importance_is_ordered_with_intervals_in_numbers(whole, tmp_path):
    plot_global_explanation(whole, tmp_path / "x.svg")
    drawn = words_in(tmp_path / "x.svg")
    assert [word for word in drawn if word.startswith("field_")] == ["field_0", "field_1", "field_2", "field_3"]
    assert "0.3 (0.25 to 0.35)" in drawn and "0.01" in drawn
    many = replace(whole, importance={f"f{i}": Metric(float(i)) for i in range(SHOWN + 3)})
    plot_global_explanation(many, tmp_path / "x.svg")
    assert any("3 fields of less importance are not drawn" in word for word in words_in(tmp_path / "x.svg"))


def test_curves_of_numbers_and_categories_with_and_without_intervals(whole, tmp_path):
    plot_global_explanation(whole, tmp_path / "x.svg", kind="curves")
    drawn = words_in(tmp_path / "x.svg")
    assert {"age", "colour", "$income", "red", "green"} <= set(drawn)
    assert any("thin lines: single rows (ICE)" in word and "95 % interval" in word for word in drawn)
    plot_global_explanation(whole, tmp_path / "x.svg", field="$income")
    drawn = words_in(tmp_path / "x.svg")
    assert "age" not in drawn and not any("ICE" in word or "95 % interval" in word for word in drawn)
    many = replace(whole, curves={f"f{i}": whole.curves["age"] for i in range(11)})
    plot_global_explanation(many, tmp_path / "x.svg", kind="curves")
    assert any("2 other curves are not drawn" in word for word in words_in(tmp_path / "x.svg"))


def test_lines_of_single_rows_are_taken_evenly():
    lines = np.arange(1000.0)[:, None]
    taken = _taken(lines)[:, 0]
    assert len(taken) == LINES_SHOWN and taken[0] == 0 and taken[-1] == 999 and np.ptp(np.diff(taken)) <= 1
    assert len(_taken(lines[:3])) == 3


def test_rules_are_numbered_wrapped_and_text(whole, tmp_path):
    plot_global_explanation(whole, tmp_path / "x.html", kind="rules")
    drawn = words_in(tmp_path / "x.html")
    assert {"1", "2", "3", "otherwise: no"} <= set(drawn) and any("<b>green" in word for word in drawn)
    assert " ".join(drawn).count("f59 > 59") == 1


def test_what_is_not_there_is_refused(whole, tmp_path):
    path = tmp_path / "x.png"
    with pytest.raises(UsageError, match=r"no plot 'curve'.*curves"):
        plot_global_explanation(whole, path, kind="curve")
    with pytest.raises(UsageError, match=r"no curve of 'ages'.*age"):
        plot_global_explanation(whole, path, field="ages")
    with pytest.raises(UsageError, match="has no rules"):
        plot_global_explanation(replace(whole, rules=()), path, kind="rules")
    with pytest.raises(UsageError, match="has no importance, curves or rules"):
        plot_global_explanation(GlobalExplanation("x", "value", 3), path)
    with pytest.raises(UsageError, match="not as"):
        plot_global_explanation(whole, tmp_path / "x.pdf")
    assert not path.exists()
