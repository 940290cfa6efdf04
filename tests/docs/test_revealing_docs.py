"""The page on revealing: its policy is valid, its examples give what it says, and its commands exist."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import yaml

from affidavit.cli import app
from affidavit.policy import Policy, parse_model

PAGE = (Path(__file__).parents[2] / "docs/revealing.md").read_text()
EXAMPLE = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0]


def test_the_examples_give_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    (tmp_path / "policy.yaml").write_text(EXAMPLE)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    test = doctest.DocTestParser().get_doctest(code, {}, "revealing.md", "docs/revealing.md", 0)
    runner = doctest.DocTestRunner()
    found: list[str] = []
    runner.run(test, out=found.append)
    assert runner.tries >= 15
    assert not found, "".join(found)


def test_the_policy_is_valid_and_reveals_something() -> None:
    assert parse_model(Policy, yaml.safe_load(EXAMPLE), whose="docs").masking.reveal


def test_the_commands_exist_with_the_options_shown() -> None:
    import typer

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *words in (line.split()[1:] for line in re.findall(r"^affidavit (?:reveal|shred).*", PAGE, re.M)):
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= known
