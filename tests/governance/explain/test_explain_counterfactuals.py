"""Counterfactuals: the nearest plausible change that flips a decision, against brute force and the rules it must keep."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.governance.explain.explain_models import Formula, interacting

import affidavit as af
from affidavit import Dataset, Task
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.model import Predictions
from affidavit_governance.explain.counterfactuals.combinations import by_cost
from affidavit_governance.explain.counterfactuals.distance import Density, distances, robust_spread
from affidavit_governance.explain.counterfactuals.explainer import Counterfactual

CREDIT = Path(__file__).parents[3] / "examples/credit/german_credit.csv"


def whole_numbers(rows=120, seed=0, top=6):
    """Two whole numbers, a category and a target that all three decide."""
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, top, rows), generator.integers(0, top, rows)
    colour = np.array(["red", "green", "blue"])[generator.integers(0, 3, rows)]
    columns = {"a": a, "b": b, "colour": colour, "y": np.where(a + b + 2 * (colour == "red") > top, "yes", "no")}
    return Dataset.from_arrow(columns, target="y", fields={"colour": {"type": "categorical"}, "a": {"type": "numeric"}, "b": {"type": "numeric"}})


def sum_rule(data):
    red = np.array([value == "red" for value in data.to_list("colour")])
    return 1 / (1 + np.exp(-(data.to_numpy("a") + 1.3 * data.to_numpy("b") + 2.2 * red - 7.1)))


def explain(model, data, background=None, **options):
    return Counterfactual().explain(model, data, data if background is None else background, **options)


def applied(data, row, change):
    """The row with one alternative's changes, as a data set."""
    one = data.take([row])
    for name, (now, then) in change.items():
        assert one.to_list(name) == [now]
        one = one.replace_column(name, pa.array([then], type=one.column(name).type))
    return one


# -- pure parts ---------------------------------------------------------------------------------------------------------------------------


def test_the_robust_spread_is_a_standard_deviation_for_normal_numbers_and_ignores_outliers():
    numbers = np.random.default_rng(0).normal(3, 2, 20_000)
    assert robust_spread(numbers) == pytest.approx(2, rel=0.03)
    assert robust_spread(np.concatenate([numbers, np.full(1000, 1e9)])) == pytest.approx(2, rel=0.1)
    assert robust_spread(np.array([1, 1, 2, 2, 4, 6, 9.0])) == pytest.approx(1.4826)
    assert robust_spread(np.array([0, 0, 0, 4.0])) == pytest.approx(np.sqrt(np.pi / 2)), "over half the values are equal"
    assert robust_spread(np.array([5.0, 5.0, np.nan])) == 0 == robust_spread(np.array([np.nan]))


def test_a_distance_adds_scaled_numbers_and_whole_categories():
    rows = np.array([[1.0, 2.0, np.nan], [4.0, 2.0, 7.0]])
    reference = np.array([[3.0, 5.0, 8.0], [4.0, 2.0, np.nan]])
    assert distances(rows, reference, [2.0, None, 0.5]).tolist() == [[1 + 1 + 1, 1.5 + 0 + 0], [0.5 + 1 + 2, 0 + 0 + 1]]


def test_plausibility_is_the_share_of_reference_rows_that_are_as_remote():
    reference = np.arange(12.0)[:, None]
    density = Density(reference, [1.0])
    own = [np.sort(abs(reference[:, 0] - x))[1:6].mean() for x in reference[:, 0]]
    for x in (5.5, 0.0, 14.0, 40.0):
        remoteness = np.sort(abs(reference[:, 0] - x))[:5].mean()
        assert density.plausibility(np.array([[x]]))[0] == np.mean(np.array(own) >= remoteness - 1e-12)
    assert density.plausibility(np.array([[40.0]]))[0] == 0 and density.plausibility(np.array([[5.5]]))[0] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), max_size=4), max_size=4), st.integers(1, 4))
def test_combinations_come_all_once_and_in_the_order_of_cost(units, most):
    costs = [sorted(float(cost) for cost in options) for options in units]
    found = list(by_cost(costs, most))
    picks = itertools.product(*[[None, *range(len(options))] for options in costs])
    expected = sorted(
        sum(costs[unit][option] for unit, option in enumerate(pick) if option is not None)
        for pick in picks
        if 0 < sum(option is not None for option in pick) <= most
    )
    assert [cost for cost, _ in found] == pytest.approx(expected)
    assert len({frozenset(combination) for _, combination in found}) == len(found)
    assert all(cost == pytest.approx(sum(costs[unit][option] for unit, option in combination)) for cost, combination in found)


