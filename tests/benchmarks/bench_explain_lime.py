"""LIME: do two seeds name the same five fields? Ours beside the lime package's own defaults, at equal model rows, on a breast-cancer forest."""

from __future__ import annotations

import itertools
import time

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model, Predictions, Signature, Task
from affidavit.interfaces.schema import Schema
from affidavit_governance.explain.methods.lime import Lime

SEEDS = 10
ROWS = 12
TREES = 100
TOP = 5


class Forest(Model):
    """A fitted scikit-learn forest, asked tree by tree in one thread, for both sides in the same way."""

    type = "bench.forest"

    def __init__(self, forest: RandomForestClassifier, data: Dataset) -> None:
        super().__init__()
        self.forest = forest
        self.signature = Signature(Schema(data.schema.features), Task.BINARY, "y", ("malignant", "benign"))

    def probabilities(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows × classes."""
        single = matrix.astype(np.float32)
        return sum(tree.tree_.predict(single) for tree in self.forest.estimators_) / len(self.forest.estimators_)

    def fit(self, data: Dataset, training: object = None) -> Forest:
        """Fitted already."""
        return self

    def predict(self, data: Dataset) -> Predictions:
        """Through the forest."""
        data = self.fitted.conform(data)
        both = self.probabilities(np.stack([data.to_numpy(name) for name in data.schema.names], axis=1))
        return Predictions(np.where(both[:, 1] > 0.5, "benign", "malignant"), ("malignant", "benign"), both)

    def save(self, files: object) -> None:
        """Not kept."""
        raise NotImplementedError

    @classmethod
    def load(cls, files: object) -> Forest:
        """Not kept."""
        raise NotImplementedError


def top(values: NDArray[np.float64]) -> frozenset[int]:
    """The fields with the largest coefficients."""
    return frozenset(np.argsort(-abs(values), kind="stable")[:TOP].tolist())


def jaccard(tops: list[list[frozenset[int]]]) -> float:
    """Mean over rows and pairs of seeds; `tops` is seeds × rows."""
    pairs = [len(a & b) / len(a | b) for row in zip(*tops, strict=True) for a, b in itertools.combinations(row, 2)]
    return float(np.mean(pairs))


def ours(model: Forest, data: Dataset, background: Dataset, samples: int) -> tuple[float, float, float]:
    """Jaccard, mean local R², seconds a row."""
    tops, r2, start = [], [], time.process_time()
    for seed in range(SEEDS):
        found = Lime().explain(model, data, background, budget=samples, seed=seed)
        tops.append([top(values) for values in found.values])
        r2 += found.details["local_r2"]
    return jaccard(tops), float(np.mean(r2)), (time.process_time() - start) / SEEDS / len(data)


def plain(model: Forest, rows: NDArray[np.float64], training: NDArray[np.float64], samples: int) -> tuple[float, float, float]:
    """The same of the package with its defaults, on `training` rows."""
    from lime.lime_tabular import LimeTabularExplainer

    tops, r2, start = [], [], time.process_time()
    for seed in range(SEEDS):
        explainer = LimeTabularExplainer(training, random_state=seed)
        named = []
        for row in rows:
            found = explainer.explain_instance(row, model.probabilities, num_features=rows.shape[1], num_samples=samples)
            values = np.zeros(rows.shape[1])
            for field, weight in found.local_exp[1]:
                values[field] = weight
            named.append(top(values))
            r2.append(found.score)
        tops.append(named)
    return jaccard(tops), float(np.mean(r2)), (time.process_time() - start) / SEEDS / len(rows)


def main() -> None:
    """Print a line for each number of samples."""
    cancer = load_breast_cancer()
    train, test, train_y, _ = train_test_split(cancer.data, cancer.target, random_state=0)
    forest = RandomForestClassifier(TREES, random_state=0).fit(train, train_y)
    names = list(cancer.feature_names)

    def table(matrix: NDArray[np.float64]) -> Dataset:
        return Dataset.from_arrow({name: matrix[:, column] for column, name in enumerate(names)})

    data, reference = table(test[:ROWS]), train[:100]
    model = Forest(forest, data)
    print(f"{TREES} trees, 30 fields, {ROWS} test rows, {SEEDS} seeds: top-{TOP} Jaccard over pairs of seeds · local R² · CPU seconds a row")
    print(f"{'samples':>8} {'affidavit':>22} {'lime, 426 rows':>22} {'lime, the same 100':>22}")
    for samples in (500, 1000, 5000):
        figures = (
            ours(model, data, table(reference), samples),
            plain(model, test[:ROWS], train, samples),
            plain(model, test[:ROWS], reference, samples),
        )
        print(f"{samples:>8} " + " ".join(f"{agree:9.3f} {fit:5.2f} {seconds:5.2f} s" for agree, fit, seconds in figures))
    print("target: ours above lime's at each number of samples, and 0.95 at 5000 at least")


if __name__ == "__main__":
    main()
