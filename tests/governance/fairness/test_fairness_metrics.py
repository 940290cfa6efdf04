"""Group figures against published tables, against counting by hand and against a plain row-by-row bootstrap."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.fairness import group_means, group_metrics, impact_ratio


def people(table: dict[str, tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows with (selected, all) counts by group."""
    selected = np.concatenate([np.arange(n) < k for k, n in table.values()])
    return selected, np.repeat(list(table), [n for _, n in table.values()])


@pytest.mark.parametrize(
    ("table", "ratios"),
    [
        ({"Male": (543, 1000), "Female": (447, 1000)}, {"Male": 1.00, "Female": 0.82}),
        (
            {"Hispanic": (642, 1000), "White": (375, 1000), "Black": (500, 1000), "Native Hawaiian": (625, 1000), "Asian": (417, 1000)},
            {"Hispanic": 1.00, "White": 0.58, "Black": 0.78, "Native Hawaiian": 0.97, "Asian": 0.65},
        ),
    ],
)
def test_impact_ratios_are_those_printed_in_the_rule_of_new_york_city(table: dict[str, tuple[int, int]], ratios: dict[str, float]) -> None:
    # 6 RCNY 5-301
    result = impact_ratio(*people(table))
    assert {name: round(ratio, 2) for name, ratio in result.ratios.items()} == ratios
    assert result.rates == {name: k / n for name, (k, n) in table.items()}
    assert round(result.minimum, 2) == min(ratios.values())


def test_a_ratio_without_anybody_selected_is_undefined_rather_than_fair() -> None:
    assert all(math.isnan(ratio) for ratio in impact_ratio([0, 0, 0], ["a", "a", "b"]).ratios.values())
    assert group_metrics(["n"] * 3, ["n"] * 3, ["a", "a", "b"], favourable="y").gaps["impact_ratio"] is None


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="true and false"):
        impact_ratio([0.4, 0.9], ["a", "b"])
    with pytest.raises(UsageError, match="one label for each of the 2 rows"):
        impact_ratio([0, 1], ["a"])
    with pytest.raises(UsageError, match="no rows"):
        impact_ratio([], [])
    with pytest.raises(UsageError, match="one value for each row"):
        group_metrics(["y"], ["y", "n"], ["a", "b"], favourable="y")
    with pytest.raises(InvalidInput, match="finite"):
        group_means([1.0, math.nan], ["a", "b"])


