"""What the page of the conformance kit says is so."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.docs.pages import PAGES, blocks, run_page, write_files
from typer.main import get_command

from affidavit.cli import app
from affidavit.plugins import PLUGIN_GROUP
from affidavit.testing import catalogue, suites
from affidavit.testing.checks import CHECKS
from affidavit.testing.kit import CASES_GROUP

PAGE = PAGES["conformance"].read_text()


def test_every_check_is_on_the_page_under_its_kind_with_its_tier_and_first_line() -> None:
    sections = re.split(r"^### .*\n", PAGE, flags=re.M)[1:]
    said = {}
    for kind, section in zip(["plugin", *catalogue.SUBJECTS], sections, strict=True):
        for name, tier, summary, needs in re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?)(?: Only for (.*)\.)? \|$", section, re.M):
            said[name] = (kind, tier, set(re.findall(r"`(\w+)`", needs)), summary)
    assert said == {name: (each.kind, str(each.tier), set(each.needs), each.summary) for name, each in CHECKS.items()}


def test_the_first_example_runs() -> None:
    assert "conforms, governed" in str(run_page("conformance")["report"])


def test_the_suite_on_the_page_passes(tmp_path: Path) -> None:
    (name,) = write_files("conformance", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and re.search(r"\d{2} passed", done.stdout), done.stdout


def test_the_options_and_the_suites_on_the_page_exist() -> None:
    known = {option for parameter in get_command(app).commands["check-plugin"].params for option in parameter.opts}
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]*", PAGE)) <= known
    assert set(re.findall(r"\w+Suite", PAGE)) == {name for name in vars(suites) if name.endswith("Suite")} - {"Suite"}


def test_the_entry_points_on_the_page_are_those_that_the_kit_reads() -> None:
    (block,) = blocks("conformance", "toml")
    assert set(tomllib.loads(block.code)["project"]["entry-points"]) == {PLUGIN_GROUP, CASES_GROUP}
