"""Explainers against brute force, the libraries themselves, and one another, on models that they were not written for."""

from __future__ import annotations

from math import factorial

import numpy as np
import pyarrow as pa
import pytest

from affidavit import Dataset, Model, Signature, Task
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.model import Predictions
from affidavit.interfaces.schema import Schema
from affidavit_governance.explain.base import BACKGROUND_ROWS, relative_residual
from affidavit_governance.explain.game_explainers import Exact, Permutation, Regions, Words
from affidavit_governance.explain.kernel import Kernel
from affidavit_governance.explain.linear import Linear
from affidavit_governance.explain.maskers import RegionMasker, WordMasker
from affidavit_governance.explain.planner import choose
from affidavit_governance.explain.surrogate import Lime
from affidavit_governance.explain.tree import Tree
from affidavit_plugins.tabular.linear import Linear as LinearModel
from affidavit_plugins.tabular.linear import Logistic
from affidavit_plugins.tabular.trees import Boosting, Forest
from affidavit_plugins.tabular.trees import Tree as TreeModel

COLOURS = ("red", "green", "blue")


class Formula(Model):
    """A model given as a function from a data set to the probability of ``yes``, or to numbers."""

    type = "test.formula"

    def __init__(self, function, data, task=Task.BINARY):
        super().__init__()
        self.function = function
        self.calls = 0
        self.signature = Signature(Schema(data.schema.features), task, "y", ("no", "yes") if task.classifies else ())

    def fit(self, data, training=None):
        return self

    def predict(self, data):
        data = self.fitted.conform(data)
        self.calls += 1
        score = np.asarray(self.function(data), dtype=float)
        if self.fitted.task is Task.REGRESSION:
            return Predictions(score)
        both = np.stack([1 - score, score], axis=1)
        return Predictions(np.where(score > 0.5, "yes", "no"), ("no", "yes"), both)

    def save(self, files):
        raise NotImplementedError

    @classmethod
    def load(cls, files):
        raise NotImplementedError


def make_table(rows, seed=0, numbers=2, gaps=True):
    """Numbers, strings with gaps, a boolean and a target that depends on them."""
    generator = np.random.default_rng(seed)
    columns = {f"x{i}": generator.normal(size=rows) for i in range(numbers)}
    colour = np.array(COLOURS, dtype=object)[generator.integers(0, 3, rows)]
    if gaps:
        colour[generator.random(rows) < 0.1] = None
    columns["colour"] = pa.array(colour, type=pa.string())
    columns["flag"] = generator.random(rows) < 0.4
    score = columns["x0"] * 1.5 - columns["x1"] + (colour == "red") * 2 + columns["flag"] * columns["x0"]
    columns["y"] = np.where(score + generator.normal(size=rows) > 0.5, "yes", "no")
    return Dataset.from_arrow(columns, name="toy", target="y", fields={"colour": {"type": "categorical"}})


def interacting(data):
    """A probability in which strings, gaps, numbers and booleans interact."""
    colour = np.array([{"red": 1.0, "green": -1.0, None: 0.5}.get(value, 0.0) for value in data.to_list("colour")])
    x0, x1, flag = data.to_numpy("x0"), data.to_numpy("x1"), data.to_numpy("flag")
    return 1 / (1 + np.exp(-(x0 * colour + 0.7 * x1 * flag - 0.3 * x0 * x1 * colour)))


@pytest.fixture
def table():
    return make_table(160)


@pytest.fixture
def formula(table):
    return Formula(interacting, table)


def brute_force(model, data, background, row):
    """The interventional Shapley values of P(yes), by enumeration over single rows of Python values."""
    names = [field.name for field in model.fitted.inputs]
    own = {name: data.to_list(name)[row] for name in names}
    rows = [{name: background.to_list(name)[i] for name in names} for i in range(len(background))]
    count = len(names)

    def value(code):
        mixed = [{name: own[name] if code >> i & 1 else other[name] for i, name in enumerate(names)} for other in rows]
        table = pa.table({name: pa.array([m[name] for m in mixed], type=data.column(name).type) for name in names})
        return model.predict(Dataset(table, data.select(names).schema)).score("yes").mean()

    worth = [value(code) for code in range(2**count)]
    values = np.zeros(count)
    for i in range(count):
        for code in range(2**count):
            if not code >> i & 1:
                size = code.bit_count()
                values[i] += factorial(size) * factorial(count - size - 1) / factorial(count) * (worth[code | 1 << i] - worth[code])
    return values


