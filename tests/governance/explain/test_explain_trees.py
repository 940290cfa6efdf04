"""Exact values of trees against enumeration of the whole model, and what happens where a library or a model does not add up."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from tests.governance.explain.explain_models import Formula, brute_force, make_table

from affidavit import Dataset
from affidavit.errors import MissingExtra, PluginError, UsageError
from affidavit.interfaces.model import Capabilities
from affidavit.interfaces.outputs import explained_output, relative_residual
from affidavit_governance.explain.methods.sampled import Exact
from affidavit_governance.explain.methods.tree import Tree
from affidavit_governance.explain.planner import choose
from affidavit_plugins.tabular.trees import Boosting, Forest
from affidavit_plugins.tabular.trees import Tree as TreeModel


@pytest.mark.parametrize("model_type", [TreeModel, Forest])
@pytest.mark.parametrize("label", ["yes", "no"])
def test_tree_equals_enumeration_of_the_whole_model_with_one_hot_fields_and_gaps(table, model_type, label):
    model = model_type(trees=15).fit(table) if model_type is Forest else model_type().fit(table)
    background = table.take(np.arange(40, 52))
    found = Tree().explain(model, table.head(5), background, label=label)
    expected = Exact().explain(model, table.head(5), background, label=label)
    assert found.players == expected.players == ("x0", "x1", "colour", "flag")
    np.testing.assert_allclose(found.values, expected.values, atol=1e-12)
    np.testing.assert_allclose(found.base, expected.base, atol=1e-12)
    if label == "yes":
        np.testing.assert_allclose(found.values[2], brute_force(model, table, background, 2), atol=1e-12)
    assert "fallback" not in found.details and found.details["exact"] and found.errors is None
    assert found.details["game"] == "interventional" and found.details["engine"] == "native"
    assert found.output == f"probability of {label}"


def test_groups_and_masked_fields_are_players_as_in_enumeration(table):
    model = Forest(trees=10).fit(table)
    background, groups = table.take(np.arange(40, 52)), {"both": ("x1", "colour")}
    found = Tree().explain(model, table.head(4), background, groups=groups)
    expected = Exact().explain(model, table.head(4), background, groups=groups)
    assert found.players == expected.players == ("x0", "both", "flag")
    np.testing.assert_allclose(found.values, expected.values, atol=1e-12)


@pytest.mark.parametrize("label", ["yes", "no"])
def test_boosting_explains_its_log_odds_and_every_row_adds_up(table, label):
    model = Boosting(trees=30).fit(table)
    found = Tree().explain(model, table.head(20), table.take(np.arange(40, 90)), label=label)
    assert "fallback" not in found.details and found.output == f"log-odds of {label}"
    assert relative_residual(found).max() < 1e-9 and abs(found.values[:, 2]).max() > 0.05
    estimator, view = model.encoded_view().estimator, model.encoded_view()
    raw = estimator.decision_function(view.encode(table.head(20))) * (1 if label == "yes" else -1)
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), raw, atol=1e-12)


def test_boosted_regression_in_large_units_adds_up(table):
    data = Dataset.from_arrow({"a": table.column("x0"), "c": table.column("colour"), "y": table.to_numpy("x0") * 3e8}, target="y")
    found = Tree().explain(Boosting(trees=20).fit(data), data.head(20), data.head(50))
    assert "fallback" not in found.details and found.output == "value" and relative_residual(found).max() < 1e-12


def three_classes(table):
    kind = np.array(["a", "b", "c"])[np.digitize(table.to_numpy("x0") + (table.to_numpy("x1") > 0), [-0.5, 0.8])]
    return Dataset.from_arrow({"x0": table.column("x0"), "x1": table.column("x1"), "colour": table.column("colour"), "y": kind}, target="y")


@pytest.mark.parametrize("label", ["a", "b", "c"])
def test_boosting_for_several_classes_explains_the_centred_log_ratio(table, label):
    data = three_classes(table)
    model = Boosting(trees=8).fit(data)
    assert choose(model, data)[0] == "tree"
    found = Tree().explain(model, data.head(6), data.take(np.arange(40, 60)), label=label)
    assert found.output == f"centred log-ratio of {label}" and "fallback" not in found.details
    predictions = model.predict(data.head(6))
    logs = np.log(predictions.probabilities)
    truth = logs[:, predictions.classes.index(label)] - logs.mean(axis=1)
    np.testing.assert_allclose(found.predicted, truth, atol=1e-12)
    assert found.residual.max() < 1e-12
    expected = log_ratio_by_enumeration(model, data.head(6), data.take(np.arange(40, 60)), label)
    np.testing.assert_allclose(found.values, expected, atol=1e-10)


def log_ratio_by_enumeration(model, rows, background, label):
    """`exact` on a model whose value is the log-ratio."""

    def score(data):
        return explained_output(f"centred log-ratio of {label}", model.predict(data))

    from affidavit import Task

    return Exact().explain(Formula(score, background, Task.REGRESSION), rows, background).values


@pytest.mark.parametrize("label", ["a", "b", "c"])
def test_forests_explain_the_probability_of_any_class(table, label):
    data = three_classes(table)
    model, background = Forest(trees=5).fit(data), data.take(np.arange(40, 60))
    found = Tree().explain(model, data.head(3), background, label=label)
    np.testing.assert_allclose(found.values, Exact().explain(model, data.head(3), background, label=label).values, atol=1e-12)
    assert found.output == f"probability of {label}" and found.residual.max() < 1e-12


def test_interactions_sum_to_the_values_and_vanish_where_the_model_has_none(table):
    model = Forest(trees=10).fit(table)
    found = Tree().explain(model, table.head(5), table.take(np.arange(40, 60)), interactions=True)
    assert found.interactions.shape == (5, 4, 4)
    np.testing.assert_allclose(found.interactions.sum(axis=2), found.values, atol=1e-14)
    np.testing.assert_array_equal(found.interactions, found.interactions.transpose(0, 2, 1))
    sums = Dataset.from_arrow({"a": table.column("x0"), "b": table.column("x1"), "y": table.to_numpy("x0") + table.to_numpy("x1")}, target="y")
    stumps = Tree().explain(Boosting(trees=30, max_depth=1).fit(sums), sums.head(5), sums.head(40), interactions=True)
    np.testing.assert_array_equal(stumps.interactions[:, 0, 1], 0.0)
    assert abs(stumps.values).max() > 0.1


@pytest.mark.parametrize("model_type", [TreeModel, Forest, Boosting])
def test_the_path_dependent_game_is_shap_s_where_each_field_is_one_column(model_type):
    import shap

    data = make_table(200, numbers=4, gaps=False).select(["x0", "x1", "x2", "x3", "flag", "y"])
    model = model_type().fit(data)
    found = Tree().explain(model, data.head(10), data.head(30), game="path-dependent")
    view = model.encoded_view()
    library = shap.TreeExplainer(view.estimator, feature_perturbation="tree_path_dependent")
    theirs = np.asarray(library.shap_values(view.encode(data.head(10)), check_additivity=False))
    theirs = theirs[:, :, 1] if theirs.ndim == 3 else theirs
    names = [view.players.index(player) for player in found.players]
    np.testing.assert_allclose(found.values, theirs[:, names], atol=1e-7)
    assert found.details["game"] == "path-dependent" and relative_residual(found).max() < 1e-9
    inside = Tree().explain(model, data.head(10), data.head(30))
    assert abs(inside.values - found.values).max() > 1e-3, "the two games differ"


def test_the_path_dependent_game_does_not_look_at_the_background(table):
    model = Forest(trees=5).fit(table)
    one, other = (Tree().explain(model, table.head(3), table.take(np.arange(*span)), game="path-dependent") for span in [(10, 30), (60, 90)])
    np.testing.assert_array_equal(one.values, other.values)


def ages(seed):
    """Whole numbers: standardised, their thresholds lie where float32 cannot."""
    generator = np.random.default_rng(seed)
    age = generator.integers(19, 75, 400).astype(float)
    columns = {"age": age, "months": generator.integers(4, 72, 400).astype(float), "y": np.where(age + generator.normal(0, 20, 400) > 40, "b", "a")}
    return Dataset.from_arrow(columns, target="y")


class PlainForest(Forest):
    """A forest that gives scikit-learn its columns as they are, without the rounding that the bundled type does for shap's sake."""

    type = "test.plain_forest"

    def _encode(self, data):
        return self._encoder.transform(data)


