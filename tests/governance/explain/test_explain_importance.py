"""Importance of players for a model as a whole: by shuffling, and by mean |φ|."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.governance.explain.explain_models import Formula, make_table

from affidavit import Dataset, Task, metrics
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.model import Predictions
from affidavit.interfaces.schema import Schema
from affidavit_governance.explain.methods.sampled import Exact
from affidavit_governance.explain.overall.importance import PermutationImportance, u_importance
from affidavit_governance.explain.overall.losses import METRICS, Truth
from affidavit_governance.explain.overall.shapley_importance import ShapleyImportance, mean_magnitude

SLOPES = np.array([2.0, -1.0, 0.0])


def straight(rows=80, seed=0, noise=0.3):
    """Independent numbers, a target that is linear in them, and the model that knows the line."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 3))
    columns = {name: x[:, i] for i, name in enumerate("abc")} | {"y": x @ SLOPES + noise * generator.normal(size=rows)}
    data = Dataset.from_arrow(columns, target="y")
    return data, Formula(lambda d: sum(w * d.to_numpy(n) for w, n in zip(SLOPES, "abc", strict=True)), data, Task.REGRESSION)


def shuffle(model, data, **options):
    return PermutationImportance().explain(model, data, data, **options)


def test_with_all_repeats_it_is_the_average_over_all_pairs_of_rows():
    data, model = straight(rows=25)
    found = shuffle(model, data, budget=25 * (1 + 3 * 24))
    x, y = np.stack([data.to_numpy(n) for n in "abc"], axis=1), data.to_numpy("y")
    own = np.mean((x @ SLOPES - y) ** 2)
    for column, name in enumerate("abc"):
        swapped = []
        for taker in range(25):
            for lender in range(25):
                if taker != lender:
                    mixed = x[taker].copy()
                    mixed[column] = x[lender, column]
                    swapped.append((mixed @ SLOPES - y[taker]) ** 2)
        assert found.importance[name].value == pytest.approx(np.mean(swapped) - own, rel=1e-9)
    assert found.details["exact"] and found.details["repeats"] == 24


def test_of_a_line_it_is_twice_the_squared_slope_times_the_variance():
    data, model = straight(rows=2000)
    found = shuffle(model, data).importance
    for slope, name in zip(SLOPES, "abc", strict=True):
        assert found[name].low <= 2 * slope**2 <= found[name].high  # Fisher, Rudin, Dominici 2019, section 7
    assert found["c"].value == 0.0 == found["c"].low, "a field that the model does not read"


def test_intervals_cover_the_population():
    covered = []
    for seed in range(150):
        data, model = straight(rows=60, seed=seed)
        found = shuffle(model, data, budget=60 * (1 + 3 * 5)).importance
        covered += [found[name].low <= 2 * slope**2 <= found[name].high for slope, name in zip(SLOPES[:2], "ab", strict=True)]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_it_agrees_with_scikit_learn():
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.inspection import permutation_importance

    class Line(RegressorMixin, BaseEstimator):
        def fit(self, x, y):
            return self

        def predict(self, x):
            return x @ SLOPES

    data, model = straight(rows=300)
    x = np.stack([data.to_numpy(n) for n in "abc"], axis=1)
    peer = permutation_importance(Line(), x, data.to_numpy("y"), scoring="neg_mean_squared_error", n_repeats=60, random_state=0)
    ours = shuffle(model, data, budget=300 * (1 + 3 * 60)).importance
    for column, name in enumerate("abc"):
        assert ours[name].value == pytest.approx(peer.importances_mean[column], rel=0.03, abs=1e-12)


def classified(rows=160):
    data = make_table(rows)
    return data, Formula(lambda d: 1 / (1 + np.exp(-(1.5 * d.to_numpy("x0") - d.to_numpy("x1")))), data)


