"""LIME, repaired: seeds agree, every kind of column works, intervals hold, and a poor surrogate is refused."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from tests.governance.explain.explain_models import Formula, make_table

from affidavit import Dataset, Task
from affidavit.errors import InvalidInput, MissingExtra, Refused, UsageError
from affidavit.interfaces.schema import Schema
from affidavit_governance.explain.methods.lime import Lime
from affidavit_governance.explain.surrogates.design import shifted_lattice
from affidavit_governance.explain.surrogates.local import draw_neighbours, fit_local, least_rows

POOLS = [(np.array([0, 1, -1]), np.array([2, 3, 4, 5])), (np.array([3, -1]), np.array([0, 1, 2, 4, 5])), (np.array([-1]), np.arange(6))]
OWN = np.array([1.5, -0.5, 2.0])
LENT = np.array([[0.3, 1.0, -1.0], [0.9, 0.2, 0.4], [-2.0, 0.1, 0.0], [1.0, -0.7, 0.5], [0.0, 2.0, 1.0], [-1.0, 1.1, -0.3]])


def played(places):
    """A game with an interaction of two and one of three, on the values that `places` name."""
    x = np.where(places < 0, OWN, LENT[places, np.arange(3)])
    return x[:, 0] - 0.5 * x[:, 1] ** 2 + x[:, 0] * x[:, 2] + 0.2 * x[:, 0] * x[:, 1] * x[:, 2]


def expected():
    """LIME's coefficients, base and R² with infinitely many samples: by enumeration of all values with their probabilities."""
    chance = 1 / (1 + np.exp(-1 / (2 * 0.75**2 * 3)))
    rows, weight, present = [], [], []
    sides = [[(place, chance / len(i), 1.0) for place in i] + [(place, (1 - chance) / len(o), 0.0) for place in o] for i, o in POOLS]
    for combination in itertools.product(*sides):
        rows.append([each[0] for each in combination])
        weight.append(np.prod([each[1] for each in combination]))
        present.append([each[2] for each in combination])
    answers, weights = played(np.array(rows)), np.array(weight)
    columns = np.column_stack([np.ones(len(rows)), present])
    found = np.linalg.solve(columns.T @ (weights[:, None] * columns), columns.T @ (weights * answers))
    missed = (weights * (answers - columns @ found) ** 2).sum()
    return found[1:], found[0], 1 - missed / (weights * (answers - (weights * answers).sum()) ** 2).sum()


def test_the_surrogate_is_the_one_that_infinitely_many_samples_would_give():
    values, base, r2 = expected()
    neighbours = draw_neighbours(POOLS, 20_000, np.random.default_rng(1))
    found = fit_local(neighbours, played(neighbours.places))
    assert found.values == pytest.approx(values, abs=0.03)
    assert found.base == pytest.approx(base, abs=0.03)
    assert found.r2 == pytest.approx(r2, abs=0.02)
    assert (abs(found.values - values) <= 1.2 * found.errors).all()


def test_intervals_hold_and_are_not_idle():
    values, _, _ = expected()
    covered, ratio = [], []
    fits = []
    for seed in range(200):
        neighbours = draw_neighbours(POOLS, 200, np.random.default_rng(seed))
        fits.append(fit_local(neighbours, played(neighbours.places)))
        covered.append(abs(fits[-1].values - values) <= fits[-1].errors)
    spread = np.std([fit.values for fit in fits], axis=0)
    ratio = np.mean([fit.errors for fit in fits], axis=0) / 1.96 / spread
    assert np.mean(covered) >= 0.93, "the interval must hold what it promises"
    assert (ratio < 4).all(), "an interval several times as wide as the scatter would say nothing"


def test_on_random_points_the_sandwich_covers_95_percent(monkeypatch):
    monkeypatch.setattr(
        "affidavit_governance.explain.surrogates.local.shifted_lattice", lambda rows, columns, generator: generator.random((rows, columns))
    )
    values, _, _ = expected()
    covered = []
    for seed in range(400):
        neighbours = draw_neighbours(POOLS, 400, np.random.default_rng(seed))
        found = fit_local(neighbours, played(neighbours.places))
        covered.append(abs(found.values - values) <= found.errors)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_ridge_is_as_in_the_package_where_nothing_else_is_fitted():
    neighbours = draw_neighbours(POOLS, 64, np.random.default_rng(0))
    answers = neighbours.present @ np.array([1.0, -2.0, 0.5]) + 0.25
    found = fit_local(neighbours, answers)
    assert found.values == pytest.approx([1.0, -2.0, 0.5], rel=0.12)  # shrunk by 1 / (64 / 4 + 1) at most
    assert (abs(found.values) < [1.0, 2.0, 0.5]).all()


