"""Linear models: `tabular.logistic` for classes, `tabular.linear` for numbers. Saved as coefficients, answered in plain numpy."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge

from affidavit.errors import IntegrityError, UsageError
from affidavit.interfaces.model import Capabilities, EncodedView, Signature, Task
from affidavit_plugins.tabular.base import ClassWeight, Examples, TabularModel, TabularParams

Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LinearParams(TabularParams):
    """Parameters of `tabular.linear`, which minimises ½ Σᵢ wᵢ (yᵢ − xᵢβ)² + l1·‖β‖₁ + ½·l2·‖β‖² over standardised columns.

    Attributes
    ----------
    l1, l2
        Strength of the lasso and the ridge penalty; the intercept is free.
    max_iter
        Most iterations of the solver.
    """

    l1: Strength = 0.0
    l2: Strength = 1.0
    max_iter: Annotated[int, Field(ge=1)] = 1000


class LogisticParams(LinearParams):
    """Parameters of `tabular.logistic`: the same penalties, added to the sum of the log losses.

    Attributes
    ----------
    class_weight
        Weights by class, or ``"balanced"``.
    """

    class_weight: ClassWeight = None


class _Coefficients(TabularModel):
    """Score = matrix · coefficients + intercept."""

    _coefficients: NDArray[np.float64]
    _intercept: NDArray[np.float64]

    def _keep(self, coefficients: NDArray[np.float64], intercept: NDArray[np.float64]) -> None:
        # One memory layout always: einsum's order of summation follows it.
        self._coefficients = np.ascontiguousarray(coefficients, dtype=np.float64)
        self._intercept = np.ascontiguousarray(intercept, dtype=np.float64)

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
            encode=self._encode,
            players=self._encoder.players,
            coefficients=self._coefficients if several else self._coefficients[0],
            intercept=self._intercept if several else float(self._intercept[0]),
            output="log-odds" if self.fitted.task.classifies else "value",
        )


class Logistic(_Coefficients):
    """Logistic regression, multinomial where there are more than two classes."""

    type = "tabular.logistic"
    Params = LogisticParams
    capabilities = Capabilities(probabilities=True, linear=True)

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

    def _scores(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = self._linear(matrix)
        if scores.shape[1] == 1:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return probabilities


class Linear(_Coefficients):
    """Linear regression: least squares, ridge, lasso or elastic net, by which penalties are set."""

    type = "tabular.linear"
    Params = LinearParams
    capabilities = Capabilities(linear=True)

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

    def _scores(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._linear(matrix)[:, 0]
