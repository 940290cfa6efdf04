"""What the page of the conformance kit says is so."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from affidavit.cli import app
from affidavit.testing.checks import CHECKS

PAGE = (Path(__file__).parents[2] / "docs/conformance.md").read_text()


def test_every_check_is_on_the_page_with_its_tier_and_first_line() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", PAGE, re.M)
    said = {name: (tier, set(re.findall(r"`(\w+)`", needs)), summary) for name, tier, needs, summary in rows}
    assert said == {name: (str(each.tier), set(each.needs), each.summary) for name, each in CHECKS.items()}


def test_the_example_on_the_page_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, object] = {}
    exec(compile(block, "conformance.md", "exec"), names)
    assert "conforms, governed" in str(names["report"])


def test_the_options_on_the_page_exist() -> None:
    known = {option for parameter in get_command(app).commands["check-plugin"].params for option in parameter.opts}
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]*", PAGE)) <= known