def test_columns_of_a_lattice_visit_every_stratum_once_and_pairs_average_out():
    points = shifted_lattice(500, 30, np.random.default_rng(3))
    assert points.shape == (500, 30) and points.min() >= 0 and points.max() < 1
    assert all((np.sort((column * 500 % 500 - column[0] * 500) % 500).round() % 500 == np.arange(500)).all() for column in points.T)
    centred = points - 0.5
    pairs = (centred.T @ centred / 500)[np.triu_indices(30, 1)]
    random = np.random.default_rng(3).random((500, 30)) - 0.5
    assert abs(pairs).mean() < 0.6 * abs((random.T @ random / 500)[np.triu_indices(30, 1)]).mean()


@pytest.mark.parametrize(("points", "columns"), [(8, 1), (2, 3), (97, 2), (64, 0)])
def test_lattices_of_all_sizes_are_made(points, columns):
    drawn = shifted_lattice(points, columns, np.random.default_rng(0))
    assert drawn.shape == (points, columns) and np.isfinite(drawn).all()


def test_lime_says_that_it_does_not_add_up_and_works_on_gaps_and_strings(formula, table):
    columns = table.table.set_column(0, "x0", pa.array([None if i % 7 == 0 else v for i, v in enumerate(table.to_list("x0"))]))
    data = Dataset(columns, table.schema)
    model = Formula(lambda d: 0.5 + 0.4 * np.array([v == "red" for v in d.to_list("colour")]) - 0.1 * np.isnan(d.to_numpy("x0")), data)
    found = Lime().explain(model, data.head(20), data.take(np.arange(60, 160)), budget=800)
    red = [i for i, colour in enumerate(data.to_list("colour")[:20]) if colour == "red"]
    assert not found.details["additive"] and not found.exact and len(found.details["local_r2"]) == 20
    assert all(abs(found.values[i]).argmax() == 2 and found.values[i, 2] > 0.3 for i in red)
    gap = [i for i in range(20) if i % 7 == 0]
    assert found.values[gap, 0] == pytest.approx(-0.1, abs=0.02), "a gap is a cell of its own"


def test_the_residual_is_the_surrogates_miss(formula, table):
    found = Lime().explain(formula, table.head(5), table.take(np.arange(60, 160)), budget=400)
    assert found.residual == pytest.approx(abs(found.base + found.values.sum(axis=1) - formula.predict(table.head(5)).score("yes")))
    assert found.residual.max() > 1e-6, "the surrogate's miss must be reported, not hidden"


def test_dates_and_booleans_are_cells_too():
    generator = np.random.default_rng(0)
    days = np.datetime64("2020-01-01") + generator.integers(0, 1000, 120)
    data = Dataset.from_arrow({"since": pa.array(days), "flag": generator.random(120) < 0.5, "x": generator.normal(size=120)})
    late = float(np.quantile(data.to_numpy("since"), 0.75))
    model = Formula(lambda d: 1.0 * (d.to_numpy("since") > late) + 0.5 * d.to_numpy("flag"), data, Task.REGRESSION)
    found = Lime().explain(model, data.head(12), data.take(np.arange(20, 120)), budget=600)
    since, flag = data.to_numpy("since")[:12], data.to_numpy("flag")[:12]
    assert found.values[since > late, 0] == pytest.approx(1.0, abs=0.1)
    assert found.values[:, 1] == pytest.approx(np.where(flag, 0.5, -0.5), abs=0.03)
    assert abs(found.values[:, 2]).max() < 0.02


def test_a_row_alone_in_a_batch_or_in_another_order_gets_the_same_numbers(formula, table):
    background = table.take(np.arange(60, 160))
    together = Lime().explain(formula, table.head(4), background, budget=300)
    alone = Lime().explain(formula, table.take([2]), background, budget=300)
    turned = Lime().explain(formula, table.take([3, 2, 1, 0]), background, budget=300)
    assert (together.values[2] == alone.values[0]).all() and (together.errors[2] == alone.errors[0]).all()
    assert (turned.values[::-1] == together.values).all()


def test_seeds_draw_other_samples_and_nothing_global_moves(formula, table):
    state = np.random.get_state()[1].copy()  # that it stays is the point
    background = table.take(np.arange(60, 160))
    first, again, other = (Lime().explain(formula, table.head(3), background, budget=300, seed=seed) for seed in (1, 1, 2))
    assert (first.values == again.values).all()
    assert (first.values != other.values).all()
    places = [draw_neighbours(POOLS, 50, np.random.default_rng(seed)).places for seed in (1, 2)]
    assert (places[0] != places[1]).any()
    assert (np.random.get_state()[1] == state).all()  # see above