@pytest.mark.parametrize("model_type", [Forest, PlainForest])
def test_trees_add_up_on_standardised_data_where_plain_shap_does_not(model_type):
    import shap

    plain, native, guarded = 0.0, 0.0, 0.0
    for seed in range(3):
        data = ages(5)
        rows = np.random.default_rng(seed).permutation(400)
        model = model_type(trees=20).fit(data.take(rows[:200]))
        background, explained = data.take(rows[200:300]), data.take(rows[300:360])
        view = model.encoded_view()
        library = shap.TreeExplainer(view.estimator, data=view.encode(background), feature_perturbation="interventional")
        values = library.shap_values(view.encode(explained), check_additivity=False)[:, :, 1].sum(axis=1)
        plain = max(plain, abs(library.expected_value[1] + values - model.predict(explained).score("b")).max())
        native = max(native, Tree().explain(model, explained, background).residual.max())
        found = Tree().explain(model, explained, background, engine="shap")
        assert "fallback" not in found.details and found.details["engine"] == "shap"
        guarded = max(guarded, relative_residual(found).max())
    assert plain > 1e-5, "the trap that this guards is gone from shap: the rank encoding may go too"
    assert guarded < 1e-6
    assert native < 1e-12


def test_shap_s_engine_agrees_where_fields_are_columns_and_says_that_it_sums(table):
    data = table.select(["x0", "x1", "flag", "y"])
    model = Forest(trees=15).fit(data)
    ours, theirs = (Tree().explain(model, data.head(5), data.take(np.arange(40, 60)), engine=engine) for engine in ("native", "shap"))
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-6)
    assert theirs.details["library"].startswith("shap ") and "summed by field" in theirs.details["game"]
    for game in ("interventional", "path-dependent"):
        assert Tree().explain(Boosting(trees=5).fit(table), table.head(3), table.head(30), engine="shap", game=game).details["game"].startswith(game)


