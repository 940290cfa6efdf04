"""What the pages on masking and keys show is what happens: each example is run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / f"masking-{surface}.md" for surface in ("tables", "files", "sql", "text", "prompts")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_on_the_page_give_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
    test = doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner()
    found: list[str] = []
    runner.run(test, out=found.append)
    assert runner.tries >= 2
    assert not found, "".join(found)
