"""What the packaging tests share: the wheel, and an environment with nothing but the wheel's core install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def built(project: Path, folder: Path) -> Path:
    """The wheel of a project."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=project, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def pip(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this environment's pip on that of `home`, which needs none of its own: unpacking one takes as long as half of the installation."""
    command = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def install(home: Path, wheel: str) -> None:
    """Install a wheel and what it needs, at the tested versions. Skips where no package index can be reached, but fails in CI."""
    done = pip(home, "install", "--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt"), wheel)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"no package index could be reached to install {Path(wheel).name}")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of Affidavit, built from this source tree."""
    return built(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def core_install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and its core dependencies only."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    install(home, str(wheel))
    return home
