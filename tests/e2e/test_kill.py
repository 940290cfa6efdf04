"""A job killed at any moment leaves a workspace that opens and a ledger that verifies."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from affidavit.workspace import Workspace

MOMENTS = 20

# The parent imports everything once and forks, so that kills fall into the job's own writes rather than into Python's start.
CHILD = """
import os, signal, sys, time
import pyarrow as pa
from affidavit.approver import Approver
from affidavit.workspace import Workspace
import affidavit_plugins.tabular.linear

def job(folder):
    table = pa.table({"x": [float(i % 7) for i in range(60)], "c": ["a", "b", "c"] * 20, "mail": ["a@example.org"] * 60, "y": ["n", "p"] * 30})
    with Workspace(folder, actor="killer", policy={"explain": {"required": False}}) as workspace:
        data = workspace.load(table, target="y", name="tiny")
        model = workspace.train("tabular.logistic", data)
        workspace.evaluate(model, data)
        version = workspace.register(model, "tiny")
        for _ in range(20):
            workspace.predict(model, data.head(1))
        workspace.bundle(folder + ".zip")

folder = sys.argv[1]
job(folder)  # imports the rest, so that the time taken next is the job's own
started = time.perf_counter()
job(folder)
whole = time.perf_counter() - started
for share in map(float, sys.argv[2:]):
    child = os.fork()
    if child == 0:
        job(folder)
        os._exit(0)
    time.sleep(share * whole)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    sys.stdout.write("killed\\n")
    sys.stdout.flush()
    sys.stdin.readline()
"""


def test_killing_a_job_at_random_moments_never_breaks_the_workspace(tmp_path: Path) -> None:
    source = random.Random(20260101)
    folder = tmp_path / "ws"
    shares = [f"{source.random():.4f}" for _ in range(MOMENTS)]
    with subprocess.Popen([sys.executable, "-c", CHILD, str(folder), *shares], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        sizes = []
        for _ in range(MOMENTS):
            assert child.stdout.readline() == "killed\n"
            with Workspace(folder, actor="checker") as workspace:
                entries = list(workspace.ledger.entries())
                sizes.append(len(entries))
                bundle = workspace.bundle(tmp_path / "audit.zip")
                assert workspace.service("verify")(bundle, workspace.verifier_key).ok
                for version in workspace.versions.list():
                    assert workspace.model(version).signature is not None
            child.stdin.write("\n")
            child.stdin.flush()
    assert sizes == sorted(sizes), "the ledger lost entries"
    assert sizes[-1] > sizes[0], "no job wrote anything: the kills came too early to mean much"
    with Workspace(folder, actor="checker") as workspace:
        interrupted = [entry for entry in workspace.ledger.entries() if entry.predicate.get("status") == "interrupted"]
    assert interrupted, "at least one call was cut off, and the ledger must say so"
