"""The page on data types: its tables are the options' own, and its examples run."""

from __future__ import annotations

from pathlib import Path

from affidavit_governance.explain.players.options import KINDS, PLAYER_OPTIONS

PAGE = Path(__file__).parents[2] / "docs/explaining-every-type.md"


def test_the_tables_name_every_kind_and_every_option_with_its_default() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert {row[0].strip("`") for row in rows if len(row) == 4} == set(KINDS)
    assert {row[0].strip("`"): row[1].strip("`") for row in rows if len(row) == 3} == {name: str(value) for name, value in PLAYER_OPTIONS.items()}