@pytest.mark.parametrize("name", ["log_loss", "brier", "accuracy", "roc_auc"])
def test_the_score_is_the_metric_of_the_core(name):
    data, model = classified()
    found = shuffle(model, data, metric=name)
    measured = metrics.evaluate(model.predict(data), np.array(data.to_text("y")), task=Task.BINARY, classes=("no", "yes"), bootstrap=0)
    assert found.details["score"] == pytest.approx(measured[name])
    assert found.importance["x0"].low > 0, "a shuffled field costs, whether the metric is a loss or a score"
    assert found.importance["flag"].value == pytest.approx(0.0, abs=1e-12)


def test_regression_metrics():
    data, model = straight(rows=200)
    measured = metrics.evaluate(model.predict(data), data.to_numpy("y"), task=Task.REGRESSION, bootstrap=0)
    for name, value in (("mse", measured["rmse"] ** 2), ("mae", measured["mae"]), ("r2", measured["r2"])):
        found = shuffle(model, data, metric=name)
        assert found.details["score"] == pytest.approx(value)
        assert found.importance["a"].value > found.importance["b"].value > 0


def test_the_influence_on_the_auc_gives_delongs_variance():
    generator = np.random.default_rng(0)
    codes = (generator.random(150) < 0.4).astype(np.int64)
    score = 1 / (1 + np.exp(-(codes + generator.normal(size=150))))
    both = np.stack([1 - score, score], axis=1)
    influence = METRICS["roc_auc"].measure(Truth(codes, np.empty(0), 1), Predictions(np.array(["n"] * 150), ("n", "y"), both))
    jackknife = [metrics.roc_auc(np.delete(codes, i) == 1, np.delete(score, i)) for i in range(150)]
    variance = 149 / 150 * ((jackknife - np.mean(jackknife)) ** 2).sum()
    assert influence.mean() == pytest.approx(metrics.roc_auc(codes == 1, score))
    assert influence.var(ddof=1) / 150 == pytest.approx(variance, rel=0.03)


def test_a_group_moves_together_and_masked_fields_are_one_player():
    generator = np.random.default_rng(1)
    x = generator.normal(size=200)
    data = Dataset.from_arrow({"a": x, "same": x, "b": generator.normal(size=200), "y": 2 * x}, target="y")
    model = Formula(lambda d: d.to_numpy("a") + d.to_numpy("same"), data, Task.REGRESSION)
    apart = shuffle(model, data).importance
    together = shuffle(model, data, groups={"twins": ["a", "same"]}).importance
    assert together["twins"].value == pytest.approx(4 * apart["a"].value, rel=0.1), "each twin alone hides half of what both tell"
    schema = Schema(tuple(data.schema.fields)).change("a", masked="noise").change("b", masked="pseudonym")
    masked = Dataset(data.table, schema)
    assert set(shuffle(Formula(model.function, masked, Task.REGRESSION), masked).importance) == {"masked fields", "same"}


def test_seeds_rows_and_budgets():
    data, model = straight(rows=50)
    first, again, other = (shuffle(model, data, seed=seed) for seed in (1, 1, 2))
    assert first.importance == again.importance and first.importance["a"] != other.importance["a"]
    assert first.details["model_rows"] == 50 * (1 + 10 * 3) == first.details["rows_spent"][0]
    small = shuffle(model, data, budget=50 * (1 + 2 * 3))
    narrow = shuffle(model, data, width=1e-9)
    assert small.details["repeats"] == 2 and narrow.details["repeats"] == 49 and narrow.details["exact"]
    replayed = shuffle(model, data, budget=narrow.details["rows_spent"])
    assert replayed.importance == narrow.importance


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda d: d, {"budget": 100}, "too small for 40 rows and 3 players"),
        (lambda d: d, {"metric": "log_loss"}, "no metric 'log_loss' for a model of numbers"),
        (lambda d: d.select(["a", "b", "c"]), {}, "needs the target 'y'"),
        (lambda d: d.head(1), {}, "given 1 row"),
        (lambda d: Dataset(d.table.set_column(3, "y", pa.array([None] + [1.0] * 39)), d.schema), {}, "missing in 1 rows"),
        (lambda d: Dataset(d.table.set_column(3, "y", pa.array([1.0] * 40)), d.schema), {"metric": "r2"}, "no R²"),
    ],
)
def test_unfit_data_and_options_are_refused(change, options, message):
    data, model = straight(rows=40)
    with pytest.raises((UsageError, InvalidInput), match=message):
        shuffle(model, change(data), **options)


