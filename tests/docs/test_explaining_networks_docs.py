"""What the page on networks says is so: its examples run, its figures are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.docs.pages import run_page

import affidavit as af
from affidavit.plugins import bundled_registry
from affidavit_governance.explain.gradients.paths import NODES
from affidavit_governance.explain.methods import deep, gradient, kernel
from affidavit_governance.explain.players import encoded

PAGE = (Path(__file__).parents[2] / "docs/explaining-networks.md").read_text()


@pytest.fixture
def names(tmp_path):
    generator = np.random.default_rng(4)
    columns = {f"x{i}": generator.normal(size=160) for i in range(4)}
    columns["job"] = np.array(["clerk", "driver", "nurse"])[generator.integers(0, 3, 160)]
    columns["y"] = np.where(columns["x0"] + columns["x1"] * (columns["job"] == "nurse") > 0, "yes", "no")
    pixels = generator.integers(0, 255, (60, 8, 8)).astype(np.uint8)
    pictures = {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels), "y": np.where(pixels[:, :4].mean(axis=(1, 2)) > 127, "bright", "dark")}
    policy = {"explain": {"max_residual": 0.05}}
    with af.Workspace(tmp_path / "ws", policy=policy, actor="tester") as ws:
        table = ws.load(pa.table(columns), target="y", name="people")
        images = ws.load(pa.table(pictures), target="y", name="pictures")
        yield {
            "ws": ws,
            "rows": table.take(np.arange(150, 154)),
            "mlp": ws.train("tabular.mlp", table.head(150), hidden=[8], epochs=3),
            "pictures": images.head(2),
            "cnn": ws.train("vision.cnn", images, channels=[4], hidden=8, epochs=2),
        }


def test_the_examples_on_the_page_give_what_they_show(names):
    run_page("explaining-networks", names)


def test_the_figures_on_the_page_are_the_codes():
    assert encoded.SAME == gradient.ADDS_UP == deep.ADDS_UP == kernel.ADDS_UP == 1e-6
    assert encoded.MIXTURES == 4
    assert "four mixtures" in PAGE
    assert NODES == 5
    assert "five points" in PAGE
    assert gradient.TOLERANCE == 1e-8
    assert f"The default is {gradient.Gradient.default_budget} " in PAGE


def test_the_layers_named_on_the_page_have_no_rule_and_the_types_named_show_a_torch_module():
    named = re.search(r"layers without a rule \((.*?), layers", PAGE)
    assert named is not None
    assert not set(re.findall(r"`(\w+)`", named[1])) & deep.RULES
    shown = set(bundled_registry().names("model", capability="torch_module"))
    sentence = PAGE.split("capability `torch_module`:")[1].split("Text has")[0]
    assert shown == set(re.findall(r"`([a-z]+\.[a-z]+)`", sentence))
