"""tabular.mlp: how columns become numbers, and what the model does with them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.training import Training
from affidavit_plugins.tabular.mlp import MLP
from affidavit_plugins.tabular.torch_encoding import MAX_VOCABULARY, ColumnEncoding, TableEncoding
from affidavit_plugins.torch_base import PlainEngine

GERMAN_CREDIT = Path(__file__).resolve().parents[3] / "../shared/data/german_credit.csv"


class Hiding(PlainEngine):
    """Plain statistics, but categories that may not be read, as under privacy."""

    def __init__(self):
        self.asked = []

    def center_and_scale(self, columns):
        self.asked.append(columns)
        return super().center_and_scale(columns)

    def vocabulary(self, values):
        self.asked.append(values)


def mixed(rows=200, seed=0):
    """Every kind of column, some values missing; the label follows from number, category and boolean."""
    rng = np.random.default_rng(seed)
    number = rng.normal(50, 10, rows)
    colour = rng.choice(["red", "green", "blue"], rows)
    member = rng.random(rows) < 0.5
    start = datetime(2020, 1, 1)
    return {
        "number": [None if i % 10 == 0 else float(v) for i, v in enumerate(number)],
        "colour": [None if i % 11 == 0 else str(v) for i, v in enumerate(colour)],
        "member": [None if i % 12 == 0 else bool(v) for i, v in enumerate(member)],
        "since": [start + timedelta(days=int(d)) for d in rng.integers(0, 1000, rows)],
        "label": np.where((number > 50).astype(int) + (colour == "red") + member >= 2, "in", "out"),
    }


def dataset(rows=200, seed=0, fields=None, **columns):
    return Dataset.from_arrow(pa.table(mixed(rows, seed) | columns), target="label", fields=fields)


def encode(data, engine=None, fit_on=None):
    features = data.features()
    return TableEncoding.learn((fit_on or data).features(), engine or PlainEngine()).transform(features)


def column(values, engine=None, **field):
    return Dataset.from_arrow({"x": values}, fields={"x": field} if field else None)


def test_numbers_are_standardised_with_a_flag_for_missing_ones():
    np.testing.assert_allclose(encode(column([1.0, 3.0, None])), [[-1, 0], [1, 0], [0, 1]])


def test_an_outlier_is_cut_at_five_deviations():
    encoded = encode(column([0.0] * 999 + [1e9]))
    assert encoded[-1, 0] == 5.0


def test_public_bounds_clip_before_the_engine_sees_the_values():
    engine = Hiding()
    encoded = encode(column([0.0, 10.0, 1e9], bounds=(0, 10)), engine)
    assert engine.asked[0].max() == 10.0
    assert encoded[1, 0] == encoded[2, 0]


def test_booleans_are_zero_or_one_and_dates_are_standardised_seconds():
    np.testing.assert_array_equal(encode(column([True, False, None])), [[1, 0], [0, 0], [0, 1]])
    np.testing.assert_allclose(encode(column([datetime(2020, 1, 1), datetime(2020, 1, 3)])), [[-1, 0], [1, 0]])


def test_categories_are_one_hot_in_order_and_unseen_ones_are_zeros():
    train, later = column(["b", "a", "b", None]), column(["a", "c", None])
    np.testing.assert_array_equal(encode(later, fit_on=train), [[1, 0, 0], [0, 0, 0], [0, 0, 1]])


def test_declared_categories_are_used_without_asking_the_engine():
    engine = Hiding()
    encoded = encode(column(["b", "a", "z"], type="categorical", categories=["a", "b"]), engine)
    assert engine.asked == []
    np.testing.assert_array_equal(encoded, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_hidden_categories_are_hashed_into_one_bucket_of_each_block():
    encoded = encode(column(["a", "b", "a", None], type="categorical"), Hiding())
    assert encoded.shape == (4, 65)
    np.testing.assert_array_equal(encoded[:, :32].sum(axis=1), [1, 1, 1, 0])
    np.testing.assert_array_equal(encoded[:, 32:64].sum(axis=1), [1, 1, 1, 0])
    np.testing.assert_array_equal(encoded[:, 64], [0, 0, 0, 1])
    np.testing.assert_array_equal(encoded[0], encoded[2])


def test_hash_buckets_are_the_same_for_ever():
    # An artifact stores no table of buckets: a changed hash would silently scramble every model that was trained privately.
    encoded = ColumnEncoding("colour", "hashed")._positions(["red", "green", ""])
    assert [list(block) for block in encoded] == [[15, 11, 5], [63, 42, 32]]


def test_the_two_hash_blocks_and_two_columns_are_independent():
    values = [f"value {i}" for i in range(2000)]
    first, second = ColumnEncoding("x", "hashed")._positions(values)
    other, _ = ColumnEncoding("y", "hashed")._positions(values)
    for a, b in ((first, second - 32), (first, other)):
        table = np.histogram2d(a, b, bins=[np.arange(33), np.arange(33)])[0]
        statistic = float(((table - 2000 / 1024) ** 2 / (2000 / 1024)).sum())
        # Chi-squared with 1023 degrees of freedom: mean 1023, deviation 45.
        assert 1023 - 5 * 45 < statistic < 1023 + 5 * 45


def test_a_column_with_too_many_categories_is_hashed_without_privacy_too():
    encoding = TableEncoding.learn(column([f"v{i}" for i in range(MAX_VOCABULARY + 1)], type="categorical"), PlainEngine())
    assert encoding.columns[0].kind == "hashed"


def test_all_numeric_columns_are_asked_for_in_one_question():
    engine = Hiding()
    encode(dataset(), engine)
    assert [np.shape(question) for question in engine.asked if isinstance(question, np.ndarray)] == [(200, 2)]


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=30), st.booleans())
def test_any_text_encodes_to_zeros_and_ones_and_the_same_row_to_the_same_numbers(values, hidden):
    data = Dataset.from_arrow(pa.table({"x": pa.array(values, pa.string())}), fields={"x": {"type": "categorical"}})
    encoding = TableEncoding.learn(data, Hiding() if hidden else PlainEngine())
    encoded = encoding.transform(data)
    assert set(np.unique(encoded)) <= {0.0, 1.0}
    assert TableEncoding.from_json(encoding.to_json()) == encoding
    for i, value in enumerate(values):
        np.testing.assert_array_equal(encoded[i], encoded[values.index(value)])


def test_free_text_and_infinite_numbers_are_refused_by_column():
    with pytest.raises(InvalidInput, match="'note' holds free text"):
        MLP().fit(dataset(note=[f"many different words {i}" for i in range(200)], fields={"note": {"type": "text"}}))
    model, bad = MLP(epochs=1).fit(dataset()), dataset()
    bad = bad.replace_column("number", pa.array([float("inf")] + [1.0] * 199))
    with pytest.raises(InvalidInput, match=r"'number'.*infinite values in 1 rows"):
        model.predict(bad)


def test_numbers_too_large_to_standardise_are_refused_by_column_and_bounds_help():
    huge = {"number": np.linspace(-1, 1, 40) * 1e300, "y": np.tile(["no", "yes"], 20)}
    with pytest.raises(InvalidInput, match=r"'number' holds numbers too large"):
        MLP(epochs=1).fit(Dataset.from_arrow(huge, target="y"), Training(engine=PlainEngine()))
    bounded = Dataset.from_arrow(huge, target="y", fields={"number": {"bounds": [-1e6, 1e6]}})
    assert len(MLP(epochs=1).fit(bounded, Training(engine=PlainEngine())).predict(bounded)) == 40


def test_it_learns_mixed_columns_with_missing_values():
    model = MLP().fit(dataset(600))
    test = dataset(600, seed=1)
    assert float((model.predict(test).values == np.array(test.to_list("label"))).mean()) > 0.85


def test_an_unseen_category_and_a_missing_value_are_answered():
    model = MLP().fit(dataset())
    rows = dataset().head(2).features()
    rows = rows.replace_column("colour", pa.array(["violet", None]))
    assert np.isfinite(model.predict(rows).probabilities).all()


def test_one_row_answers_to_1e_12_as_it_does_in_a_batch():
    model, data = MLP().fit(dataset()), dataset(seed=1)
    together = model.predict(data).probabilities
    alone = np.concatenate([model.predict(data.take([row])).probabilities for row in range(30)])
    np.testing.assert_allclose(alone, together[:30], atol=1e-12)


def test_saved_and_loaded_it_answers_the_same(saved, loaded):
    data = dataset()
    model = MLP(hidden=[8], dropout=0.1, activation="relu").fit(data)
    files = saved(model)
    copy = loaded(model, files)
    assert np.array_equal(copy.predict(data).probabilities, model.predict(data).probabilities)
    assert saved(copy) == files


def test_a_model_without_hidden_layers_is_linear():
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    data = Dataset.from_arrow({"x": x, "y": 3.0 * x + 2.0}, target="y")
    model = MLP(hidden=[], epochs=20, learning_rate=0.05).fit(data)
    rows = Dataset.from_arrow({"x": [0.0, 1.0, 2.0]})
    np.testing.assert_allclose(model.predict(rows).values, [2.0, 5.0, 8.0], atol=0.05)


def test_the_private_engine_trains_it(private_engine):
    engine = private_engine(8.0)
    model = MLP().fit(dataset(600), Training(engine=engine))
    engine.check_finished("tabular.mlp")
    test = dataset(600, seed=1)
    assert float((model.predict(test).values == np.array(test.to_list("label"))).mean()) > 0.7
    assert {column.kind for column in model._encoding.columns} == {"number", "hashed", "boolean"}


def test_private_regression_knows_its_target_only_through_the_engine(private_engine, monkeypatch):
    engine, answers = private_engine(8.0), []
    ask = engine.center_and_scale
    monkeypatch.setattr(engine, "center_and_scale", lambda columns: answers.append((columns.max(), ask(columns))) or answers[-1][1])
    x = np.random.default_rng(0).normal(size=500)
    data = Dataset.from_arrow({"x": x, "y": 1000.0 + 50.0 * x}, target="y", fields={"y": {"bounds": [900, 1050]}})
    model = MLP(epochs=2).fit(data, Training(engine=engine))
    engine.check_finished("tabular.mlp")
    (largest, (center, scale)), _ = answers
    assert largest == 1050
    assert (model._target.center, model._target.scale) == (center[0], scale[0])
    assert np.isfinite(model.predict(data).values).all()


@pytest.mark.skipif(not GERMAN_CREDIT.exists(), reason="the German credit data are not beside this checkout")
@pytest.mark.parametrize("epsilon", [None, 3.0])
def test_german_credit_reaches_the_required_auc_with_the_defaults(epsilon, private_engine):
    data = Dataset.from_arrow(pyarrow.csv.read_csv(GERMAN_CREDIT), target="credit_risk")
    train, test = data.split(test=0.25, seed=7, stratify=True)
    training = Training() if epsilon is None else Training(engine=private_engine(epsilon))
    score = MLP().fit(train, training).predict(test).score("good")
    good = np.array(test.to_list("credit_risk")) == "good"
    # ROC-AUC is the share of pairs of a good and a bad row that are in the right order.
    auc = float((score[good][:, None] > score[~good][None, :]).mean())
    assert auc >= 0.70
