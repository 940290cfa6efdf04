"""Linear and additive models under the real private engine: what they learn, what they refuse, and that they read rows only through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from affidavit.errors import Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model
from affidavit.interfaces.training import Training
from affidavit_plugins.tabular.additive import Additive
from affidavit_plugins.tabular.bins import BinColumn, Bins, merged
from affidavit_plugins.tabular.linear import Linear, Logistic
from affidavit_plugins.torch_base.plain import PlainReleases, PlainStatistics

CLASSES = [Logistic, Additive]
NUMBERS = [Linear, Additive]


def rows(task: str, number: int = 3000, seed: int = 0, **fields: Any) -> Dataset:
    """Numbers, flags and hidden categories with gaps."""
    rng = np.random.default_rng(seed)
    size, flag, place = rng.normal(50, 10, number), rng.random(number) < 0.4, rng.choice(["north", "south", "west"], number)
    signal = (size - 50) / 10 + 1.5 * flag + 2.0 * (place == "south")
    answers = {
        "binary": np.where(signal > 1.2, "yes", "no"),
        "multiclass": np.array(["low", "middle", "top"])[np.digitize(signal, [0.5, 2.0])],
        "regression": signal * 10 + rng.normal(0, 0.5, number),
    }
    table = pa.table({"size": pa.array(size, mask=rng.random(number) < 0.03), "flag": flag, "place": place, "answer": answers[task]})
    return Dataset.from_arrow(table, target="answer", fields=fields)


def accuracy(model: Any, data: Dataset) -> float:
    answers = model.predict(data).values
    if data.schema.target is not None and answers.dtype.kind == "f":
        truth = data.to_numpy("answer")
        return float(1 - ((answers - truth) ** 2).mean() / truth.var())
    return float((answers == np.array(data.to_list("answer"))).mean())


@pytest.mark.parametrize(
    ("model", "task", "floor"),
    [
        (Logistic, "binary", 0.9),
        (Additive, "binary", 0.9),
        (Logistic, "multiclass", 0.75),
        (Additive, "multiclass", 0.8),
        (Linear, "regression", 0.9),
        (Additive, "regression", 0.8),
    ],
)
def test_a_private_model_learns_at_epsilon_three_and_spends_no_more(
    model: type[Model], task: str, floor: float, private_engine: Callable[[float], Any], saved: Any, loaded: Any
) -> None:
    engine = private_engine(3.0)
    fitted = model().fit(rows(task), Training(engine=engine))
    engine.check_finished(model.type)
    assert 2.98 < float(engine.statement()["epsilon"]) <= 3.0
    tests = rows(task, seed=1)
    assert accuracy(fitted, tests) > floor
    again = loaded(fitted, saved(fitted))
    assert np.array_equal(again.predict(tests).values, fitted.predict(tests).values)
    assert saved(again) == saved(fitted)


def test_two_private_trainings_of_the_same_seed_differ(private_engine: Callable[[float], Any]) -> None:
    data = rows("binary", 400)
    for model in CLASSES:
        views = [model().fit(data, Training(engine=private_engine(1.0), seed=3)).encoded_view().coefficients for _ in range(2)]
        assert not np.array_equal(*views)


class Watching(PlainStatistics):
    """A private engine in name: gives constants for what it is asked, so that nothing of the rows can come through it."""

    private = True

    def center_and_scale(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(columns.shape[1], 50.0), np.full(columns.shape[1], 10.0)

    def vocabulary(self, values: Any) -> None:
        return None

    def releases(self, plan: Any) -> Any:
        return Constant(len(plan))


class Constant(PlainReleases):
    def __init__(self, planned: int) -> None:
        self.left = planned

    def sums(self, rows: np.ndarray, *, bound: float, groups: Any = None, number: int = 1) -> tuple[np.ndarray, float]:
        self.left -= 1
        return np.ones((number, rows.shape[1])), 1.0

    def minimise(self, rows: np.ndarray, targets: np.ndarray, **settings: Any) -> np.ndarray:
        self.left -= 1
        return np.ones(rows.shape[1])


@pytest.mark.parametrize(("model", "task"), [*((model, "binary") for model in CLASSES), *((model, "regression") for model in NUMBERS)])
def test_everything_that_a_private_model_keeps_came_through_the_engine(model: type[Model], task: str, saved: Any) -> None:
    # Two data sets with nothing in common but schema, classes and number of rows.
    engines = [Watching(), Watching()]
    files = [saved(model().fit(rows(task, 60, seed=seed), Training(engine=engine))) for seed, engine in zip((1, 2), engines, strict=True)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("model", "params", "fields", "reason"),
    [
        (Logistic, {"l1": 0.1}, {}, "l1 penalty"),
        (Linear, {"l1": 0.1}, {}, "l1 penalty"),
        (Logistic, {"class_weight": "balanced"}, {}, "count the classes"),
        (Additive, {"class_weight": "balanced"}, {}, "count the classes"),
        (Logistic, {}, {"size": {"role": "weight"}}, "weight column"),
        (Additive, {}, {"size": {"role": "weight"}}, "weight column"),
    ],
)
def test_what_cannot_be_private_is_refused_with_the_reason(
    model: type[Model], params: dict[str, Any], fields: dict[str, Any], reason: str, private_engine: Callable[[float], Any]
) -> None:
    engine = private_engine(1.0)
    with pytest.raises(Refused, match=reason):
        model(**params).fit(rows("regression" if model is Linear else "binary", 60, **fields), Training(engine=engine))
    assert engine.events == ()


@pytest.mark.parametrize("model", [*CLASSES, Linear])
def test_rows_without_features_are_refused_before_they_cost_anything(model: type[Model], private_engine: Callable[[float], Any]) -> None:
    engine = private_engine(1.0)
    with pytest.raises(UsageError, match="no feature columns"):
        model().fit(rows("regression" if model is Linear else "binary", 60).select(["answer"]), Training(engine=engine))
    assert engine.events == ()


def test_public_class_weights_move_a_private_model_towards_the_class(private_engine: Callable[[float], Any]) -> None:
    data = rows("binary", 1500)
    for model in CLASSES:
        plain, weighted = (
            model(class_weight=weight).fit(data, Training(engine=private_engine(3.0))).predict(data).score("yes").mean()
            for weight in (None, {"yes": 8.0})
        )
        assert weighted > plain + 0.05


def test_declared_categories_and_bounds_are_used_as_they_are(private_engine: Callable[[float], Any]) -> None:
    fields = {"place": {"categories": ["north", "south", "west"]}, "size": {"bounds": [0, 100]}}
    model = Additive().fit(rows("binary", 500, **fields), Training(engine=private_engine(3.0)))
    place = next(shape for shape in model.shapes() if shape["field"] == "place")
    assert place["bins"] == ["missing", "north", "south", "west", "other"]
    assert len(place["values"]) == 5


# -- the additive model itself ----------------------------------------------------------------------------------------------------------


def test_shapes_add_up_to_the_scores_and_are_centred() -> None:
    data = rows("regression", 600)
    model = Additive().fit(data)
    view = model.encoded_view()
    matrix = view.encode(data.features())
    assert np.allclose(matrix @ view.coefficients + view.intercept, model.predict(data).values)
    for name in set(view.players):
        mine = np.array(view.players) == name
        assert (matrix[:, mine] @ view.coefficients[mine]).mean() == pytest.approx(0, abs=1e-9)
    values = np.concatenate([np.array(shape["values"])[:, 0] for shape in model.shapes()])
    assert np.array_equal(values, view.coefficients)
    assert all(len(shape["bins"]) == len(shape["values"]) for shape in model.shapes())


def test_a_step_function_is_found_where_a_line_is_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, 4000)
    data = Dataset.from_arrow(pa.table({"x": x, "answer": np.where(np.abs(x) < 1, 10.0, 0.0) + rng.normal(0, 0.1, 4000)}), target="answer")
    assert accuracy(Additive().fit(data), data) > 0.9
    assert accuracy(Linear().fit(data), data) < 0.1


def test_bins_hold_equal_parts_and_a_heavy_value_stands_for_itself() -> None:
    column = BinColumn("x", "number", tuple(float(edge) for edge in range(1, 100)))
    even, counts = merged(column, np.array([0.0, *np.full(100, 10.0)]), 0.0, 10)
    assert even.edges == tuple(float(edge) for edge in range(10, 100, 10))
    assert counts.tolist() == [0.0, *[100.0] * 10]
    heavy, totals = merged(column, np.array([0.0, 9000.0, *np.full(99, 10.0)]), 0.0, 10)
    assert heavy.edges[0] == 1.0
    assert 8 <= len(heavy.edges) <= 10
    assert totals.sum() == 9990.0
    assert merged(column, np.array([0.0, *np.full(100, 10.0)]), 100.0, 10)[0].edges == (40.0, 80.0)
    assert merged(column, np.zeros(101), 0.0, 10)[0].edges == ()


def test_a_value_on_an_edge_falls_into_the_upper_bin_and_missing_and_unseen_have_their_own() -> None:
    data = Dataset.from_arrow(pa.table({"x": [0.0, 1.0, None, 99.0], "c": ["a", "z", None, "b"]}), fields={"c": {"categories": ["a", "b"]}})
    bins = Bins((BinColumn("x", "number", (1.0, 2.0)), BinColumn("c", "categories", categories=("a", "b"))))
    assert bins.codes(data).tolist() == [[1, 1], [2, 3], [0, 0], [3, 2]]
    assert bins.transform(data).sum(axis=1).tolist() == [2.0] * 4
    assert Bins.from_json(bins.to_json()) == bins
