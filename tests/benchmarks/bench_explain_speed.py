"""How long explaining 100 rows of breast cancer on a torch perceptron takes, against shap's KernelExplainer at equal model rows, in one run.

shap gets the most favourable plain function: a matrix of the 30 standardised numbers in (no column for gaps), the torch module without
gradients in the model's own precision, one probability out. Ours goes through the explainer as users call it: encoding, checks and record included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import shap
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

from affidavit.interfaces.dataset import Dataset
from affidavit_governance.explain.methods.deep import Deep
from affidavit_governance.explain.methods.gradient import Gradient
from affidavit_governance.explain.methods.kernel import Kernel
from affidavit_governance.explain.methods.sampled import Leverage, Permutation
from affidavit_plugins.tabular.mlp import MLP

ROWS, BACKGROUND, COALITIONS = 100, 100, 1024
SHAP_ROWS = 20
"""Rows that shap explains in each repetition; its time is the same for each row."""
REPEATS = 3
TRUTH_ROWS, TRUTH_BUDGET = 5, 2**22


def main() -> None:
    """Time both in turn, and compare both with a long run of a third method."""
    rows, background, model = trained()
    plain, encode = plain_function(model, background)
    counted = {"shap": 0}

    def counting(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        counted["shap"] += len(matrix)
        return plain(matrix)

    check = abs(plain(encode(rows)) - model.predict(rows).score()).max()
    print(f"breast cancer, perceptron 64-64, {ROWS} rows, background {BACKGROUND}, {COALITIONS} coalitions, {torch.get_num_threads()} torch threads")
    print(f"shap's function answers as the model to {check:.0e}")
    ours, theirs = [], []
    found: list[Any] = []
    peer = shap.KernelExplainer(counting, encode(background))
    attributions = np.zeros((SHAP_ROWS, 30))

    def explain_theirs() -> None:
        attributions[:] = peer.shap_values(encode(rows)[:SHAP_ROWS], nsamples=COALITIONS, l1_reg=False, silent=True)

    def explain_ours() -> None:
        found[:] = [Leverage().explain(model, rows, background, budget=COALITIONS * BACKGROUND)]

    for _ in range(REPEATS):
        counted["shap"] = 0
        theirs.append(took(explain_theirs))
        ours.append(took(explain_ours))
    wall, processor = (np.median(np.array(theirs), axis=0) * ROWS / SHAP_ROWS).tolist()
    own_wall, own_processor = np.median(np.array(ours), axis=0).tolist()
    print(f"{'':<24}{'seconds':>9}{'CPU':>9}{'model rows':>13}")
    print(
        f"{'shap KernelExplainer':<24}{wall:9.2f}{processor:9.2f}{counted['shap'] * ROWS // SHAP_ROWS:13d}   ({SHAP_ROWS} rows, times {ROWS // SHAP_ROWS})"
    )
    print(f"{'leverage':<24}{own_wall:9.2f}{own_processor:9.2f}{found[0].details['model_rows']:13d}   road: {found[0].details['road']}")
    print(f"ratio {wall / own_wall:.1f} in seconds, {processor / own_processor:.1f} in CPU seconds   (target: at least 4 in seconds)")
    errors(model, rows, background, attributions, found[0].values)
    others(model, rows, background)


def trained() -> tuple[Dataset, Dataset, MLP]:
    """Explained rows, background and model."""
    data = load_breast_cancer()
    columns: dict[str, Any] = {str(name): data.data[:, i] for i, name in enumerate(data.feature_names)}
    columns["diagnosis"] = np.where(data.target == 1, "benign", "malignant")
    train, test = Dataset.from_arrow(columns, name="breast cancer", target="diagnosis").split(test=0.25, seed=7)
    return test.head(ROWS), train.head(BACKGROUND), MLP(hidden=(64, 64)).fit(train)


def plain_function(model: MLP, background: Dataset) -> tuple[Callable[..., NDArray[np.float64]], Callable[[Dataset], NDArray[np.float64]]]:
    """The model as a function of its standardised numbers alone, and their encoding."""
    view = model.torch_view()
    matrix = view.encode(background)
    numbers = [i for i, player in enumerate(view.players) if view.players.index(player) == i]
    assert not matrix[:, [i for i in range(matrix.shape[1]) if i not in numbers]].any()
    module = deepcopy(view.module)
    first = module.layers[0]
    first.weight.data = first.weight.data[:, numbers].clone()

    def answer(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.no_grad():
            probabilities: NDArray[np.float64] = torch.softmax(module(torch.from_numpy(rows)), dim=1)[:, 1].numpy()
        return probabilities

    return answer, lambda data: view.encode(data)[:, numbers].numpy().copy()


def errors(model: MLP, rows: Dataset, background: Dataset, theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> None:
    """Relative L2 error of both on a few rows, against permutations with many more model rows."""
    truth = Permutation().explain(model, rows.head(TRUTH_ROWS), background, budget=TRUTH_BUDGET)
    assert truth.errors is not None
    size = np.linalg.norm(truth.values, axis=1)
    off = {name: np.linalg.norm(values[: len(truth)] - truth.values, axis=1) / size for name, values in (("shap", theirs), ("leverage", ours))}
    unsure = np.linalg.norm(truth.errors / 1.96, axis=1) / size
    print(
        f"relative L2 error, median of {TRUTH_ROWS} rows, against permutation with {TRUTH_BUDGET} model rows (itself unsure by {np.median(unsure):.1e}):"
    )
    print(f"  shap {np.median(off['shap']):.2e}   leverage {np.median(off['leverage']):.2e}   ratio {np.median(off['leverage'] / off['shap']):.2f}")


def others(model: MLP, rows: Dataset, background: Dataset) -> None:
    """What the other methods take for the same rows."""
    print("the same 100 rows by other methods:")
    budget = COALITIONS * BACKGROUND
    for name, explain in (
        ("permutation", lambda: Permutation().explain(model, rows.head(SHAP_ROWS), background, budget=budget)),
        ("shap Kernel, our door", lambda: Kernel().explain(model, rows.head(SHAP_ROWS), background, budget=budget)),
        ("gradient", lambda: Gradient().explain(model, rows, background)),
        ("deep", lambda: Deep().explain(model, rows, background)),
    ):
        start = time.perf_counter()
        found = explain()
        lasted = (time.perf_counter() - start) * ROWS / len(found)
        print(f"  {name:<26}{lasted:9.2f}   largest residual {found.residual.max():.0e}")


def took(work: Callable[[], None]) -> tuple[float, float]:
    """Wall-clock and processor seconds of one run."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - busy


if __name__ == "__main__":
    main()
