"""Exact values of trees against enumeration, and what happens where the library does not add up."""

from __future__ import annotations

import numpy as np
import pytest

from affidavit import Dataset
from affidavit_governance.explain.case import relative_residual
from affidavit_governance.explain.methods.sampled import Exact
from affidavit_governance.explain.methods.tree import Tree
from affidavit_governance.explain.planner import choose
from affidavit_plugins.tabular.trees import Boosting, Forest
from affidavit_plugins.tabular.trees import Tree as TreeModel


@pytest.mark.parametrize("model_type", [TreeModel, Forest])
@pytest.mark.parametrize("label", ["yes", "no"])
def test_tree_equals_enumeration_of_the_whole_model_where_a_field_is_one_column(table, model_type, label):
    data = table.select(["x0", "x1", "flag", "y"])
    model = model_type(trees=15).fit(data) if model_type is Forest else model_type().fit(data)
    background = data.take(np.arange(40, 52))
    found = Tree().explain(model, data.head(5), background, label=label)
    assert "fallback" not in found.details and found.details["exact"] and found.output == f"probability of {label}"
    expected = Exact().explain(model, data.head(5), background, label=label)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


@pytest.mark.parametrize("model_type", [TreeModel, Forest, Boosting])
@pytest.mark.parametrize("label", ["yes", "no"])
def test_one_hot_columns_are_summed_and_every_row_adds_up(table, model_type, label):
    model = model_type().fit(table)
    found = Tree().explain(model, table.head(20), table.take(np.arange(40, 90)), label=label)
    assert "fallback" not in found.details and found.players == ("x0", "x1", "colour", "flag")
    assert relative_residual(found).max() < 1e-6 and abs(found.values[:, 2]).max() > 0.05
    assert found.output == f"{'log-odds' if model_type is Boosting else 'probability'} of {label}"


def test_boosted_regression_in_large_units_adds_up(table):
    data = Dataset.from_arrow({"a": table.column("x0"), "c": table.column("colour"), "y": table.to_numpy("x0") * 3e8}, target="y")
    found = Tree().explain(Boosting(trees=20).fit(data), data.head(20), data.head(50))
    assert "fallback" not in found.details and found.output == "value" and relative_residual(found).max() < 1e-6


def test_trees_add_up_on_standardised_data_where_plain_shap_does_not():
    import shap

    generator = np.random.default_rng(5)
    ages = generator.integers(19, 75, 400).astype(float)
    data = Dataset.from_arrow(
        {"age": ages, "months": generator.integers(4, 72, 400).astype(float), "y": np.where(ages + generator.normal(0, 20, 400) > 40, "b", "a")},
        target="y",
    )
    plain, ours = 0.0, 0.0
    for seed in range(6):
        rows = np.random.default_rng(seed).permutation(400)
        model = Forest(trees=40).fit(data.take(rows[:200]))
        background, explained = data.take(rows[200:300]), data.take(rows[300:360])
        view = model.encoded_view()
        library = shap.TreeExplainer(view.estimator, data=view.encode(background), feature_perturbation="interventional")
        values = library.shap_values(view.encode(explained), check_additivity=False)[:, :, 1].sum(axis=1)
        plain = max(plain, abs(library.expected_value[1] + values - model.predict(explained).score("b")).max())
        found = Tree().explain(model, explained, background)
        assert "fallback" not in found.details
        ours = max(ours, relative_residual(found).max())
    assert plain > 1e-5, "the trap that this guards is gone from shap: the rank encoding may go too"
    assert ours < 1e-6


def test_tree_that_does_not_add_up_falls_back_and_says_so(table, monkeypatch):
    from affidavit_governance.explain.methods import tree

    model = Forest(trees=5).fit(table)
    honest = tree._tree_shap
    monkeypatch.setattr(tree, "_tree_shap", lambda view, case: (honest(view, case)[0] * 1.01, honest(view, case)[1]))
    found = Tree().explain(model, table.head(3), table.head(20))
    assert found.method == "exact" and "missed the model's answer" in found.details["fallback"]
    assert relative_residual(found).max() < 1e-9


def test_boosting_for_several_classes_is_not_given_to_tree(table):
    data = Dataset.from_arrow({"x0": table.column("x0"), "y": np.array(["a", "b", "c"])[np.digitize(table.to_numpy("x0"), [-0.5, 0.5])]}, target="y")
    model = Boosting(trees=5).fit(data)
    name, _ = choose(model, data)
    assert name == "exact"
    found = Exact().explain(model, data.head(3), data.head(30), label="b")
    assert found.output == "probability of b" and found.residual.max() < 1e-12
    forest = Tree().explain(Forest(trees=5).fit(data), data.head(3), data.head(30), label="b")
    assert "fallback" not in forest.details and forest.residual.max() < 1e-6
