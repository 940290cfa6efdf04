"""The base for model types of one's own around scikit-learn: any estimator that skops can write goes through the conformance kit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import AdaBoostClassifier, ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.linear_model import BayesianRidge, HuberRegressor, LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR

from affidavit import Capabilities
from affidavit.artifacts import saved_in_memory
from affidavit.errors import IntegrityError, InvalidInput, PluginError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.training import Training
from affidavit.testing import ModelCase, Outcome, Tier
from affidavit.testing.catalogue import SUBJECTS
from affidavit.testing.checks import chosen, run_checks
from affidavit.testing.samples import mixed_table, regression_table
from affidavit_plugins.tabular import EstimatorModel

TREE = ("sklearn.tree._tree.Tree",)
NEIGHBOURS = ("sklearn.neighbors._kd_tree.KDTree", "sklearn.metrics._dist_metrics.EuclideanDistance64")
ADAM = ("sklearn.neural_network._stochastic_optimizers.AdamOptimizer",)


def model_type(make: Callable[[], Any], *, trusted: tuple[str, ...] = (), probabilities: bool = True) -> type[EstimatorModel]:
    class Type(EstimatorModel):
        type = "acme.type"
        capabilities = Capabilities(probabilities=probabilities)

        def estimator(self, task: Any, seed: int) -> Any:
            return make()

    Type.trusted = trusted
    return Type


CLASSIFIERS = {
    "bayes": model_type(GaussianNB),
    "discriminant": model_type(LinearDiscriminantAnalysis),
    "neighbours": model_type(KNeighborsClassifier, trusted=NEIGHBOURS),
    "extra-trees": model_type(lambda: ExtraTreesClassifier(8), trusted=TREE),
    "ada-boost": model_type(lambda: AdaBoostClassifier(n_estimators=5), trusted=TREE),
    "network": model_type(lambda: MLPClassifier((8,), max_iter=20, tol=1.0), trusted=ADAM),
    "pipeline": model_type(lambda: make_pipeline(PolynomialFeatures(2), LogisticRegression(max_iter=1000))),
    "svm": model_type(SVC, probabilities=False),
    "ridge-labels": model_type(RidgeClassifier, probabilities=False),
}
REGRESSORS = {
    "ridge": model_type(Ridge, probabilities=False),
    "huber": model_type(HuberRegressor, probabilities=False),
    "bayesian-ridge": model_type(BayesianRidge, probabilities=False),
    "neighbours": model_type(KNeighborsRegressor, trusted=NEIGHBOURS, probabilities=False),
    "svm": model_type(SVR, probabilities=False),
    "extra-trees": model_type(lambda: ExtraTreesRegressor(8), trusted=TREE, probabilities=False),
}
CASES = [pytest.param(kind, mixed_table, id=f"classes-{name}") for name, kind in CLASSIFIERS.items()]
CASES += [pytest.param(kind, regression_table, id=f"numbers-{name}") for name, kind in REGRESSORS.items()]


def checked(kind: type[EstimatorModel], data: Dataset, *tiers: Tier) -> tuple[dict[str, str], set[str]]:
    """What the kit's checks of these tiers say against a type, and which of governance they skip."""
    subject = SUBJECTS["model"](kind, kind.type, frozenset(kind.capabilities.names), ModelCase(name=kind.type, data=data))
    results = run_checks([(each, subject) for each in chosen("model", subject.claimed) if each.tier in tiers])
    assert sum(result.outcome is Outcome.PASSED for result in results) > 10
    skipped = {r.check for r in results if r.outcome is Outcome.SKIPPED and r.tier is Tier.GOVERNANCE}
    return {r.check: r.message for r in results if r.outcome is Outcome.FAILED}, skipped


@pytest.mark.parametrize(("kind", "sample"), CASES)
def test_an_estimator_in_the_base_does_what_the_interface_promises(kind: type[EstimatorModel], sample: Callable[[], Dataset]) -> None:
    assert checked(kind, sample(), Tier.API) == ({}, set())


