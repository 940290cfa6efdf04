"""Shared by the end-to-end tests: real plugin distributions on the path."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

_numbers = itertools.count()


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Put a distribution with one plugin module on the path; gives the module's name."""

    def install(distribution: str, code: str) -> str:
        site = tmp_path / f"site{next(_numbers)}"
        module = f"{distribution}_module_{next(_numbers)}"
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[affidavit.plugins.v1]\n{distribution} = {module}\n")
        (site / f"{module}.py").write_text(code.replace("THIS_MODULE", module))
        monkeypatch.syspath_prepend(str(site))
        return module

    return install
