"""Explanations of forests beside shap's: CPU seconds, medians in one run, and how far attributions miss the model's own answer.

The job is 100 rows of breast cancer, a forest of 100 trees and 100 background rows. Ours goes through the explainer's whole door: encoding,
players, the check against `predict`, the record. shap's KernelExplainer gets 1024 coalitions and scikit-learn's own `predict_proba`; it runs on
a few rows and its time is scaled to 100. shap's TreeExplainer is timed with its set-up, as ours is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import shap
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

from affidavit import Dataset
from affidavit.interfaces.model import EncodedView
from affidavit_governance.explain.methods.tree import Tree
from affidavit_plugins.tabular.trees import Boosting, Forest

ROWS = 100
KERNEL_ROWS = 3
COALITIONS = 1024
FORESTS = 100
REPEATS = 5


class PlainForest(Forest):
    """A forest on the standardised columns as they are, without the rounding that the bundled type does for shap's sake."""

    type = "bench.plain_forest"

    def _encode(self, data: Dataset) -> NDArray[np.float64]:
        return self._encoder.transform(data)


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median CPU seconds."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return statistics.median(found)


def breast_cancer() -> Dataset:
    """All rows in a fixed random order; 30 numbers and a class."""
    bunch = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    columns = {f"x{i}": bunch.data[order, i] for i in range(bunch.data.shape[1])}
    return Dataset.from_arrow({**columns, "y": np.array(["malignant", "benign"])[bunch.target[order]]}, target="y")


def ages(seed: int) -> Dataset:
    """Whole numbers, as ages and months are: standardised, thresholds lie where float32 cannot tell them from the values."""
    generator = np.random.default_rng(seed)
    age = generator.integers(19, 75, 400).astype(float)
    months = generator.integers(4, 72, 400).astype(float)
    return Dataset.from_arrow({"age": age, "months": months, "y": np.where(age + generator.normal(0, 20, 400) > 40, "b", "a")}, target="y")


def library_values(view: EncodedView, matrix: NDArray[np.float64], background: NDArray[np.float64] | None) -> tuple[NDArray[np.float64], float]:
    """shap's TreeExplainer as its users call it: values of the last class and the base."""
    kind = "tree_path_dependent" if background is None else "interventional"
    explainer = shap.TreeExplainer(view.estimator, data=background, feature_perturbation=kind)
    values = np.asarray(explainer.shap_values(matrix, check_additivity=False))
    base = float(np.atleast_1d(explainer.expected_value)[-1])
    return (values[:, :, -1] if values.ndim == 3 else values), base


def speed() -> None:
    """Ours, shap's KernelExplainer and shap's TreeExplainer on the same rows."""
    data = breast_cancer()
    train, background, rows = data.take(np.arange(369)), data.take(np.arange(100)), data.take(np.arange(469, 469 + ROWS))
    forest, boosting = Forest(trees=100).fit(train), Boosting(trees=100).fit(train)
    view = forest.encoded_view()
    matrix, reference = view.encode(rows), view.encode(background)
    kernel = shap.KernelExplainer(lambda x: view.estimator.predict_proba(x)[:, 1], reference)
    kernel_seconds = seconds(lambda: kernel.shap_values(matrix[:KERNEL_ROWS], nsamples=COALITIONS, l1_reg=False, silent=True), 1) * ROWS / KERNEL_ROWS
    ours = seconds(lambda: Tree().explain(forest, rows, background))
    print(f"{'100 rows, forest of 100 trees, 100 background rows':<62} {'CPU s':>8} {'ours is faster by':>18}")

    def line(name: str, took: float, mine: float | None) -> None:
        print(f"{name:<62} {took:8.3f} " + ("" if mine is None else f"{took / mine:17.1f}×"), flush=True)

    line("ours: tree", ours, None)
    line(f"shap KernelExplainer, 1024 coalitions ({KERNEL_ROWS} rows, scaled; needed: 30×)", kernel_seconds, ours)
    line("shap TreeExplainer, interventional (C++)", seconds(lambda: library_values(view, matrix, reference)), ours)
    mine = seconds(lambda: Tree().explain(forest, rows, background, interactions=True))
    line("ours: tree with interactions (shap has none for this game)", mine, None)
    mine = seconds(lambda: Tree().explain(forest, rows, background, game="path-dependent"))
    line("ours: tree, path-dependent", mine, None)
    line("shap TreeExplainer, path-dependent (C++)", seconds(lambda: library_values(view, matrix, None)), mine)
    boosted = boosting.encoded_view()
    mine = seconds(lambda: Tree().explain(boosting, rows, background))
    line("ours: tree, boosting of 100 rounds", mine, None)
    theirs = seconds(lambda: library_values(boosted, boosted.encode(rows), boosted.encode(background)))
    line("shap TreeExplainer, boosting of 100 rounds, interventional", theirs, mine)
    mine = seconds(lambda: Tree().explain(forest, rows.head(1), background))
    line("ours: one row", mine, None)
    line("shap TreeExplainer, one row, interventional", seconds(lambda: library_values(view, matrix[:1], reference)), mine)


def deep() -> None:
    """Trees that grow to the end on many rows: hundreds of leaves each, ten players and more on a path."""
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(5000, 30))
    answer = matrix[:, 0] * matrix[:, 1] + matrix[:, 2] + generator.normal(size=5000) > 0
    data = Dataset.from_arrow({**{f"x{i}": matrix[:, i] for i in range(30)}, "y": np.where(answer, "b", "a")}, target="y")
    forest = Forest(trees=50).fit(data)
    rows, background, view = data.take(np.arange(400, 500)), data.take(np.arange(100)), forest.encoded_view()
    leaves = sum(tree.tree_.n_leaves for tree in view.estimator.estimators_)
    for game, reference in (("interventional", view.encode(background)), ("path-dependent", None)):
        ours = seconds(lambda game=game: Tree().explain(forest, rows, background, game=game), 3)  # type: ignore[misc]
        theirs = seconds(lambda reference=reference: library_values(view, view.encode(rows), reference), 3)  # type: ignore[misc]
        print(f"deep forest, {leaves} leaves, {game}: ours {ours:.2f} s, shap TreeExplainer {theirs:.2f} s, ratio {theirs / ours:.1f}×", flush=True)


def additivity() -> None:
    """The largest residual over many forests on standardised data, and how far shap's values lie from the exact ones."""
    ours, plain, apart = 0.0, 0.0, 0.0
    cancer = breast_cancer()
    for seed in range(FORESTS):
        data = cancer if seed % 2 else ages(seed)
        order = np.random.default_rng(seed).permutation(len(data))
        train, background, rows = data.take(order[:200]), data.take(order[200:260]), data.take(order[260:300])
        model = PlainForest(trees=20).fit(train)
        found = Tree().explain(model, rows, background)
        assert "fallback" not in found.details
        ours = max(ours, float(found.residual.max()))
        view = model.encoded_view()
        values, base = library_values(view, view.encode(rows), view.encode(background))
        plain = max(plain, float(abs(base + values.sum(axis=1) - found.predicted).max()))
        columns = [view.players.index(player) for player in found.players]
        apart = max(apart, float(abs(values[:, columns] - found.values).max()))
    print(f"{FORESTS} forests on standardised data, half on breast cancer and half on whole numbers (ages, months)")
    print(f"largest residual (needed: 1e-9): ours {ours:.1e}, shap TreeExplainer {plain:.1e}")
    print(f"largest distance of a shap TreeExplainer value from the exact one: {apart:.1e}", flush=True)


def main() -> None:
    """Print the tables."""
    speed()
    deep()
    additivity()


if __name__ == "__main__":
    main()