def test_summing_encoded_columns_is_not_the_value_of_the_field(table):
    """Why the native engine exists: the library's players are the one-hot columns."""
    model, background = Forest(trees=30).fit(table), table.take(np.arange(40, 70))
    native = Tree().explain(model, table.head(10), background)
    summed = Tree().explain(model, table.head(10), background, engine="shap")
    expected = Exact().explain(model, table.head(10), background)
    assert abs(summed.values - expected.values).max() > 1e-4 > 1e-10 > abs(native.values - expected.values).max()


def test_shap_that_does_not_add_up_gives_way_to_the_native_values_and_says_so(table, monkeypatch):
    from affidavit_governance.explain.methods import shap_trees

    model = Forest(trees=5).fit(table)
    honest = shap_trees.shap_columns
    monkeypatch.setattr(shap_trees, "shap_columns", lambda *given: (honest(*given)[0] * 1.01, honest(*given)[1]))
    found = Tree().explain(model, table.head(3), table.head(20), engine="shap")
    assert "shap's TreeExplainer missed the model's answer" in found.details["fallback"] and found.details["engine"] == "native"
    np.testing.assert_array_equal(found.values, Tree().explain(model, table.head(3), table.head(20)).values)

    def raising(*given):
        raise ValueError("no such tree")

    monkeypatch.setattr(shap_trees, "shap_columns", raising)
    again = Tree().explain(model, table.head(3), table.head(20), engine="shap")
    assert "raised ValueError" in again.details["fallback"] and again.residual.max() < 1e-12


class Wrong(Forest):
    """A forest whose answers are not those of its trees."""

    type = "test.wrong"

    def _scores(self, matrix):
        scores = super()._scores(matrix)
        return 0.9 * scores + 0.05


class Committee(Forest):
    """A model whose estimator the native values do not read."""

    type = "test.committee"

    def encoded_view(self):
        from sklearn.ensemble import BaggingClassifier

        return replace(super().encoded_view(), estimator=BaggingClassifier())


