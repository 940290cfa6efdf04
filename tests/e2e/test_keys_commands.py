"""``affidavit keys`` from the command line, on a real workspace: list, rotate, rewrap, provider, destroy, and its refusals."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from affidavit.cli import app
from affidavit.errors import AffidavitError, UsageError
from affidavit.workspace import Workspace
from affidavit_governance.encryption import rotation


@pytest.fixture
def location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    where = str(tmp_path / "ws")
    with Workspace(where, policy={"explain": {"required": False}}, actor="dora") as workspace:
        data = workspace.load(pa.table({"x": [float(n % 7) for n in range(60)], "y": ["n", "p", "p"] * 20}), target="y", name="tiny")
        workspace.register(workspace.train("tabular.logistic", data), "tiny")
    return where


def keys(location: str, *words: str) -> Any:
    done = CliRunner().invoke(app, ["keys", *words, "--workspace", location, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_key_is_rotated_rewrapped_and_destroyed_and_the_model_still_answers(location: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rotation, "GRACE", timedelta(0))
    (before,) = keys(location)["versions"]
    assert (before["version"], before["state"]) == (1, "active")
    assert before["objects"] > 10
    assert keys(location, "rotate", "--actor", "keeper")["version"] == 2
    with pytest.raises(AffidavitError, match="still has"):
        CliRunner().invoke(app, ["keys", "destroy", "1", "--workspace", location], catch_exceptions=False)
    assert keys(location, "rewrap")["moved"] > before["objects"]
    assert keys(location, "destroy", "1")["state"] == "destroyed"
    first, second = keys(location)["versions"]
    assert (first["state"], first["objects"], second["state"]) == ("destroyed", 0, "active")
    with Workspace(location, actor="dora") as workspace:
        assert len(workspace.predict("tiny:1", {"x": [1.0, 2.0]}).values) == 2
        said = [evidence.predicate for evidence in workspace.ledger.entries("key")]
        assert [each["action"] for each in said] == ["rotate", "rewrap", "destroy"]
        assert said[0]["by"] == "keeper"
        report = workspace.service("verify")(workspace.bundle(tmp_path / "audit.zip"), workspace.verifier_key)
        assert report.ok
        assert report.counts["kinds"]["key"] == 3


def test_the_table_names_provider_identity_and_versions(location: str) -> None:
    shown = CliRunner().invoke(app, ["keys", "--workspace", location], catch_exceptions=False).stdout
    status = keys(location)
    assert "Provider: file" in shown
    assert status["identity"] in shown
    assert status["versions"][0]["key_id"] in shown
    assert "active" in shown
    done = CliRunner().invoke(app, ["keys", "rotate", "--workspace", location], catch_exceptions=False)
    assert "is active" in done.stdout
    done = CliRunner().invoke(app, ["keys", "rewrap", "--workspace", location], catch_exceptions=False)
    assert "moved under the active key version" in done.stdout


def test_the_provider_is_changed_to_a_passphrase(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no terminal to ask"):
        CliRunner().invoke(app, ["keys", "provider", "passphrase", "--workspace", location], catch_exceptions=False)
    monkeypatch.setenv("AFFIDAVIT_NEW_PASSPHRASE", "correct horse")
    assert keys(location, "provider", "passphrase") == {"provider": "passphrase", "label": "The passphrase"}
    with pytest.raises(AffidavitError, match="none was given"):
        Workspace(location)
    monkeypatch.setenv("AFFIDAVIT_PASSPHRASE", "correct horse")
    status = keys(location)
    assert status["provider"]["type"] == "passphrase"
    assert "salt" not in status["provider"]


def test_wrong_settings_of_a_provider_are_refused_and_nothing_changes(location: str) -> None:
    for words, why in ((["file", "--set", "colour"], "not of the form"), (["file", "--set", "colour=blue"], "no setting 'colour'")):
        with pytest.raises(UsageError, match=why):
            CliRunner().invoke(app, ["keys", "provider", *words, "--workspace", location], catch_exceptions=False)
    with pytest.raises(AffidavitError, match="none of that name is installed"):
        CliRunner().invoke(app, ["keys", "provider", "abacus", "--workspace", location], catch_exceptions=False)
    assert keys(location)["provider"] == {"type": "file"}
