"""The page on pictures: its table names the kinds that exist, and its examples run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.pages import run_page

from affidavit_governance.explain.pictures.canvas import ENDINGS
from affidavit_governance.explain.pictures.html import ROWS_SHOWN
from affidavit_governance.explain.pictures.plots import KINDS

PAGE = Path(__file__).parents[2] / "docs/explanation-pictures.md"


def test_the_tables_name_every_kind_and_every_ending() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert {row[0].strip("`") for row in rows if len(row) == 3} == set(KINDS)
    assert {row[0].strip("`") for row in rows if len(row) == 2} == set(ENDINGS)
    assert f"The first {ROWS_SHOWN} rows are shown." in PAGE.read_text()


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page("explanation-pictures")
    assert {path.name for path in tmp_path.iterdir()} == {"waterfall.svg", "swarm.html", "importance.svg", "duration.svg", "rules.html"}
