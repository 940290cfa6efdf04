"""Games played on a model's own matrix: the same numbers as through tables, checked, and never trusted where they differ."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from tests.governance.explain.explain_models import Formula, brute_force, interacting, make_table

from affidavit import Dataset, Task
from affidavit.errors import UsageError
from affidavit.interfaces.model import EncodedView, inside_call
from affidavit_governance.explain.case import Case, Options
from affidavit_governance.explain.methods.sampled import Exact, Leverage, Permutation
from affidavit_governance.explain.players import encoded
from affidavit_governance.explain.players.build import PLAYER_OPTIONS, players_of
from affidavit_plugins.tabular.additive import Additive
from affidavit_plugins.tabular.linear import Linear, Logistic
from affidavit_plugins.tabular.mlp import MLP, product
from affidavit_plugins.tabular.trees import Boosting, Forest, Tree

TYPES = {
    "mlp": lambda: MLP(hidden=(8, 8), epochs=3),
    "relu": lambda: MLP(hidden=(8,), activation="relu", dropout=0.2, epochs=3),
    "no hidden layer": lambda: MLP(hidden=(), epochs=3),
    "logistic": Logistic,
    "additive": Additive,
    "tree": Tree,
    "forest": lambda: Forest(trees=10),
    "boosting": lambda: Boosting(trees=10),
}


def trained(kind, data):
    return TYPES[kind]().fit(data)


def opened(model, rows, background):
    case = Case.open(model, rows, background, Options.read("test", {}, own=PLAYER_OPTIONS))
    return case, players_of(case)


def both_roads(model, rows, background, row=0):
    """The scores of the same coalitions on the encoded road and through tables, and the road's name."""
    case, players = opened(model, rows, background)
    generator = np.random.default_rng(5)
    coalitions = generator.random((3000, len(players.names))) < 0.5
    reference = generator.integers(0, len(background), 3000)
    fast = players.family(row, case.score)(coalitions, reference)
    through = case.score(players.rows(row, coalitions, reference))
    return fast, through, case.score.road


@pytest.fixture(params=TYPES)
def model(request):
    return trained(request.param, make_table(160))


def test_each_tabular_type_answers_mixtures_of_encoded_rows_as_it_answers_tables(model):
    data = make_table(160)
    fast, through, road = both_roads(model, data.head(3), data.take(np.arange(30, 57)))
    assert road == "encoded rows"
    np.testing.assert_allclose(fast, through, rtol=0, atol=1e-12)


def test_exact_values_on_the_encoded_road_are_those_of_brute_force_over_raw_rows(model):
    data = make_table(160)
    background = data.take(np.arange(30, 57))
    found = Exact().explain(model, data.head(2), background)
    assert found.details["road"] == "encoded rows"
    for row in range(2):
        np.testing.assert_allclose(found.values[row], brute_force(model, data, background, row), atol=1e-9)
    assert found.residual.max() < 1e-12


@pytest.mark.parametrize("type_", [Linear, lambda: MLP(hidden=(8,), epochs=3), lambda: Forest(trees=5), lambda: Boosting(trees=5), Additive])
def test_numbers_are_answered_alike_too(type_):
    data = make_table(120)
    numbers = Dataset.from_arrow(data.table.drop_columns(["y"]), name="numbers", target="x1", fields={"colour": {"type": "categorical"}})
    fast, through, road = both_roads(type_().fit(numbers), numbers.head(2), numbers.take(np.arange(30, 50)))
    assert road == "encoded rows"
    np.testing.assert_allclose(fast, through, rtol=1e-12, atol=1e-12)


def test_three_classes_are_answered_alike():
    data = make_table(150)
    fields = {"colour": {"type": "categorical"}}
    kinds = np.array(["a", "b", "c"])[np.random.default_rng(0).integers(0, 3, 150)]
    three = Dataset.from_arrow({**{name: data.column(name) for name in ("x0", "x1", "colour", "flag")}, "y": kinds}, target="y", fields=fields)
    for type_ in (lambda: MLP(hidden=(8,), epochs=2), Logistic, Additive, lambda: Boosting(trees=3)):
        fast, through, road = both_roads(type_().fit(three), three.head(2), three.take(np.arange(30, 50)))
        assert road == "encoded rows"
        np.testing.assert_allclose(fast, through, atol=1e-12)


class Liar(Formula):
    """Right through `predict`, and encoded as its numbers; its encoded answers go through `lie`."""

    def __init__(self, data, lie, **changes):
        super().__init__(lambda d: 1 / (1 + np.exp(-(d.to_numpy("x0") * d.to_numpy("x1")))), data)
        self.lie, self.changes = lie, changes

    def encoded_view(self):
        def answer(matrix):
            p = 1 / (1 + np.exp(-(matrix[:, 0] * matrix[:, 1])))
            return self.lie(matrix, np.stack([1 - p, p], axis=1))

        view = EncodedView(lambda d: np.stack([d.to_numpy("x0"), d.to_numpy("x1")], axis=1), ("x0", "x1"), answer=answer)
        return replace(view, **self.changes)


