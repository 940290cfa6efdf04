"""The scikit-learn model types: quality, repeatability, saving, odd rows, and what they refuse."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

from affidavit.artifacts import ArtifactReader, ArtifactWriter
from affidavit.errors import IntegrityError, InvalidInput, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model, Task
from affidavit.interfaces.training import Progress, Training
from affidavit_plugins.tabular.additive import Additive
from affidavit_plugins.tabular.base import TabularModel
from affidavit_plugins.tabular.linear import Linear, Logistic
from affidavit_plugins.tabular.trees import Boosting, Forest, Tree

CLASSIFIERS = [Logistic, Tree, Forest, Boosting, Additive]
REGRESSORS = [Linear, Tree, Forest, Boosting, Additive]
SMALL: dict[type[Model], dict[str, Any]] = {Forest: {"trees": 15}, Boosting: {"trees": 15}, Additive: {"bins": 12}}


def raw_rows(target: str, rows: int = 400, seed: int = 0) -> Dataset:
    """Columns of every type that tables have, each with gaps; the target depends on four of them."""
    rng = np.random.default_rng(seed)
    amount, flag, place = rng.lognormal(7, 1, rows), rng.random(rows) < 0.4, rng.choice(["north", "south", "west"], rows)
    day = np.datetime64("2020-01-01") + rng.integers(0, 1000, rows).astype("timedelta64[D]")
    signal = np.log(amount) - 7 + 1.5 * flag + 2.0 * (place == "south") + (day.astype(int) - 18750) / 500
    answers: dict[str, Any] = {
        "binary": np.where(signal > 1, "yes", "no"),
        "multiclass": np.array(["low", "middle", "top"])[np.digitize(signal, [0.3, 1.7])],
        "regression": signal * 10 + rng.normal(0, 0.5, rows),
    }

    def gaps(values: Any, **kind: Any) -> pa.Array:
        return pa.array(values, mask=rng.random(rows) < 0.05, **kind)

    table = pa.table({"amount": gaps(amount), "flag": gaps(flag), "place": gaps(place), "day": gaps(day), "answer": pa.array(answers[target])})
    return Dataset.from_arrow(table, target="answer")


def new(model: type[Model], **params: Any) -> Any:
    return model(**{**SMALL.get(model, {}), **params})


def reopened(model: Any) -> Any:
    """The model after a way through its artifact's bytes."""
    return type(model).load(reader(model, saved(model)))


def saved(model: Any) -> dict[str, bytes]:
    stored: dict[str, bytes] = {}
    writer = ArtifactWriter(lambda data: stored.setdefault(hashlib.sha256(data).hexdigest(), data) and hashlib.sha256(data).hexdigest())
    model.save(writer)
    return {name: stored[entry["sha256"]] for name, entry in writer.files.items()}


def reader(model: Any, contents: dict[str, bytes]) -> ArtifactReader:
    return ArtifactReader({"params": model.params.model_dump(mode="json"), "signature": model.fitted.to_json()}, contents)


def outputs(model: Any, data: Dataset) -> np.ndarray[Any, Any]:
    predictions = model.predict(data)
    return predictions.values if predictions.probabilities is None else predictions.probabilities


CASES = [(model, task) for task in ("binary", "multiclass") for model in CLASSIFIERS] + [(model, "regression") for model in REGRESSORS]
each_case = pytest.mark.parametrize(("model", "task"), CASES)


@each_case
def test_a_model_learns_from_raw_columns_with_gaps(model: type[Model], task: str) -> None:
    train, test = raw_rows(task).split(seed=1)
    fitted = new(model).fit(train)
    assert fitted.signature.task == Task(task)
    predictions = fitted.predict(test)
    if task == "regression":
        truth = test.to_numpy("answer")
        assert 1 - ((predictions.values - truth) ** 2).mean() / truth.var() > 0.7
        return
    truth = np.array(test.to_list("answer"))
    assert (predictions.values == truth).mean() > {"binary": 0.8, "multiclass": 0.7}[task]
    assert predictions.probabilities is not None
    assert predictions.classes == tuple(sorted(set(truth)))
    assert predictions.probabilities.shape == (len(test), len(predictions.classes))
    assert np.allclose(predictions.probabilities.sum(axis=1), 1)
    assert (predictions.probabilities >= 0).all()


