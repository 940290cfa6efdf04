"""What governance adds to one prediction: the governed in-process endpoint against the raw model's own predict, alternating, in one run."""

from __future__ import annotations

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
CALLS = 4000
POLICY = {"explain": {"required": False}, "masking": {"fields": {"national_id": "pseudonym"}}}
PEOPLE = {name: {"role": "identifier"} for name in ("full_name", "email", "phone", "iban", "national_id")}


def alternate(raw: Callable[[], object], governed: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Microseconds of each call, the two in turn, so that the machine's moods fall on both."""
    clock = time.perf_counter_ns
    plain, under = [], []
    for _ in range(CALLS):
        start = clock()
        raw()
        middle = clock()
        governed()
        end = clock()
        plain.append((middle - start) / 1e3)
        under.append((end - middle) / 1e3)
    return plain, under


def main() -> None:
    """Train on German credit, deploy, and time one-row calls both ways."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AFFIDAVIT_HOME"] = folder
        with Workspace(Path(folder) / "ws", policy=POLICY, actor="bench") as workspace:
            data = workspace.load(CREDIT, target="credit_risk", fields=PEOPLE)
            print(f"{CALLS} one-row calls each way, in turn; medians, and the mean added, which holds the sealing of the journal too")
            print(f"{'model':<18} {'raw µs':>9} {'governed µs':>12} {'added':>9} {'ratio':>6} {'mean added':>12}")
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
        for _ in range(200):
            raw.predict(row)
            endpoint.predict(row)
        plain, governed = alternate(lambda: raw.predict(row), lambda: endpoint.predict(row))
    middle, under = statistics.median(plain), statistics.median(governed)
    added = statistics.mean(governed) - statistics.mean(plain)
    print(f"{kind:<18} {middle:9.1f} {under:12.1f} {under - middle:9.1f} {under / middle:6.2f} {added:12.1f}   (target: under 60 µs added)")
