"""The closed form against shap and the model's own answers."""

from __future__ import annotations

import numpy as np
import pytest
from tests.governance.explain.explain_models import Formula, make_table

from affidavit import Dataset
from affidavit.errors import UsageError
from affidavit.interfaces.outputs import explained_output, relative_residual
from affidavit_governance.explain.methods.linear import Linear
from affidavit_governance.explain.methods.sampled import Exact
from affidavit_governance.explain.planner import choose
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


def kinds(table):
    kind = np.array(["a", "b", "c"])[np.digitize(table.to_numpy("x0") - table.to_numpy("x1"), [-0.5, 0.8])]
    return Dataset.from_arrow({"x0": table.column("x0"), "x1": table.column("x1"), "colour": table.column("colour"), "y": kind}, target="y")


@pytest.mark.parametrize("label", ["a", "b", "c"])
def test_several_classes_are_explained_by_the_centred_log_ratio(table, label):
    from affidavit import Task

    data = kinds(table)
    model, background = Logistic().fit(data), data.take(np.arange(40, 60))
    assert choose(model, data)[0] == "linear"
    found = Linear().explain(model, data.head(6), background, label=label)
    assert found.output == f"centred log-ratio of {label}" and relative_residual(found).max() < 1e-12
    predictions = model.predict(data.head(6))
    logs = np.log(predictions.probabilities)
    np.testing.assert_allclose(found.predicted, logs[:, predictions.classes.index(label)] - logs.mean(axis=1), atol=1e-12)
    ratio = Formula(lambda rows: explained_output(found.output, model.predict(rows)), background, Task.REGRESSION)
    np.testing.assert_allclose(found.values, Exact().explain(ratio, data.head(6), background).values, atol=1e-10)


def test_groups_add_up_their_fields(table):
    model, background = Logistic().fit(table), table.take(np.arange(40, 60))
    single = Linear().explain(model, table.head(5), background)
    grouped = Linear().explain(model, table.head(5), background, groups={"both": ("x1", "flag")})
    assert grouped.players == ("x0", "both", "colour") and grouped.details["game"] == "interventional"
    np.testing.assert_allclose(
        grouped.values, np.stack([single.values[:, 0], single.values[:, 1] + single.values[:, 3], single.values[:, 2]], axis=1)
    )


@pytest.mark.parametrize("game", ["interventional", "conditional-gaussian"])
@pytest.mark.parametrize("numbers", [2, 16])
def test_a_row_alone_gives_the_bits_that_it_gives_in_a_batch(game, numbers):
    data = make_table(120, numbers=numbers)
    model, background = Logistic().fit(data), data.take(np.arange(40, 100))
    together = Linear().explain(model, data.head(20), background, game=game)
    assert (together.errors is None) == (game == "interventional" or numbers == 2)
    for row in (0, 11, 19):
        alone = Linear().explain(model, data.take([row]), background, game=game)
        np.testing.assert_array_equal(alone.values[0], together.values[row])
        if together.errors is not None:
            np.testing.assert_array_equal(alone.errors[0], together.errors[row])


def test_the_conditional_game_adds_up_and_says_what_it_is(table):
    model = Logistic().fit(table)
    found = Linear().explain(model, table.head(10), table.take(np.arange(40, 100)), game="conditional-gaussian", label="no")
    assert relative_residual(found).max() < 1e-9 and found.exact and found.output == "log-odds of no"
    assert found.details["game"] == "conditional-gaussian" and 0 < found.details["shrinkage"] <= 1
    assert "Ledoit-Wolf" in found.details["covariance"]
    assert abs(found.values - Linear().explain(model, table.head(10), table.take(np.arange(40, 100)), label="no").values).max() > 1e-4


def test_many_players_in_the_conditional_game_are_estimated_with_intervals():
    data = make_table(160, numbers=16)
    found = Linear().explain(Logistic().fit(data), data.head(4), data.take(np.arange(40, 140)), game="conditional-gaussian")
    assert not found.exact and (found.errors > 0).all() and found.residual.max() < 1e-9


def test_an_unknown_game_is_refused(table):
    with pytest.raises(UsageError, match="'interventional' or 'conditional-gaussian'"):
        Linear().explain(Logistic().fit(table), table.head(2), table.head(20), game="path-dependent")


def test_an_answer_that_is_not_the_linear_score_shows_in_the_residual(table):
    """A linear capability whose answers bend: the residual shows it."""

    class Bent(Logistic):
        type = "test.bent"

        def _scores(self, matrix):
            scores = super()._scores(matrix)
            return scores * 0.9 + 0.05

    found = Linear().explain(Bent().fit(table), table.head(5), table.head(50))
    assert relative_residual(found).max() > 1e-3


def test_a_constant_in_all_classes_scores_changes_nothing(table):
    """A softmax does not see it; only their difference from the mean is explained."""
    data = kinds(table)
    model, background = Logistic().fit(data), data.take(np.arange(40, 60))
    before = Linear().explain(model, data.head(6), background, label="a")
    model._keep(model._coefficients + np.linspace(1, 2, model._coefficients.shape[1]), model._intercept + 5)
    after = Linear().explain(model, data.head(6), background, label="a")
    np.testing.assert_allclose(after.values, before.values, atol=1e-12)
    assert relative_residual(after).max() < 1e-12