@each_case
def test_the_same_seed_gives_the_same_artifact_and_global_randomness_is_left_alone(model: type[Model], task: str) -> None:
    data = raw_rows(task, 150)
    before = np.random.get_state()[1].tolist()
    first, second = (saved(new(model).fit(data, Training(seed=5))) for _ in range(2))
    assert first == second
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize(("model", "params"), [(Boosting, {}), (Logistic, {}), (Forest, {"trees": 3})])
def test_the_number_of_threads_does_not_change_the_model(model: type[Model], params: dict[str, Any]) -> None:
    data = raw_rows("binary", 3000)
    with threadpool_limits(1):
        one = saved(model(**params).fit(data))
    with threadpool_limits(4):
        four = saved(model(**params).fit(data))
    assert one == four


@each_case
def test_a_saved_model_answers_bit_for_bit_the_same(model: type[Model], task: str) -> None:
    data = raw_rows(task, 150)
    fitted = new(model).fit(data)
    again = reopened(fitted)
    assert np.array_equal(outputs(again, data), outputs(fitted, data))
    assert again.signature == fitted.signature
    assert saved(again) == saved(fitted)


@each_case
def test_a_row_is_answered_the_same_alone_in_a_batch_and_from_many_threads(model: type[Model], task: str) -> None:
    data = raw_rows(task, 120)
    fitted = new(model).fit(data)
    together = outputs(fitted, data)
    assert np.array_equal(np.concatenate([outputs(fitted, data.take([row])) for row in range(40)]), together[:40])
    wrong: list[int] = []

    def ask() -> None:
        for _ in range(5):
            if not np.array_equal(outputs(fitted, data), together):
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@each_case
def test_missing_and_unseen_values_and_empty_batches_are_answered(model: type[Model], task: str) -> None:
    fitted = new(model).fit(raw_rows(task, 150))
    inputs = fitted.signature.inputs
    odd = Dataset.from_rows(
        [
            {"amount": None, "flag": None, "place": None, "day": None},
            {"amount": 1e12, "flag": True, "place": "a place never seen", "day": None},
        ],
        inputs,
    )
    assert np.isfinite(outputs(fitted, odd)).all()
    empty = fitted.predict(Dataset.from_rows({"amount": [], "flag": [], "place": [], "day": []}, inputs))
    assert len(empty) == 0
    assert empty.probabilities is None or empty.probabilities.shape == (0, len(empty.classes))


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_an_infinite_number_is_refused_by_column_without_its_row(model: type[Model]) -> None:
    data = raw_rows("binary", 150)
    fitted = new(model).fit(data)
    bad = data.replace_column("amount", pa.array([np.inf] * len(data)))
    with pytest.raises(InvalidInput, match="'amount'.* infinite"):
        fitted.predict(bad)
    with pytest.raises(InvalidInput, match="'amount'.* infinite"):
        new(model).fit(bad)


def test_row_weights_count_like_repeated_rows() -> None:
    data = raw_rows("binary", 200).select(["flag", "place", "answer"])
    weight = np.random.default_rng(0).integers(1, 4, len(data))
    table = data.table.append_column("w", pa.array(weight.astype(float)))
    weighted = Dataset.from_arrow(table, target="answer", fields={"w": {"role": "weight"}})
    repeated = data.take(np.repeat(np.arange(len(data)), weight))
    # Trees see only counts in each leaf, so they must agree; the scaling of numbers, which is unweighted, does not move a tree's splits.
    trees = [Tree(max_depth=4, min_samples_leaf=1).fit(rows) for rows in (weighted, repeated)]
    assert np.allclose(outputs(trees[0], data), outputs(trees[1], data))
    assert "w" not in trees[0].signature.inputs.names  # type: ignore[union-attr]  # fitted


