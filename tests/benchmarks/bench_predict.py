"""What governance adds to one prediction: the governed in-process endpoint against the raw model's own predict, alternating, in one run."""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from affidavit.approver import Approver
from affidavit.artifacts import load_model
from affidavit.interfaces.dataset import Dataset
from affidavit.workspace import Workspace

CREDIT = Path(__file__).parents[2] / "examples" / "credit" / "german_credit.csv"
ROUNDS, CALLS = 30, 200
POLICY = {"explain": {"required": False}, "masking": {"fields": {"national_id": "pseudonym"}}}
PEOPLE = {name: {"role": "identifier"} for name in ("full_name", "email", "phone", "iban", "national_id")}


def microseconds(predict: Callable[[], object]) -> float:
    """Mean time of one call."""
    started = time.perf_counter()
    for _ in range(CALLS):
        predict()
    return (time.perf_counter() - started) / CALLS * 1e6


def main() -> None:
    """Train on German credit, deploy, and time one-row calls both ways."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AFFIDAVIT_HOME"] = folder
        with Workspace(Path(folder) / "ws", policy=POLICY, actor="bench") as workspace:
            data = workspace.load(CREDIT, target="credit_risk", fields=PEOPLE)
            print(
                f"{'model':<20} {'raw µs':>9} {'governed µs':>12} {'added µs':>9} {'ratio':>6}   (median of {ROUNDS} rounds of {CALLS} one-row calls)"
            )
            for kind in ("tabular.logistic", "tabular.forest"):
                measure(workspace, kind, data)


def measure(workspace: Workspace, kind: str, data: Dataset) -> None:
    """Print one line."""
    version = workspace.register(workspace.train(kind, data), kind)
    person = Approver.create("approver", Path(os.environ["AFFIDAVIT_HOME"]) / f"{kind}.pem")
    workspace.enrol(person, roles=["risk"])
    workspace.promote(version, "production", approver=person)
    raw = load_model(version.artifact, workspace.objects, workspace.registry)
    row = Dataset.from_arrow(data.features().head(1).table, fields={f.name: {"type": str(f.type)} for f in raw.fitted.inputs})
    with workspace.deploy(version) as endpoint:
        for predict in (lambda: raw.predict(row), lambda: endpoint.predict(row)):
            microseconds(predict)
        gc.disable()
        pairs = [(microseconds(lambda: raw.predict(row)), microseconds(lambda: endpoint.predict(row))) for _ in range(ROUNDS)]
        gc.enable()
    plain = statistics.median(pair[0] for pair in pairs)
    governed = statistics.median(pair[1] for pair in pairs)
    added = statistics.median(pair[1] - pair[0] for pair in pairs)
    print(f"{kind:<20} {plain:9.1f} {governed:12.1f} {added:9.1f} {governed / plain:6.2f}   (target: under 60 µs added)")