def numbers_table():
    data = make_table(80, gaps=False)
    return Dataset.from_arrow(data.table.select(["x0", "x1", "y"]), name="two", target="y")


LIES = {
    "everywhere": lambda matrix, answers: answers * 0.9,
    "a little everywhere": lambda matrix, answers: answers + 1e-5,
    "on mixtures alone": None,
}


@pytest.mark.parametrize("lie", LIES)
def test_an_encoded_answer_that_is_not_what_predict_answers_is_not_used(lie):
    data = numbers_table()
    rows, background = data.head(4), data.take(np.arange(30, 50))
    known = {tuple(pair) for pair in np.stack([data.to_numpy("x0"), data.to_numpy("x1")], axis=1)}

    def strange_on_mixtures(matrix, answers):
        mixture = np.array([tuple(pair) not in known for pair in matrix])
        return np.where(mixture[:, None], 0.5, answers)

    liar = Liar(data, LIES[lie] or strange_on_mixtures)
    found = Exact().explain(liar, rows, background)
    assert found.details["road"].startswith("tables: the encoded rows of 4 explained rows are answered otherwise")
    np.testing.assert_allclose(found.values[1], brute_force(liar, data, background, 1), atol=1e-12)


def test_an_honest_view_is_used_so_that_the_lies_above_are_what_closes_the_road():
    data = numbers_table()
    found = Exact().explain(Liar(data, lambda matrix, answers: answers), data.head(4), data.take(np.arange(30, 50)))
    assert found.details["road"] == "encoded rows"


def test_only_the_rows_that_are_answered_otherwise_go_through_tables():
    data = numbers_table()
    rows, background = data.head(4), data.take(np.arange(30, 50))
    second = data.to_numpy("x0")[1]
    liar = Liar(data, lambda matrix, answers: np.where((matrix[:, 0] == second)[:, None], 0.5, answers))
    found = Exact().explain(liar, rows, background)
    assert found.details["road"].startswith("tables: the encoded rows of 1 explained rows")
    for row in range(4):
        np.testing.assert_allclose(found.values[row], brute_force(liar, data, background, row), atol=1e-12)
    alone = Exact().explain(liar, rows.take(np.array([2])), background)
    assert (alone.values[0] == found.values[2]).all()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"players": ("x0", "elsewhere")}, "belongs to no field"),
        ({"players": ("x0", "x1", "x1")}, "another number of columns"),
        ({"projection": np.ones((2, 1)), "head": lambda products: np.repeat([[0.5, 0.5]], len(products), axis=0)}, "answered otherwise"),
    ],
)
def test_a_view_that_does_not_fit_the_fields_or_whose_first_layer_is_another_is_not_used(changes, why):
    data = numbers_table()
    liar = Liar(data, lambda matrix, answers: answers, **changes)
    found = Exact().explain(liar, data.head(2), data.take(np.arange(30, 50)))
    assert found.details["road"].startswith("tables: ")
    assert why in found.details["road"]
    np.testing.assert_allclose(found.values[0], brute_force(liar, data, data.take(np.arange(30, 50)), 0), atol=1e-12)


def test_a_model_without_an_encoded_answer_is_asked_through_tables():
    data = make_table(60)
    model = Formula(interacting, data)
    assert Exact().explain(model, data.head(1), data.take(np.arange(30, 40))).details["road"] == "tables"


def test_a_row_alone_in_a_batch_and_in_another_order_has_bit_equal_numbers():
    data = make_table(300, numbers=12)
    background = data.take(np.arange(100, 160))
    for kind in ("mlp", "forest"):
        model = trained(kind, data)
        batch = Permutation().explain(model, data.head(6), background, budget=6000)
        assert batch.details["road"] == "encoded rows"
        turned = Permutation().explain(model, data.take(np.arange(6)[::-1]), background, budget=6000)
        alone = Permutation().explain(model, data.take(np.array([4])), background, budget=6000)
        assert (batch.values == turned.values[::-1]).all()
        assert (batch.values[4] == alone.values[0]).all()