@pytest.mark.parametrize("values", [[-1.0], [np.nan], [0.0]])
def test_weights_that_are_no_weights_are_refused(values: list[float]) -> None:
    data = raw_rows("binary", 60)
    table = data.table.append_column("w", pa.array(values * 60))
    with pytest.raises(InvalidInput, match="Weight column 'w'"):
        Logistic().fit(Dataset.from_arrow(table, target="answer", fields={"w": {"role": "weight"}}))


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_class_weights_move_answers_towards_the_rare_class(model: type[Model]) -> None:
    data = raw_rows("binary", 300)
    answers = np.array(data.to_list("answer"))
    rare = data.filter((answers == "no") | (np.arange(300) % 6 == 0))
    mean = [new(model, class_weight=weight).fit(rare).predict(rare).score("yes").mean() for weight in (None, "balanced", {"yes": 50.0})]
    assert mean[0] < mean[1] < mean[2]


def test_balanced_weights_are_the_inverse_shares() -> None:
    data = raw_rows("binary", 200)
    answers = np.array(data.to_list("answer"))
    share = (answers == "yes").mean()
    by_hand = {"yes": 1 / (2 * share), "no": 1 / (2 * (1 - share))}
    pair = [Logistic(class_weight=weight).fit(data) for weight in ("balanced", by_hand)]
    assert np.allclose(outputs(pair[0], data), outputs(pair[1], data), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "task", "params", "message"),
    [
        (Logistic, "regression", {}, "Use 'tabular.linear'"),
        (Linear, "binary", {}, "Use 'tabular.logistic'"),
        (Boosting, "regression", {"class_weight": "balanced"}, "no meaning for a numeric target"),
        (Forest, "binary", {"class_weight": {"yess": 2.0}}, "'yess'.*Did you mean 'yes'"),
    ],
)
def test_what_does_not_fit_the_target_is_refused(model: type[Model], task: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        new(model, **params).fit(raw_rows(task, 60))


@pytest.mark.parametrize("params", [{"treess": 3}, {"trees": 0}, {"learning_rate": 2}, {"l2": float("nan")}, {"class_weight": {"a": -1}}])
def test_unknown_and_impossible_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"parameter '{next(iter(params))}'"):
        Boosting(**params)


def test_columns_that_no_table_model_reads_are_refused_by_name() -> None:
    text = [f"the customer number {i} wrote at length about the weather and the bank" for i in range(60)]
    data = Dataset.from_arrow(pa.table({"letter": text, "answer": ["yes", "no"] * 30}), target="answer")
    with pytest.raises(UsageError, match="'letter' is of type text"):
        Tree().fit(data)
    with pytest.raises(UsageError, match="no feature columns"):
        Tree().fit(data.select(["answer"]))


def test_private_training_is_refused_rather_than_ignored() -> None:
    class Engine:
        private = True

    with pytest.raises(Refused, match="cannot be trained privately"):
        Tree().fit(raw_rows("binary", 60), Training(engine=Engine()))  # type: ignore[arg-type]  # only its flag is read


