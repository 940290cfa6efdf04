"""The page on operators: its tables are the operators' own, and its examples run."""

from __future__ import annotations

from pathlib import Path

from pydantic_core import PydanticUndefined

from affidavit_governance.masking.operators.catalogue import BUNDLED

PAGE = Path(__file__).parents[2] / "docs/masking-operators.md"


def rows(columns: int) -> list[list[str]]:
    """The lines of the table that has so many columns, without its head."""
    lines = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if len(line) == columns and line[0].strip().startswith("`")]


def test_the_table_names_every_operator_with_what_it_can_do() -> None:
    yes = {True: "yes", False: "no"}
    said = {name.strip("`"): (back, once, text) for name, _, back, once, text in rows(5)}
    assert said == {name: (yes[cls.reversible], yes[cls.idempotent], yes[cls.spans]) for name, cls in BUNDLED.items()}


def test_the_table_names_every_setting_with_its_default() -> None:
    said = {(operator.strip("`"), setting.strip("`")): default.strip("`") for operator, setting, default, _ in rows(4)}
    known = {}
    for name, cls in BUNDLED.items():
        for setting, info in cls.Settings.model_fields.items():
            default = info.default
            known[name, setting] = "needed" if default is PydanticUndefined else "absent" if default is None else str(default) or "empty"
    assert said == known
