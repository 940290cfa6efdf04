"""Quality of explanations: hand-made curves, brute force, attributions that must not look good, and every data type."""

from __future__ import annotations

from itertools import combinations, permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.governance.explain.explain_models import Formula, images, interacting, make_table, sms, spam

import affidavit as af
from affidavit import Task
from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.methods.sampled import Exact, Permutation
from affidavit_governance.explain.quality.curves import curves, tied_groups
from affidavit_governance.explain.quality.infidelity import infidelity
from affidavit_governance.explain.quality.intervals import ratio_of_means
from affidavit_governance.explain.quality.measure import measure_quality
from affidavit_governance.explain.quality.metrics import METRICS
from affidavit_governance.explain.quality.sensitivity import RADIUS, neighbours, sensitivity


def seeded(seed=0):
    return np.random.default_rng(seed)


def additive(weights):
    return lambda coalitions: coalitions @ np.asarray(weights, dtype=float)


def random_game(count, seed):
    worth = seeded(seed).normal(size=2**count)
    return lambda coalitions: worth[coalitions @ (1 << np.arange(count))]


def explained(model, data, background, explainer=None, **options):
    return (explainer or Exact()).explain(model, data, background, **options)


def with_values(explanation, values):
    from dataclasses import replace

    return replace(explanation, values=values)


def test_curves_of_a_small_game_are_those_on_paper():
    found = curves(additive([3, 1]), np.array([3.0, 1.0]), 50, seeded())
    # In: 0, 3, 4. Out: 4, 1, 0. The other order has the areas the other way round, so their mean is 2.
    assert (found.insertion, found.deletion, found.spread) == (2.5, 1.5, 4.0)
    assert found.floor == pytest.approx(2.0, abs=1e-12)


def test_the_floor_is_the_mean_over_all_orders():
    count, game = 4, random_game(4, 3)

    def area(order):
        heights = [game(np.isin(np.arange(count), order[:size])[None, :])[0] for size in range(count + 1)]
        return np.trapezoid(heights, np.linspace(0, 1, count + 1))

    areas = {order: area(order) for order in permutations(range(count))}
    values = np.array([0.3, -2.0, 5.0, 1.0])
    found = curves(game, values, 3000, seeded())
    assert found.insertion == pytest.approx(areas[2, 3, 0, 1], abs=1e-12)
    assert found.deletion == pytest.approx(areas[1, 0, 3, 2], abs=1e-12), "leaving in an order is coming in the order backwards"
    assert found.floor == pytest.approx(np.mean(list(areas.values())), abs=0.02)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10**6))
def test_equal_attributions_are_worth_exactly_as_much_as_random_ones(count, seed):
    found = curves(random_game(count, seed), np.full(count, 0.25), 4, seeded(seed))
    assert found.deletion_gap == 0.0 and found.insertion_gap == 0.0
    unfaithful = infidelity(random_game(count, seed), np.full(count, 0.25), 16, 4, seeded(seed))
    assert unfaithful.value == pytest.approx(unfaithful.floor, rel=1e-12)


def test_ties_are_not_broken_by_the_order_of_the_fields():
    """Half of the players matter and come first; an attribution that ties all of them must not profit from their places."""
    found = curves(additive([1, 1, 1, 0, 0, 0]), np.array([1.0, 1, 1, 1, 1, 1 + 1e-13]), 4, seeded())
    assert found.insertion_gap == 0.0
    assert tied_groups(np.array([1.0, 3.0, 1.0, 3.0 + 1e-12])).tolist() == [1, 0, 1, 0]


def test_the_wrong_sign_is_worse_than_random():
    game, values = additive([3, 2, 1, 0.5]), np.array([3, 2, 1, 0.5])
    right, wrong = curves(game, values, 8, seeded()), curves(game, -values, 8, seeded())
    assert right.insertion_gap > 0.1 and right.deletion_gap > 0.1
    assert wrong.insertion_gap < -0.1 and wrong.deletion_gap < -0.1


def test_many_players_come_several_at_once():
    asked = []

    def game(coalitions):
        asked.append(len(coalitions))
        return coalitions.sum(axis=1).astype(float)

    curves(game, np.arange(500.0), 4, seeded())
    assert sum(asked) <= 10 * 17


