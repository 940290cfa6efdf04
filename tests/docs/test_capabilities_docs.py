"""The page of capabilities: its table is the registry's and the kit's, and every capability has its section."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import DOCS

import affidavit.testing  # noqa: F401  # enters the checks
from affidavit import Model
from affidavit.interfaces.model import CAPABILITIES
from affidavit.plugins import bundled_registry
from affidavit.testing.checks import CHECKS

PAGE = (DOCS / "capabilities.md").read_text("utf-8")
ROWS = {name: cells for name, *cells in re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.M)}


def quoted(text: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", text)


def test_every_capability_has_a_row_and_a_section_in_their_order() -> None:
    assert tuple(ROWS) == CAPABILITIES
    assert tuple(re.findall(r"^## `(\w+)`$", PAGE, re.M)) == CAPABILITIES


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_a_row_names_the_methods_the_checks_and_the_bundled_types(capability: str) -> None:
    methods, checks, types = ROWS[capability]
    assert quoted(methods) and all(callable(getattr(Model, method)) for method in quoted(methods))
    assert set(quoted(checks)) == {name for name, each in CHECKS.items() if capability in each.needs}
    assert tuple(quoted(types)) == bundled_registry().names("model", capability=capability)
    assert quoted(types) or types == "none"


def test_what_nothing_asks_for_is_asked_for_by_nothing() -> None:
    """A capability that the page says nobody asks for is read nowhere in the core or governance."""
    root = DOCS.parent
    code = "".join(path.read_text("utf-8") for folder in ("sdk/affidavit", "governance") for path in (root / folder).rglob("*.py"))
    asked = {name for name in CAPABILITIES if re.search(rf'capabilities\.{name}\b|capability="{name}"', code)}
    sections = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M))
    unasked = {name for name, text in sections.items() if "Nothing in governance asks for the capability." in " ".join(text.split())}
    assert unasked and not unasked & asked
