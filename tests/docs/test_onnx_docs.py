"""What the page on ONNX says is so: its examples run, its program answers without Affidavit as the workspace does, its lists are the registry's."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from tests.docs.pages import PAGES, run_page, write_files

import affidavit as af
from affidavit.explaining import BACKGROUND_ROWS
from affidavit.interfaces.training import Training
from affidavit.onnx_format import OPSET, deviation
from affidavit.plugins import bundled_registry
from affidavit.testing.checks import CHECKS
from affidavit.testing.reference import Reference
from affidavit.testing.samples import mixed_table
from affidavit_plugins.tabular.bins import BUCKETS
from affidavit_plugins.tabular.torch_encoding import CLIP, HASH_BUCKETS, MAX_VOCABULARY
from affidavit_plugins.targets.onnx.target import DEVIATION
from affidavit_plugins.torch_base.onnx_layers import LAYERS

PAGE = PAGES["onnx"].read_text("utf-8")


@pytest.fixture
def names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(6)
    rows = 2 * MAX_VOCABULARY
    income = generator.normal(40, 12, rows)
    columns = {
        "income": pa.array(income, mask=generator.random(rows) < 0.1),
        "job": pa.array(np.array(["clerk", "driver", "nurse"], dtype=object)[generator.integers(0, 3, rows)], mask=generator.random(rows) < 0.1),
        "größe": pa.array([f"ö{number % (MAX_VOCABULARY + 1)}" for number in range(rows)]),  # so many that they are hashed
        "owner": generator.random(rows) < 0.5,
        "paid": np.where(income + generator.normal(0, 5, rows) > 40, "yes", "no"),
    }
    with af.Workspace(tmp_path / "ws", policy={"approvals": {}}, actor="tester") as ws:
        data = ws.load(pa.table(columns), target="paid", name="loans", fields={"größe": {"type": "categorical"}})
        model = ws.train("tabular.mlp", data, epochs=3)
        ws.explain(model, data.head(2))
        yield {"ws": ws, "data": data, "model": model}


def test_the_examples_on_the_page_give_what_they_show(names):
    names = run_page("onnx", names)
    data = mixed_table()
    model = Reference().fit(data, Training())
    view = names["view_of"](model.weights, model.intercept, model._matrix)
    assert deviation(view, model.fitted.conform(data), model.predict(data).probabilities) < 1e-12


def test_the_program_on_the_page_answers_as_the_workspace_does_without_affidavit(names, tmp_path):
    names = run_page("onnx", names)
    assert write_files("onnx", tmp_path) == {"edge.py"}
    rows = [
        {"income": 55.0, "job": "nurse", "größe": "ö7", "owner": True},
        {"income": None, "job": None, "größe": None, "owner": None},
        {"income": 1e9, "job": "never seen before", "größe": "ö-7", "owner": False},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    blocked = "import sys; sys.modules['affidavit'] = None; import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", blocked, "edge.py", "out/loans", "rows.json"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    encoding = json.loads((tmp_path / "out/loans/signature.json").read_text("utf-8"))["encoding"]
    assert {how["kind"] for how in encoding["columns"]} == {"number", "categories", "hashed", "boolean"}
    answered = names["ws"].predict("loans:1", rows).probabilities
    assert np.allclose(np.array(json.loads(done.stdout)), answered, atol=1e-12)
    assert len(np.unique(answered[:, 0])) == 3


def test_the_figures_and_lists_on_the_page_are_the_codes():
    assert DEVIATION == 1e-5 and "more than 1e-5 of the largest number" in PAGE
    assert f"opset {OPSET}" in PAGE and "(100 at most)" in PAGE
    assert BACKGROUND_ROWS == 100 and (CLIP, HASH_BUCKETS, BUCKETS) == (5.0, 32, 128)
    claimed = bundled_registry().names("model", capability="onnx")
    which = PAGE.split("## Which types")[1].split("claim the capability")[0]
    assert set(re.findall(r"`([a-z]+\.[a-z]+)`", which)) == set(claimed)
    assert {name for name, each in CHECKS.items() if "onnx" in each.needs} == set(re.findall(r"`(onnx_graph_\w+)`", PAGE))
    assert {layer.__name__ for layer in LAYERS} == {
        *("Linear", "Conv2d", "GroupNorm", "MaxPool2d", "AdaptiveAvgPool2d"),
        *("ReLU", "Tanh", "Dropout", "Flatten"),
    }