@pytest.mark.parametrize(("model_type", "why"), [(Wrong, "missed the model's answer"), (Committee, "do not read a BaggingClassifier")])
def test_trees_that_are_not_the_model_are_not_believed_and_the_model_is_asked(table, model_type, why):
    model = model_type(trees=5).fit(table)
    found = Tree().explain(model, table.head(3), table.head(20), label="no")
    assert found.method == "exact" and why in found.details["fallback"] and "'exact' was used instead" in found.details["fallback"]
    assert relative_residual(found).max() < 1e-9 and found.output == "probability of no"
    for asked in ({"interactions": True}, {"game": "path-dependent"}):
        with pytest.raises(PluginError, match=why):
            Tree().explain(model, table.head(3), table.head(20), **asked)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"game": "conditional"}, "'interventional' or 'path-dependent'"),
        ({"engine": "xgboost"}, "'native' or 'shap'"),
        ({"interactions": 1}, "False or True"),
        ({"engine": ["shap"]}, "'native' or 'shap'"),
        ({"engine": "shap", "interactions": True}, "native engine"),
        ({"budget": 100}, "no option 'budget'"),
        ({"label": "maybe"}, "no class 'maybe'"),
    ],
)
def test_unfit_options_are_refused(table, given, said):
    with pytest.raises(UsageError, match=said):
        Tree().explain(Forest(trees=2).fit(table), table.head(2), table.head(10), **given)


def test_a_model_without_trees_is_refused(table, formula):
    with pytest.raises(UsageError, match="no tree ensemble"):
        Tree().explain(formula, table.head(2), table.head(10))


def test_the_native_values_need_no_library_and_shap_s_say_what_installs_it(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    monkeypatch.delitem(sys.modules, "affidavit_governance.explain.methods.shap_trees", raising=False)
    model = Forest(trees=3).fit(table)
    assert Tree().explain(model, table.head(2), table.head(10)).residual.max() < 1e-12
    with pytest.raises(MissingExtra, match="engine='shap'") as raised:
        Tree().explain(model, table.head(2), table.head(10), engine="shap")
    assert "affidavit[explain]" in str(raised.value.hint)


def test_a_row_alone_gives_the_bits_that_it_gives_in_a_batch(table):
    model, background = Forest(trees=20).fit(table), table.take(np.arange(40, 100))
    together = Tree().explain(model, table.head(30), background)
    for row in (0, 13, 29):
        alone = Tree().explain(model, table.take([row]), background)
        np.testing.assert_array_equal(alone.values[0], together.values[row])
        np.testing.assert_array_equal(alone.base[0], together.base[row])


def test_a_constant_field_and_a_column_without_splits_get_zero(table):
    data = Dataset.from_arrow(
        {"x0": table.column("x0"), "same": np.full(len(table), 3.0), "gone": pa.nulls(len(table), pa.float64()), "y": table.column("y")},
        target="y",
        fields={"gone": {"type": "numeric"}},
    )
    model = Forest(trees=5).fit(data)
    found = Tree().explain(model, data.head(5), data.head(50))
    np.testing.assert_array_equal(found.values[:, 1:], 0.0)
    assert abs(found.values[:, 0]).max() > 0.01 and found.residual.max() < 1e-12


def test_the_order_of_exact_values_is_sure_and_equal_ones_are_ties(table):
    data = Dataset.from_arrow(
        {"a": table.column("x0"), "b": table.column("x1"), "c": np.full(len(table), 1.0), "d": np.zeros(len(table)), "y": table.column("y")},
        target="y",
    )
    found = Tree().explain(Forest(trees=5).fit(data), data.head(3), data.head(40))
    assert found.details["stability"]["probability"] == [1.0, 1.0, 1.0]
    assert found.details["stability"]["ties"] == [[["c", "d"]]] * 3


def test_capability_is_asked_for_and_not_the_name(table):
    class Renamed(Forest):
        type = "test.renamed"
        capabilities = Capabilities(probabilities=True, tree_ensemble=True)

    assert choose(Renamed(trees=2).fit(table), table) == ("tree", "the model is a tree ensemble, for which exact values are cheap")
