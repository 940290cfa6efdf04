"""Trees and ensembles of trees: `tabular.tree`, `tabular.forest`, `tabular.boosting`. Saved with skops, checked when read."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from affidavit.errors import IntegrityError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Capabilities, EncodedView, Signature, Task
from affidavit_plugins.tabular.base import ClassWeight, Examples, ScikitModel, TabularParams

MAX_LEAVES = 16_384
"""shap's TreeExplainer numbers the nodes of a tree with 16 signed bits; this many leaves make 32,767 nodes."""

Depth = Annotated[int, Field(ge=1, le=64)]


class TreeParams(TabularParams):
    """Attributes
    ----------
    max_depth
        Most splits between root and leaf; None grows until `min_samples_leaf` stops it.
    min_samples_leaf
        Fewest training rows in a leaf.
    class_weight
        Weights by class, or ``"balanced"``.
    """

    max_depth: Depth | None = 6
    min_samples_leaf: Annotated[int, Field(ge=1)] = 5
    class_weight: ClassWeight = None


class ForestParams(TreeParams):
    """Attributes
    ----------
    trees
        How many trees vote.
    max_features
        Share of the columns that each split may choose from; None: the square root for classes, all for numbers (Breiman 2001).
    """

    max_depth: Depth | None = None
    min_samples_leaf: Annotated[int, Field(ge=1)] = 1
    trees: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_features: Annotated[float, Field(gt=0, le=1)] | None = None


class BoostingParams(TreeParams):
    """Attributes
    ----------
    trees
        Most boosting rounds; each adds one tree, or one for each of several classes.
    learning_rate
        Shrinkage of each tree's contribution.
    max_leaves
        Most leaves of a tree.
    l2
        Penalty on leaf values.
    early_stopping
        Stop when the score on the validation rows (a tenth of the training rows where none are given) no longer rises.
    patience
        Rounds without a rise before stopping.
    """

    max_depth: Depth | None = None
    min_samples_leaf: Annotated[int, Field(ge=1)] = 20
    trees: Annotated[int, Field(ge=1, le=10_000)] = 100
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    max_leaves: Annotated[int, Field(ge=2, le=MAX_LEAVES)] = 31
    l2: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    early_stopping: bool = False
    patience: Annotated[int, Field(ge=1)] = 10


class _TreeModel(ScikitModel):
    _estimator: Any
    estimators: ClassVar[tuple[type[Any], type[Any]]]
    """The scikit-learn classes for classes and for numbers."""
    trusted: ClassVar[tuple[str, ...]]
    """What skops may build besides its own safe list."""

    def _encode(self, data: Dataset) -> NDArray[np.float64]:
        """Rounded to 23 significant bits: scikit-learn reads float32, and shap rounds a tree's thresholds to it. With the last
        of float32's 24 bits free, a threshold between two different values still lies between them after rounding, so that
        training, prediction and explanation send each row the same way.
        """
        single = self._encoder.transform(data).astype(np.float32)
        return (single.view(np.uint32) & np.uint32(0xFFFFFFFE)).view(np.float32).astype(np.float64)

    def _fit(self, train: Examples, validation: Examples | None, task: Task, seed: int) -> None:
        self._estimator = self._new(task, seed)
        self._estimator.fit(train.matrix, train.target, sample_weight=train.weight)

    @abstractmethod
    def _new(self, task: Task, seed: int) -> Any:
        """An unfitted estimator."""

    def _tree_arguments(self, seed: int) -> dict[str, Any]:
        return {
            "max_depth": self.params.max_depth,
            "min_samples_leaf": self.params.min_samples_leaf,
            "max_leaf_nodes": MAX_LEAVES,
            "random_state": seed,
        }

    def _save(self, files: Any) -> None:
        files.skops("estimator", self._estimator)

    def _load(self, files: Any, signature: Signature) -> None:
        estimator = files.skops("estimator", trusted=self.trusted)
        columns, classes = len(self._encoder.players), len(signature.classes)
        if type(estimator) is not self.estimators[signature.task is Task.REGRESSION] or not _sound(estimator, columns, classes):
            raise IntegrityError(f"The trees of this '{self.type}' do not fit its columns and classes.", hint="Package the model again.")
        self._estimator = estimator

    def encoded_view(self) -> EncodedView:
        """The fitted estimator and its encoding."""
        return EncodedView(encode=self._encode, players=self._encoder.players, estimator=self._estimator, output=self._output(), answer=self._scores)

    def _output(self) -> str:
        return "probability" if self.fitted.task.classifies else "value"


