"""The base for a model type of somebody's own around a scikit-learn estimator."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor

from affidavit.errors import IntegrityError, InvalidInput, PluginError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Capabilities, EncodedView, Predictions, Signature, Task
from affidavit_plugins.tabular.base import ClassWeight, Examples, ScikitModel, TabularParams


class EstimatorParams(TabularParams):
    """Attributes
    ----------
    class_weight
        Weights by class, or ``"balanced"``; only for estimators whose `fit` takes ``sample_weight``.
    """

    class_weight: ClassWeight = None


class EstimatorModel(ScikitModel):
    """A model type around any scikit-learn estimator that skops can write. A subclass gives `type` and `estimator`.

    The base encodes columns, targets and weights, gives the seed to every ``random_state`` that is left open, fits on one thread, and saves
    through skops. An estimator without ``predict_proba`` answers with labels only; its type says ``capabilities = Capabilities()``. Numbers
    arrive centred and scaled: one that takes no negative ones stands behind a ``MinMaxScaler(clip=True)`` in a pipeline.

    Attributes
    ----------
    Params
        A subclass of `EstimatorParams` with what the type may be told.
    trusted
        Full names of the types that skops may build besides those that it holds safe itself; the error of a first load names them. Read
        what they do with a changed file before you list them: compiled ones may follow its numbers without looking.

    Examples
    --------
    >>> from sklearn.naive_bayes import GaussianNB
    >>> class Bayes(EstimatorModel):
    ...     type = "acme.bayes"
    ...     def estimator(self, task, seed):
    ...         return GaussianNB()
    """

    Params = EstimatorParams
    capabilities = Capabilities(probabilities=True)
    trusted: ClassVar[tuple[str, ...]] = ()
    _estimator: Any

    @abstractmethod
    def estimator(self, task: Task, seed: int) -> Any:
        """An unfitted estimator for `task`, made from ``self.params``."""

    def predict(self, data: Dataset) -> Predictions:
        """Answer each row: the likeliest class and the probabilities, a class alone where the estimator gives no probabilities, or a number.

        Raises
        ------
        InvalidInput
            A column is missing, has another type than in training, or holds what the estimator cannot use.
        """
        signature = self.fitted
        if signature.task is Task.REGRESSION or hasattr(self._estimator, "predict_proba"):
            return super().predict(data)
        matrix = self._encode(signature.conform(data))
        positions = self._asked("predict", matrix)[:, 0] if len(matrix) else np.empty(0)
        return Predictions(self._labels[positions.astype(np.intp)], signature.classes)

    def encoded_view(self) -> EncodedView:
        """The encoding and the road from its matrix to the answers, so that explainers ask mixtures of rows without building tables."""
        if self.fitted.task.classifies and not hasattr(self._estimator, "predict_proba"):
            return super().encoded_view()
        return EncodedView(
            encode=self._encode,
            players=self._encoder.players,
            output="probability" if self.fitted.task.classifies else "value",
            answer=self._scores,
        )

    def _fit(self, train: Examples, validation: Examples | None, task: Task, seed: int) -> None:
        try:
            estimator = self.estimator(task, seed)
        except ValueError as error:  # it has not seen a row: its own words are the author's
            raise PluginError(f"{type(self).__name__}.estimator of model type '{self.type}' raised {type(error).__name__}: {error}") from error
        self._check_kind(estimator, task)
        # An open random_state would draw from the global generator.
        open_states = [name for name, value in estimator.get_params().items() if name.rpartition("__")[2] == "random_state" and value is None]
        estimator.set_params(**dict.fromkeys(open_states, seed))
        if getattr(estimator, "random_state", seed) is None:  # SVR has one that is no parameter
            estimator.random_state = seed
        weights: dict[str, Any] = {}
        if train.weight is not None:
            if "sample_weight" not in inspect.signature(estimator.fit).parameters:
                hint = "Leave out 'class_weight', and give the weight column another role."
                raise UsageError(f"Model type '{self.type}' cannot weigh rows: {type(estimator).__name__}.fit takes no weights.", hint=hint)
            weights = {"sample_weight": train.weight}
        try:
            fitted = estimator.fit(train.matrix, train.target, **weights)
        except ValueError as error:
            if not isinstance(error, TypeError):
                raise
            # scikit-learn's error for a parameter is both. It quotes the parameter, which came from no row.
            raise UsageError(f"Model type '{self.type}': {error}", hint="Correct its parameters, or what its 'estimator' makes of them.") from None
        if _shape(fitted) != (train.matrix.shape[1], list(range(len(self._labels)))):
            what = f"after fit, {type(estimator).__name__} has not the columns and classes that it was given"
            raise PluginError(f"Model type '{self.type}': {what}.", hint="It needs n_features_in_, for classes also classes_, and fit gives it back.")
        self._estimator = fitted

    def _check_kind(self, estimator: Any, task: Task) -> None:
        kind, answers = (is_classifier, "classes") if task.classifies else (is_regressor, "numbers")
        if not kind(estimator):
            what = f"{type(estimator).__name__} is no {'classifier' if task.classifies else 'regressor'}"
            raise UsageError(f"Model type '{self.type}' cannot predict {answers}: {what}.", hint="Choose another model type or target.")

    def _scores(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        if self.fitted.task is Task.REGRESSION:
            return self._asked("predict", matrix)[:, 0] if len(matrix) else np.empty(0)
        return self._asked("predict_proba", matrix) if len(matrix) else np.empty((0, len(self.fitted.classes)))

    def _asked(self, method: str, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """What the estimator answers: rows × classes, or rows × 1."""
        columns = len(self.fitted.classes) if method == "predict_proba" else 1
        # scikit-learn's own message may quote values, and some estimators answer far rows with what is no number.
        with suppress(ValueError):
            answers = np.asarray(getattr(self._estimator, method)(matrix), dtype=np.float64).reshape(len(matrix), columns)
            if np.isfinite(answers).all():
                return answers
        raise InvalidInput(f"scikit-learn could not answer {len(matrix)} rows with '{self.type}'.", hint="Check its parameters and the rows.")

    def _save(self, files: Any) -> None:
        files.skops("estimator", self._estimator)

    def _load(self, files: Any, signature: Signature) -> None:
        estimator = files.skops("estimator", trusted=self.trusted)
        expected = type(self.estimator(signature.task, 0)), len(self._encoder.players), list(range(len(signature.classes)))
        # Only then: a file may name any type that skops holds safe, and its attributes may be anything.
        if type(estimator) is not expected[0] or _shape(estimator) != expected[1:]:
            raise IntegrityError(f"The estimator of this '{self.type}' does not fit its columns and classes.", hint="Package the model again.")
        self._estimator = estimator


def _shape(estimator: Any) -> tuple[Any, list[Any]]:
    """How many columns a fitted estimator reads, and its classes; empty for a regressor."""
    return getattr(estimator, "n_features_in_", None), np.asarray(getattr(estimator, "classes_", [])).tolist()
