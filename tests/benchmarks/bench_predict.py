"""What governance adds to one prediction: the governed in-process endpoint against the raw model's own predict, alternating, in one run."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from affidavit.approver import Approver
from affidavit.artifacts import load_model
from affidavit.interfaces.dataset import Dataset
from affidavit.workspace import Workspace

CREDIT = Path(__file__).parents[2] / "examples" / "credit" / "german_credit.csv"
CALLS = 4000
POLICY = {"explain": {"required": False}, "masking": {"fields": {"national_id": "pseudonym"}}}
PEOPLE = {name: {"role": "identifier"} for name in ("full_name", "email", "phone", "iban", "national_id")}


def alternate(raw: Callable[[Dataset], object], governed: Callable[[Dataset], object], row: Callable[[], Dataset]) -> tuple[list[float], list[float]]:
    """Microseconds of each call, the two in turn, so that the machine's moods fall on both; each gets a row that nobody has looked at."""
    clock = time.perf_counter_ns
    plain, under = [], []
    for _ in range(CALLS):
        first, second = row(), row()
        start = clock()
        raw(first)
        middle = clock()
        governed(second)
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
            print(f"{CALLS} one-row calls each way, in turn; medians in µs; the mean holds the sealing of the journal too")
            print(f"{'model, rows made from':<26} {'raw':>8} {'governed':>9} {'added':>7} {'ratio':>6} {'mean added':>11}")
            for kind in ("tabular.logistic", "tabular.forest"):
                measure(workspace, kind, data)


def measure(workspace: Workspace, kind: str, data: Dataset) -> None:
    """Print one line."""
    version = workspace.register(workspace.train(kind, data), kind)
    person = Approver.create("approver", Path(os.environ["AFFIDAVIT_HOME"]) / f"{kind}.pem")
    workspace.enrol(person, roles=["risk"])
    workspace.promote(version, "production", approver=person)
    raw = load_model(version.artifact, workspace.objects, workspace.registry)
    first = data.features().head(1).table
    fields = {f.name: {"type": str(f.type)} for f in raw.fitted.inputs}
    forms = {
        "values": partial(Dataset.from_rows, first.to_pylist(), raw.fitted.inputs),
        "Arrow": partial(Dataset.from_arrow, first, fields=fields),
    }
    with workspace.deploy(version) as endpoint:
        for form, row in forms.items():
            report(f"{kind}, {form}", raw.predict, endpoint.predict, row)


def report(what: str, raw: Callable[[Dataset], object], governed: Callable[[Dataset], object], row: Callable[[], Dataset]) -> None:
    """Print one line."""
    alternate(raw, governed, row)
    plain, under = alternate(raw, governed, row)
    first, second = statistics.median(plain), statistics.median(under)
    mean = statistics.mean(under) - statistics.mean(plain)
    print(f"{what:<26} {first:8.1f} {second:9.1f} {second - first:7.1f} {second / first:6.2f} {mean:11.1f}   (target: under 60 µs added)")