def test_progress_is_reported_and_may_cancel() -> None:
    seen: list[Progress] = []
    Tree().fit(raw_rows("binary", 60), Training(report=seen.append))
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 1, 1)

    def cancel(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Tree().fit(raw_rows("binary", 60), Training(report=cancel))


def test_early_stopping_uses_the_validation_rows() -> None:
    train = raw_rows("binary", 300)
    data = [raw_rows("binary", 200, seed=9), raw_rows("binary", 200, seed=9)]
    flipped = np.where(np.array(data[1].to_list("answer")) == "yes", "no", "yes")
    data[1] = data[1].replace_column("answer", pa.array(flipped))
    stopped = [Boosting(early_stopping=True, patience=3).fit(train, Training(validation=rows)) for rows in data]
    rounds = [model.encoded_view().estimator.n_iter_ for model in stopped]
    assert rounds[1] < rounds[0] < 100  # on flipped answers the very first trees make it worse
    assert Boosting().fit(train, Training(validation=data[0])).encoded_view().estimator.n_iter_ == 100
    assert Boosting(early_stopping=True).fit(train).encoded_view().estimator.n_iter_ <= 100


def test_validation_rows_may_lack_a_class() -> None:
    train, validation = raw_rows("multiclass", 200), raw_rows("multiclass", 200, seed=3)
    answers = np.array(validation.to_list("answer"))
    Boosting(trees=5, early_stopping=True).fit(train, Training(validation=validation.filter(answers != "top")))
    without = train.filter(np.array(train.to_list("answer")) != "top")
    assert Boosting(trees=5, early_stopping=True).fit(without, Training(validation=validation)).fitted.classes == ("low", "middle")


@pytest.mark.parametrize("model", [Logistic, Tree, Boosting])
def test_what_scikit_learn_cannot_fit_becomes_one_clear_error(model: type[TabularModel], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, *args: object) -> None:
        raise ValueError("could not convert 4711")

    monkeypatch.setattr(model, "_fit", fail)
    with pytest.raises(InvalidInput, match="could not fit") as caught:
        new(model).fit(raw_rows("binary", 60))
    assert "4711" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_model_that_is_not_fitted_says_so() -> None:
    for use in (lambda m: m.predict(raw_rows("binary", 5)), lambda m: m.save(None), lambda m: m.encoded_view()):
        with pytest.raises(UsageError, match="not fitted"):
            use(Logistic())


@pytest.mark.parametrize("model", [Tree, Forest, Boosting])
@pytest.mark.parametrize("damage", ["loop", "beyond", "column"])
def test_a_tree_that_would_read_outside_its_memory_is_not_loaded(model: type[Model], damage: str) -> None:
    data = raw_rows("binary", 150)
    fitted = new(model).fit(data)
    estimator = fitted.encoded_view().estimator
    if model is Boosting:
        nodes = estimator._predictors[0][0].nodes
        field, value = {"loop": ("left", 0), "beyond": ("right", 10**6), "column": ("feature_idx", 999)}[damage]
        nodes[field][0] = value
    else:
        tree = getattr(estimator, "estimators_", [estimator])[0].tree_
        state = tree.__getstate__()
        field, value = {"loop": ("left_child", 0), "beyond": ("right_child", 10**6), "column": ("feature", 999)}[damage]
        state["nodes"] = state["nodes"].copy()
        state["nodes"][field][0] = value
        tree.__setstate__(state)
    with pytest.raises(IntegrityError, match="do not fit"):
        reopened(fitted)


def test_parts_of_two_models_do_not_load_as_one() -> None:
    data = raw_rows("binary", 100)
    small, large = Logistic().fit(data.select(["amount", "answer"])), Logistic().fit(data)
    mixed = {**saved(large), "coefficients.safetensors": saved(small)["coefficients.safetensors"]}
    with pytest.raises(IntegrityError, match="do not fit"):
        Logistic.load(reader(large, mixed))
    tree, other = Tree().fit(data), Tree().fit(raw_rows("multiclass", 100))
    with pytest.raises(IntegrityError, match="do not fit"):
        Tree.load(reader(tree, {**saved(tree), "estimator.skops": saved(other)["estimator.skops"]}))
    forest = Forest(trees=2).fit(data)
    with pytest.raises(IntegrityError, match="do not fit"):
        Tree.load(reader(tree, {**saved(tree), "estimator.skops": saved(forest)["estimator.skops"]}))
