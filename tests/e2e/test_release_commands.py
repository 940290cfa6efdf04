"""Releasing a model from the command line, as docs/policy.md shows it: new key, enrol, approve, promote, serve."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from affidavit.workspace import Workspace

POLICY = {"explain": {"required": False}, "approvals": {"production": {"count": 2, "roles": ["risk", "compliance"]}}}


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "affidavit", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("release")
    with Workspace(home / "ws", policy=POLICY, actor="dora") as workspace:
        data = workspace.load(pa.table({"x": [float(n % 7) for n in range(60)], "y": ["n", "p", "p"] * 20}), target="y")
        workspace.register(workspace.train("tabular.logistic", data), "tiny")
    return home


def test_a_version_is_promoted_when_two_people_approved_and_then_served(folder: Path) -> None:
    workspace = folder / "ws"
    early = cli("promote", "tiny:1", "production", "-w", workspace)
    assert early.returncode == 1
    assert "0 of 2 approvals" in " ".join(early.stderr.split())
    for name, role in (("rita", "risk"), ("carl", "compliance")):
        made = cli("approver", "new", name, "--out", folder / f"{name}.pem")
        assert made.returncode == 0, made.stderr
        key = re.search(r"Public key: ([0-9a-f]{64})", made.stdout)
        assert key is not None
        assert oct((folder / f"{name}.pem").stat().st_mode & 0o777) == "0o600"
        assert cli("approver", "enrol", name, key[1], "--role", role, "-w", workspace).returncode == 0
        approved = cli("approve", "tiny:1", "production", "--name", name, "--key", folder / f"{name}.pem", "-w", workspace)
        assert approved.returncode == 0, approved.stderr
    promoted = cli("promote", "tiny:1", "production", "-w", workspace)
    assert promoted.returncode == 0, promoted.stderr
    serve_and_ask(workspace)


def serve_and_ask(workspace: Path) -> None:
    command = [sys.executable, "-m", "affidavit", "serve", "tiny@production", "--port", "0", "-w", str(workspace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as server:
        assert server.stdout is not None
        url = re.search(r"http://\S+?(?=[;\s])", server.stdout.readline())
        assert url is not None
        body = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}]}
        answer = httpx.post(f"{url[0].rstrip('/')}/v2/models/tiny/infer", json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=20)
    assert "Traceback" not in errors
    with Workspace(workspace, actor="checker") as opened:
        assert [entry.predicate["journal"]["rows"] for entry in opened.ledger.entries("predict")] == [2]


def test_a_key_is_never_overwritten(folder: Path) -> None:
    path = folder / "once.pem"
    assert cli("approver", "new", "x", "--out", path).returncode == 0
    before = path.read_bytes()
    again = cli("approver", "new", "x", "--out", path)
    assert again.returncode == 2
    assert path.read_bytes() == before