def test_infidelity_is_the_mean_over_sets_drawn_by_size():
    count, game, values = 5, random_game(5, 1), np.array([1.0, -0.5, 0.2, 0.0, 2.0])
    whole = game(np.ones((1, count), dtype=bool))[0]
    due = 0.0
    for size in range(1, count + 1):
        for removed in combinations(range(count), size):
            left = ~np.isin(np.arange(count), removed)[None, :]
            due += (values[list(removed)].sum() - (whole - game(left)[0])) ** 2 / comb(count, size) / count
    found = infidelity(game, values, 40_000, 3, seeded())
    assert found.value == pytest.approx(due, rel=0.02)


def test_infidelity_of_an_additive_game_is_zero_and_grows_with_the_square_of_the_error():
    game, weights = additive([3, -1, 2]), np.array([3.0, -1, 2])
    assert infidelity(game, weights, 64, 4, seeded()).value == pytest.approx(0, abs=1e-25)
    small, large = (infidelity(game, weights + np.array([error, 0, 0]), 64, 4, seeded()).value for error in (0.1, 0.2))
    assert large == pytest.approx(4 * small)


def test_sensitivity_is_the_largest_change_over_the_neighbours():
    found = sensitivity(np.array([3.0, 4.0]), np.array([[3.0, 4.0], [3.0, 5.0], [1.0, 4.0]]), 8, seeded())
    assert (found.change, found.size) == (2.0, 5.0) and found.floor >= found.change * 0.5
    assert sensitivity(np.ones(3), np.ones((4, 3)), 8, seeded()).floor == 0.0


def test_neighbours_move_numbers_within_the_radius_and_nothing_else(table):
    data = af.Dataset(table.table.drop(["y"]), table.select([n for n in table.schema.names if n != "y"]).schema)
    near = neighbours(data.head(3), data, [1, 2, 3], 4)
    assert near.to_list("colour") == [c for c in data.head(3).to_list("colour") for _ in range(4)]
    assert near.to_list("flag") == [c for c in data.head(3).to_list("flag") for _ in range(4)]
    moved = abs(near.to_numpy("x0") - np.repeat(data.head(3).to_numpy("x0"), 4))
    assert 0 < moved.max() <= RADIUS * data.to_numpy("x0").std() + 1e-12
    alone = neighbours(data.take([1]), data, [2], 4)
    np.testing.assert_array_equal(alone.to_numpy("x0"), near.to_numpy("x0")[4:8])


def test_neighbours_of_gaps_are_gaps_and_pixels_stay_whole_numbers():
    data = af.Dataset.from_arrow({"a": [1.0, None, 3.0]})
    assert neighbours(data, data, [1, 2, 3], 2).to_list("a")[2:4] == [None, None]
    pictures = images(seeded().integers(0, 256, size=(3, 4, 4), dtype=np.uint8))
    near = neighbours(pictures, pictures, [1, 2, 3], 2)
    assert near.column("image").type == pictures.column("image").type
    assert abs(near.to_numpy("image") - np.repeat(pictures.to_numpy("image"), 2, axis=0)).max() > 0


def test_nothing_moves_where_no_input_is_a_number():
    texts = sms(["free now", "hello you"])
    assert neighbours(texts, texts, [1, 2], 2) is None
    data = af.Dataset.from_arrow({"a": [1.0, 2.0]})
    assert neighbours(data, data, [1, 2], 2, frozenset({"a"})) is None


def test_the_interval_of_a_mean_is_students():
    stats = pytest.importorskip("scipy.stats", reason="the reference for Student's interval")
    numbers = seeded().normal(size=9)
    low, high = stats.t.interval(0.95, 8, loc=numbers.mean(), scale=stats.sem(numbers))
    found = ratio_of_means(numbers)
    assert (found.value, found.low, found.high) == pytest.approx((numbers.mean(), low, high), abs=2e-3)


def test_the_interval_of_a_ratio_covers_it():
    hits = 0
    for seed in range(400):
        below = seeded(seed).gamma(4.0, size=20)
        above = 0.7 * below + seeded(seed + 1000).normal(size=20) * 0.5
        found = ratio_of_means(above, below)
        hits += found.low <= 0.7 <= found.high
    assert 0.92 <= hits / 400 <= 0.975


def test_one_row_has_no_interval():
    assert ratio_of_means([3.0]).low is None


