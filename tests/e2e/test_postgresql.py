"""A workspace in PostgreSQL goes the same road as one in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from affidavit.approver import Approver
from affidavit.errors import AffidavitError
from affidavit.workspace import Workspace


def test_a_workspace_in_postgresql_trains_promotes_predicts_and_hands_over(postgres_url: str, tmp_path: Path) -> None:
    table = pa.table({"x": [float(n % 7) for n in range(90)], "mail": ["a@example.org"] * 90, "y": ["n", "p", "p"] * 30})
    with Workspace(postgres_url, policy={"explain": {"required": False}}, actor="dora", passphrase="correct horse") as workspace:
        model = workspace.train("tabular.logistic", workspace.load(table, target="y", name="tiny"))
        version = workspace.register(model, "tiny")
        person = Approver.create("approver", tmp_path / "key.pem")
        workspace.enrol(person, roles=["risk"])
        workspace.promote(version, "production", approver=person)
        before = workspace.predict("tiny@production", {"x": [1.0, 2.0]}).probabilities
    with pytest.raises(AffidavitError, match="passphrase"):
        Workspace(postgres_url, actor="dora", passphrase="wrong horse")
    with Workspace(postgres_url, actor="dora", passphrase="correct horse") as workspace:
        after = workspace.predict("tiny@production", {"x": [1.0, 2.0]}).probabilities
        assert before is not None
        assert after is not None
        assert before.tolist() == after.tolist()
        bundle, key = workspace.bundle(tmp_path / "audit.zip"), workspace.verifier_key
        assert workspace.service("verify")(bundle, key).ok
    assert b"a@example.org" not in bundle.read_bytes()


def test_the_command_line_takes_a_url(postgres_url: str, tmp_path: Path) -> None:
    with Workspace(postgres_url, actor="dora") as workspace:
        workspace.load(pa.table({"x": [1, 2, 3], "y": ["a", "b", "a"]}), target="y")
    done = subprocess.run([sys.executable, "-m", "affidavit", "log", "--json", "-w", postgres_url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "load" in {row["kind"] for row in json.loads(done.stdout)}