@given(st.lists(st.tuples(st.sampled_from("yn"), st.sampled_from("yn"), st.sampled_from("abc")), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_rates_and_gaps_are_what_counting_gives(rows: list[tuple[str, str, str]]) -> None:
    truth, predicted, group = zip(*rows, strict=True)
    metrics = group_metrics(truth, predicted, group, favourable="y", bootstrap=50)
    rates: dict[str, list[float]] = {"selection_rate": [], "true_positive_rate": [], "false_positive_rate": []}
    for name in sorted(set(group)):
        mine = [(t, p) for t, p, g in rows if g == name]
        expected = {
            "selection_rate": [p == "y" for t, p in mine],
            "true_positive_rate": [p == "y" for t, p in mine if t == "y"],
            "false_positive_rate": [p == "y" for t, p in mine if t == "n"],
        }
        assert metrics.groups[name].count == len(mine)
        for rate, hits in expected.items():
            metric = metrics.groups[name].rates[rate]
            if not hits:
                assert metric is None
                continue
            assert metric is not None and metric.value == pytest.approx(np.mean(hits))
            assert metric.low is not None and metric.high is not None and 0 <= metric.low <= metric.high <= 1
            rates[rate].append(metric.value)
    for rate, values in rates.items():
        gap = metrics.gaps[f"{rate}_gap"]
        assert (gap is None) == (len(values) < 2)
        assert gap is None or gap.value == pytest.approx(max(values) - min(values))
    selected = rates["selection_rate"]
    ratio = metrics.gaps["impact_ratio"]
    assert (ratio is None) == (len(selected) < 2 or max(selected) == 0)
    assert ratio is None or ratio.value == pytest.approx(min(selected) / max(selected))
    json.dumps(metrics.to_json(), allow_nan=False)


def test_intervals_agree_with_a_bootstrap_that_draws_rows_one_by_one() -> None:
    rng = np.random.default_rng(3)
    group = np.repeat(["a", "b", "c"], [150, 90, 40])
    truth = np.where(rng.random(280) < 0.5, "y", "n")
    predicted = np.where(rng.random(280) < np.where(truth == "y", 0.7, 0.3) + 0.1 * (group == "a"), "y", "n")
    ours = group_metrics(truth, predicted, group, favourable="y", bootstrap=4000, seed=1)
    gaps, ratios, rates = [], [], []
    for _ in range(4000):
        tpr, selection = [], []
        for name in "abc":
            rows = np.flatnonzero(group == name)
            drawn = rng.choice(rows, len(rows))
            selection.append((predicted[drawn] == "y").mean())
            tpr.append((predicted[drawn] == "y")[truth[drawn] == "y"].mean())
        gaps.append(max(tpr) - min(tpr))
        ratios.append(min(selection) / max(selection))
        rates.append(tpr[2])
    for metric, draws in (
        (ours.gaps["true_positive_rate_gap"], gaps),
        (ours.gaps["impact_ratio"], ratios),
        (ours.groups["c"].rates["true_positive_rate"], rates),
    ):
        assert metric is not None
        assert (metric.low, metric.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=0.025)


def test_an_interval_covers_the_true_rate_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for trial in range(200):
        predicted = np.where(rng.random(200) < 0.4, "y", "n")
        rate = group_metrics(predicted, predicted, ["a"] * 200, favourable="y", bootstrap=400, seed=trial).groups["a"].rates["selection_rate"]
        assert rate is not None and rate.low is not None and rate.high is not None
        hits += rate.low <= 0.4 <= rate.high
    assert 180 <= hits <= 199


def test_small_groups_are_flagged_and_stay_in_the_gaps() -> None:
    truth = predicted = ["y"] * 40 + ["n"] * 29 + ["y"] * 30
    metrics = group_metrics(truth, predicted, ["a"] * 40 + ["b"] * 29 + ["c"] * 30, favourable="y")
    assert [figures.small for figures in metrics.groups.values()] == [False, True, False]
    gap = metrics.gaps["selection_rate_gap"]
    assert gap is not None and gap.value == 1.0


def test_missing_group_values_form_their_own_group() -> None:
    assert set(impact_ratio([1, 0, 1, 0], ["a", None, math.nan, "a"]).rates) == {"a", "missing"}
    assert impact_ratio([1, 0, 1, 0], ["a", None, math.nan, "a"]).counts == {"a": 2, "missing": 2}


def test_the_same_seed_gives_the_same_intervals_and_leaves_global_randomness_alone() -> None:
    rng = np.random.default_rng(0)
    truth, predicted, group = (rng.choice(["y", "n"], 100) for _ in range(3))
    before = np.random.get_state()[1].tolist()
    runs = [group_metrics(truth, predicted, group, favourable="y", seed=seed).to_json() for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]
    assert np.random.get_state()[1].tolist() == before


def test_a_model_of_numbers_is_compared_by_its_mean_prediction() -> None:
    rng = np.random.default_rng(0)
    predicted = np.concatenate([rng.normal(10, 2, 400), rng.normal(13, 2, 400)])
    metrics = group_means(predicted, ["a"] * 400 + ["b"] * 400)
    gap = metrics.gaps["mean_prediction_gap"]
    assert gap is not None and gap.low is not None and gap.high is not None
    assert gap.value == pytest.approx(predicted[400:].mean() - predicted[:400].mean())
    # Two means of 400 rows with standard deviation 2: the difference has a standard error of 2·√(2/400).
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * 2 * math.sqrt(2 / 400), rel=0.1)
