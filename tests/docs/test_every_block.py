"""No block of code stands in the documents that nothing tries.

Python is run: by the test of its page where that calls ``run_page("the-page")`` or takes ``blocks("the-page", "python")``, because the page needs
a set-up, and otherwise here with nothing else. Files (blocks with a ``title``) are for the test of their page to write and use. Commands are held
against the command line, YAML against policy and project, TOML and JSON are parsed. What is none of these is ``text``, and may not look like code.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections import Counter
from importlib import metadata
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs.pages import PAGES, ROOT, Block, blocks, commands, run_page
from typer.core import TyperGroup
from typer.main import get_command

from affidavit.cli import app
from affidavit.plugins import GOVERNANCE_GROUP, PLUGIN_GROUP
from affidavit.policy import Policy, parse_model
from affidavit.project import Project
from affidavit.testing.kit import CASES_GROUP
from affidavit.workspace import Workspace

BLOCKS = [block for page in PAGES for block in blocks(page)]


def _calls() -> set[tuple[Any, ...]]:
    """Every call that the tests of pages make with plain words first: the function's name, and these words."""
    found = set()
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                words = takewhile(lambda word: isinstance(word, ast.Constant), node.args)
                found.add((node.func.id, *(word.value for word in words)))  # type: ignore[attr-defined]  # constants, as above
    return found


CALLS = _calls()
RUN = {page for page in PAGES if ("run_page", page) in CALLS or ("blocks", page, "python") in CALLS}
WRITTEN = {page for page in PAGES if ("write_files", page) in CALLS or ("blocks", page) in CALLS}
ALONE = [page for page in PAGES if page not in RUN and any(not block.title for block in blocks(page, "python"))]
TRIED = {"python", "bash", "console", "yaml", "toml", "json", "text"}


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def test_every_block_is_in_a_language_that_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(block.language for block in BLOCKS)
    with capsys.disabled():
        print(f"\n{len(BLOCKS)} blocks in {len(PAGES)} pages: {dict(counts.most_common())}")
    assert not [f"{block} is '{block.language}'" for block in BLOCKS if block.language not in TRIED]


def test_no_fence_is_left_open() -> None:
    for page, path in PAGES.items():
        fences = re.findall(r"^ *(?:`{3,}|~{3,})", path.read_text("utf-8"), re.M)
        assert len(fences) == 2 * len(blocks(page)), page


@pytest.mark.parametrize("page", ALONE)
def test_the_python_of_a_page_runs_and_gives_what_it_shows(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    names: dict[str, Any] = {}
    try:
        run_page(page, names)
    finally:
        for value in list(names.values()):
            if isinstance(value, Workspace):
                value.close()


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.title for block in blocks(page))])
def test_the_files_on_a_page_are_written_and_used_by_its_own_test(page: str) -> None:
    assert page in WRITTEN


@pytest.mark.parametrize("block", [block for block in of("python") if block.title], ids=str)
def test_a_file_of_python_compiles(block: Block) -> None:
    compile(block.code, block.title, "exec", dont_inherit=True)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_commands_of_a_page_exist_with_their_options_and_arguments(page: str) -> None:
    for line in commands(page):
        words = shlex.split(line, comments=True)
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        assert words[0] in SHELL, f"{page}: nothing tries '{line}'"
        try:
            SHELL[words[0]](words[1:], page)
        except Exception as error:  # also what typer raises for an unknown command, option or argument
            pytest.fail(f"{page}: {line}: {type(error).__name__}: {error}")


def affidavit(words: list[str], page: str) -> None:
    """Parse a command line as the program would, down to the last group."""
    command, context = get_command(app), None
    name = "affidavit"
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not isinstance(command, TyperGroup) or not (rest := [*context._protected_args, *context.args]):
            return
        name, command, words = command.resolve_command(context, rest)


def make(words: list[str], page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(words) <= targets, f"make has no {set(words) - targets}"


def pip(words: list[str], page: str) -> None:
    assert words[0] == "install"
    for word in words[1:]:
        extras = re.fullmatch(r"affidavit\[([\w,]+)\]", word)
        assert extras is None or set(extras[1].split(",")) <= set(metadata.metadata("affidavit").get_all("Provides-Extra") or ())


def python(words: list[str], page: str) -> None:
    """A module that is installed, or a file that stands on the page."""
    if words[0] == "-m":
        assert find_spec(words[1]) is not None, f"there is no module {words[1]}"
    else:
        assert words[0] in {block.title for block in blocks(page)}, f"the page has no file {words[0]}"


def system(words: list[str], page: str) -> None:
    """A command that is not ours and stands on the page with nothing to hold it against."""


SHELL = {"affidavit": affidavit, "make": make, "pip": pip, "python": python, **dict.fromkeys(("cd", "mkdir", "touch", "pytest"), system)}


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_yaml_is_a_policy_or_a_project(block: Block) -> None:
    value = yaml.safe_load(block.code)
    parse_model(Project if "dataset" in value else Policy, value, whose=str(block))


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_toml_is_valid_and_names_groups_of_entry_points_that_are_read(block: Block) -> None:
    value = tomllib.loads(block.code)
    groups = {group for group in value.get("project", {}).get("entry-points", {}) if group.startswith("affidavit")}
    assert groups <= {PLUGIN_GROUP, GOVERNANCE_GROUP, CASES_GROUP}


def test_json_is_json() -> None:
    for block in of("json"):
        json.loads(block.code)


@pytest.mark.parametrize("block", of("text"), ids=str)
def test_text_is_no_code_in_disguise(block: Block) -> None:
    assert not re.search(r"^(>>> |\$ |affidavit |import |from \w+ import |def |pip |make )", block.code, re.M)
