"""Keys of these tests go to a folder of each test's own; `keys_workspace` beside this file is also imported by test modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from affidavit_governance.encryption.providers import passphrase

sys.path.insert(0, str(Path(__file__).parent))

from keys_workspace import close, open_workspace


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cheap_argon2id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "ARGON2ID", {"iterations": 1, "lanes": 1, "memory_kib": 64})


@pytest.fixture
def keys_workspace(store_location: str) -> Iterator[SimpleNamespace]:
    """A small workspace with keys, on each kind of database."""
    workspace = open_workspace(store_location)
    yield workspace
    close(workspace)
