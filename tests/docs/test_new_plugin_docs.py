"""What the page of new plugins says is so, and its commands run in order."""

from __future__ import annotations

import os
import re
import shlex
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, blocks, commands
from typer.main import get_command

from affidavit.cli import app
from affidavit.scaffold import KINDS, new_plugin

PAGE = PAGES["new-plugin"].read_text("utf-8")


@pytest.fixture(autouse=True)
def nobody_elses_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of other tests have modules of the same name."""
    monkeypatch.delitem(sys.modules, "acme_models", raising=False)


def test_the_commands_run_in_order(tmp_path: Path) -> None:
    """In an environment of its own beside this one, whose libraries stand in for a package index."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = next(home.glob("bin/python"))
    (own,) = home.glob("lib/python*/site-packages")
    (own / "outer.pth").write_text("".join(f"import site; site.addsitedir({folder!r})\n" for folder in site.getsitepackages()))
    modules = {"pip": "pip", "affidavit": "affidavit", "pytest": "pytest", "python": None}
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    folder, ran = tmp_path, []
    for line in commands("new-plugin"):
        word, *arguments = shlex.split(line)
        if word == "cd":
            folder = folder / arguments[0]
            continue
        arguments = [*arguments, *(offline if word == "pip" else ())]
        command = [str(python), *(["-m", str(modules[word])] if modules[word] else []), *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        ran.append(word)
        if line.startswith("affidavit check-plugin"):
            assert "conforms, governed" in done.stdout
    assert ran == ["affidavit", "pip", "affidavit", "pytest", "python"]
    assert [path.name for path in (tmp_path / "acme-models/dist").glob("*.whl")] == ["acme_models-0.1.0-py3-none-any.whl"]


def test_the_readme_of_a_new_project_has_the_same_commands(tmp_path: Path) -> None:
    new_plugin("acme-models", "model", tmp_path / "new")
    (block,) = re.findall(r"```bash\n(.*?)```", (tmp_path / "new/README.md").read_text(), re.S)
    assert block.splitlines() == commands("new-plugin")[2:]


def test_the_table_has_every_kind_with_what_is_written() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \| `(\w+)\.py` \| `(\w+)` \|$", PAGE, re.M)
    assert rows == [(kind, about.description, about.module, about.cls) for kind, about in KINDS.items()]
    assert re.findall(r"^- \*\*`([a-z-]+)`\*\*", PAGE, re.M) == list(KINDS)


def test_the_tree_shows_the_files_that_are_written(tmp_path: Path) -> None:
    project = new_plugin("acme-models", "model", tmp_path / "new")
    (tree,) = blocks("new-plugin", "text")
    shown = re.findall(r"[├└]── (\S+)", tree.code)
    assert sorted(name for name in shown if not name.endswith("/")) == sorted(
        name if name.startswith("tests/") else Path(name).name for name in project.files
    )


def test_the_options_on_the_page_exist() -> None:
    known = {option for parameter in get_command(app).commands["new-plugin"].params for option in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE)) == known - {"name"}
