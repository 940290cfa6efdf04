"""Linear models: `tabular.logistic` for classes, `tabular.linear` for numbers. Saved as coefficients, answered in plain numpy."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge

from affidavit.errors import IntegrityError, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.infer import class_labels
from affidavit.interfaces.model import Capabilities, EncodedView, OnnxView, Signature, Task
from affidavit.interfaces.schema import Role
from affidavit.interfaces.training import TrainingEngine
from affidavit.onnx_format import INPUT, Graph
from affidavit_plugins.tabular.base import ClassWeight, Examples, ScikitModel, TabularModel, TabularParams, bounded_target, class_factors
from affidavit_plugins.tabular.torch_encoding import TableEncoding

ROOM = 1.25
"""Bound on a row's norm in private training, in root mean squares: on Adult nine in ten rows have less than 1.12, 99 in 100 less than 1.42."""

Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LinearParams(TabularParams):
    """Parameters of `tabular.linear`, which minimises ½ Σᵢ wᵢ (yᵢ − xᵢβ)² + l1·‖β‖₁ + ½·l2·‖β‖² over standardised columns.

    Attributes
    ----------
    l1, l2
        Strength of the lasso and the ridge penalty; the intercept is free. Private training refuses `l1`, takes `l2` as the least ridge
        penalty, penalises the intercept too, and replaces the square of large errors by their absolute value (pseudo-Huber loss).
    max_iter
        Most iterations of the solver; private training goes on until the minimum is reached.
    max_categories
        See the tabular types; private training hashes categories that the schema does not declare.
    """

    l1: Strength = 0.0
    l2: Strength = 1.0
    max_iter: Annotated[int, Field(ge=1)] = 1000


class LogisticParams(LinearParams):
    """Parameters of `tabular.logistic`: the same penalties, added to the sum of the log losses.

    Attributes
    ----------
    class_weight
        Weights by class, or ``"balanced"``, which private training refuses: it counts the classes.
    """

    class_weight: ClassWeight = None


