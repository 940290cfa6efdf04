"""shap's Kernel through our door."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import shap
from tests.governance.explain.explain_models import Formula, interacting, make_table

from affidavit import Dataset, Task
from affidavit.errors import UsageError
from affidavit_governance.explain.methods.kernel import Kernel, seeded_numpy
from affidavit_governance.explain.methods.sampled import Exact, Permutation


def test_kernel_that_can_enumerate_equals_exact(formula, table):
    background = table.take(np.arange(40, 60))
    exact = Exact().explain(formula, table.head(5), background)
    kernel = Kernel().explain(formula, table.head(5), background)
    np.testing.assert_allclose(kernel.values, exact.values, atol=1e-10)
    assert kernel.details["exact"]


def test_kernel_attributes_more_than_the_ten_players_that_shap_keeps_by_default():
    data = make_table(120, numbers=14)
    weights = np.linspace(0.2, 1.0, 14)
    model = Formula(lambda d: np.stack([d.to_numpy(f"x{i}") for i in range(14)], axis=1) @ weights, data, Task.REGRESSION)
    found = Kernel().explain(model, data.head(2), data.take(np.arange(60, 80)), budget=20 * 400)
    x = np.stack([data.to_numpy(f"x{i}") for i in range(14)], axis=1)
    np.testing.assert_allclose(found.values[:, :14], weights * (x[:2] - x[60:80].mean(axis=0)), atol=1e-8)


def test_sampled_orders_come_closer_than_shap_kernel_at_the_same_model_rows():
    data = make_table(150, numbers=8)
    model = Formula(lambda d: interacting(d) ** (1 + abs(d.to_numpy("x2") * d.to_numpy("x3")) + abs(d.to_numpy("x4"))), data)
    background, rows, budget = data.take(np.arange(60, 90)), data.head(8), 30 * 80
    truth = Exact().explain(model, rows, background).values
    errors = {}
    for explainer in (Kernel, Permutation):
        found = explainer().explain(model, rows, background, budget=budget)
        assert found.details["model_rows"] <= len(rows) * (budget + 31) + 30 + len(rows)
        errors[explainer] = np.median(np.linalg.norm(found.values - truth, axis=1) / np.linalg.norm(truth, axis=1))
    assert errors[Permutation] < 0.7 * errors[Kernel]


def weighted(columns, scale=1.0):
    """A sum of that many numbers with weights from 0.2 to 1, its table and its weights."""
    data = make_table(120, numbers=columns)
    weights = scale * np.linspace(0.2, 1.0, columns)
    names = [f"x{i}" for i in range(columns)]
    return Formula(lambda d: np.stack([d.to_numpy(name) for name in names], axis=1) @ weights, data, Task.REGRESSION), data, weights


def test_shaps_own_default_sets_attributions_to_zero_silently():
    """What the guard is for: the same game, once with shap's default and once as the explainer asks for it."""
    _, data, weights = weighted(14)
    x = np.stack([data.to_numpy(f"x{i}") for i in range(14)], axis=1)
    shown = {}
    for setting in ("num_features(10)", False):
        with seeded_numpy(0):
            explainer = shap.KernelExplainer(lambda rows: rows @ weights, x[60:80])
            shown[setting] = explainer.shap_values(x[:1], nsamples=400, l1_reg=setting, silent=True)[0]
    assert (shown["num_features(10)"] == 0).sum() == 4
    assert (shown[False] != 0).all()


def test_answers_so_small_that_shap_calls_them_zero_are_given_to_another_method():
    model, data, weights = weighted(6, scale=1e-11)
    background = data.take(np.arange(60, 80))
    found = Kernel().explain(model, data.head(2), background, budget=20 * 300)
    assert found.details["fallback"].startswith("shap's KernelExplainer missed the model's answer by")
    assert found.method == "leverage"
    x = np.stack([data.to_numpy(f"x{i}") for i in range(6)], axis=1)
    np.testing.assert_allclose(found.values[:, :6], weights * (x[:2] - x[60:80].mean(axis=0)), atol=1e-17)


