"""The site: it builds without a warning, loads nothing from elsewhere, and has every page and every public name."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from tests.docs.pages import DOCS, ROOT

import affidavit
import affidavit.testing

ALONE = {
    "affidavit_governance.privacy.epsilon",
    "affidavit_governance.privacy.calibrate",
    "affidavit_governance.masking.scan_text",
    "affidavit_governance.masking.FF1",
    "affidavit_governance.audit.verify_inclusion",
    "affidavit_governance.audit.verify_consistency",
    "affidavit_governance.explain.shapley_values",
    "affidavit_governance.fairness.impact_ratio",
}
"""The functions that are promised to stand alone."""

LOADS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data"), ("video", "src")}
"""What a browser fetches without being asked; the address of another page (``rel=next``) is none."""


class Reader(HTMLParser):
    """What a page loads, where it links to, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors.add(given.get("id") or "")
        for name, value in attributes:
            if (tag, name) in LOADS and given.get("rel") not in ("prev", "next", "canonical"):
                self.loads.append(html.unescape(value or ""))
            if name in ("srcset", "poster", "style"):
                self.loads += re.findall(r"(?:https?:)?//[^\s)\"']+", value or "")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The site, built as `make docs` builds it, and how that ended."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    return folder, subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def site(built: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    return built[0]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Reader]:
    return {str(path.relative_to(site)): Reader(path) for path in sorted(site.rglob("*.html"))}


def test_the_site_builds_without_a_warning(built: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    assert built[1].returncode == 0, built[1].stderr[-4000:]
    assert "WARNING" not in built[1].stderr


def test_every_page_is_in_the_site(pages: dict[str, Reader]) -> None:
    assert {str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md")} == set(pages) - {"404.html"}


def test_no_page_loads_anything_from_elsewhere(site: Path, pages: dict[str, Reader]) -> None:
    assert sum(len(page.loads) for page in pages.values()) > len(pages)
    for name, page in pages.items():
        for address in page.loads:
            parts = urlsplit(address)
            assert not parts.scheme or parts.scheme == "data", f"{name} loads {address}"
            assert not parts.netloc, f"{name} loads {address}"
            if parts.path and name != "404.html":  # that page knows no folder to start from
                assert ((site / name).parent / unquote(parts.path)).resolve().exists(), f"{name} loads {address}, which is not there"


def test_no_style_sheet_or_picture_loads_anything_from_elsewhere(site: Path) -> None:
    files = [path for ending in ("css", "svg") for path in site.rglob(f"*.{ending}")]
    assert files
    for path in files:
        text = path.read_text("utf-8")
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", text), path.name
        assert not re.findall(r"(?:href|src)=\"(?:https?:)?//", text), path.name


@pytest.mark.parametrize(
    "name",
    [*(f"affidavit.{name}" for name in affidavit.__all__), *(f"affidavit.testing.{name}" for name in affidavit.testing.__all__), *sorted(ALONE)],
)
def test_every_public_name_has_its_entry(name: str, pages: dict[str, Reader]) -> None:
    assert [page for page, read in pages.items() if page.startswith("api/") and name in read.anchors]


@pytest.mark.parametrize("module", ["masking", "keys", "explainer"])
def test_every_public_name_of_an_interface_for_plugins_has_its_entry(module: str, pages: dict[str, Reader]) -> None:
    code = (ROOT / f"sdk/affidavit/interfaces/{module}.py").read_text("utf-8")
    found = re.findall(r"^(?:class|def) ([A-Za-z]\w*)", code, re.M)
    names = {f"affidavit.{name}" if name in affidavit.__all__ else f"affidavit.interfaces.{module}.{name}" for name in found}
    assert names <= set().union(*(page.anchors for page in pages.values()))


def test_every_suite_has_its_entry(pages: dict[str, Reader]) -> None:
    code = (ROOT / "sdk/affidavit/testing/suites.py").read_text("utf-8")
    names = {f"affidavit.testing.suites.{name}" for name in re.findall(r"^class (\w+Suite)\b", code, re.M)}
    assert names and names <= pages["api/testing.html"].anchors