def test_exact_values_are_far_better_than_random_and_their_rivals(table, formula):
    rows, background = table.head(12), table.take(range(30, 70))
    exact = explained(formula, rows, background)
    quality = measure_quality(formula, exact, rows, background, explainer=Exact())
    assert set(quality.metrics) == set(METRICS) and not quality.missing and quality.rows == 12
    assert quality.metrics["deletion_gap"].low > 0 and quality.metrics["insertion_gap"].low > 0
    assert quality.metrics["infidelity_ratio"].high < 0.5
    assert all(metric.low <= metric.value <= metric.high for metric in quality.metrics.values())
    backwards = measure_quality(formula, with_values(exact, -exact.values), rows, background)
    assert backwards.metrics["deletion_gap"].high < 0 and backwards.metrics["infidelity_ratio"].value > 1


def test_random_attributions_are_no_better_than_random(table, formula):
    rows, background = table.head(16), table.take(range(30, 50))
    exact = explained(formula, rows, background)
    better = 0
    for seed in range(20):
        dealt = seeded(seed).permuted(exact.values, axis=1)
        quality = measure_quality(formula, with_values(exact, dealt), rows, background, seed=seed)
        better += quality.metrics["deletion_gap"].low > 0
        assert quality.metrics["infidelity_ratio"].high > 0.8
    assert better <= 2, "a 95 % interval is above zero for one in forty"


def test_all_equal_attributions_do_not_look_good(table, formula):
    rows, background = table.head(8), table.take(range(30, 60))
    exact = explained(formula, rows, background)
    equal = with_values(exact, np.repeat(exact.values.mean(axis=1, keepdims=True), len(exact.players), axis=1))

    class Equal(Exact):
        def explain(self, model, data, background, **options):
            found = super().explain(model, data, background, **options)
            return with_values(found, np.repeat(found.values.mean(axis=1, keepdims=True), len(found.players), axis=1))

    quality = measure_quality(formula, equal, rows, background, explainer=Equal())
    assert quality.metrics["deletion_gap"].value == quality.metrics["insertion_gap"].value == 0.0
    assert quality.metrics["infidelity_ratio"].value == pytest.approx(1.0, abs=1e-12)
    assert "all equal" in quality.missing["sensitivity"] and "all equal" in quality.missing["sensitivity_ratio"]


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_constant_model_is_not_measured_whatever_is_said_of_it(table, noise):
    model = Formula(lambda data: np.full(len(data), 0.3), table)
    rows = table.head(8)
    exact = explained(model, rows, table.take(range(100, 120)))
    told = with_values(exact, seeded().normal(size=exact.values.shape) * noise)
    quality = measure_quality(model, told, rows, table.take(range(100, 120)), explainer=Exact())
    assert quality.metrics == {} and set(quality.missing) == set(METRICS)
    assert "do not change" in quality.missing["deletion_gap"]


def test_too_few_rows_are_said_to_be_too_few(table, formula):
    few = explained(formula, table.head(4), table.take(range(30, 50)))
    quality = measure_quality(formula, few, table.head(4), table.take(range(30, 50)))
    assert quality.metrics == {} and "4 rows" in quality.missing["deletion"] and quality.rows == 0


def test_a_budget_bounds_the_cost_and_too_small_a_one_is_refused(table, formula):
    rows, background = table.head(40), table.take(range(60, 160))
    exact = explained(formula, rows, background)
    for budget in (40_000, 100_000):
        before = formula.calls
        quality = measure_quality(formula, exact, rows, background, explainer=Exact(), budget=budget)
        assert quality.model_rows <= budget and quality.rows >= 5 and formula.calls > before
    with pytest.raises(UsageError, match=r"too small to measure 5 rows.* at least"):
        measure_quality(formula, exact, rows, background, budget=1000)