def test_exact_equals_brute_force_over_strings_gaps_and_booleans(formula, table):
    background = table.take(np.arange(40, 49))
    found = Exact().explain(formula, table.head(6), background)
    for row in range(6):
        np.testing.assert_allclose(found.values[row], brute_force(formula, table, background, row), atol=1e-12)
    assert found.residual.max() < 1e-12
    assert found.details["exact"] and found.errors is None
    assert found.players == ("x0", "x1", "colour", "flag")


def test_kernel_that_can_enumerate_equals_exact(formula, table):
    background = table.take(np.arange(40, 60))
    exact = Exact().explain(formula, table.head(5), background)
    kernel = Kernel().explain(formula, table.head(5), background)
    np.testing.assert_allclose(kernel.values, exact.values, atol=1e-10)
    assert kernel.details["exact"]


def test_permutation_covers_exact_within_its_intervals():
    data = make_table(120, numbers=6)
    model = Formula(lambda d: interacting(d) ** (1 + abs(d.to_numpy("x2") * d.to_numpy("x3"))), data)
    background = data.take(np.arange(40, 60))
    exact = Exact().explain(model, data.head(8), background)
    found = Permutation().explain(model, data.head(8), background, budget=20 * 200)
    assert found.errors is not None and found.errors[:, :4].min() > 0
    assert (abs(found.values - exact.values) <= found.errors + 1e-12).mean() > 0.85
    assert relative_residual(found).max() < 1e-12


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


@pytest.mark.parametrize("explainer", [Exact, Kernel, Permutation, Lime])
def test_a_row_alone_equals_the_row_in_a_batch_and_global_random_state_is_untouched(explainer):
    data = make_table(90, numbers=5)
    model = Formula(interacting, data)
    background = data.take(np.arange(50, 62))
    np.random.seed(123)
    before = np.random.get_state()[1].copy()
    options = {} if explainer is Exact else {"budget": 12 * 40}
    batch = explainer().explain(model, data.head(4), background, **options)
    alone = explainer().explain(model, data.take([2]), background, **options)
    np.testing.assert_allclose(alone.values[0], batch.values[2], rtol=0, atol=1e-13)
    assert (np.random.get_state()[1] == before).all()
    if explainer is not Exact:
        other = explainer().explain(model, data.take([2]), background, seed=1, **options)
        assert (other.values != alone.values).any(), "the seed must matter for a sampled method"


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
    from affidavit_governance.explain import tree

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


def test_lime_says_that_it_does_not_add_up_and_works_on_gaps_and_strings(formula, table):
    columns = table.table.set_column(0, "x0", pa.array([None if i % 7 == 0 else v for i, v in enumerate(table.to_list("x0"))]))
    data = Dataset(columns, table.schema)
    model = Formula(lambda d: 0.5 + 0.4 * np.array([v == "red" for v in d.to_list("colour")]) - 0.1 * np.isnan(d.to_numpy("x0")), data)
    found = Lime().explain(model, data.head(20), data.take(np.arange(60, 160)), budget=800)
    red = [i for i, colour in enumerate(data.to_list("colour")[:20]) if colour == "red"]
    assert not found.details["additive"] and len(found.details["local_r2"]) == 20
    assert all(abs(found.values[i]).argmax() == 2 and found.values[i, 2] > 0.3 for i in red)
    assert found.residual.max() > 1e-6, "the surrogate's miss must be reported, not hidden"


def sms(texts):
    return Dataset(pa.table({"text": texts}), Dataset.from_arrow({"text": texts}, fields={"text": {"type": "text"}}).schema)


def spam(data):
    """Each 'free' adds 0.2; 'free' together with 'now' adds 0.3."""
    words = [(text or "").split() for text in data.to_list("text")]
    return np.array([0.1 + 0.2 * min(2, w.count("free")) + 0.3 * ("free" in w and "now" in w) for w in words])


def test_words_are_players_and_records_hold_no_text():
    data = sms(["call now for a free prize", "hello there", "", None, " ".join(["word"] * 70 + ["free", "now"])])
    found = Words().explain(Formula(spam, data), data, data)
    np.testing.assert_allclose(found.values[0, :6], [0, 0.15, 0, 0, 0.35, 0], atol=1e-12)
    np.testing.assert_allclose(found.values[1:4], 0, atol=1e-12)
    np.testing.assert_allclose(found.residual, 0, atol=1e-12)
    assert found.inputs[0][:6] == ["call", "now", "for", "a", "free", "prize"] and found.inputs[0][6] is None
    assert len(found.players) == 48 and found.players[0] == "text [1]"
    assert "free" not in str(found.to_json()) and "prize" not in str(found.to_json())


