"""Intervals where they are drawn: each whisker, line and band spans what the record says."""

from __future__ import annotations

import numpy as np
import pytest
from tests.governance.explain.picture_cases import estimated, exact

from affidavit.interfaces.explanation import GlobalExplanation
from affidavit.interfaces.model import Metric
from affidavit_governance.explain.pictures import overall
from affidavit_governance.explain.pictures.bar import mean_absolute
from affidavit_governance.explain.pictures.canvas import Page
from affidavit_governance.explain.pictures.drawing import Asked
from affidavit_governance.explain.pictures.plots import KINDS


def spans(plan, along):
    """The ends of all line collections of a picture, along x (0) or y (1)."""
    page = Page(plan.width, plan.height, ".svg")
    plan.paint(page)
    found = []
    for axes in page.figure.axes:
        for collection in axes.collections:
            for path in getattr(collection, "get_segments", list)():
                found.append((float(np.min(path[:, along])), float(np.max(path[:, along]))))
    return found


def there(span, found):
    return any(span == pytest.approx(each, abs=1e-9) for each in found)


def test_each_step_of_a_waterfall_has_its_own_interval_at_its_end():
    shown = estimated()
    found = spans(KINDS["waterfall"](shown, Asked(3)), 0)
    order = np.argsort(-abs(shown.values[3]))
    end = shown.predicted[3]
    for player in order[:12]:
        assert there((end - shown.errors[3, player], end + shown.errors[3, player]), found)
        end -= shown.values[3, player]
    assert not spans(KINDS["waterfall"](exact(), Asked(3)), 0)


def test_each_piece_of_a_force_has_its_interval_at_its_outer_end():
    shown = estimated()
    found = spans(KINDS["force"](shown, Asked(3)), 0)
    order = np.argsort(-abs(shown.values[3]))[:8]
    for sign in (1, -1):
        edge = shown.predicted[3]
        for player in (i for i in order if np.sign(shown.values[3, i]) == sign):
            edge -= shown.values[3, player]
            assert there((edge - shown.errors[3, player], edge + shown.errors[3, player]), found)


def test_bars_points_and_dependences_have_theirs():
    shown = estimated()
    mean, half, _ = mean_absolute(shown.values)
    found = spans(KINDS["bar"](shown, Asked()), 0)
    for player in np.argsort(-mean)[:15]:
        assert there((mean[player] - half[player], mean[player] + half[player]), found)
    low, high = shown.values - shown.errors, shown.values + shown.errors
    found = spans(KINDS["beeswarm"](shown, Asked()), 0)
    for row in range(5):
        assert there((low[row, 0], high[row, 0]), found)
    found = spans(KINDS["dependence"](shown, Asked(player="field_0")), 1)
    for row in range(5):
        assert there((low[row, 0], high[row, 0]), found)


def test_importance_and_curves_have_theirs():
    whole = GlobalExplanation(
        "x",
        "value",
        9,
        {"a": Metric(0.4, 0.1, 0.5)},
        {"c": {"value": ["p", "q"], "mean": [0.3, 0.6], "low": [0.1, 0.5], "high": [0.4, 0.9]}, "n": {"value": [1, 2], "mean": [3, 4]}},
    )
    assert there((0.1, 0.5), spans(overall._KINDS["importance"](whole, None), 0))
    found = spans(overall._KINDS["curves"](whole, "c"), 1)
    assert there((0.1, 0.4), found) and there((0.5, 0.9), found)
    assert not spans(overall._KINDS["curves"](whole, "n"), 1)
