"""The closed form against shap and the model's own answers."""

from __future__ import annotations

import numpy as np
import pytest

from affidavit import Dataset
from affidavit_governance.explain.case import relative_residual
from affidavit_governance.explain.methods.linear import Linear
from affidavit_plugins.tabular.linear import Linear as LinearModel
from affidavit_plugins.tabular.linear import Logistic


@pytest.mark.parametrize("label", ["yes", "no"])
def test_linear_is_the_closed_form_and_equals_shap(table, label):
    import shap

    model = Logistic().fit(table)
    background = table.take(np.arange(40, 100))
    found = Linear().explain(model, table.head(10), background, label=label)
    view = model.encoded_view()
    sign = 1 if label == "yes" else -1
    theirs = shap.LinearExplainer((sign * view.coefficients, sign * view.intercept), view.encode(background)).shap_values(view.encode(table.head(10)))
    for player in range(4):
        columns = [i for i, name in enumerate(view.players) if name == found.players[player]]
        np.testing.assert_allclose(found.values[:, player], theirs[:, columns].sum(axis=1), atol=1e-10)
    assert found.output == f"log-odds of {label}"
    assert found.residual.max() < 1e-9


def test_linear_regression_in_large_units_adds_up(table):
    data = Dataset.from_arrow(
        {"a": table.to_numpy("x0") * 1e6, "b": table.to_numpy("x1"), "y": table.to_numpy("x0") * 3e8 + table.to_numpy("x1")}, target="y"
    )
    found = Linear().explain(LinearModel().fit(data), data.head(5), data.head(50))
    assert found.output == "value" and relative_residual(found).max() < 1e-12


def test_a_saturated_logistic_is_not_taken_for_a_broken_one(table):
    data = Dataset.from_arrow({"x": np.linspace(-1, 1, 80), "y": np.where(np.arange(80) < 40, "a", "b")}, target="y")
    model = Logistic(l2=0.0).fit(data)
    assert model.predict(data).probabilities.max() > 1 - 1e-12
    found = Linear().explain(model, data, data.head(60))
    assert relative_residual(found).max() < 1e-6
    broken = Linear().explain(model, data, data.head(60))
    broken.values[40:42] += 0.01
    assert relative_residual(broken).max() > 1e-4