@pytest.mark.parametrize(
    ("kind", "sample", "skipped"),
    [
        pytest.param(CLASSIFIERS["discriminant"], mixed_table, set(), id="probabilities"),
        pytest.param(CLASSIFIERS["svm"], mixed_table, {"its_predictions_are_explained_and_add_up"}, id="labels"),
        pytest.param(REGRESSORS["ridge"], regression_table, set(), id="numbers"),
    ],
)
def test_an_estimator_in_the_base_is_governed(kind: type[EstimatorModel], sample: Callable[[], Dataset], skipped: set[str]) -> None:
    assert checked(kind, sample(), Tier.API, Tier.GOVERNANCE, Tier.QUALITY) == ({}, skipped)


def test_the_estimator_answers_as_scikit_learn_does_on_the_encoded_rows() -> None:
    data = mixed_table()
    model = CLASSIFIERS["discriminant"]().fit(data)
    view = model.encoded_view()
    matrix = view.encode(model.fitted.conform(data))
    alone = LinearDiscriminantAnalysis().fit(matrix, data.to_list("label"))
    assert np.allclose(model.predict(data).probabilities, alone.predict_proba(matrix), atol=1e-12)
    assert np.array_equal(view.answer(matrix), model.predict(data).probabilities)


@pytest.mark.parametrize("make", [lambda: ExtraTreesClassifier(8), lambda: make_pipeline(StandardScaler(), ExtraTreesClassifier(8))])
def test_what_is_left_open_gets_the_seed_and_global_random_state_is_not_asked(make: Callable[[], Any]) -> None:
    kind, data = model_type(make, trusted=TREE), mixed_table()

    def saved(seed: int) -> dict[str, bytes]:
        return saved_in_memory(kind().fit(data, Training(seed=seed)))[1]

    np.random.seed(1)
    first = saved(5)
    np.random.seed(2)
    assert saved(5) == first
    assert saved(6) != first


def test_weights_reach_an_estimator_that_takes_them() -> None:
    rows = mixed_table().table
    weights = pa.array([1.0 if label == "yes" else 9.0 for label in rows["label"].to_pylist()])
    weighted = Dataset.from_arrow(rows.append_column("w", weights), target="label", fields={"w": {"role": "weight"}})
    for model in (CLASSIFIERS["ada-boost"]().fit(weighted), CLASSIFIERS["ada-boost"](class_weight={"no": 9.0}).fit(mixed_table())):
        plain = CLASSIFIERS["ada-boost"]().fit(mixed_table())
        assert model.predict(weighted).score("no").mean() > plain.predict(weighted).score("no").mean()


def test_weights_for_an_estimator_that_takes_none_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'acme\.type' cannot weigh rows: LinearDiscriminantAnalysis"):
        CLASSIFIERS["discriminant"](class_weight="balanced").fit(mixed_table())


def test_a_target_that_the_estimator_cannot_predict_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="cannot predict numbers: GaussianNB is no regressor"):
        CLASSIFIERS["bayes"]().fit(regression_table())
    with pytest.raises(UsageError, match="cannot predict classes: Ridge is no classifier"):
        REGRESSORS["ridge"]().fit(mixed_table())


class Careless(ClassifierMixin, BaseEstimator):
    """Answers as it is told, and keeps of what it learnt what it is told."""

    def __init__(self, answer: float = 0.5, columns: int = 2, kept: tuple[str, ...] = ("n_features_in_", "classes_"), back: bool = True) -> None:
        self.answer, self.columns, self.kept, self.back = answer, columns, kept, back

    def fit(self, matrix: Any, target: Any) -> Careless | None:
        learnt = {"n_features_in_": matrix.shape[1], "classes_": np.unique(target)}
        vars(self).update({name: learnt[name] for name in self.kept})
        return self if self.back else None

    def predict_proba(self, matrix: Any) -> Any:
        return np.full((len(matrix), self.columns), self.answer)