# -- nearness -----------------------------------------------------------------------------------------------------------------------------


def brute_force(model, data, row, scales):
    """The least distance over every combination of whole numbers and categories that flips the decision."""
    own = [data.to_list(name)[row] for name in ("a", "b", "colour")]
    grid = list(itertools.product(range(6), range(6), ["red", "green", "blue"]))
    table = Dataset.from_arrow({"a": [g[0] for g in grid], "b": [g[1] for g in grid], "colour": [g[2] for g in grid]})
    flips = model.predict(table).values != model.predict(data.take([row])).values[0]
    best = np.inf
    for candidate, flip in zip(grid, flips, strict=True):
        parts = [abs(candidate[0] - own[0]) / scales[0], abs(candidate[1] - own[1]) / scales[1], float(candidate[2] != own[2])]
        if flip:
            best = min(best, sum(parts) + sum(part > 0 for part in parts))
    return best


def test_the_answer_is_the_nearest_of_all_combinations():
    data = whole_numbers()
    model = Formula(sum_rule, data)
    scales = [robust_spread(data.to_numpy("a")), robust_spread(data.to_numpy("b"))]
    rows = data.head(40)
    found = explain(model, rows, data, min_plausibility=0)
    for row in range(40):
        assert found.distances[row][0] == pytest.approx(brute_force(model, rows, row, scales)), row
    assert all(found.details["nearest_on_grid"])


@pytest.mark.parametrize("shape", ["sums", "products"])
def test_answers_of_a_small_budget_are_near_the_nearest_and_those_said_to_be_nearest_are(shape):
    """Eight fields with four values each: 65,536 combinations, of which 256 are asked."""
    generator = np.random.default_rng(8)
    data = Dataset.from_arrow({f"x{i}": generator.integers(0, 4, 300) for i in range(8)}, fields={f"x{i}": {"type": "numeric"} for i in range(8)})
    weights, pairs = generator.normal(size=8), generator.normal(size=(8, 8))

    def raw(points):
        return points @ weights if shape == "sums" else ((points - 1.5) @ pairs * (points - 1.5)).sum(axis=1)

    grid = np.array(list(itertools.product(range(4), repeat=8)))
    edge = np.quantile(raw(grid), 0.9)
    names = data.schema.names

    def matrix(d):
        return np.stack([d.to_numpy(name) for name in names], axis=1)

    model = Formula(lambda d: np.where(raw(matrix(d)) > edge, 0.9, 0.1), data)
    rows = data.take(np.flatnonzero(model.predict(data).values == "no")[:25])
    found = explain(model, rows, data, min_plausibility=0, budget=256)
    scales = np.array([robust_spread(data.to_numpy(name)) for name in names])
    accepted = grid[raw(grid) > edge]
    ratios = []
    for row, own in enumerate(matrix(rows)):
        nearest = ((abs(accepted - own) / scales).sum(axis=1) + (accepted != own).sum(axis=1)).min()
        ratios.append(found.distances[row][0] / nearest)
        assert ratios[-1] <= (1 + 1e-9 if found.details["nearest_on_grid"][row] else 1.25)
    assert np.mean(np.array(ratios) < 1 + 1e-9) >= 0.95 and sum(found.details["nearest_on_grid"]) >= 10


