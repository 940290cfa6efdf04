"""Prediction lines are deleted when their retention ends, and the ledger and its bundle stay whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from affidavit.workspace import Workspace
from affidavit_governance.audit import retention
from affidavit_governance.audit.retention import delete_expired

POLICY = {"retention": {"predictions": "30d"}, "explain": {"required": False}}


def predicted(folder: Path) -> Workspace:
    workspace = Workspace(folder, policy=POLICY, actor="a")
    data = workspace.load(pa.table({"x": [float(n % 7) for n in range(60)], "y": ["n", "p", "p"] * 20}), target="y")
    model = workspace.train("tabular.logistic", data)
    workspace.predict(model, {"x": [1.0]})
    workspace.ledger.seal_journals()
    return workspace


def test_lines_are_kept_until_their_time_and_deleted_after_it(tmp_path: Path) -> None:
    with predicted(tmp_path / "ws") as workspace:
        today = datetime.now(UTC)
        assert delete_expired(workspace, now=today + timedelta(days=29)) == 0
        assert len(workspace.store.files.list("journal/")) == 1
        assert delete_expired(workspace, now=today + timedelta(days=31)) == 1
        assert workspace.store.files.list("journal/") == []
        assert len(list(workspace.ledger.entries("predict"))) == 1
        bundle = workspace.bundle(tmp_path / "audit.zip")
        assert workspace.service("verify")(bundle, workspace.verifier_key).ok


def test_a_workspace_deletes_what_is_due_when_it_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted(tmp_path / "ws").close()
    with Workspace(tmp_path / "ws", actor="a") as workspace:
        assert len(workspace.store.files.list("journal/")) == 1
    monkeypatch.setattr(retention, "present", lambda: datetime.now(UTC) + timedelta(days=31))
    with Workspace(tmp_path / "ws", actor="a") as workspace:
        assert workspace.store.files.list("journal/") == []