def test_the_same_seed_gives_the_same_figures_and_touches_no_global_state(table, formula):
    rows, background = table.head(10), table.take(range(30, 50))
    sampled = explained(formula, rows, background, Permutation(), budget=2000)
    state = np.random.get_state()[1].copy()  # to see that it stays
    first, second = (measure_quality(formula, sampled, rows, background, explainer=Permutation(), options={"budget": 2000}, seed=3) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert (np.random.get_state()[1] == state).all()  # see above


def test_a_budget_that_lists_rows_reaches_their_neighbours(table, formula):
    rows, background = table.head(6), table.take(range(30, 50))
    options = {"budget": [2000, 2100, 2200, 2300, 2400, 2500]}
    sampled = explained(formula, rows, background, Permutation(), **options)
    quality = measure_quality(formula, sampled, rows, background, explainer=Permutation(), options=options)
    assert "sensitivity" in quality.metrics


def test_words_are_measured_but_their_sensitivity_is_not():
    texts = sms([f"{'free ' * (i % 3)}now call {'me ' * (i % 2)}today" for i in range(8)])
    model = Formula(spam, texts)
    exact = explained(model, texts, texts)
    quality = measure_quality(model, exact, texts, texts, explainer=Exact())
    assert quality.metrics["deletion_gap"].low > 0
    assert "can change a little" in quality.missing["sensitivity"]


def test_regions_of_pictures_are_measured():
    pictures = images(seeded().random((8, 8, 8)))
    model = Formula(lambda data: data.to_numpy("image")[:, :4, :4].mean(axis=(1, 2)), pictures, Task.REGRESSION)
    exact = explained(model, pictures, pictures, grid=2)
    quality = measure_quality(model, exact, pictures, pictures, explainer=Exact(), options={"grid": 2})
    assert quality.metrics["infidelity_ratio"].value < 1e-6 and quality.metrics["sensitivity"].value > 0


def test_attributions_to_players_that_a_row_does_not_have_count_against_it():
    texts = sms([f"free now {'call ' * (i % 2)}" for i in range(8)])
    model = Formula(spam, texts)
    exact = explained(model, texts, texts)
    absent = np.where(np.arange(3) >= np.array([2, 3] * 4)[:, None], 0.5, exact.values)
    found, wrong = (measure_quality(model, each, texts, texts).metrics for each in (exact, with_values(exact, absent)))
    assert wrong["infidelity"].value > found["infidelity"].value + 0.01


def test_players_that_cannot_be_played_again_are_said_so(table, formula):
    exact = explained(formula, table.head(6), table.take(range(30, 50)))
    from dataclasses import replace

    foreign = replace(exact, players=tuple(f"concept {i}" for i in range(len(exact.players))))
    quality = measure_quality(formula, foreign, table.head(6), table.take(range(30, 50)))
    assert quality.metrics == {} and "its own" in quality.missing["deletion_gap"]


def test_log_odds_are_measured_on_log_odds(tmp_path):
    data = make_table(200, numbers=2)
    with af.Workspace(tmp_path / "ws", policy={}, actor="tester") as workspace:
        loaded = workspace.load(data.table, target="y")
        model = workspace.train("tabular.logistic", loaded)
        explanation = workspace.explain(model, loaded.head(8), quality=True)
        said = [e.predicate for e in workspace.ledger.entries("explain")][-1]
    assert explanation.output == "log-odds of yes" and explanation.method == "linear"
    quality = explanation.details["quality"]
    assert quality["metrics"]["infidelity_ratio"]["value"] < 1e-9, "a linear score has no interactions"
    assert said["stages"]["explain"]["quality"]["metrics"] == quality["metrics"]
    assert said["details"]["settings"]["quality"]["metrics"] == quality["metrics"]


def test_the_option_takes_a_budget_and_refuses_nonsense(tmp_path):
    data = make_table(120)
    with af.Workspace(tmp_path / "ws", policy={}, actor="tester") as workspace:
        loaded = workspace.load(data.table, target="y")
        model = workspace.train("tabular.logistic", loaded)
        seen = []
        found = workspace.explain(model, loaded.head(6), method="exact", quality=200_000, report=lambda progress: seen.append(progress.message))
        assert found.details["quality"]["model_rows"] <= 200_000 and "measuring the explanation" in seen
        assert "quality" not in workspace.explain(model, loaded.head(6), quality=False).details
        for nonsense in ("yes", -1, 0.5):
            with pytest.raises(UsageError, match="Option 'quality'"):
                workspace.explain(model, loaded.head(6), quality=nonsense)
        with pytest.raises(UsageError, match="Option 'reconstruction'"):
            workspace.explain(model, loaded.head(6), reconstruction="yes")


def test_interacting_models_are_measured_from_the_record_of_any_method(table):
    model = Formula(interacting, table)
    sampled = explained(model, table.head(6), table.take(range(30, 60)), Permutation(), budget=4000)
    assert isinstance(sampled, Explanation)
    quality = measure_quality(model, sampled, table.head(6), table.take(range(30, 60)), explainer=Permutation(), options={"budget": 4000})
    assert quality.metrics["deletion_gap"].value > 0