def test_answers_for_a_linear_score_are_within_a_twentieth_of_the_exact_optimum():
    """Within a set of fields the least distance fills the fields with the most score for their distance first, up to the data's range."""
    generator = np.random.default_rng(5)
    points, weights = generator.normal(size=(300, 12)), np.exp(generator.normal(size=12) / 2) * generator.choice([-1, 1], 12)
    names = [f"x{i}" for i in range(12)]
    data = Dataset.from_arrow(dict(zip(names, points.T, strict=True)))
    edge = np.quantile(points @ weights, 0.97)
    model = Formula(lambda d: 1 / (1 + np.exp(edge - np.stack([d.to_numpy(name) for name in names], axis=1) @ weights)), data)
    low = np.argsort(points @ weights)[:10]
    found = explain(model, data.take(low), data, min_plausibility=0)
    rate = abs(weights) * np.array([robust_spread(column) for column in points.T])
    for row, own in enumerate(points[low]):
        reach = np.where(weights > 0, points.max(axis=0) - own, points.min(axis=0) - own) * weights
        best = np.inf
        for fields in itertools.chain.from_iterable(itertools.combinations(np.argsort(-rate), count) for count in range(1, 13)):
            used = np.minimum(reach[list(fields)], np.maximum(edge - own @ weights - np.cumsum([0, *reach[list(fields)]])[:-1], 0))
            if used.sum() >= edge - own @ weights - 1e-12:
                best = min(best, len(fields) + (used / rate[list(fields)]).sum())
        assert 1 - 1e-9 <= found.distances[row][0] / best < 1.05


@pytest.mark.parametrize("budget", [1, 2, 5, 40, 300])
def test_a_budget_is_what_each_row_costs_at_most(table, budget):
    asked = []

    def counting(data):
        asked.append(len(data))
        return interacting(data)

    found = explain(Formula(counting, table), table.head(1), table, budget=budget, alternatives=2)
    assert sum(asked) == found.details["model_rows"] <= len(table) + max(budget, 1)
    if budget < 3:
        assert found.details["not_found"] == ["no change was found within the budget"]


def test_numbers_between_the_observed_ones_are_found():
    generator = np.random.default_rng(1)
    data = Dataset.from_arrow({"x": generator.normal(size=200), "z": generator.normal(size=200)})
    model = Formula(lambda d: 1 / (1 + np.exp(-(d.to_numpy("x") - 0.777))), data)
    found = explain(model, data.head(30), data)
    x = data.to_numpy("x")[:30]
    for row in range(30):
        ((name, (now, then)),) = found.changes[row][0].items()
        assert name == "x" and now == x[row]
        assert abs(then - 0.777) < 2e-3 and (then > 0.777) == (now <= 0.777), "just across the boundary"
        assert found.distances[row][0] == pytest.approx(1 + abs(then - now) / robust_spread(data.to_numpy("x")))


def test_a_small_budget_still_answers_from_real_rows_and_says_that_nearer_ones_were_not_ruled_out(formula, table):
    little = explain(formula, table.head(8), table, budget=40)
    much = explain(formula, table.head(8), table, budget=20_000)
    for row in range(8):
        assert little.changes[row] and much.distances[row][0] <= little.distances[row][0] + 1e-9
    assert not all(little.details["nearest_on_grid"]) and all(much.details["nearest_on_grid"])
    seconds = explain(formula, table.head(2), table, seconds=0.2)
    again = explain(formula, table.head(2), table, budget=seconds.details["rows_spent"])
    assert again.to_json()["distances"] == seconds.to_json()["distances"] and again.changes == seconds.changes


# -- what every answer keeps --------------------------------------------------------------------------------------------------------------


def test_the_model_confirms_each_answer_and_its_score(formula, table):
    found = explain(formula, table.head(25), table, alternatives=3)
    for row in range(25):
        own = formula.predict(table.take([row])).values[0]
        assert found.changes[row] and found.distances[row] == sorted(found.distances[row])
        for change, score in zip(found.changes[row], found.predicted[row], strict=True):
            assert all(now != then for now, then in change.values())
            then = formula.predict(applied(table.features(), row, change))
            assert then.values[0] != own and then.score(then.values[0])[0] == pytest.approx(score)


def test_no_alternative_changes_all_the_fields_of_a_nearer_one(formula, table):
    found = explain(formula, table.head(25), table, alternatives=3, min_plausibility=0)
    assert sum(len(row) for row in found.changes) > 50
    for row in found.changes:
        sets = [frozenset(change) for change in row]
        assert not any(nearer <= farther for nearer, farther in itertools.combinations(sets, 2))


def test_a_row_alone_in_a_batch_and_in_another_order_gives_the_same_answer(table):
    from affidavit_plugins.tabular.mlp import MLP

    model = MLP(epochs=3).fit(table)
    rows = table.head(8)
    batch = explain(model, rows, table, alternatives=2)
    turned = explain(model, rows.take([7, 3, 0]), table, alternatives=2)
    for place, row in enumerate((7, 3, 0)):
        alone = explain(model, rows.take([row]), table, alternatives=2)
        for other in (
            (alone.changes[0], alone.distances[0], alone.predicted[0]),
            (turned.changes[place], turned.distances[place], turned.predicted[place]),
        ):
            assert other == (batch.changes[row], batch.distances[row], batch.predicted[row])