class Tree(_TreeModel):
    """One CART decision tree."""

    type = "tabular.tree"
    Params = TreeParams
    capabilities = Capabilities(probabilities=True, tree_ensemble=True)
    estimators = (DecisionTreeClassifier, DecisionTreeRegressor)
    trusted = ("sklearn.tree._tree.Tree",)

    def _new(self, task: Task, seed: int) -> Any:
        return self.estimators[task is Task.REGRESSION](**self._tree_arguments(seed))

    def _scores(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        # The tree itself: the estimator's own checks take 35 times as long on one row.
        answers: NDArray[np.float64] = self._estimator.tree_.predict(matrix.astype(np.float32))
        return answers if self.fitted.task.classifies else answers[:, 0]


class Forest(_TreeModel):
    """A random forest (Breiman 2001); probabilities are the mean of the trees'."""

    type = "tabular.forest"
    Params = ForestParams
    capabilities = Capabilities(probabilities=True, tree_ensemble=True)
    estimators = (RandomForestClassifier, RandomForestRegressor)
    trusted = ("sklearn.tree._tree.Tree",)

    def _new(self, task: Task, seed: int) -> Any:
        share = self.params.max_features
        features = share if share is not None else (1.0 if task is Task.REGRESSION else "sqrt")
        return self.estimators[task is Task.REGRESSION](n_estimators=self.params.trees, max_features=features, n_jobs=1, **self._tree_arguments(seed))

    def _scores(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        # Tree by tree: the estimator starts joblib threads for each call, and adds in the order in which they finish.
        single = matrix.astype(np.float32)
        trees = self._estimator.estimators_
        answers: NDArray[np.float64] = sum(tree.tree_.predict(single) for tree in trees) / len(trees)
        return answers if self.fitted.task.classifies else answers[:, 0]


class Boosting(_TreeModel):
    """Gradient boosting on histograms (the LightGBM way, Ke and others 2017).

    scikit-learn's HistGradientBoosting rather than GradientBoosting: shap explains it for several classes too, it stops early on
    validation rows that the caller gives, and its time grows with bins rather than rows.
    """

    type = "tabular.boosting"
    Params = BoostingParams
    capabilities = Capabilities(probabilities=True, tree_ensemble=True)
    estimators = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    trusted = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)

    def _new(self, task: Task, seed: int) -> Any:
        params: BoostingParams = self.params
        return self.estimators[task is Task.REGRESSION](
            max_iter=params.trees,
            learning_rate=params.learning_rate,
            max_depth=params.max_depth,
            max_leaf_nodes=params.max_leaves,
            min_samples_leaf=params.min_samples_leaf,
            l2_regularization=params.l2,
            early_stopping=params.early_stopping,
            n_iter_no_change=params.patience,
            random_state=seed,
        )

    def _fit(self, train: Examples, validation: Examples | None, task: Task, seed: int) -> None:
        self._estimator = self._new(task, seed)
        given: dict[str, Any] = {}
        if self.params.early_stopping and validation is not None and len(validation.target):
            given = {"X_val": validation.matrix, "y_val": validation.target, "sample_weight_val": validation.weight}
        self._estimator.fit(train.matrix, train.target, sample_weight=train.weight, **given)

    def _scores(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(matrix):
            return np.empty((0, len(self.fitted.classes)) if self.fitted.task.classifies else 0)
        answers: NDArray[np.float64] = self._estimator.predict_proba(matrix) if self.fitted.task.classifies else self._estimator.predict(matrix)
        return answers

    def _output(self) -> str:
        return "log-odds" if self.fitted.task.classifies else "value"


def _sound(estimator: Any, columns: int, classes: int) -> bool:
    """Whether every node leads to a later node of its own tree and asks for a column that exists.

    Compiled code follows these numbers without looking: a changed file could make it read outside its memory or never end.
    """
    if estimator.n_features_in_ != columns or list(getattr(estimator, "classes_", [])) != list(range(classes)):
        return False
    if hasattr(estimator, "_predictors"):
        width = classes if classes > 2 else 1
        rounds = [predictor.nodes for predictors in estimator._predictors for predictor in predictors]
        return all(len(predictors) == width for predictors in estimator._predictors) and all(
            _leads_on(nodes["left"], nodes["right"], nodes["feature_idx"], nodes["is_leaf"] == 1, columns) and not nodes["is_categorical"].any()
            for nodes in rounds
        )
    trees = [member.tree_ for member in getattr(estimator, "estimators_", [estimator])]
    return bool(trees) and all(
        tree.value.shape[1:] == (1, max(classes, 1))
        and _leads_on(tree.children_left, tree.children_right, tree.feature, tree.children_left == -1, columns)
        for tree in trees
    )


def _leads_on(left: NDArray[Any], right: NDArray[Any], feature: NDArray[Any], leaf: NDArray[np.bool_], columns: int) -> bool:
    nodes = np.arange(len(left))[~leaf]
    if not len(left):
        return False
    children = np.stack([left[~leaf], right[~leaf]]).astype(np.int64)
    return bool((children > nodes).all() and (children < len(left)).all() and (feature[~leaf] >= 0).all() and (feature[~leaf] < columns).all())
