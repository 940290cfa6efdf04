"""Partial dependence, individual curves and the strength of interactions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.governance.explain.explain_models import COLOURS, Formula, make_table

from affidavit import Dataset, Task
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.schema import Schema
from affidavit_governance.explain.overall.dependence import PartialDependence, mean_curve
from affidavit_governance.explain.overall.grids import round_steps


def numbers(rows=200, seed=0):
    generator = np.random.default_rng(seed)
    return Dataset.from_arrow({name: generator.normal(size=rows) for name in "abc"})


def trace(function, data, **options):
    model = function if isinstance(function, Formula) else Formula(function, data, Task.REGRESSION)
    return PartialDependence().explain(model, data, data, **options)


def test_the_curve_of_a_line_is_its_line():
    data = numbers()
    curve = trace(lambda d: 3 * d.to_numpy("a") - d.to_numpy("b"), data).curves["a"]
    offset = -data.to_numpy("b").mean()
    assert curve["mean"] == pytest.approx(3 * np.array(curve["value"]) + offset)
    centred = trace(lambda d: 3 * d.to_numpy("a") - d.to_numpy("b"), data, centred=True).curves["a"]
    assert centred["mean"] == pytest.approx(3 * (np.array(curve["value"]) - curve["value"][0]))
    assert centred["low"] == pytest.approx(centred["high"]), "rows differ by a constant only, which centring takes away"


def test_curves_agree_with_scikit_learn():
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import partial_dependence

    data = numbers(150)
    x = np.stack([data.to_numpy(name) for name in "abc"], axis=1)
    forest = RandomForestRegressor(20, random_state=0).fit(x, x[:, 0] * x[:, 1] + x[:, 2])
    found = trace(lambda d: forest.predict(np.stack([d.to_numpy(name) for name in "abc"], axis=1)), data, ice=150)
    for column, name in enumerate("abc"):
        curve = found.curves[name]
        peer = partial_dependence(forest, x, [column], custom_values={column: np.array(curve["value"])}, kind="both", method="brute")
        assert curve["mean"] == pytest.approx(peer["average"][0])
        assert np.array(curve["ice"]) == pytest.approx(peer["individual"][0])


def test_the_mean_of_all_individual_curves_is_the_curve_and_the_interval_covers_the_population():
    found = trace(lambda d: d.to_numpy("a") * d.to_numpy("b") + d.to_numpy("c"), numbers(60), ice=60).curves["a"]
    assert np.mean(found["ice"], axis=0) == pytest.approx(found["mean"])
    covered = []
    for seed in range(200):
        mean, half = mean_curve(np.random.default_rng(seed).normal(size=(30, 2)))
        covered.append(abs(mean) <= half)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_a_grid_holds_no_value_of_a_row_and_stays_inside_the_tails():
    data = numbers()
    for name, curve in trace(lambda d: d.to_numpy("a"), data).curves.items():
        values, column = np.array(curve["value"]), data.to_numpy(name)
        assert not np.isin(values, column).any()
        step = np.diff(values)
        low, high = np.quantile(column, [0.05, 0.95])
        assert step == pytest.approx(step[0]) and 10 <= len(values) <= 21
        assert low - step[0] <= values[0] and values[-1] <= high + step[0]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 50))
def test_round_steps_cover_the_range(low, width, points):
    steps = round_steps(low, low + width, points)
    assert len(steps) >= 2 or abs(low) > 1e6 * width
    assert len(steps) <= points + 1 and (np.diff(steps) > 0).all()
    gap = max(np.diff(steps).max(initial=0.0), 1e-6 * abs(low), width)
    assert abs(steps[0] - low) <= gap and abs(steps[-1] - low - width) <= gap


def test_whole_numbers_stay_whole_and_days_are_days():
    days = np.datetime64("2021-03-01") + np.random.default_rng(0).integers(0, 400, 80)
    data = Dataset.from_arrow({"count": np.random.default_rng(1).integers(0, 7, 80), "since": pa.array(days)})
    seen = []

    def function(d):
        seen.extend(d.table.schema.types)
        return d.to_numpy("count") + (d.to_numpy("since") > 1.63e9)

    found = trace(function, data)
    assert found.curves["count"]["value"] == [float(v) for v in range(int(found.curves["count"]["value"][-1]) + 1)]
    assert found.curves["since"]["value"][0].startswith("2021-0") and found.curves["since"]["mean"][0] < found.curves["since"]["mean"][-1]
    assert set(seen) == set(data.table.schema.types), "the model sees the types that it was trained on"


def test_every_arrow_type_of_a_field_has_a_curve():
    generator = np.random.default_rng(0)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    table = pa.table(
        {
            "single": pa.array(generator.normal(size=60).astype(np.float32)),
            "cents": pa.array([Decimal(int(v)) / 100 for v in generator.integers(0, 10_000, 60)], pa.decimal128(10, 2)),
            "moment": pa.array([start + timedelta(days=int(v)) for v in generator.integers(0, 900, 60)], pa.timestamp("ms", "Europe/Paris")),
            "coded": pa.array(generator.choice(["a", "b"], 60)).dictionary_encode(),
            "count": pa.array([None if v < 1 else int(v) for v in generator.integers(0, 9, 60)], pa.int64()),
            "flag": pa.array([None, True, False] * 20),
        }
    )
    data = Dataset.from_arrow(table)
    model = lambda d: d.to_numpy("cents") + 50.0 * (d.to_numpy("moment") > 1.6e9) + 9 * np.isnan(d.to_numpy("count"))  # noqa: E731
    found = trace(model, data, points=5)
    assert set(found.curves) == set(table.column_names)
    cents, moment = found.curves["cents"], found.curves["moment"]
    assert np.diff(cents["mean"]) == pytest.approx(np.diff(cents["value"]))
    assert max(moment["mean"]) - min(moment["mean"]) == pytest.approx(50.0)


def test_categories_are_named_only_where_ten_rows_share_them_or_the_trained_schema_names_them():
    table = make_table(160)
    assert set(trace(Formula(lambda d: np.full(len(d), 0.5), table), table).curves["colour"]["value"]) == set(COLOURS)
    table = table.take(np.concatenate([[row for row, value in enumerate(table.to_list("colour")) if value == name][:9] for name in COLOURS]))
    named = Dataset(table.table, Schema(tuple(table.schema.fields)).change("colour", categories=("red", "blue")))
    model = lambda d: np.array([0.9 if v == "red" else 0.1 for v in d.to_list("colour")])  # noqa: E731
    secret = trace(Formula(model, table), table)
    assert sorted(secret.curves["colour"]["value"]) == ["category 1", "category 2", "category 3"]
    assert not any(f'"{colour}"' in json.dumps(secret.to_json()) for colour in COLOURS)
    told = trace(Formula(model, named), named).curves["colour"]
    assert sum(value.startswith("category") for value in told["value"]) == 1 and {"red", "blue"} < set(told["value"])
    assert told["mean"][told["value"].index("red")] == pytest.approx(0.9)
    assert secret.curves["flag"]["value"] in (["true", "false"], ["false", "true"])


def test_masked_fields_groups_constants_and_gaps_have_no_curve_and_say_why():
    table = make_table(100)
    schema = Schema(tuple(table.schema.fields)).change("x0", masked="pseudonym")
    full = table.table.append_column("same", pa.array([1.0] * 100)).append_column("gone", pa.array([None] * 100, pa.float64()))
    schema = Schema((*schema.fields, *Dataset.from_arrow({"same": [1.0, 2.0], "gone": [1.0, 2.0]}).schema.fields))
    data = Dataset(full, schema)
    found = trace(Formula(lambda d: 0.5 + 0 * d.to_numpy("x1"), data), data, groups={"pair": ["colour", "flag"]})
    assert list(found.curves) == ["x1"]
    assert {name: why.split(",")[0] for name, why in found.details["left_out"].items()} == {
        "x0": "is masked",
        "colour": "is one player together with others",
        "flag": "is one player together with others",
        "same": "has the same value in all rows",
        "gone": "has no value in any row",
    }
    for name in ("x0", "colour", "same", "gone"):
        with pytest.raises(UsageError, match="no curve"):
            trace(Formula(lambda d: 0 * d.to_numpy("x1"), data), data, fields=[name], groups={"pair": ["colour", "flag"]})


def test_a_budget_is_model_rows_and_a_width_takes_more_rows():
    data = numbers(400)
    function = lambda d: d.to_numpy("a") * (1 + d.to_numpy("b"))  # noqa: E731
    small = trace(function, data, fields=["a"], points=10, budget=250)
    points = len(small.curves["a"]["value"])
    assert len(small) == 250 // points and small.details["model_rows"] <= 250
    wanted = float(np.max(np.array(small.curves["a"]["high"]) - small.curves["a"]["low"])) / 2
    narrow = trace(function, data, fields=["a"], points=10, width=wanted)
    assert np.max(np.array(narrow.curves["a"]["high"]) - narrow.curves["a"]["low"]) <= wanted and len(narrow) > len(small)
    again = trace(function, data, fields=["a"], points=10, budget=narrow.details["rows_spent"])
    assert again.curves == narrow.curves
    assert trace(function, data, fields=["a"], budget=300, seed=1).curves != trace(function, data, fields=["a"], budget=300, seed=2).curves


def test_a_width_that_cannot_be_reached_ends_with_all_rows():
    data = numbers(50)
    found = trace(lambda d: d.to_numpy("a") * d.to_numpy("b"), data, fields=["a"], width=1e-9)
    assert len(found) == 50 and found.details["rows_spent"] == [50 * len(found.curves["a"]["value"])]


def test_an_additive_model_has_no_interactions_and_a_product_nothing_else():
    data = numbers()
    pairs = [["a", "b"], ["a", "c"]]
    additive = trace(lambda d: np.sin(d.to_numpy("a")) + d.to_numpy("b") ** 2, data, interactions=pairs[:1])
    assert additive.importance["a × b"].value == pytest.approx(0.0, abs=1e-7)
    centred = Dataset.from_arrow({name: data.to_numpy(name)[:50] - data.to_numpy(name)[:50].mean() for name in "abc"})
    product = trace(lambda d: d.to_numpy("a") * d.to_numpy("b"), centred, interactions=pairs)
    assert product.importance["a × b"].value == pytest.approx(1.0, abs=0.02) and product.importance["a × b"].high >= 0.98
    assert product.details["undefined"] == ["a × c"], "a's own dependence is zero where b is centred"
    silent = trace(lambda d: d.to_numpy("a"), data, interactions=[["b", "c"]])
    assert silent.importance == {} and silent.details["undefined"] == ["b × c"], "no effect at all is no interaction of zero"


def test_friedmans_h_is_its_definition():
    data = numbers(40)
    a, b, c = (data.to_numpy(name) for name in "abc")
    found = trace(lambda d: d.to_numpy("a") * d.to_numpy("b") + d.to_numpy("a") + d.to_numpy("c") * d.to_numpy("b"), data, interactions=[["a", "b"]])

    def f(a, b, c):
        return a * b + a + c * b

    both = np.array([np.mean(f(a[i], b[i], c)) for i in range(40)])
    one, other = (np.array([np.mean(v) for v in values]) for values in ([f(a[i], b, c) for i in range(40)], [f(a, b[i], c) for i in range(40)]))
    both, one, other = (values - values.mean() for values in (both, one, other))
    assert found.importance["a × b"].value == pytest.approx(np.sqrt(((both - one - other) ** 2).sum() / (both**2).sum()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 1}, "points"),
        ({"ice": -1}, "ice"),
        ({"centred": 1}, "centred"),
        ({"fields": "a"}, "fields"),
        ({"fields": ["d"]}, "no input 'd'"),
        ({"interactions": [["a"]]}, "interactions"),
        ({"interactions": [["a", "z"]]}, "no player 'z'"),
        ({"budget": 10}, "too small"),
    ],
)
def test_unfit_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        trace(lambda d: d.to_numpy("a"), numbers(30), **options)


def test_one_row_and_answers_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidInput, match="given 1 row"):
        trace(lambda d: d.to_numpy("a"), numbers(30).head(1))
    with pytest.raises(InvalidInput, match="not finite"):
        trace(lambda d: np.full(len(d), np.inf), numbers(30))