def test_fixed_fields_stay_and_directions_bounds_and_the_number_of_changes_hold():
    data = whole_numbers()
    model = Formula(sum_rule, data)
    rows = data.head(40)
    found = explain(model, rows, data, immutable=["colour"], direction={"a": "increase"}, at_most=1, alternatives=4)
    changed = [change for row in found.changes for change in row]
    assert changed and found.details["fixed"] == {"colour": "immutable"}
    for change in changed:
        assert len(change) == 1 and "colour" not in change
        assert "a" not in change or change["a"][1] > change["a"][0]
        assert all(isinstance(then, int) and 0 <= then <= 5 for _, then in change.values())
    bounded = data.with_schema(data.schema.change("b", bounds=(0.0, 3.0)).change("colour", categories=("green", "blue")))
    for row in explain(Formula(sum_rule, bounded), bounded.head(40), bounded, alternatives=4).changes:
        for change in row:
            assert change.get("b", (0, 0))[1] <= 3 and change.get("colour", (0, "blue"))[1] != "red"


def test_protected_and_masked_fields_never_change():
    data = whole_numbers()
    masked = data.with_schema(data.schema.change("b", masked="generalise", entity="AGE"))
    guarded = masked.with_schema(masked.schema.change("colour", role="protected"))
    model = Formula(sum_rule, data)
    found = explain(model, guarded.head(30), guarded)
    assert found.details["fixed"] == {"b": "masked", "colour": "protected"}
    assert {name for row in found.changes for change in row for name in change} == {"a"}
    with pytest.raises(UsageError, match="No input of this model may change"):
        explain(model, guarded.head(3), guarded, immutable=["a"])


def test_fields_of_a_group_take_over_the_values_of_one_real_row():
    generator = np.random.default_rng(3)
    city = generator.integers(0, 8, 200)
    data = Dataset.from_arrow({"city": city, "district": city * 10 + generator.integers(0, 2, 200), "x": generator.normal(size=200)})
    model = Formula(lambda d: 1 / (1 + np.exp(-(d.to_numpy("city") + d.to_numpy("district") / 10 - 7.5))), data)
    found = explain(model, data.head(20), data, groups={"place": ["city", "district"]}, min_plausibility=0)
    real = set(zip(data.to_list("city"), data.to_list("district"), strict=True))
    for row in range(20):
        moved = applied(data, row, found.changes[row][0])
        assert (moved.to_list("city")[0], moved.to_list("district")[0]) in real
    half = explain(model, data.head(2), data, groups={"place": ["city", "district"]}, immutable=["district"], min_plausibility=0)
    assert half.details["fixed"] == {"district": "immutable", "city": "in the group 'place' with a fixed field"}
    with pytest.raises(UsageError, match="No input"):
        explain(model, data.head(2), data, groups={"all": ["city", "district", "x"]}, immutable=["city"])


