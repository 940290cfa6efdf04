"""Shared by the end-to-end tests: the command line, and real plugin distributions on the path."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from affidavit.cli import main

_numbers = itertools.count()


@pytest.fixture
def affidavit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line in this process, which spares each call the start of an interpreter. An exception that it lets through fails the test."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = ["affidavit", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capfd.readouterr()
        assert isinstance(stopped.value.code, int)
        return subprocess.CompletedProcess(command, stopped.value.code, printed.out, printed.err)

    return run


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
