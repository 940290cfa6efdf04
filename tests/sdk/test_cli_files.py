"""The commands around files: what they write, what they say, and their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from affidavit.approver import Approver
from affidavit.cli import main
from affidavit.workspace import Workspace

CONTENT = b"a letter to nobody\n" * 100_000


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AFFIDAVIT_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.chdir(tmp_path)
    Workspace(tmp_path / "ws", policy={"explain": {"required": False}}).close()
    (tmp_path / "letter.txt").write_bytes(CONTENT)
    return tmp_path


def affidavit(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["affidavit", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_a_file_is_sealed_and_unsealed(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert affidavit(monkeypatch, "seal", "letter.txt", "letter.sealed") == 0
    assert f"{len(CONTENT)} bytes sealed into letter.sealed" in capsys.readouterr().out
    assert b"nobody" not in (place / "letter.sealed").read_bytes()
    assert affidavit(monkeypatch, "unseal", "letter.sealed", "again.txt", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"bytes": len(CONTENT), "target": "again.txt"}
    assert (place / "again.txt").read_bytes() == CONTENT


def test_a_file_that_was_changed_or_is_missing_is_one_message_and_no_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    affidavit(monkeypatch, "seal", "letter.txt", "letter.sealed")
    data = bytearray((place / "letter.sealed").read_bytes())
    data[-1] ^= 1
    (place / "letter.sealed").write_bytes(data)
    assert affidavit(monkeypatch, "unseal", "letter.sealed", "again.txt") == 1
    assert "Chunk 1 of 'letter.sealed' does not open" in capsys.readouterr().err
    assert affidavit(monkeypatch, "unseal", "absent", "again.txt") == 2
    assert not (place / "again.txt").exists()


def test_a_promoted_model_is_signed_and_verified(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Workspace(place / "ws") as workspace:
        data = workspace.load({"a": np.random.default_rng(0).normal(size=60), "y": ["n", "p"] * 30}, target="y")
        workspace.register(workspace.train("tabular.logistic", data), "credit-risk")
        person = Approver.create("rita", place / "rita.pem")
        workspace.enrol(person, roles=["risk"])
        assert affidavit(monkeypatch, "sign", "credit-risk:1", "model") == 1
        assert "Promote it first" in capsys.readouterr().err and not (place / "model").exists()
        workspace.promote("credit-risk:1", "production", approver=person)
    assert affidavit(monkeypatch, "sign", "credit-risk@production", "a model") == 0
    assert "affidavit verify-model 'a model' --key 'a model.pem'" in capsys.readouterr().out
    assert affidavit(monkeypatch, "sign", "credit-risk@production", "model") == 0
    assert "model_signing verify key model --signature model/model.sig --public_key model.pem" in capsys.readouterr().out
    assert affidavit(monkeypatch, "verify-model", "model", "--key", "model.pem", "--json") == 0
    assert "manifest.json" in json.loads(capsys.readouterr().out)["files"]
    (place / "model/more.txt").write_text("more")
    assert affidavit(monkeypatch, "verify-model", "model", "--key", "model.pem") == 1
    assert "files that were not signed: 'more.txt'" in capsys.readouterr().err
    assert affidavit(monkeypatch, "verify-model", "model", "--key", "absent.pem") == 2