def test_what_lies_far_from_the_data_is_no_answer():
    """x and z go together in the data; moving x alone across the boundary makes a row like no other."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=300)
    data = Dataset.from_arrow({"x": x, "z": x + 0.02 * generator.normal(size=300)})
    model = Formula(lambda d: 1 / (1 + np.exp(-3 * d.to_numpy("x"))), data)
    far = data.take(np.flatnonzero(x < -1.5)[:5])
    free = explain(model, far, data, min_plausibility=0)
    near = explain(model, far, data)
    assert all(set(row[0]) == {"x"} for row in free.changes)
    assert all(row and set(row[0]) == {"x", "z"} for row in near.changes)
    assert all(share >= 0.05 for row in near.plausibility for share in row)
    for row in range(5):
        moved = applied(far, row, near.changes[row][0])
        assert abs(moved.to_numpy("x")[0] - moved.to_numpy("z")[0]) < 0.4 < abs(applied(far, row, free.changes[row][0]).to_numpy("z")[0])
    held = explain(model, far, data, immutable=["z"])
    assert all(not row for row in held.changes) and set(held.details["not_found"]) == {
        "changes that flip the decision were found, but none that is plausible under the data"
    }


# -- decisions of every kind ----------------------------------------------------------------------------------------------------------------


def test_rows_without_an_answer_say_why():
    data = whole_numbers()
    model = Formula(sum_rule, data)
    yes = [row for row, value in enumerate(model.predict(data).values) if value == "yes"]
    already = explain(model, data.take(yes[:2]), data, wanted="yes")
    assert already.changes == [[], []] and set(already.details["not_found"]) == {"the decision is the wanted one already"}
    always = explain(Formula(lambda d: np.full(len(d), 0.9), data), data.head(2), data)
    assert set(always.details["not_found"]) == {"no reference row has the wanted decision"}
    only_a = Formula(lambda d: np.where(d.to_numpy("a") > 3, 0.9, 0.1), data)
    stuck = explain(only_a, data.head(4), data, immutable=["a"])
    assert set(stuck.details["not_found"]) == {"no combination of allowed changes flips the decision"}
    both = Formula(lambda d: np.where((d.to_numpy("a") > 3) & (d.to_numpy("b") > 3), 0.9, 0.1), data)
    low = data.filter((data.to_numpy("a") <= 3) & (data.to_numpy("b") <= 3)).head(3)
    one = explain(both, low, data, at_most=1)
    assert set(one.details["not_found"]) == {"every plausible change found that flips the decision needs more fields than allowed"}
    assert explain(both, low, data, at_most=2).summary()["found"] == 3


def test_what_the_model_does_not_confirm_is_no_answer(table):
    asked = []

    def moody(data):
        asked.append(len(data))
        return interacting(data) if asked.count(1) < 2 else np.full(len(data), 0.4)

    with_verification = explain(Formula(moody, table), table.take([int(np.argmin(interacting(table)))]), table, immutable=["x1"])
    assert with_verification.changes == [[]]
    assert with_verification.details["not_found"] == ["the model did not confirm the changes that were found"]
    assert with_verification.details["nearest_on_grid"] == [False]


def test_numbers_get_a_range(table):
    model = Formula(lambda d: 10 * interacting(d), table, task=Task.REGRESSION)
    found = explain(model, table.head(15), table, wanted=[7, None])
    assert found.wanted == "at least 7" and found.details["output"] == "value"
    before = model.predict(table.head(15)).values
    for row in range(15):
        if before[row] >= 7:
            assert found.details["not_found"][row] == "the decision is the wanted one already"
        elif found.changes[row]:
            assert found.predicted[row][0] >= 7
            assert model.predict(applied(table.features(), row, found.changes[row][0])).values[0] == pytest.approx(found.predicted[row][0])
    assert found.summary()["found"] >= 5
    for wrong in (None, "yes", [1], [3, 2], [None, None], [float("nan"), 2]):
        with pytest.raises(UsageError, match="range"):
            explain(model, table.head(1), table, wanted=wrong)


class LabelsOnly(Formula):
    type = "test.labels"

    def predict(self, data):
        answers = super().predict(data)
        return Predictions(answers.values, answers.classes)


def test_a_model_that_gives_labels_only_is_served_too(table):
    found = explain(LabelsOnly(interacting, table), table.head(5), table)
    assert found.details["output"] == "label" and all(row == [1.0] for row in found.predicted)
    same = explain(Formula(interacting, table), table.head(5), table)
    assert [set(row[0]) for row in found.changes] == [set(row[0]) for row in same.changes]


def test_one_of_several_classes_can_be_wanted_and_any_other_is_the_default(table):
    from affidavit_plugins.tabular.linear import Logistic

    columns = {name: table.column(name) for name in ("x0", "x1", "flag")}
    three = np.digitize(table.to_numpy("x0") + table.to_numpy("x1"), [-0.7, 0.7])
    data = Dataset.from_arrow({**columns, "y": np.array(["low", "middle", "high"])[three]}, target="y")
    model = Logistic().fit(data)
    rows = data.take(np.flatnonzero(model.predict(data).values == "low")[:10])
    any_other, high = explain(model, rows, data), explain(model, rows, data, wanted="high")
    assert any_other.wanted == "another class" and high.wanted == "high"
    for row in range(10):
        assert any_other.distances[row][0] <= high.distances[row][0] + 1e-9
        assert model.predict(applied(rows.features(), row, high.changes[row][0])).values[0] == "high"


def test_texts_stay_and_a_model_of_texts_alone_is_refused():
    texts = Dataset.from_arrow({"text": ["free now", "hello you", "free", "bye"]}, fields={"text": {"type": "text"}})
    with pytest.raises(UsageError, match=r"No input of this model may change.*text \(a text\)"):
        explain(Formula(lambda d: np.full(len(d), 0.4), texts), texts)
    both = Dataset.from_arrow({"text": ["a b", "c d", "e f", "g h"], "x": [1.0, 2.0, 3.0, 4.0]}, fields={"text": {"type": "text"}})
    model = Formula(lambda d: np.where((d.to_numpy("x") > 2.4) & np.array([len(t) == 3 for t in d.to_list("text")]), 0.9, 0.1), both)
    found = explain(model, both, min_plausibility=0)
    assert [set(row[0]) for row in found.changes] == [{"x"}] * 4 and found.details["fixed"] == {"text": "a text"}


def test_values_that_no_float_holds_stay_what_they_are():
    big = 2**60 + np.arange(50)
    data = Dataset.from_arrow({"number": big, "x": np.linspace(0, 1, 50)}, fields={"number": {"type": "numeric"}})
    seen = []

    def rule(d):
        seen.extend(d.to_list("number"))
        return np.where(d.to_numpy("x") > 0.5, 0.9, 0.1)

    found = explain(Formula(rule, data), data.head(3), data, immutable=["number"], min_plausibility=0)
    assert all(found.changes) and set(seen) <= set(big.tolist())


def test_rows_of_a_request_may_have_other_arrow_types_than_the_reference():
    data = whole_numbers()
    model = Formula(sum_rule, data)
    row = {name: data.to_list(name)[3] for name in ("a", "b", "colour")}
    request = Dataset.from_rows([{**row, "a": row["a"] + 0.5}], model.fitted.inputs)
    found = explain(model, request, data, min_plausibility=0)
    assert found.changes[0] and model.predict(applied(request, 0, found.changes[0][0])).values[0] != model.predict(request).values[0]
    plain = explain(model, Dataset.from_rows([row], model.fitted.inputs), data, min_plausibility=0)
    assert plain.distances == explain(model, data.take([3]), data, min_plausibility=0).distances


def test_dates_booleans_and_gaps_move_among_what_was_observed():
    generator = np.random.default_rng(0)
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=int(day)) for day in generator.integers(0, 300, 150)]
    numbers = generator.normal(size=150).round(2)
    columns = {
        "day": pa.array(days),
        "member": generator.random(150) < 0.5,
        "x": pa.array(np.where(generator.random(150) < 0.2, None, numbers), pa.float64()),
    }
    data = Dataset.from_arrow(columns)

    def rule(d):
        late = d.to_numpy("day") > datetime.datetime(2024, 6, 1, tzinfo=datetime.UTC).timestamp()
        return 1 / (1 + np.exp(-(3.0 * late + d.to_numpy("member") + np.nan_to_num(d.to_numpy("x"), nan=-1) - 2)))

    model = Formula(rule, data)
    found = explain(model, data.head(40), data, alternatives=3, min_plausibility=0)
    assert all(found.changes)
    kinds = {"day": datetime.date, "member": bool, "x": float}
    for row in found.changes:
        for change in row:
            assert all(type(then) is kinds[name] for name, (_, then) in change.items()), "never a gap, and of the field's own type"
            assert "day" not in change or change["day"][1] in days
            assert "x" not in change or change["x"][1] == round(change["x"][1], 2)


# -- bad input ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wanted": "maybe"}, "no class of the name"),
        ({"wanted": ["yes"]}, "no class of the name"),
        ({"label": "yes"}, "no label"),
        ({"width": 0.1}, "no intervals"),
        ({"immutable": "x0"}, "a list of fields"),
        ({"immutable": ["x00"]}, r"'x00', which is no column.*'x0'"),
        ({"direction": {"colour": "increase"}}, "has no order"),
        ({"direction": {"x0": "up"}}, "'increase' or 'decrease'"),
        ({"direction": {"x9": "increase"}}, "no input"),
        ({"at_most": 0}, "whole number"),
        ({"alternatives": 0}, "whole number"),
        ({"alternatives": True}, "whole number"),
        ({"min_plausibility": 2}, "between 0 and 1"),
        ({"budget": 0}, "above zero"),
        ({"wonted": "yes"}, "no option 'wonted'"),
    ],
)
def test_unfit_options_are_refused(formula, table, options, words):
    with pytest.raises(UsageError, match=words):
        explain(formula, table.head(1), table, **options)


def test_bad_data_give_a_clear_error(formula, table):
    with pytest.raises(InvalidInput, match="1 row"):
        explain(formula, table.head(2), table.head(1))
    with pytest.raises(InvalidInput, match="missing"):
        explain(formula, table.head(2), table.select(["x0", "x1"]))
    broken = Formula(lambda d: np.where(d.to_numpy("x0") > 0, np.nan, 0.2), table, task=Task.REGRESSION)
    with pytest.raises(InvalidInput, match="not finite"):
        explain(broken, table.head(2), table, wanted=[0.5, None])


def test_a_field_without_any_known_value_is_left_alone(table):
    empty = Dataset.from_arrow({**{name: table.column(name) for name in ("x0", "x1", "colour", "flag")}, "void": pa.nulls(160, pa.float64())})
    found = explain(Formula(interacting, empty), empty.head(5), empty)
    assert found.summary()["found"] == 5 and "void" not in found.summary()["changed"]


# -- records and the workspace ------------------------------------------------------------------------------------------------------------


def test_the_record_says_which_fields_change_and_never_a_value():
    data = whole_numbers()
    found = explain(Formula(sum_rule, data), data.head(10), data)
    said = str(found.to_json())
    assert "green" not in said and "blue" not in said and "red" not in said.replace("predicted", "")
    assert found.to_json()["changed"][0] == [sorted(found.changes[0][0])]


def test_a_workspace_keeps_the_policys_fields_fixed_and_no_value_in_its_evidence(tmp_path):
    policy = {"explain": {"immutable": ["colour", "of another model"]}, "fairness": {"protected": ["b"]}}
    table = whole_numbers()
    with af.Workspace(tmp_path / "ws", policy=policy, actor="tester") as workspace:
        data = workspace.load(table.table, target="y", name="toy", fields={"colour": {"type": "categorical"}, "a": {"type": "numeric"}})
        model = workspace.train("tabular.logistic", data)
        found = workspace.counterfactuals(model, data.head(12))
        kept = workspace.counterfactuals(model, data.head(12), immutable=["y"], alternatives=2)
        evidence = [entry.predicate for entry in workspace.ledger.entries("explain")]
    assert found.details["fixed"] == {"colour": "immutable"} == kept.details["fixed"], "b is no input, y is none either"
    assert {name for row in found.changes for change in row for name in change} == {"a"}
    said = str(evidence)
    assert "'scope': 'changes'" in said and "green" not in said and "blue" not in said
    assert evidence[-1]["details"]["changed"] == {"a": kept.summary()["found"]}


def test_german_credit_rejections_get_a_near_plausible_way_to_acceptance():
    from affidavit_plugins.tabular.linear import Logistic

    people = {name: {"role": "identifier"} for name in ("full_name", "email", "phone", "iban", "national_id")}
    protected = {name: {"role": "protected"} for name in ("age", "personal_status_sex")}
    data = Dataset.from_arrow(pyarrow.csv.read_csv(CREDIT), target="credit_risk", fields={**people, **protected})
    train, test = data.split(test=0.25, stratify=True, seed=7)
    model = Logistic().fit(train)
    rejected = test.take(np.flatnonzero(model.predict(test).values == "bad")[:15])
    options = {"immutable": ["foreign_worker"], "direction": {"residence_since": "increase"}, "alternatives": 2}
    found = Counterfactual().explain(model, rejected, train, wanted="good", **options)
    assert found.summary()["found"] == 15
    for row in range(15):
        for change in found.changes[row]:
            assert not {"foreign_worker", "age", "personal_status_sex"} & set(change)
            assert model.predict(applied(rejected.select(model.fitted.inputs.names), row, change)).values[0] == "good"
            for name, (now, then) in change.items():
                if data.schema[name].type == "numeric":
                    assert isinstance(then, int) and train.to_numpy(name).min() <= then <= train.to_numpy(name).max()
                else:
                    assert then in train.to_list(name)
                assert name != "residence_since" or then > now
