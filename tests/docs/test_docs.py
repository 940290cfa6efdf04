"""What the documents say is so: every policy key has its line, every link leads somewhere, the README's example runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from tests.docs.pages import run_page

from affidavit.policy import Policy, parse_model

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Key paths of a pydantic model's sections; open mappings and lists end a path."""
    found = []
    for name, field in model.model_fields.items():
        inner: Any = next(
            (a for a in [field.annotation, *getattr(field.annotation, "__args__", ())] if isinstance(a, type) and issubclass(a, BaseModel)), None
        )
        deeper = inner is not None and inner.__name__.endswith("Policy")
        found += keys(inner, f"{prefix}{name}.") if deeper else [f"{prefix}{name}"]
    return found


@pytest.mark.parametrize("key", keys(Policy))
def test_every_policy_key_has_a_line(key: str) -> None:
    assert f"| `{key}` |" in (ROOT / "docs/policy.md").read_text()


def test_the_policy_page_names_no_key_that_does_not_exist() -> None:
    named = re.findall(r"^\| `([a-z0-9_.]+)` \|", (ROOT / "docs/policy.md").read_text(), re.M)
    assert set(named) - {"privacy"} == set(keys(Policy))


def test_the_policy_pages_example_is_a_valid_policy() -> None:
    example = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/policy.md").read_text(), re.S)[0]
    assert parse_model(Policy, yaml.safe_load(example), whose="docs").privacy is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readmes_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("german_credit.csv", "policy.yaml"):
        shutil.copy(ROOT / "examples/credit" / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    run_page("README")
    assert (tmp_path / "audit.zip").stat().st_size > 10_000
    assert (tmp_path / "waterfall.png").read_bytes().startswith(b"\x89PNG")
    assert "affidavit/" in capsys.readouterr().out