def test_a_parameter_that_scikit_learn_refuses_is_named_and_not_the_rows_blamed() -> None:
    kind = model_type(lambda: make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="qdv")))
    with pytest.raises(UsageError, match=r"'acme\.type': The 'solver' parameter of LinearDiscriminantAnalysis .* Got 'qdv'"):
        kind().fit(mixed_table())


def test_a_mistake_in_the_authors_own_method_is_told_in_its_words() -> None:
    with pytest.raises(PluginError, match=r"Type\.estimator of model type 'acme\.type' raised ValueError: .*'five'") as told:
        model_type(lambda: AdaBoostClassifier(n_estimators=int("five")))().fit(mixed_table())
    assert told.value.__cause__ is not None


@pytest.mark.parametrize("fault", [{"kept": ("classes_",)}, {"kept": ("n_features_in_",)}, {"back": False}], ids=str)
def test_an_estimator_whose_file_could_not_be_loaded_is_refused_when_it_is_fitted(fault: dict[str, Any]) -> None:
    assert model_type(Careless)().fit(mixed_table())
    with pytest.raises(PluginError, match="after fit, Careless has not the columns and classes"):
        model_type(lambda: Careless(**fault))().fit(mixed_table())


@pytest.mark.parametrize("fault", [{"answer": np.nan}, {"columns": 1}, {"columns": 4}], ids=str)
def test_answers_that_are_no_numbers_or_too_few_or_too_many_are_refused(fault: dict[str, Any]) -> None:
    model = model_type(lambda: Careless(**fault))().fit(mixed_table())
    with pytest.raises(InvalidInput, match=r"could not answer 3 rows with 'acme\.type'"):
        model.predict(mixed_table().head(3))
    assert len(model.predict(mixed_table().head(0))) == 0


def test_an_estimator_that_takes_no_negative_numbers_stands_behind_a_scaler() -> None:
    data = mixed_table()
    with pytest.raises(InvalidInput, match="could not fit"):
        model_type(MultinomialNB)().fit(data)
    kind = model_type(lambda: make_pipeline(MinMaxScaler(clip=True), MultinomialNB()))
    assert checked(kind, data, Tier.API) == ({}, set())


def test_a_type_that_is_not_trusted_is_named_when_the_model_is_loaded() -> None:
    kind = model_type(ExtraTreesClassifier)
    files = saved_in_memory(kind().fit(mixed_table()))[0]
    with pytest.raises(IntegrityError, match=r"sklearn\.tree\._tree\.Tree"):
        kind.load(files)


def test_another_estimator_or_one_of_other_columns_in_the_file_is_refused() -> None:
    data = mixed_table()
    of_bayes = saved_in_memory(CLASSIFIERS["bayes"]().fit(data))[0]
    of_fewer = saved_in_memory(CLASSIFIERS["discriminant"]().fit(data.select(["number", "label"])))[0]
    own = saved_in_memory(CLASSIFIERS["discriminant"]().fit(data))[0]
    assert CLASSIFIERS["discriminant"].load(own).predict(data)
    for other in (of_bayes, of_fewer):
        own._contents = {**own._contents, "estimator.skops": other._contents["estimator.skops"]}
        with pytest.raises(IntegrityError, match="does not fit its columns and classes"):
            CLASSIFIERS["discriminant"].load(own)


def test_what_scikit_learn_cannot_answer_is_invalid_input_without_its_message() -> None:
    model = model_type(lambda: KNeighborsClassifier(n_neighbors=500), trusted=NEIGHBOURS)().fit(mixed_table())
    with pytest.raises(InvalidInput, match=r"could not answer 3 rows with 'acme\.type'") as refused:
        model.predict(mixed_table().head(3))
    assert "n_neighbors" not in str(refused.value)
