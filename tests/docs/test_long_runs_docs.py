"""The page on long runs: its first example leaves no checkpoint behind, its second one is run by two processes, which end with one model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, blocks

import affidavit as af

RESUMED, SHARED = blocks("long-runs", "python")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy that wants privacy, and the first rows of the credit data under the name that the page has for them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    lines = (ROOT / "examples/credit/german_credit.csv").read_text("utf-8").splitlines()[:101]
    (tmp_path / "credit.csv").write_text("\n".join([lines[0].replace("credit_risk", "risk"), *lines[1:]]) + "\n")
    (tmp_path / "policy.yaml").write_text("privacy: {epsilon: 3.0, delta: 1.0e-3}\n")
    return tmp_path


def test_a_run_that_ends_empties_its_folder(folder: Path) -> None:
    with af.Workspace("ws", policy="policy.yaml") as ws:
        names = {"ws": ws, "train": ws.load("credit.csv", target="risk")}
        exec(compile(RESUMED.code, "long-runs.md", "exec"), names)
        assert isinstance(names["model"], af.Model)
    assert not [path for path in (folder / "runs/credit").rglob("*") if path.is_file()]


def test_two_processes_end_with_one_model(folder: Path) -> None:
    pytest.importorskip("torch.distributed")
    (folder / "train.py").write_text(
        f"import torch\nimport affidavit as af\n{SHARED.code}\nprint(ws.model_digest(model))\nws.close()\ntorch.distributed.destroy_process_group()\n"
    )
    with af.Workspace("credit-ws", policy="policy.yaml"):
        pass  # made once, before both open it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen([sys.executable, "train.py"], env={**ranks, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        said = [run.communicate(timeout=120) for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], said
    digests = {out.strip().splitlines()[-1] for out, _ in said}
    assert len(digests) == 1 and len(digests.pop()) == 64
