"""The encoder: what each matrix column holds, and that explanations over it are exact."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shap
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import Dataset
from affidavit_plugins.tabular.encoding import Encoder
from affidavit_plugins.tabular.linear import Linear, Logistic
from affidavit_plugins.tabular.trees import Boosting, Forest, Tree


def data_of(**columns: Any) -> Dataset:
    return Dataset.from_arrow(pa.table(columns))


def encoded(encoder: Encoder, data: Dataset) -> dict[str, list[list[float]]]:
    """Matrix columns by field."""
    matrix = encoder.transform(data)
    columns: dict[str, list[list[float]]] = {field: [] for field in encoder.players}
    for field, column in zip(encoder.players, matrix.T.tolist(), strict=True):
        columns[field].append(column)
    return columns


def test_each_kind_of_column_is_encoded_as_documented() -> None:
    data = data_of(
        number=pa.array([1.0, None, 3.0, 3.0]),
        whole=pa.array([1, 2, 3, 4], pa.int32()),
        flag=pa.array([True, False, None, True]),
        kind=pa.array(["b", "a", None, "b"]),
        code=pa.array(["x", "y", "x", "y"]).dictionary_encode(),
    )
    result = encoded(Encoder.fit(data, max_categories=10), data)
    mean, spread = 7 / 3, math.sqrt(((1 - 7 / 3) ** 2 + 2 * (3 - 7 / 3) ** 2) / 3)
    assert np.allclose(result["number"], [[(1 - mean) / spread, 0, (3 - mean) / spread, (3 - mean) / spread], [0, 1, 0, 0]])
    assert np.allclose(result["whole"], [(np.array([1, 2, 3, 4]) - 2.5) / math.sqrt(1.25)])
    assert np.allclose(result["flag"], [[0.5**0.5, -(2**0.5), 0, 0.5**0.5], [0, 0, 1, 0]])
    assert result["kind"] == [[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]]
    assert result["code"] == [[1, 0, 1, 0], [0, 1, 0, 1]]


def test_unseen_categories_and_new_gaps_are_zeros() -> None:
    encoder = Encoder.fit(data_of(kind=["a", "b"], size=[1.0, 3.0]), max_categories=10)
    assert encoded(encoder, data_of(kind=pa.array(["c", None, "a"]), size=pa.array([None, 1.0, 5.0]))) == {
        "size": [[0.0, -1.0, 3.0]],
        "kind": [[0, 0, 1], [0, 0, 0]],
    }


def test_dates_keep_their_distances() -> None:
    days = pa.array(np.array(["1960-01-01", "2020-01-01", "2020-01-02"], dtype="datetime64[D]"))
    for unit in ("s", "ms", "us", "ns"):
        column = encoded(Encoder.fit(data_of(d=days.cast(pa.timestamp(unit))), max_categories=1), data_of(d=days.cast(pa.timestamp(unit))))["d"][0]
        assert (column[2] - column[1]) / (column[1] - column[0]) == pytest.approx(1 / 21915)


def test_only_the_commonest_categories_get_a_column_whatever_the_order_of_rows() -> None:
    values = ["a"] * 3 + ["b"] * 2 + ["c"] * 2 + ["d"]
    for order in (values, values[::-1]):
        assert Encoder.fit(data_of(kind=order), max_categories=2).categories[0].categories == ("a", "b")


def test_constant_and_empty_columns_are_harmless() -> None:
    data = data_of(same=[0.1] * 10, none=pa.nulls(10, pa.float64()), nocat=pa.nulls(10, pa.string()), v=list(range(10)))
    matrix = Encoder.fit(data, max_categories=5).transform(data)
    assert np.isfinite(matrix).all()
    assert np.abs(matrix).max() < 2


def test_numbers_at_the_edge_of_float64_are_refused_not_turned_into_nan() -> None:
    with pytest.raises(InvalidInput, match="'x' holds an infinite number, or numbers too large"):
        Encoder.fit(data_of(x=[1e308, -1e308, 1e308]), max_categories=1)


cells = st.one_of(st.none(), st.floats(-1e9, 1e9), st.just(math.nan))
labels = st.one_of(st.none(), st.sampled_from(["a", "b", "ü", "", "a b"]))


@given(st.lists(st.tuples(cells, labels), min_size=1, max_size=30), st.lists(st.tuples(cells, labels), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_any_rows_encode_to_finite_numbers_the_same_after_json_and_row_by_row(train: list[Any], test: list[Any]) -> None:
    def table(rows: list[Any]) -> Dataset:
        types = {"number": {"type": "numeric"}, "label": {"type": "categorical"}}
        columns = {"number": pa.array([row[0] for row in rows], pa.float64()), "label": pa.array([row[1] for row in rows], pa.string())}
        return Dataset.from_arrow(pa.table(columns), fields=types)

    encoder = Encoder.fit(table(train), max_categories=4)
    again = Encoder.from_json(json.loads(json.dumps(encoder.to_json())))
    matrix = encoder.transform(table(test))
    assert np.isfinite(matrix).all()
    assert again.players == encoder.players
    assert np.array_equal(again.transform(table(test)), matrix)
    assert np.array_equal(np.concatenate([encoder.transform(table([row])) for row in test]), matrix)
    chunked = Dataset(pa.concat_tables([table([row]).table for row in test]), table(test).schema)
    assert np.array_equal(encoder.transform(chunked), matrix)


def test_an_encoder_of_another_format_is_refused() -> None:
    with pytest.raises(InvalidInput, match="format"):
        Encoder.from_json({"version": 2})


def rows_for_explanations(task: str, rows: int = 600) -> Dataset:
    rng = np.random.default_rng(4)
    number, other, kind = rng.normal(size=rows), rng.normal(size=rows) * 1e6, rng.choice(list("abc"), rows)
    score = number + (kind == "a") - other / 1e6
    thirds = np.array(list("pqr"))[np.digitize(score, [-0.5, 0.5])]
    answer: Any = {"binary": np.where(score > 0, "y", "n"), "multiclass": thirds, "regression": score}[task]
    return Dataset.from_arrow(pa.table({"number": number, "other": other, "kind": kind, "answer": answer}), target="answer")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("model", [Tree, Forest, Boosting])
def test_shap_explains_the_encoded_trees_exactly(model: Any, task: str) -> None:
    data = rows_for_explanations(task)
    fitted = (model() if model is Tree else model(trees=20)).fit(data)
    view = fitted.encoded_view()
    matrix, background = view.encode(data)[:60], view.encode(data)[100:180]
    explainer = shap.TreeExplainer(view.estimator, background, feature_perturbation="interventional")
    values = explainer.shap_values(matrix, check_additivity=False)
    total = values.sum(axis=1) + explainer.expected_value
    predictions = fitted.predict(data.head(60))
    if task == "regression":
        expected = predictions.values
    elif view.output == "probability":
        expected = predictions.probabilities
    elif task == "binary":
        expected = np.log(predictions.probabilities[:, 1] / predictions.probabilities[:, 0])
    else:
        # Softmax fixes scores up to one number a row.
        total, expected = total - total[:, :1], np.log(predictions.probabilities / predictions.probabilities[:, :1])
    assert np.abs(total - expected).max() < 1e-6
    assert len(view.players) == matrix.shape[1]
    assert set(view.players) == {"number", "other", "kind"}


@pytest.mark.parametrize(("model", "task"), [(Logistic, "binary"), (Logistic, "multiclass"), (Linear, "regression")])
def test_coefficients_give_the_models_own_answers(model: Any, task: str) -> None:
    data = rows_for_explanations(task)
    fitted = model().fit(data)
    view = fitted.encoded_view()
    score = view.encode(data) @ view.coefficients.T + view.intercept
    predictions = fitted.predict(data)
    if task == "regression":
        assert np.allclose(score, predictions.values)
    elif task == "binary":
        assert np.allclose(1 / (1 + np.exp(-score)), predictions.probabilities[:, 1])
    else:
        assert view.coefficients.shape == (3, len(view.players))
        assert np.allclose(np.exp(score) / np.exp(score).sum(axis=1, keepdims=True), predictions.probabilities)


def test_ridge_and_least_squares_are_the_closed_forms() -> None:
    data = rows_for_explanations("regression")
    answer = data.to_numpy("answer")
    for strength in (0.0, 7.0):
        view = Linear(l2=strength).fit(data).encoded_view()
        matrix = view.encode(data)
        centred = matrix - matrix.mean(axis=0)
        expected = np.linalg.pinv(centred.T @ centred + strength * np.eye(matrix.shape[1])) @ centred.T @ (answer - answer.mean())
        assert np.allclose(matrix @ view.coefficients + view.intercept, centred @ expected + answer.mean(), atol=1e-8)


def test_the_lasso_meets_its_optimality_conditions_also_with_weights() -> None:
    base = rows_for_explanations("regression")
    weight = np.random.default_rng(1).uniform(0.5, 2, len(base))
    data = Dataset.from_arrow(base.table.append_column("w", pa.array(weight)), target="answer", fields={"w": {"role": "weight"}})
    for l1, l2 in ((20.0, 0.0), (10.0, 5.0)):
        view = Linear(l1=l1, l2=l2, max_iter=50_000).fit(data).encoded_view()
        matrix, beta = view.encode(data), view.coefficients
        gradient = -matrix.T @ (weight * (data.to_numpy("answer") - matrix @ beta - view.intercept)) + l2 * beta
        # Karush-Kuhn-Tucker: the gradient balances l1 where a coefficient is not zero, and stays within it where it is.
        assert np.allclose(gradient[beta != 0], -l1 * np.sign(beta[beta != 0]), atol=0.05)
        assert (np.abs(gradient[beta == 0]) <= l1 + 0.05).all()


def test_the_penalties_of_logistic_meet_their_optimality_conditions() -> None:
    data = rows_for_explanations("binary")
    truth = np.array(data.to_list("answer")) == "y"
    for l1, l2 in ((0.0, 3.0), (5.0, 0.0), (4.0, 2.0)):
        fitted = Logistic(l1=l1, l2=l2, max_iter=20_000).fit(data)
        view = fitted.encoded_view()
        matrix, beta = view.encode(data), view.coefficients
        gradient = matrix.T @ (fitted.predict(data).score("y") - truth) + l2 * beta
        assert np.allclose(gradient[beta != 0], -l1 * np.sign(beta[beta != 0]), atol=0.1)
        assert (np.abs(gradient[beta == 0]) <= l1 + 0.1).all()
