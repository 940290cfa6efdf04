"""What the overview of explanations says is so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.docs.pages import run_page

import affidavit as af
from affidavit.plugins import bundled_registry
from affidavit_plugins.targets.http.explain import PARAMETERS
from affidavit_plugins.targets.http.target import HttpOptions

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "explaining.md").read_text()


def test_the_blocks_on_the_page_run(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 2))
    rows = {"a": x[:, 0], "b": x[:, 1], "y": np.where(x.sum(axis=1) > 0, "yes", "no")}
    monkeypatch.chdir(tmp_path)
    with af.Workspace(tmp_path / "ws", actor="tester") as ws:
        data = ws.load(af.Dataset.from_arrow(rows).table, target="y", name="toy")
        names = run_page("explaining", {"ws": ws, "model": ws.train("tabular.logistic", data), "test": data})
    assert names["replay"].bit_equal
    assert (tmp_path / "waterfall.png").stat().st_size > 5000 and (tmp_path / "record.json").exists()


def test_every_method_on_the_page_is_registered_and_every_registered_one_is_on_it():
    registry = bundled_registry()
    table = PAGE[PAGE.index("| method |") : PAGE.index("Each is interventional")]
    named = set(re.findall(r"`([a-z-]+)`", " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))))
    assert named == {name for name in registry.names("explainer") if registry.get("explainer", name).scope == "rows"}


def test_the_parameters_and_limits_of_the_server_are_on_the_page():
    section = PAGE[PAGE.index("## Over HTTP") :]
    assert all(f"`{name}`" in section for name in PARAMETERS)
    assert all(f"`{name}`" in section for name in HttpOptions.model_fields if name.startswith("max_explain"))


@pytest.mark.parametrize("page", sorted(set(re.findall(r"\]\(([a-z-]+\.md)\)", PAGE))))
def test_every_page_that_it_links_exists(page):
    assert (DOCS / page).exists()
