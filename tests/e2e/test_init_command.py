"""Making a workspace on the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from affidavit import Workspace

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_workspace_is_made_with_its_policy_and_says_its_verifier_key(affidavit: Run, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("masking: {entities: {EMAIL_ADDRESS: pseudonym}}\n")
    (tmp_path / "people.csv").write_text("mail,n\nann@example.com,1\n")
    folder = tmp_path / "ws"
    made = affidavit("init", folder, "--policy", tmp_path / "policy.yaml", "--json")
    assert made.returncode == 0
    with Workspace(folder) as workspace:
        assert json.loads(made.stdout) == {"workspace": str(folder), "verifier_key": workspace.verifier_key}
        assert workspace.policy.masking.entities["EMAIL_ADDRESS"].name == "pseudonym"
        loaded = workspace.load(tmp_path / "people.csv").table["mail"].to_pylist()
    assert affidavit("mask", tmp_path / "people.csv", tmp_path / "out.csv", "--workspace", folder).returncode == 0
    assert loaded[0] in (tmp_path / "out.csv").read_text()


def test_a_workspace_is_not_made_over_another(affidavit: Run, tmp_path: Path) -> None:
    assert affidavit("init", tmp_path / "ws").returncode == 0
    again = affidavit("init", tmp_path / "ws")
    assert again.returncode == 2
    assert "is a workspace already" in again.stderr


def test_a_command_on_no_workspace_says_how_to_make_one(affidavit: Run, tmp_path: Path) -> None:
    refused = affidavit("log", "--workspace", tmp_path / "none")
    assert refused.returncode == 2
    assert "affidavit init" in refused.stderr
