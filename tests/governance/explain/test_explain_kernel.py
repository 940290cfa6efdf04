"""shap's Kernel through our door."""

from __future__ import annotations

import numpy as np
from tests.governance.explain.explain_models import Formula, interacting, make_table

from affidavit import Task
from affidavit_governance.explain.methods.kernel import Kernel
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
