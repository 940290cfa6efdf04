"""What the pages on anonymity and on encrypted files show is what happens: each example is run, each command exists."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from affidavit.cli import app
from affidavit.policy import MaskingPolicy, parse_model, read_yaml

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["anonymity", "encrypted-files"])
def test_the_examples_on_the_page_give_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    code = "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.S))
    test = doctest.DocTestParser().get_doctest(code, {}, name, name, 0)
    runner = doctest.DocTestRunner()
    found: list[str] = []
    runner.run(test, out=found.append, clear_globs=False)
    if "workspace" in test.globs:
        test.globs["workspace"].close()
    assert runner.tries >= 10
    assert not found, "".join(found)


def test_the_policy_on_the_page_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "anonymity.md").read_text(), re.S)
    (tmp_path / "policy.yaml").write_text(example)
    assert parse_model(MaskingPolicy, read_yaml(tmp_path / "policy.yaml")["masking"], whose="docs").release is not None


def test_the_commands_on_the_page_exist_with_their_options() -> None:
    lines = [line for page in ("anonymity", "encrypted-files") for line in re.findall(r"^(affidavit .+)$", (DOCS / f"{page}.md").read_text(), re.M)]
    lines = [line for line in lines if not line.startswith("affidavit.")]
    assert len(lines) == 5
    for line in lines:
        _, name, *words = shlex.split(line)
        command = get_command(app).commands[name]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known