def test_rows_explained_in_threads_get_the_same_numbers_and_progress_is_reported(formula, table):
    background, seen = table.take(np.arange(60, 160)), []
    alone = [Lime().explain(formula, table.take([row]), background, budget=400, report=seen.append).values for row in range(6)]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda row: Lime().explain(formula, table.take([row]), background, budget=400).values, range(6)))
    assert all((one == other).all() for one, other in zip(alone, beside, strict=True))
    assert [(each.done, each.total) for each in seen] == [(1, 1)] * 6


def test_groups_and_masked_fields_are_one_player(table):
    schema = Schema(tuple(table.schema.fields))
    for name in ("x1", "colour"):
        schema = schema.change(name, masked="pseudonym")
    masked = Dataset(table.table, schema)
    model = Formula(lambda d: d.to_numpy("x0") * d.to_numpy("flag"), masked, Task.REGRESSION)
    found = Lime().explain(model, masked.head(3), masked.take(np.arange(60, 160)), budget=300, groups={"both": ["x0", "flag"]})
    assert found.players == ("both", "masked fields")
    assert (abs(found.values[:, 1]) <= 1.5 * found.errors[:, 1]).all(), "the model does not read them"
    assert (abs(found.values[:, 0]) > found.errors[:, 0]).any()


def test_what_no_background_row_varies_is_named_and_what_the_row_differs_in_is_found():
    generator = np.random.default_rng(0)
    columns = {"x": generator.normal(size=60), "same": np.full(60, 5.0), "gone": pa.array([None] * 60, pa.float64())}
    data = Dataset.from_arrow(columns)
    rows = Dataset(pa.table({"x": [0.3, 0.3], "same": [5.0, 4.9], "gone": pa.array([None, None], pa.float64())}), data.schema)
    model = Formula(lambda d: d.to_numpy("x") + 10 * d.to_numpy("same"), data, Task.REGRESSION)
    found = Lime().explain(model, rows, data, budget=400)
    assert found.details["not_varied"] == [["same", "gone"], ["gone"]]
    assert found.values[0, 1] == 0.0 and found.errors[0, 1] == 0.0
    assert found.values[1, 1] == pytest.approx(-1.0, abs=0.05), "4.9 is not 5.0, though both fall into one bin"
    assert abs(found.values[:, 0]).min() > 0.1


def test_a_row_of_gaps_is_explained_against_rows_without(table):
    empty = pa.table({field.name: pa.nulls(2, table.column(field.name).type) for field in table.schema})
    model = Formula(lambda d: np.where(np.isnan(d.to_numpy("x0")), 0.9, 0.2), table)
    found = Lime().explain(model, Dataset(empty, table.schema), table.take(np.arange(60, 160)), budget=300)
    assert found.values[:, 0] == pytest.approx(0.7, abs=0.02) and abs(found.values[:, 1:]).max() < 0.01


def test_a_constant_model_has_no_effects_and_a_perfect_surrogate(table):
    found = Lime().explain(Formula(lambda d: np.full(len(d), 0.4), table), table.head(2), table.take(np.arange(60, 160)), budget=100)
    assert abs(found.values).max() < 1e-12 and found.errors.max() < 1e-12
    assert found.details["local_r2"] == [1.0, 1.0] and found.residual.max() < 1e-12


def test_a_poor_surrogate_is_refused_with_its_r2(table):
    model = Formula(lambda d: (np.sin(40 * d.to_numpy("x0")) > 0) * 1.0, table)
    found = Lime().explain(model, table.head(1), table.take(np.arange(60, 160)), budget=500)
    assert found.details["local_r2"][0] < 0.3
    with pytest.raises(Refused, match="local R² of") as refusal:
        Lime().explain(model, table.head(1), table.take(np.arange(60, 160)), budget=500, min_r2=0.9)
    assert refusal.value.measured == found.details["local_r2"][0] and refusal.value.bound == 0.9


def test_of_a_straight_line_a_middle_bin_sees_little_with_either_engine():
    data = Dataset.from_arrow({"x": np.random.default_rng(0).normal(size=101)})
    rows = Dataset(pa.table({"x": [-0.2, 3.0]}), data.schema)
    for engine in ("native", "lime"):
        found = Lime().explain(Formula(lambda d: d.to_numpy("x"), data, Task.REGRESSION), rows, data, budget=2000, engine=engine)
        middle, edge = found.details["local_r2"]
        assert middle < 0.2 < 0.45 < edge