def test_word_masker_cuts_long_texts_and_keeps_every_word():
    masker = WordMasker(sms([" ".join(f"w{i}" for i in range(100))]), limit=10)
    assert masker.rows(0, np.ones((1, 10), dtype=bool)).to_list("text") == [" ".join(f"w{i}" for i in range(100))]
    assert masker.rows(0, np.zeros((1, 10), dtype=bool)).to_list("text") == [""]


def images(values):
    table = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(values)})
    return Dataset.from_arrow(table)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (8, 8, 3), (32,), (2, 40)])
def test_regions_cover_each_element_once_and_find_the_one_that_counts(shape):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (12, *shape)).astype(np.uint8)
    data = images(pixels)
    masker = RegionMasker(data.head(3), data, 4)
    full = masker.rows(1, np.ones((1, len(masker.players)), dtype=bool))
    assert (full.to_numpy("image")[0] == pixels[1]).all()
    corner = (0,) * len(shape)
    model = Formula(lambda d: d.to_numpy("image")[(slice(None), *corner)] / 255, data)
    found = Regions().explain(model, data.head(3), data)
    others = np.delete(found.values, masker._cells[0][corner], axis=1)
    np.testing.assert_allclose(others, 0, atol=1e-12)
    np.testing.assert_allclose(found.residual, 0, atol=1e-12)
    assert abs(found.values[:, masker._cells[0][corner]]).max() > 0.05


def test_bad_input_is_refused(formula, table):
    background = table.take(np.arange(50, 60))
    with pytest.raises(InvalidInput, match="1 row"):
        Exact().explain(formula, table, table.head(1))
    with pytest.raises(InvalidInput, match="'colour' is missing"):
        Exact().explain(formula, table, background.select(["x0", "x1", "flag"]))
    with pytest.raises(UsageError, match="no class 'maybe'"):
        Exact().explain(formula, table, background, label="maybe")
    with pytest.raises(UsageError, match=r"no option 'sede'.*seed"):
        Exact().explain(formula, table, background, sede=3)
    for budget in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="budget"):
            Kernel().explain(formula, table, background, budget=budget)
    for explainer in (Kernel, Permutation, Lime):
        with pytest.raises(UsageError, match="too small"):
            explainer().explain(formula, table.head(1), background, budget=7)
    with pytest.raises(InvalidInput, match="not finite"):
        Exact().explain(Formula(lambda d: np.full(len(d), np.nan), table), table.head(2), background)
    with pytest.raises(UsageError, match="does not fit"):
        Linear().explain(formula, table, background)
    with pytest.raises(UsageError, match="does not fit"):
        Tree().explain(formula, table, background)


def test_a_model_with_labels_only_is_refused(formula, table, monkeypatch):
    honest = formula.predict
    monkeypatch.setattr(formula, "predict", lambda data: Predictions(honest(data).values, ("no", "yes")))
    with pytest.raises(InvalidInput, match="labels only"):
        Exact().explain(formula, table.head(2), table.take(np.arange(50, 60)))


@pytest.mark.parametrize("explainer", [Exact, Kernel, Permutation, Lime])
def test_no_rows_give_an_explanation_without_rows(formula, table, explainer):
    found = explainer().explain(formula, table.head(0), table.head(20))
    assert len(found) == 0 and found.values.shape == (0, 4) and found.to_json()["residual"] == []


def test_a_large_background_is_sampled_and_the_record_says_how_many_rows(formula, table):
    found = Exact().explain(formula, table.head(2), table, seed=4)
    assert found.details["background_rows"] == BACKGROUND_ROWS
    assert found.details["background"] != table.fingerprint


def test_the_planner_chooses_by_capability_and_names_what_fits(formula, table):
    wide = make_table(60, numbers=12)
    assert choose(Logistic().fit(table), table)[0] == "linear"
    assert choose(Forest(trees=3).fit(table), table)[0] == "tree"
    assert choose(formula, table)[0] == "exact"
    assert choose(Formula(interacting, wide), wide)[0] == "permutation"
    assert choose(Formula(spam, sms(["a b"])), sms(["a b"]))[0] == "words"
    assert choose(Formula(len, images(np.zeros((2, 4, 4)))), table)[0] == "regions"
    assert choose(formula, table, "lime") == ("lime", "asked for by name")
    assert choose(formula, table, "acme.own") == ("acme.own", "asked for by name")
    with pytest.raises(UsageError, match=r"Method 'tree' does not fit.*no tree ensemble.*exact, permutation, kernel, lime"):
        choose(formula, table, "tree")
    with pytest.raises(UsageError, match="model rows for each explained row"):
        choose(Formula(interacting, wide), wide, "exact")