class Coefficients(TabularModel):
    """Score = matrix · coefficients + intercept."""

    _coefficients: NDArray[np.float64]
    _intercept: NDArray[np.float64]

    def _keep(self, coefficients: NDArray[np.float64], intercept: NDArray[np.float64]) -> None:
        # One memory layout always: einsum's order of summation follows it.
        self._coefficients = np.ascontiguousarray(coefficients, dtype=np.float64)
        self._intercept = np.ascontiguousarray(intercept, dtype=np.float64)

    def _check_private(self, data: Dataset) -> None:
        """Refuse what has no private form, before anything is released."""
        if self.params.l1:
            raise not_private(self.type, "an l1 penalty has no bound on what one record changes", "Use l2.")
        if data.schema.with_role(Role.WEIGHT):
            raise not_private(self.type, "a weight column says how much one record counts", "Give it another role.")

    def _private_rows(self, data: Dataset, signature: Signature, engine: TrainingEngine) -> tuple[NDArray[np.float64], float]:
        """The encoded rows with a column of ones for the intercept, and the norm that hardly any row exceeds, whatever the data are."""
        features = signature.conform(data)
        self._encoder = encoder = TableEncoding.learn(features, engine)
        rows = np.concatenate([encoder.transform(features), np.ones((len(data), 1))], axis=1)
        # A standardised number has a mean square of one, a category sets one column of its block, a hashed one two.
        return rows, ROOM * math.sqrt(1 + sum(2 if column.kind == "hashed" else 1 for column in encoder.columns))

    def _linear(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        # einsum sums each row in the same order whatever the batch; BLAS does not, and a prediction must not depend on its neighbours.
        score: NDArray[np.float64] = np.einsum("ij,kj->ik", matrix, self._coefficients) + self._intercept
        return score

    def _save(self, files: Any) -> None:
        files.tensors("coefficients", {"coefficients": self._coefficients, "intercept": self._intercept})

    def _load(self, files: Any, signature: Signature) -> None:
        tensors = files.tensors("coefficients")
        scores = len(signature.classes) if signature.task is Task.MULTICLASS else 1
        expected = {"coefficients": (scores, len(self._encoder.players)), "intercept": (scores,)}
        if {name: value.shape for name, value in tensors.items()} != expected:
            raise IntegrityError(f"The coefficients of this '{self.type}' do not fit its columns and classes.", hint="Package the model again.")
        self._keep(tensors["coefficients"], tensors["intercept"])

    def encoded_view(self) -> EncodedView:
        """Coefficients and encoding: log-odds of the last class (each class's score where there are several), or the value."""
        several = self.fitted.task is Task.MULTICLASS
        return EncodedView(
            encode=self._encoder.transform,
            players=self._encoder.players,
            coefficients=self._coefficients if several else self._coefficients[0],
            intercept=self._intercept if several else float(self._intercept[0]),
            output="log-odds" if self.fitted.task.classifies else "value",
            answer=lambda matrix: self._answers(self._linear(matrix)),
            projection=self._coefficients.T,
            head=lambda products: self._answers(products + self._intercept),
        )

    def onnx_view(self) -> OnnxView:
        """One matrix product as a graph that reads the encoded rows."""
        task, coefficients, intercept = self.fitted.task, self._coefficients, self._intercept
        if task is Task.BINARY:  # the softmax of nothing and the log-odds
            coefficients, intercept = np.vstack([np.zeros_like(coefficients), coefficients]), np.concatenate([[0.0], intercept])
        graph = Graph((coefficients.shape[1],), np.float64)
        scores = graph.add("Gemm", INPUT, coefficients, intercept, transB=1)
        written = graph.probabilities(scores, len(coefficients)) if task.classifies else graph.values(scores)
        return OnnxView(written, lambda data: {INPUT: self._encoder.transform(data)}, self._encoder.to_json())

    def _answers(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return probabilities(scores) if self.fitted.task.classifies else scores[:, 0]


def probabilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax of the scores, rows × classes; a single column holds the log-odds of the second of two classes."""
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def public_factors(kind: str, setting: ClassWeight, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """The weight of each class, where it does not come from the rows. Raises Refused where it does."""
    if setting == "balanced":
        raise not_private(kind, "balanced class weights count the classes without noise", "Give the weights by class.")
    return class_factors({} if setting is None else setting, classes)


def not_private(kind: str, reason: str, satisfy: str) -> Refused:
    return Refused(f"Model type '{kind}' cannot be trained privately like this: {reason}.", by="privacy", line="privacy.epsilon", satisfy=satisfy)


class Logistic(Coefficients, ScikitModel):
    """Logistic regression, multinomial where there are more than two classes; one against the rest in private training."""

    type = "tabular.logistic"
    Params = LogisticParams
    capabilities = Capabilities(private_training=True, probabilities=True, linear=True, onnx=True)

    def _check_task(self, task: Task) -> None:
        if task is Task.REGRESSION:
            raise UsageError("Model type 'tabular.logistic' predicts classes, and the target is a number.", hint="Use 'tabular.linear'.")

    def _fit(self, train: Examples, validation: Examples | None, task: Task, seed: int) -> None:
        penalty = self.params.l1 + self.params.l2
        estimator = LogisticRegression(
            C=1.0 / penalty if penalty else np.inf,
            l1_ratio=self.params.l1 / penalty if penalty else 0.0,
            solver="saga" if self.params.l1 else "lbfgs",
            max_iter=self.params.max_iter,
            random_state=seed,
        )
        estimator.fit(train.matrix, train.target, sample_weight=train.weight)
        self._keep(estimator.coef_, estimator.intercept_)

    def _fit_private(self, data: Dataset, signature: Signature, engine: TrainingEngine) -> None:
        self._check_private(data)
        factors = public_factors(self.type, self.params.class_weight, signature.classes)
        rows, bound = self._private_rows(data, signature, engine)
        place = {label: index for index, label in enumerate(signature.classes)}
        target = np.array([place[label] for label in class_labels(data)[0]], dtype=np.intp)
        problems = range(len(signature.classes)) if signature.task is Task.MULTICLASS else (1,)
        # The engine's weights end at one; a penalty that shrinks with them gives the same minimum.
        most = factors.max()
        releases = engine.releases([("minimise", 1.0)] * len(problems))
        found = [
            releases.minimise(
                rows, (target == k).astype(np.float64), loss="logistic", bound=bound, l2=self.params.l2 / most, weights=factors[target] / most
            )
            for k in problems
        ]
        self._keep(np.stack(found)[:, :-1], np.stack(found)[:, -1])

    def _scores(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return probabilities(self._linear(matrix))


class Linear(Coefficients, ScikitModel):
    """Linear regression: least squares, ridge, lasso or elastic net, by which penalties are set."""

    type = "tabular.linear"
    Params = LinearParams
    capabilities = Capabilities(private_training=True, linear=True, onnx=True)

    def _check_task(self, task: Task) -> None:
        if task is not Task.REGRESSION:
            raise UsageError("Model type 'tabular.linear' predicts numbers, and the target holds classes.", hint="Use 'tabular.logistic'.")

    def _fit(self, train: Examples, validation: Examples | None, task: Task, seed: int) -> None:
        l1, l2, total = self.params.l1, self.params.l2, len(train.target) if train.weight is None else float(train.weight.sum())
        estimator: Any
        if l1:
            # scikit-learn divides the squared error by the rows' total weight.
            estimator = ElasticNet(alpha=(l1 + l2) / total, l1_ratio=l1 / (l1 + l2), max_iter=self.params.max_iter, random_state=seed)
        else:
            estimator = Ridge(alpha=l2, max_iter=self.params.max_iter, random_state=seed) if l2 else LinearRegression()
        estimator.fit(train.matrix, train.target, sample_weight=train.weight)
        self._keep(estimator.coef_[None, :], np.array([estimator.intercept_]))

    def _fit_private(self, data: Dataset, signature: Signature, engine: TrainingEngine) -> None:
        self._check_private(data)
        target = bounded_target(data, signature)
        center, scale = (float(value[0]) for value in engine.center_and_scale(target[:, None]))
        rows, bound = self._private_rows(data, signature, engine)
        theta = engine.releases([("minimise", 1.0)]).minimise(rows, (target - center) / scale, loss="huber", bound=bound, l2=self.params.l2)
        self._keep(theta[None, :-1] * scale, theta[-1:] * scale + center)

    def _scores(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._linear(matrix)[:, 0]