def test_budgets_are_model_rows_seconds_and_width(formula, table):
    background = table.take(np.arange(60, 160))
    before = Lime().explain(formula, table.head(2), background, budget=300)
    assert before.details["rows_spent"] == [300, 300] and before.details["model_rows"] == 2 * 300 + 2
    wide = float(2 * before.errors.max())
    narrow = Lime().explain(formula, table.head(2), background, width=wide / 3)
    assert (2 * narrow.errors).max() <= wide / 3 and min(narrow.details["rows_spent"]) > 300
    replayed = Lime().explain(formula, table.head(2), background, budget=narrow.details["rows_spent"])
    assert (replayed.values == narrow.values).all() and (replayed.errors == narrow.errors).all()
    quick = Lime().explain(formula, table.head(1), background, seconds=1e-6)
    assert quick.details["rows_spent"] == [least_rows(4)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 19}, "too small for a surrogate of 4 players"),
        ({"engine": "other"}, "engine"),
        ({"engine": "lime", "width": 0.1}, "no intervals"),
        ({"min_r2": 1.5}, "min_r2"),
        ({"min_r2": True}, "min_r2"),
        ({"kernel": 3}, "takes no option 'kernel'"),
    ],
)
def test_unfit_options_are_refused(formula, table, options, message):
    with pytest.raises(UsageError, match=message):
        Lime().explain(formula, table.head(1), table.take(np.arange(60, 160)), **options)


def test_one_background_row_and_answers_that_are_no_numbers_are_refused(formula, table):
    with pytest.raises(InvalidInput, match="1 row"):
        Lime().explain(formula, table.head(1), table.take([0]))
    with pytest.raises(InvalidInput, match="not finite"):
        Lime().explain(Formula(lambda d: np.full(len(d), np.nan), table), table.head(1), table.take(np.arange(60, 160)))


def test_the_record_holds_no_value_of_a_row(table):
    model = Formula(lambda d: np.array([0.9 if v == "red" else 0.1 for v in d.to_list("colour")]), table)
    found = Lime().explain(model, table.head(4), table.take(np.arange(60, 160)), budget=200)
    written = json.dumps(found.to_json())
    assert not any(f'"{colour}"' in written for colour in ("red", "green", "blue"))
    assert not any(f"{value!r}"[:12] in written for value in table.to_list("x0")[:160])


def test_the_library_is_one_option_away_and_finds_the_same(table):
    model = Formula(lambda d: 0.1 + 0.3 * (d.to_numpy("x0") > 0.5) + 0.4 * d.to_numpy("flag"), table)
    background = table.take(np.arange(60, 160))
    native = Lime().explain(model, table.head(3), background, budget=3000)
    library = Lime().explain(model, table.head(3), background, budget=3000, engine="lime")
    again = Lime().explain(model, table.head(3), background, budget=3000, engine="lime")
    assert library.errors is None and library.details["engine"] == "lime"
    assert (library.values == again.values).all()
    assert library.values == pytest.approx(native.values, abs=0.08)
    grouped = Lime().explain(model, table.head(1), background, budget=500, engine="lime", groups={"pair": ["x0", "colour"]})
    assert grouped.players == ("pair", "x1", "flag") and grouped.values[0, 2] == pytest.approx(native.values[0, 3], abs=0.1)


def test_without_the_library_its_engine_says_what_to_install(formula, table, monkeypatch):
    monkeypatch.delitem(sys.modules, "affidavit_governance.explain.surrogates.library", raising=False)
    monkeypatch.setitem(sys.modules, "lime.lime_tabular", None)
    with pytest.raises(MissingExtra, match=r"affidavit\[explain\]"):
        Lime().explain(formula, table.head(1), table.take(np.arange(60, 160)), engine="lime")


def test_seeds_agree_better_than_with_the_library_at_the_same_model_rows():
    data = make_table(160, numbers=14)
    model = Formula(lambda d: 1 / (1 + np.exp(-sum(d.to_numpy(f"x{i}") * (0.5 + 0.05 * i) for i in range(14)))), data)
    background = data.take(np.arange(60, 160))

    def agreement(**options):
        tops = [
            [frozenset(np.argsort(-abs(v))[:5]) for v in Lime().explain(model, data.head(4), background, seed=s, **options).values] for s in range(6)
        ]
        return np.mean([len(a & b) / len(a | b) for row in zip(*tops, strict=True) for a, b in itertools.combinations(row, 2)])

    assert agreement(budget=500) > agreement(budget=500, engine="lime") + 0.1


def test_the_native_engine_imports_neither_lime_nor_scikit_learn():
    code = "import sys, affidavit_governance.explain.methods.lime; print([m for m in ('lime', 'sklearn', 'scipy', 'shap') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
