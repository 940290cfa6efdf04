"""Fixtures of the audit tests; `audit_workspace` beside this file is also imported by the processes that they start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from audit_workspace import open_small


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are not synced to disk, for the reason that `audit_workspace` gives."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], SimpleNamespace]]:
    """Opens the workspace at ``tmp_path/ws``; closes what is still open at the end."""
    made: list[SimpleNamespace] = []

    def make() -> SimpleNamespace:
        workspace = open_small(tmp_path / "ws")
        made.append(workspace)
        return workspace

    yield make
    for workspace in made:
        workspace.ledger.close()
        workspace.store.close()