@pytest.mark.parametrize("kind", ["mlp", "forest", "boosting"])
def test_four_threads_at_once_give_the_numbers_of_one_after_the_other(kind):
    data = make_table(200, numbers=10)
    model, background = trained(kind, data), data.take(np.arange(100, 140))
    batches = [data.take(np.arange(4 * i, 4 * i + 4)) for i in range(4)]
    alone = [Permutation().explain(model, batch, background, budget=8000).values for batch in batches]
    together = [None] * 4

    def explain(number):
        together[number] = Permutation().explain(model, batches[number], background, budget=8000).values

    threads = [threading.Thread(target=explain, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("explainer", [Leverage, Permutation, Exact])
def test_rows_in_threads_have_the_numbers_the_count_and_the_order_of_one_core(explainer, monkeypatch):
    data = make_table(200, numbers=10)
    model, background = trained("mlp", data), data.take(np.arange(100, 120))
    found, reported, threads = [], [], set()
    inside = encoded.Products.ask
    monkeypatch.setattr(encoded.Products, "ask", lambda self, mixed: (threads.add(threading.current_thread()), inside(self, mixed))[1])
    for number in (1, 3):
        monkeypatch.setattr(encoded, "cores", lambda number=number: number)
        done = []
        found.append(
            explainer().explain(model, data.head(12), background, budget=2**14 * 20, report=lambda progress, done=done: done.append(progress.done))
        )
        reported.append(done)
    one, several = found
    assert (one.values == several.values).all() and one.details["model_rows"] == several.details["model_rows"]
    assert reported[0] == reported[1] == list(range(1, 13))
    assert len(threads) > 1, "with three cores rows went to other threads than this one"


def test_the_error_of_a_row_in_a_thread_is_the_caller_s(monkeypatch):
    data = make_table(200, numbers=10)
    model, background = trained("mlp", data), data.take(np.arange(100, 120))
    monkeypatch.setattr(encoded, "cores", lambda: 3)
    with pytest.raises(UsageError, match="too small"):
        Leverage().explain(model, data.head(6), background, budget=50)


def test_every_model_row_is_counted_the_check_included():
    data = make_table(160)
    rows, background = data.head(3), data.take(np.arange(30, 50))
    found = Exact().explain(trained("mlp", data), rows, background)
    game = 3 * 2**4 * 20
    check = 2 * 20 + 2 * 3 * 5
    assert found.details["model_rows"] == game + check + 3


def test_a_field_that_is_the_same_in_all_background_rows_gets_exactly_zero_and_costs_nothing():
    data = make_table(160)
    model = trained("mlp", data)
    same = data.take(np.flatnonzero([colour == "red" for colour in data.to_list("colour")]))
    rows, background = same.head(2), same.take(np.arange(10, 30))
    _, players = opened(model, rows, background)
    assert [players.names[place] for place in players.active(0)] == ["x0", "x1", "flag"]
    found = Exact().explain(model, rows, background)
    assert (found.values[:, 2] == 0).all()
    np.testing.assert_allclose(found.values[0], brute_force(model, same, background, 0), atol=1e-12)


def test_a_row_like_all_of_its_background_is_explained_by_nothing():
    data = make_table(160)
    model = trained("mlp", data)
    found = Exact().explain(model, data.take(np.array([3])), data.take(np.array([3, 3, 3])))
    assert (found.values == 0).all()
    assert found.residual[0] < 1e-12


def test_groups_move_together_on_the_encoded_road():
    data = make_table(160)
    model, background = trained("mlp", data), data.take(np.arange(30, 50))
    found = Exact().explain(model, data.head(1), background, groups={"pair": ["x0", "colour"]})
    slow = Exact().explain(Formula(lambda d: model.predict(d).score("yes"), data), data.head(1), background, groups={"pair": ["x0", "colour"]})
    assert found.details["road"] == "encoded rows"
    assert slow.details["road"] == "tables"
    np.testing.assert_allclose(found.values, slow.values, atol=1e-12)


def test_a_task_with_numbers_has_its_own_scale_in_the_check():
    """Answers around 1e-9 that are wrong by a tenth are far off, however small the difference is."""
    data = numbers_table()

    class Small(Formula):
        def encoded_view(self):
            def answer(matrix):
                return 1.1e-9 * matrix[:, 0]

            return EncodedView(lambda d: np.stack([d.to_numpy("x0"), d.to_numpy("x1")], axis=1), ("x0", "x1"), answer=answer)

    small = Small(lambda d: 1e-9 * d.to_numpy("x0"), data, Task.REGRESSION)
    assert Exact().explain(small, data.head(2), data.take(np.arange(30, 50))).details["road"].startswith("tables: ")


def test_pieces_on_other_threads_know_that_they_are_part_of_a_governed_call(monkeypatch):
    monkeypatch.setattr(encoded.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    token = inside_call.set(True)
    try:
        seen = []
        encoded.spread(lambda start: seen.append((start, inside_call.get(), threading.get_ident())), range(8))
    finally:
        inside_call.reset(token)
    assert sorted(start for start, _, _ in seen) == list(range(8))
    assert all(inside for _, inside, _ in seen)
    assert threading.get_ident() not in {thread for _, _, thread in seen}


def test_an_error_in_a_piece_is_the_callers_error():
    def failing(start):
        raise ValueError("a piece failed")

    with pytest.raises(ValueError, match="a piece failed"):
        encoded.spread(failing, range(64))


@pytest.mark.parametrize(("rows", "units", "outputs"), [(0, 5, 3), (7, 5, 3), (4096, 64, 64), (1000, 64, 64), (50, 600, 700)])
def test_products_in_blocks_are_products(rows, units, outputs):
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(rows, units)), generator.normal(size=(units, outputs))
    np.testing.assert_allclose(product(left, right), left @ right, atol=1e-11)