def test_an_auc_needs_both_classes_and_numbers_must_be_finite():
    data, model = classified(60)
    one = data.filter(pa.array([label == "yes" for label in data.to_text("y")]))
    with pytest.raises(InvalidInput, match="ROC-AUC"):
        shuffle(model, one, metric="roc_auc")
    with pytest.raises(InvalidInput, match="not finite"):
        shuffle(Formula(lambda d: np.full(len(d), np.nan), data), data)


def test_a_model_that_gives_labels_only_has_its_accuracy_explained():
    data = make_table(80)

    class Labels(Formula):
        def predict(self, rows):
            found = super().predict(rows)
            return Predictions(found.values, found.classes)

    model = Labels(lambda d: 1 / (1 + np.exp(-d.to_numpy("x0"))), data)
    assert shuffle(model, data, metric="accuracy").importance["x0"].value > 0
    with pytest.raises(InvalidInput, match="labels only"):
        shuffle(model, data)


def test_progress_is_reported():
    data, model = straight(rows=20)
    seen = []
    shuffle(model, data, report=seen.append)
    assert [(each.done, each.total) for each in seen] == [(1, 3), (2, 3), (3, 3)]


def test_u_importance_of_rows_that_differ_only_by_chance_has_an_interval_around_zero():
    generator = np.random.default_rng(0)
    donors = np.array([np.roll(np.arange(50), shift) for shift in (1, 2, 3)])
    value, half = u_importance(generator.normal(size=50), generator.normal(size=(3, 50)), donors)
    assert abs(value) < half


# -- mean |φ| -------------------------------------------------------------------------------------------------------------------------------


def test_mean_phi_is_that_of_the_rows_and_says_who_attributed(formula, table):
    background = table.take(np.arange(60, 100))
    found = ShapleyImportance().explain(formula, table.head(12), background, method="exact")
    rows = Exact().explain(formula, table.head(12), background)
    assert [found.importance[name].value for name in rows.players] == pytest.approx(abs(rows.values).mean(axis=0))
    assert found.details["explainer"] == "exact" and found.output == rows.output and len(found) == 12
    chosen = ShapleyImportance().explain(formula, table.head(2), background)
    assert chosen.details["explainer"] == "exact" and "enumerated" in chosen.details["explainer_reason"]


def test_mean_phi_of_sampled_values_has_wider_intervals_and_takes_their_budget(formula, table):
    background = table.take(np.arange(60, 80))
    exact = ShapleyImportance().explain(formula, table.head(12), background, method="exact").importance
    sampled = ShapleyImportance().explain(formula, table.head(12), background, method="permutation", budget=300)
    assert sampled.details["rows_spent"] == [300] * 12
    assert all(sampled.importance[name].low <= exact[name].value <= sampled.importance[name].high for name in exact)


def test_the_interval_of_a_mean_magnitude_makes_up_for_folding():
    generator = np.random.default_rng(0)
    truth, sigma = np.array([0.0, 0.5, 3.0]), 1.0
    values = truth + sigma * generator.normal(size=(4000, 3))
    (zero, half, large) = mean_magnitude(values, np.full((4000, 3), 1.959964 * sigma))
    plain = mean_magnitude(values)
    assert zero.value == pytest.approx(np.sqrt(2 / np.pi), abs=0.03) and plain[0].low > 0.7
    assert zero.low < 0.03 and half.low < 0.4, "the truth is 0 and 0.5"
    assert plain[2].low - 0.3 < large.low < plain[2].low
    assert mean_magnitude(np.array([[1.0], [3.0]]))[0].value == 2.0


@pytest.mark.parametrize(("method", "message"), [("partial-dependence", "does not explain rows"), ("linaer", "no bundled explainer 'linaer'")])
def test_only_methods_of_rows_give_mean_phi(formula, table, method, message):
    with pytest.raises(UsageError, match=message):
        ShapleyImportance().explain(formula, table.head(3), table, method=method)
