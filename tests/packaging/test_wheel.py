"""The wheel: what is in it, and what is not."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.packaging.conftest import ROOT


def test_the_wheel_holds_the_three_packages_typed_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"affidavit", "affidavit_governance", "affidavit_plugins"}
    assert {"affidavit/py.typed", "affidavit_governance/py.typed", "affidavit_plugins/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_what_new_plugin_writes_from(wheel: Path) -> None:
    folder = "affidavit/scaffold/templates"
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith(f"{folder}/")}
    there = {path.relative_to(ROOT / "sdk").as_posix() for path in (ROOT / "sdk" / folder).rglob("*") if path.is_file()}
    assert held == there
    assert f"{folder}/shared/pyproject.toml.tmpl" in held
