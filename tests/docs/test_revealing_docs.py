"""The page on revealing: its policy is valid, its examples give what it says, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tests.docs.pages import run_page

from affidavit.policy import Policy, parse_model

PAGE = (Path(__file__).parents[2] / "docs/revealing.md").read_text()
EXAMPLE = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0]


def test_the_examples_give_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    (tmp_path / "policy.yaml").write_text(EXAMPLE)
    run_page("revealing")


def test_the_policy_is_valid_and_reveals_something() -> None:
    assert parse_model(Policy, yaml.safe_load(EXAMPLE), whose="docs").masking.reveal