def test_a_library_that_raises_is_replaced_too(formula, table, monkeypatch):
    def broken(*args, **kwargs):
        raise np.linalg.LinAlgError

    monkeypatch.setattr(shap.KernelExplainer, "shap_values", broken)
    found = Kernel().explain(formula, table.head(2), table.take(np.arange(40, 60)))
    assert found.details["fallback"] == "shap's KernelExplainer raised LinAlgError; 'leverage' was used instead"
    assert found.residual.max() < 1e-12


def test_constant_columns_get_exactly_zero_and_the_others_their_values():
    data = make_table(160, numbers=4, gaps=False)
    model = Formula(interacting, data)
    red = data.take(np.flatnonzero([colour == "red" for colour in data.to_list("colour")]))
    rows, background = red.head(2), red.take(np.arange(10, 30))
    kernel, exact = Kernel().explain(model, rows, background), Exact().explain(model, rows, background)
    assert (kernel.values[:, kernel.players.index("colour")] == 0).all()
    np.testing.assert_allclose(kernel.values, exact.values, atol=1e-9)


def test_a_row_like_all_of_its_background_or_different_in_one_column_only():
    data = make_table(60)
    model = Formula(interacting, data)
    same = Kernel().explain(model, data.take(np.array([5])), data.take(np.array([5, 5])))
    assert (same.values == 0).all()
    assert same.residual[0] < 1e-12
    table = data.features().table
    other = table.take([5, 5]).set_column(0, "x0", [[1.0, 2.0]])
    one = Dataset(other, data.features().schema, name="one")
    found = Kernel().explain(model, data.take(np.array([5])), one)
    assert np.flatnonzero(found.values[0]).tolist() == [0]
    assert found.residual[0] < 1e-12


def test_numpys_global_generator_is_as_it_was_and_the_numbers_do_not_depend_on_it(formula, table):
    data = make_table(120, numbers=14)
    model, background = Formula(interacting, data), data.take(np.arange(60, 70))
    np.random.seed(3)  # what a caller may do
    before = np.random.get_state()[1].copy()
    first = Kernel().explain(model, data.head(1), background, budget=10 * 200)
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(4)
    second = Kernel().explain(model, data.head(1), background, budget=10 * 200)
    assert (first.values == second.values).all()
    assert not first.exact


def test_numpys_global_generator_comes_back_when_the_model_fails():
    data = make_table(60)

    def failing(d):
        raise ValueError("the model's own error")

    state = np.random.get_state()[1].copy()
    with pytest.raises(ValueError, match="own error"):
        Kernel().explain(Formula(failing, data), data.head(1), data.take(np.arange(30, 40)))
    assert (np.random.get_state()[1] == state).all()


def test_four_threads_at_once_give_the_numbers_of_one_after_the_other():
    data = make_table(160, numbers=14)
    model, background = Formula(interacting, data), data.take(np.arange(60, 70))
    batches = [data.take(np.arange(2 * i, 2 * i + 2)) for i in range(4)]
    alone = [Kernel().explain(model, batch, background, budget=10 * 200).values for batch in batches]
    together = [None] * 4

    def explain(number):
        together[number] = Kernel().explain(model, batches[number], background, budget=10 * 200).values

    threads = [threading.Thread(target=explain, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_a_replay_with_the_rows_spent_gives_bit_equal_numbers(formula, table):
    background = table.take(np.arange(40, 60))
    found = Kernel().explain(formula, table.head(3), background, budget=200)
    again = Kernel().explain(formula, table.head(3), background, budget=found.details["rows_spent"])
    assert (found.values == again.values).all()


def test_a_width_cannot_be_asked_of_a_method_without_intervals(formula, table):
    with pytest.raises(UsageError, match="gives no intervals"):
        Kernel().explain(formula, table.head(1), table, width=0.1)


def test_a_budget_that_is_too_small_says_how_many_rows_it_takes(formula, table):
    with pytest.raises(UsageError, match="A budget of 10 model rows is too small for 4 players") as caught:
        Kernel().explain(formula, table.head(1), table.take(np.arange(40, 60)), budget=10)
    assert "Give at least 181." in str(caught.value.hint)
