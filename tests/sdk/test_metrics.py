"""Metrics against scikit-learn, brute force and known values; intervals against theory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from affidavit import metrics
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.model import Evaluation, Predictions, Task

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="the references come from scikit-learn")


def scored(rows: int, classes: int, seed: int = 0) -> tuple[NDArray[np.str_], Predictions, tuple[str, ...]]:
    random = np.random.default_rng(seed)
    codes = random.integers(0, classes, rows)
    probabilities = 0.6 * random.dirichlet(np.ones(classes), rows).round(2)  # rounding makes ties
    probabilities[np.arange(rows), codes] += 0.4
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = tuple(f"class {number}" for number in range(classes))
    labels = np.array(names)
    return labels[codes], Predictions(labels[probabilities.argmax(axis=1)], names, probabilities), names


def evaluated(rows: int, classes: int, **options: Any) -> tuple[Evaluation, NDArray[np.str_], Predictions, tuple[str, ...]]:
    truth, predictions, names = scored(rows, classes)
    task = Task.BINARY if classes == 2 else Task.MULTICLASS
    return metrics.evaluate(predictions, truth, task=task, classes=names, **options), truth, predictions, names


def test_two_classes_agree_with_scikit_learn() -> None:
    result, truth, predictions, names = evaluated(300, 2)
    assert predictions.probabilities is not None
    positive, score = truth == names[1], predictions.probabilities[:, 1]
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(truth, predictions.values),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(truth, predictions.values),
        "f1": sklearn_metrics.f1_score(truth, predictions.values, pos_label=names[1]),
        "roc_auc": sklearn_metrics.roc_auc_score(positive, score),
        "pr_auc": sklearn_metrics.average_precision_score(positive, score),
        "log_loss": sklearn_metrics.log_loss(truth, predictions.probabilities, labels=list(names)),
        "brier": sklearn_metrics.brier_score_loss(positive, score),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert set(result.metrics) == {*expected, "expected_calibration_error"}


def test_several_classes_agree_with_scikit_learn() -> None:
    result, truth, predictions, names = evaluated(400, 5)
    assert predictions.probabilities is not None
    one_hot = truth[:, None] == np.array(names)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(truth, predictions.values),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(truth, predictions.values),
        "f1": sklearn_metrics.f1_score(truth, predictions.values, average="macro"),
        "roc_auc": sklearn_metrics.roc_auc_score(truth, predictions.probabilities, multi_class="ovr", labels=list(names)),
        "pr_auc": sklearn_metrics.average_precision_score(one_hot, predictions.probabilities, average="macro"),
        "log_loss": sklearn_metrics.log_loss(truth, predictions.probabilities, labels=list(names)),
        "brier": np.square(predictions.probabilities - one_hot).sum(axis=1).mean(),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_regression_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(1000, 5, 200)
    predicted = truth + random.normal(0, 2, 200)
    result = metrics.evaluate(Predictions(predicted), truth, task=Task.REGRESSION)
    assert result["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(truth, predicted))
    assert result["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(truth, predicted))
    assert result["r2"] == pytest.approx(sklearn_metrics.r2_score(truth, predicted))
    assert result["mae"] == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert result["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    assert result["r2"] == pytest.approx(metrics.r2(truth, predicted))


LABELLED = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=30)
RANKED = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=2, max_size=40)


@pytest.mark.filterwarnings("ignore:y_pred contains classes:UserWarning", "ignore:A single label was found:UserWarning")
@settings(max_examples=100, deadline=None)
@given(LABELLED)
def test_label_metrics_agree_with_scikit_learn_on_any_labels(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    assert metrics.accuracy(truth, predicted) == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    assert metrics.balanced_accuracy(truth, predicted) == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, predicted))
    assert metrics.f1(truth, predicted) == pytest.approx(sklearn_metrics.f1_score(truth, predicted, average="macro", zero_division=0))
    assert metrics.f1(truth, predicted, positive=truth[0]) == pytest.approx(
        sklearn_metrics.f1_score([t == truth[0] for t in truth], [p == truth[0] for p in predicted], zero_division=0)
    )


@settings(max_examples=150, deadline=None)
@given(RANKED)
def test_rank_metrics_agree_with_counting_pairs_and_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    positive, score = np.array([p for p, _ in pairs]), np.array([s for _, s in pairs])
    above = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert metrics.roc_auc(positive, score) == pytest.approx(np.mean(above) if above else np.nan, nan_ok=True)
    if positive.any():
        assert metrics.average_precision(positive, score) == pytest.approx(sklearn_metrics.average_precision_score(positive, score))
        recall, precision = metrics.precision_recall_curve(positive, score)
        reference = sklearn_metrics.precision_recall_curve(positive, score)
        assert recall == pytest.approx(reference[1][:-1][::-1])
        assert precision == pytest.approx(reference[0][:-1][::-1])
    if above:
        fpr, tpr = metrics.roc_curve(positive, score)
        reference = sklearn_metrics.roc_curve(positive, score, drop_intermediate=False)
        assert fpr == pytest.approx(reference[0])
        assert tpr == pytest.approx(reference[1])
        assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.roc_auc(positive, score))


def test_calibration_counts_each_bin() -> None:
    score = np.array([0.05, 0.09, 0.35, 0.95, 1.0, 0.1])
    positive = np.array([0, 1, 0, 1, 1, 0], dtype=bool)
    predicted, observed, rows = metrics.calibration_curve(positive, score)
    assert predicted == pytest.approx([0.07, 0.1, 0.35, 0.975])
    assert observed == pytest.approx([0.5, 0, 0, 1])
    assert rows.tolist() == [2, 1, 1, 2]
    expected = (2 * 0.43 + 1 * 0.1 + 1 * 0.35 + 2 * 0.025) / 6
    assert metrics.expected_calibration_error(positive, score) == pytest.approx(expected)
    flat = np.full(1000, 0.3)
    assert metrics.expected_calibration_error(np.arange(1000) < 300, flat) == pytest.approx(0)


def test_log_loss_and_brier_of_one_sure_mistake() -> None:
    assert metrics.log_loss([0], [[0.0, 1.0]]) == pytest.approx(-np.log(np.finfo(float).eps))
    assert metrics.brier([0], [[0.0, 1.0]]) == 1
    assert metrics.brier([0], [[0.0, 1.0, 0.0]]) == 2
    assert metrics.brier([-1], [[0.0, 1.0, 0.0]]) == 2


def test_the_positive_class_can_be_chosen() -> None:
    result, truth, predictions, names = evaluated(200, 2, positive="class 0")
    assert predictions.probabilities is not None
    assert result["f1"] == pytest.approx(sklearn_metrics.f1_score(truth, predictions.values, pos_label=names[0]))
    assert result["pr_auc"] == pytest.approx(sklearn_metrics.average_precision_score(truth == names[0], predictions.probabilities[:, 0]))
    with pytest.raises(UsageError, match="Did you mean 'class 0'"):
        evaluated(10, 2, positive="clas 0")


def test_labels_that_the_model_does_not_know_count_as_wrong() -> None:
    truth, predictions, names = scored(100, 2)
    truth = truth.astype("<U20")
    truth[:10] = "never seen"
    result = metrics.evaluate(predictions, truth, task=Task.BINARY, classes=names)
    assert result["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predictions.values))
    assert result["balanced_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, predictions.values))
    assert result["log_loss"] > 3


def test_truth_of_one_class_leaves_out_what_is_undefined_and_stays_json() -> None:
    _, predictions, names = scored(50, 2)
    result = metrics.evaluate(predictions, np.full(50, names[0]), task=Task.BINARY, classes=names)
    assert "roc_auc" not in result.metrics
    assert "pr_auc" not in result.metrics
    assert "roc" not in result.curves
    assert "accuracy" in result.metrics
    json.dumps(result.to_json(), allow_nan=False)
    constant = metrics.evaluate(Predictions(np.arange(5.0)), np.full(5, 1e9 + 0.1), task=Task.REGRESSION)
    assert set(constant.metrics) == {"mae", "rmse"}


def test_labels_without_probabilities_are_measured_as_labels() -> None:
    truth, predictions, names = scored(50, 3)
    result = metrics.evaluate(Predictions(predictions.values, names), truth, task=Task.MULTICLASS, classes=names)
    assert set(result.metrics) == {"accuracy", "balanced_accuracy", "f1"}


@pytest.mark.parametrize("rows", [250, 6000])
def test_intervals_have_the_width_that_theory_gives(rows: int) -> None:
    """The mean of independent rows: 1.96 standard errors to each side, also where only a bag of the rows is resampled."""
    random = np.random.default_rng(1)
    truth = np.where(random.random(rows) < 0.8, "a", "b")
    result = metrics.evaluate(Predictions(np.full(rows, "a"), ("a", "b")), truth, task=Task.BINARY, classes=("a", "b"), bootstrap=2000)
    metric = result.metrics["accuracy"]
    error = 1.96 * np.sqrt(metric.value * (1 - metric.value) / rows)
    assert metric.low == pytest.approx(metric.value - error, abs=error / 8)
    assert metric.high == pytest.approx(metric.value + error, abs=error / 8)


def test_intervals_of_roc_auc_cover_the_truth_about_as_often_as_they_say() -> None:
    """200 data sets from two normal distributions one standard deviation apart: their AUC is Φ(1/√2) = 0.7602."""
    covered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        positive = random.random(120) < 0.4
        score = random.normal(positive.astype(float), 1)
        probability = 1 / (1 + np.exp(-score))
        predictions = Predictions(np.where(probability > 0.5, "b", "a"), ("a", "b"), np.column_stack([1 - probability, probability]))
        result = metrics.evaluate(predictions, np.where(positive, "b", "a"), task=Task.BINARY, classes=("a", "b"), bootstrap=200, seed=seed)
        metric = result.metrics["roc_auc"]
        assert metric.low is not None
        assert metric.high is not None
        covered += metric.low <= 0.76025 <= metric.high
    assert 0.90 <= covered / 200 <= 0.985


def test_each_resample_equals_the_metric_of_the_repeated_rows() -> None:
    """The weighted forms against the plain ones on rows that are really repeated."""
    truth, predictions, names = scored(40, 3)
    assert predictions.probabilities is not None
    measures, _ = metrics._classification(predictions, truth, Task.MULTICLASS, names, None)
    random = np.random.default_rng(3)
    draws = random.integers(0, 40, (5, 40))
    weights = np.stack([np.bincount(draw, minlength=40) for draw in draws]).astype(float)
    for number, draw in enumerate(draws):
        again = Predictions(predictions.values[draw], names, predictions.probabilities[draw])
        expected = metrics.evaluate(again, truth[draw], task=Task.MULTICLASS, classes=names, bootstrap=0)
        for name, measure in measures.items():
            assert measure(weights, np.arange(40))[number] == pytest.approx(expected[name], abs=1e-12), name
    values, answers = random.normal(5, 1, 40), random.normal(5, 1, 40)
    for name, measure in metrics._regression(values, answers).items():
        expected_value = metrics.evaluate(Predictions(answers[draws[0]]), values[draws[0]], task=Task.REGRESSION, bootstrap=0)[name]
        assert measure(weights, np.arange(40))[0] == pytest.approx(expected_value), name


def test_a_seed_gives_the_same_intervals_and_no_global_state_is_touched() -> None:
    before = np.random.get_state()[1].copy()
    first, second, other = (evaluated(100, 2, seed=seed)[0] for seed in (1, 1, 2))
    assert first.to_json() == second.to_json() != other.to_json()
    assert (np.random.get_state()[1] == before).all()
    assert evaluated(100, 2, bootstrap=0)[0].metrics["accuracy"].low is None


def test_intervals_stay_in_the_metrics_range_and_around_the_value() -> None:
    truth = np.array(["a"] * 8999 + ["b"])
    result = metrics.evaluate(Predictions(np.full(9000, "a"), ("a", "b")), truth, task=Task.BINARY, classes=("a", "b"), bootstrap=200)
    metric = result.metrics["accuracy"]
    assert metric.low is not None
    assert metric.high is not None
    assert metric.low <= metric.value <= metric.high <= 1


def test_curves_are_thinned_and_keep_their_ends() -> None:
    result, truth, predictions, names = evaluated(5000, 2, bootstrap=0)
    random = np.random.default_rng(0)
    score = np.clip(random.random(5000) * 0.6 + 0.4 * (truth == names[1]), 0, 1)
    smooth = Predictions(predictions.values, names, np.column_stack([1 - score, score]))
    result = metrics.evaluate(smooth, truth, task=Task.BINARY, classes=names, bootstrap=0)
    roc = result.curves["roc"]
    assert len(roc["fpr"]) == len(roc["tpr"]) <= 200
    assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)
    assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(result["roc_auc"], abs=2e-3)
    assert len(result.curves["precision_recall"]["recall"]) <= 200
    assert result.curves["precision_recall"]["recall"][-1] == 1
    assert sum(result.curves["calibration"]["rows"]) == 5000


@pytest.mark.parametrize(
    ("predictions", "truth", "task", "message"),
    [
        (Predictions(np.array([])), np.array([]), Task.REGRESSION, "0 predictions for 0 rows"),
        (Predictions(np.array([1.0])), np.array([1.0, 2.0]), Task.REGRESSION, "1 predictions for 2 rows"),
        (Predictions(np.array([1.0, np.nan])), np.array([1.0, 2.0]), Task.REGRESSION, "predictions hold 1 missing"),
        (Predictions(np.array([1.0, 2.0])), np.array([1.0, np.inf]), Task.REGRESSION, "truth hold 1 missing"),
        (Predictions(np.array(["a", "b"]), ("a", "b"), np.array([[1.0, 0], [np.nan, 1]])), np.array(["a", "b"]), Task.BINARY, "probabilities hold 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(predictions: Predictions, truth: NDArray[Any], task: Task, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        metrics.evaluate(predictions, truth, task=task, classes=predictions.classes)


def test_a_thousand_resamples_cost_no_more_calls_than_one(calls_in: Callable[[Callable[[], object]], int]) -> None:
    truth, predictions, names = scored(250, 2)

    def calls(bootstrap: int) -> int:
        return calls_in(lambda: metrics.evaluate(predictions, truth, task=Task.BINARY, classes=names, bootstrap=bootstrap))

    assert calls(1000) == calls(1)
