"""Fitted tree ensembles of scikit-learn as arrays of nodes, read the way that the library itself sends a row through them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError

Numbers = NDArray[np.float64]

NODES_AT_ONCE = 2**16
"""Nodes whose paths stand in memory together."""

_OF_NODES = ("feature", "threshold", "missing_left", "left", "right", "value", "cover")


@dataclass(frozen=True, slots=True)
class Ensemble:
    """All trees of a model for one output, whose raw score is `offset` plus the value of the leaf that a row reaches in each tree.

    Attributes
    ----------
    feature
        The matrix column that each node asks for; -1 in a leaf.
    threshold
        A number up to it goes to the left.
    missing_left
        Whether a missing number goes to the left.
    left, right
        The nodes below, counted over all trees; -1 in a leaf.
    value
        What a leaf adds to the raw score, with the tree's weight in the ensemble.
    cover
        Weight of the training rows that reached the node.
    roots
        The first node of each tree.
    offset
        Part of the raw score that no tree gives.
    single
        Whether the library rounds inputs to float32 before it compares them.
    """

    feature: NDArray[np.int64]
    threshold: Numbers
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Numbers
    cover: Numbers
    roots: NDArray[np.int64]
    offset: float
    single: bool

    def goes_left(self, matrix: Numbers, nodes: slice = slice(None)) -> NDArray[np.bool_]:
        """Whether each of `nodes` sends each row to the left, nodes × rows; without meaning in leaves."""
        read = matrix.astype(np.float32).astype(np.float64) if self.single else matrix
        columns = read.T[np.maximum(self.feature[nodes], 0)]
        turns = columns <= self.threshold[nodes, None]
        if np.isnan(read).any():
            turns |= np.isnan(columns) & self.missing_left[nodes, None]
        return turns

    def parts(self, nodes: int = NODES_AT_ONCE) -> Iterator[Ensemble]:
        """Runs of trees with about that many nodes, and no offset."""
        ends = np.append(self.roots, len(self.feature))
        first = 0
        while first < len(self.roots):
            last = max(first + 1, int(np.searchsorted(ends, ends[first] + nodes, side="right")) - 1)
            part, shift = slice(ends[first], ends[last]), ends[first]
            below: dict[str, Any] = {
                name: np.where(getattr(self, name)[part] < 0, -1, getattr(self, name)[part] - shift) for name in ("left", "right")
            }
            same: dict[str, Any] = {name: getattr(self, name)[part] for name in _OF_NODES if name not in below}
            yield replace(self, **same, **below, roots=self.roots[first:last] - shift, offset=0.0)
            first = last

    def scores(self, matrix: Numbers) -> Numbers:
        """The raw score of each row, by walking down the trees."""
        turns = self.goes_left(matrix)
        rows = np.arange(len(matrix))
        node = np.repeat(self.roots[:, None], len(matrix), axis=1)
        while (self.feature[node] >= 0).any():
            below = np.where(turns[node, rows], self.left[node], self.right[node])
            node = np.where(self.feature[node] >= 0, below, node)
        total: Numbers = self.value[node].sum(axis=0) + self.offset
        return total


def read_ensemble(estimator: Any, weights: Sequence[float] | Numbers = (1.0,)) -> Ensemble:
    """The nodes of a fitted decision tree, forest, extra trees, gradient boosting or histogram gradient boosting of scikit-learn.

    Parameters
    ----------
    weights
        One for each output of the estimator; the ensemble's score is their weighted sum. Trees and forests of classifiers have a
        probability for each class as outputs, boosting a raw score for each of several classes, and a single one for two.

    Raises
    ------
    UsageError
        The estimator is none of these, has another number of outputs, or has splits or a start that are not read here.
    """
    name, factors = type(estimator).__name__, np.asarray(weights, dtype=np.float64)
    if getattr(estimator, "n_outputs_", 1) != 1:
        raise UsageError(f"Tree values explain one target, and this {name} has {estimator.n_outputs_}.")
    if hasattr(estimator, "tree_"):
        _check_outputs(name, estimator.tree_.value.shape[2], factors)
        return _joined([_tree_nodes(estimator.tree_, factors)], 0.0, single=True)
    if name in _MEANS:
        trees = [member.tree_ for member in estimator.estimators_]
        _check_outputs(name, trees[0].value.shape[2], factors)
        return _joined([_tree_nodes(tree, factors / len(trees)) for tree in trees], 0.0, single=True)
    if name in _SUMS:
        _check_outputs(name, estimator.estimators_.shape[1], factors)
        rate = float(estimator.learning_rate)
        found = [_tree_nodes(stage[k].tree_, factors[k : k + 1] * rate) for stage in estimator.estimators_ for k in np.flatnonzero(factors)]
        return _joined(found, float(_start(estimator) @ factors), single=True)
    if name in _HISTOGRAMS:
        baseline = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1)
        _check_outputs(name, len(baseline), factors)
        found = [_histogram_nodes(name, stage[k].nodes, factors[k]) for stage in estimator._predictors for k in np.flatnonzero(factors)]
        return _joined(found, float(baseline @ factors), single=False)
    raise UsageError(
        f"The native tree values do not read a {name}.", hint=f"Read are: a decision tree, {', '.join((*_MEANS, *_SUMS, *_HISTOGRAMS))}."
    )


_MEANS = ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor")
_SUMS = ("GradientBoostingClassifier", "GradientBoostingRegressor")
_HISTOGRAMS = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


def _check_outputs(name: str, outputs: int, weights: Numbers) -> None:
    if outputs != len(weights):
        raise UsageError(f"This {name} has {outputs} outputs, where {len(weights)} were due.")


def _tree_nodes(tree: Any, weights: Numbers) -> Ensemble:
    """One tree of scikit-learn; its classifiers hold shares of classes as values."""
    leaf = tree.children_left < 0
    return _tree(
        feature=np.where(leaf, -1, tree.feature),
        threshold=tree.threshold,
        missing_left=tree.missing_go_to_left,
        left=tree.children_left,
        right=tree.children_right,
        value=tree.value[:, 0, :] @ weights,
        cover=tree.weighted_n_node_samples,
    )


def _histogram_nodes(name: str, nodes: Any, weight: float) -> Ensemble:
    leaf = nodes["is_leaf"] == 1
    if (nodes["is_categorical"][~leaf] == 1).any():
        raise UsageError(f"The native tree values do not read the category splits of a {name}.")
    return _tree(
        feature=np.where(leaf, -1, nodes["feature_idx"]),
        threshold=nodes["num_threshold"],
        missing_left=nodes["missing_go_to_left"],
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        value=nodes["value"] * weight,
        cover=nodes["count"],
    )


def _tree(
    *,
    feature: NDArray[Any],
    threshold: NDArray[Any],
    missing_left: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    value: NDArray[Any],
    cover: NDArray[Any],
) -> Ensemble:
    return Ensemble(
        feature=feature.astype(np.int64),
        threshold=threshold.astype(np.float64),
        missing_left=missing_left.astype(bool),
        left=left.astype(np.int64),
        right=right.astype(np.int64),
        value=value.astype(np.float64),
        cover=cover.astype(np.float64),
        roots=np.zeros(1, dtype=np.int64),
        offset=0.0,
        single=True,
    )


def _start(estimator: Any) -> Numbers:
    """The scores that gradient boosting starts from, which must be the same for every row."""
    if not isinstance(estimator.init_, str) and type(estimator.init_).__name__ not in ("DummyClassifier", "DummyRegressor"):
        raise UsageError(f"The native tree values do not read a {type(estimator).__name__} that starts from another model.")
    start: Numbers = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype=np.float32))[0]
    return start


def _joined(parts: Sequence[Ensemble], offset: float, *, single: bool) -> Ensemble:
    """One ensemble of single trees."""
    sizes = [len(part.feature) for part in parts]
    roots: NDArray[np.int64] = np.cumsum(sizes, dtype=np.int64) - np.array(sizes, dtype=np.int64)
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _OF_NODES}
    shift = np.repeat(roots, sizes)
    for name in ("left", "right"):
        joined[name] = np.where(joined["feature"] >= 0, joined[name] + shift, -1)
    return Ensemble(**joined, roots=roots, offset=offset, single=single)
