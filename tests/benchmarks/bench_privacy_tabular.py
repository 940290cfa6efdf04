"""Adult census income with and without privacy: every tabular type that can be private, beside interpret's explainable boosting machine.

Each model at ε = 1 and 3, δ = 1e-5, against the same model without privacy; test accuracy, mean over seeds with its 95 % interval.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from affidavit import Workspace

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
TYPES = ("tabular.logistic", "tabular.additive", "tabular.mlp")
SEEDS = 5
DELTA = 1e-5
ALLOWED = 1.5
"""Points of accuracy that privacy may cost."""

STUDENT = 2.776
"""97.5 % quantile of Student's t with four degrees of freedom."""


def adult(part: str) -> pa.Table:
    """One part of the published split; the test part's labels lose their full stop."""
    table = pyarrow.csv.read_csv(DATA / f"adult_{part}.csv.gz")
    return table.set_column(table.schema.get_field_index("income"), "income", pc.utf8_rtrim(pc.utf8_trim_whitespace(table["income"]), characters="."))


def main() -> None:
    """Print one line for each model and ε."""
    if not DATA.is_dir():
        print(f"Skipped: the data are not beside this checkout ({DATA.name}).")
        return
    print(f"Adult, 32,561 training and 16,281 test rows, δ = {DELTA:g}, {SEEDS} seeds; accuracy in %")
    print(f"{'model':<24} {'privacy':<8} {'accuracy':>8}  {'95 % interval':<16} {'cost':>6} {'allowed':>8} {'fit s':>6}")
    train, test = adult("train"), adult("test")
    for kind in TYPES:
        report(kind, lambda epsilon, seed, kind=kind: ours(kind, epsilon, seed, train, test))
    try:
        import interpret.privacy  # noqa: F401  # only to know whether the peer is there
    except ImportError:
        print("interpret's EBM: not installed (pip install 'affidavit[bench]').")
        return
    report("interpret EBM, no pairs", lambda epsilon, seed: peer(epsilon, seed, train, test))


def report(name: str, run: Callable[[float | None, int], tuple[float, float]]) -> None:
    """Print a model's lines, without privacy first."""
    base = float("nan")
    for epsilon in (None, 3.0, 1.0):
        found = [run(epsilon, seed) for seed in range(SEEDS)]
        accuracy = [100 * value for value, _ in found]
        mean, spread = statistics.mean(accuracy), STUDENT * statistics.stdev(accuracy) / SEEDS**0.5
        base = mean if epsilon is None else base
        privacy = "none" if epsilon is None else f"ε = {epsilon:g}"
        cost = "" if epsilon is None else f"{base - mean:6.2f} {ALLOWED:8.1f}"
        seconds = statistics.median(seconds for _, seconds in found)
        print(f"{name:<24} {privacy:<8} {mean:8.2f}  {mean - spread:6.2f} to {mean + spread:5.2f}  {cost:>15} {seconds:6.1f}", flush=True)


def ours(kind: str, epsilon: float | None, seed: int, train: pa.Table, test: pa.Table) -> tuple[float, float]:
    """Test accuracy, and seconds that training took."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AFFIDAVIT_HOME"] = folder
        policy = {"masking": {"detect": False}, "privacy": None if epsilon is None else {"epsilon": epsilon, "delta": DELTA}}
        with Workspace(Path(folder) / "ws", policy=policy, actor="bench") as workspace:
            data = workspace.load(train, target="income")
            started = time.perf_counter()
            model = workspace.train(kind, data, seed=seed)
            seconds = time.perf_counter() - started
            return workspace.evaluate(model, workspace.load(test, target="income"))["accuracy"], seconds


def peer(epsilon: float | None, seed: int, train: pa.Table, test: pa.Table) -> tuple[float, float]:
    """The same of interpret's machine without interaction terms and with one bag, as its private one is by default.

    The private one reads the ranges and categories from the rows without spending on them, and warns; ours pays for them.
    """
    from interpret.glassbox import ExplainableBoostingClassifier
    from interpret.privacy import DPExplainableBoostingClassifier

    frames = [table.drop_columns(["income"]).to_pandas() for table in (train, test)]
    labels = [np.asarray(table["income"].to_pylist()) for table in (train, test)]
    settings: dict[str, Any] = {"random_state": seed, "n_jobs": 1}
    model: Any
    if epsilon is None:
        model = ExplainableBoostingClassifier(interactions=0, outer_bags=1, **settings)
    else:
        model = DPExplainableBoostingClassifier(epsilon=epsilon, delta=DELTA, **settings)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frames[0], labels[0])
        seconds = time.perf_counter() - started
        return float((model.predict(frames[1]) == labels[1]).mean()), seconds
