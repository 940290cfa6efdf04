"""How well the torch types do with their defaults on MNIST 5k, SMS spam and German credit, and what ε = 8 and ε = 3 cost them."""

from __future__ import annotations

import gzip
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from affidavit import Workspace

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
SEED = 7


def mnist() -> pa.Table:
    """5,000 digits as 28 × 28 uint8 tensors."""
    with gzip.open(DATA / "mnist_5k.csv.gz") as file:
        values = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images = np.ascontiguousarray(values[:, :784].reshape(-1, 28, 28))
    return pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(images), "digit": [str(digit) for digit in values[:, 784]]})


def sms() -> pa.Table:
    """5,574 messages, some with line breaks."""
    return pyarrow.csv.read_csv(DATA / "sms_spam.csv", parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))


def credit() -> pa.Table:
    """1,000 loan decisions."""
    return pyarrow.csv.read_csv(DATA / "german_credit.csv")


JOBS = (
    ("vision.cnn", "MNIST 5k", mnist, "digit", 0.2, "accuracy", 0.96, 8.0),
    ("text.classifier", "SMS spam", sms, "label", 0.2, "accuracy", 0.97, 8.0),
    ("tabular.mlp", "German credit", credit, "credit_risk", 0.25, "roc_auc", 0.70, 3.0),
)


def main() -> None:
    """Train each type without and with privacy, and print test figures with their 95 % intervals."""
    if not DATA.is_dir():
        print(f"Skipped: the data are not beside this checkout ({DATA.name}).")
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(f"{'model':<16} {'data':<14} {'privacy':<8} {'metric':<9} {'value':>6}   {'95 % interval':<16} {'needed':>6} {'fit s':>6}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AFFIDAVIT_HOME"] = folder
        for kind, name, table, target, share, metric, needed, epsilon in JOBS:
            for private in (False, True):
                policy = {"masking": {"detect": False}, "privacy": {"epsilon": epsilon, "delta": 1e-5} if private else None}
                with Workspace(Path(folder) / f"{kind}-{private}", policy=policy, actor="bench") as workspace:
                    measure(workspace, kind, name, (table(), target, share), metric, None if private else needed, epsilon if private else None)


def measure(
    workspace: Workspace, kind: str, name: str, data: tuple[pa.Table, str, float], metric: str, needed: float | None, epsilon: float | None
) -> None:
    """Print one line."""
    table, target, share = data
    train, test = workspace.load(table, target=target).split(share, seed=SEED, stratify=True)
    started = time.perf_counter()
    model = workspace.train(kind, train, seed=SEED)
    seconds = time.perf_counter() - started
    found = workspace.evaluate(model, test).metrics[metric]
    privacy = "none" if epsilon is None else f"ε = {epsilon:g}"
    interval = "" if found.low is None or found.high is None else f"{found.low:.3f} to {found.high:.3f}"
    floor = "" if needed is None else f"{needed:.2f}"
    print(f"{kind:<16} {name:<14} {privacy:<8} {metric:<9} {found.value:6.3f}   {interval:<16} {floor:>6} {seconds:6.1f}", flush=True)
