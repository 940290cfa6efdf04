"""Personal data planted in every column never reaches the model, a log, an error, the ledger, the report or an unencrypted file."""

from __future__ import annotations

import importlib
import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from affidavit.approver import Approver
from affidavit.errors import AffidavitError
from affidavit.workspace import Workspace

SPY = '''
import numpy as np
from affidavit import Capabilities, Model, Predictions, Signature, Task, hookimpl

SEEN = []

class Spy(Model):
    """Learns the commonest label, and remembers everything that it was shown."""
    type = "spy.majority"
    capabilities = Capabilities(probabilities=True)

    def fit(self, data, training=None):
        SEEN.append(repr(data.table.to_pydict()) + repr(data.name) + repr(data.lineage))
        from affidavit.interfaces.infer import class_labels
        labels, classes = class_labels(data)
        self.share = [float((labels == c).mean()) for c in classes]
        features = data.schema.select(tuple(f.name for f in data.schema.features))
        self.signature = Signature(features, Task.BINARY, data.schema.target.name, classes)
        return self

    def predict(self, data):
        SEEN.append(repr(data.table.to_pydict()))
        if any("explode" in str(v) for v in data.table.to_pydict().values()):
            raise ValueError(f"cannot use {data.table.to_pydict()}")
        p = np.tile(np.array(self.share), (len(data), 1))
        return Predictions(np.array([self.fitted.classes[int(np.argmax(self.share))]] * len(data), dtype=object), self.fitted.classes, p)

    def save(self, files):
        files.json("share.json", self.share)

    @classmethod
    def load(cls, files):
        model = cls()
        model.share = files.json("share.json")
        return model

@hookimpl
def affidavit_register(registry):
    registry.add("model", "spy.majority", "THIS_MODULE:Spy", capabilities={"probabilities"})
'''

PLANTED = ["jana.planted@example.org", "DE89370400440532013000", "4111111111111111", "192.168.77.13", "+49 30 23125777"]
CARD_AS_NUMBER = 5555555555554444


def table(rows: int = 40) -> pa.Table:
    """Every column holds personal data: whole values, one cell among many, inside sentences, as numbers, and as categories."""
    columns: dict[str, object] = {f"whole_{number}": [value] * rows for number, value in enumerate(PLANTED)}
    columns |= {
        f"one_cell_{number}": pa.array([value if row == 3 else f"level {row % 3}" for row in range(rows)]) for number, value in enumerate(PLANTED)
    }
    columns |= {
        f"sentence_{number}": [f"Row {row}: please write to {value}, thank you." for row in range(rows)] for number, value in enumerate(PLANTED)
    }
    columns["dictionary"] = pa.array([PLANTED[row % 2] for row in range(rows)]).dictionary_encode()
    columns["number"] = pa.array([CARD_AS_NUMBER] * rows, type=pa.int64())
    columns["amount"] = [float(row) for row in range(rows)]
    columns["label"] = ["yes" if row % 3 else "no" for row in range(rows)]
    return pa.table(columns)


def test_planted_personal_data_reach_nothing(
    tmp_path: Path, install_plugin: Callable[[str, str], str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    module = install_plugin("spy", SPY)
    messages: list[str] = []
    policy = {"plugins": {"allow": ["affidavit", "spy"]}, "masking": {"detect": True}, "explain": {"required": False}}
    with Workspace(tmp_path / "ws", policy=policy, actor="tester") as workspace:
        data = workspace.load(table(), target="label", name="planted")
        train, test = data.split(test=0.25, seed=1)
        model = workspace.train("spy.majority", train)
        workspace.evaluate(model, test)
        workspace.explain(model, test.head(2), method="kernel")
        version = workspace.register(model, "spy")
        person = Approver.create("approver", tmp_path / "keys.pem")
        workspace.enrol(person, roles=["risk"])
        workspace.promote(version, "production", approver=person)
        names = [field.name for field in model.fitted.inputs]
        raw = {name: table().column(name).to_pylist()[:5] for name in names}
        with workspace.deploy("spy@production", target="http", port=0) as endpoint:
            endpoint.predict(_dataset(raw))
        workspace.predict("spy@production", table())
        for attempt in (
            lambda: workspace.predict("spy@production", {**raw, names[0]: ["explode " + PLANTED[0]] * 5}),
            lambda: workspace.predict("spy@production", {names[0]: [PLANTED[0]]}),
            lambda: workspace.load(_ragged(tmp_path), target="label"),
        ):
            with pytest.raises(Exception) as caught:  # whatever is raised must not quote the data
                attempt()
            messages.append("".join(traceback.format_exception(caught.value)))  # with every cause and context
        report = workspace.report(tmp_path / "report.html")
        workspace.bundle(tmp_path / "audit.zip")
        assert report.stat().st_size > 2000
    seen = "".join(importlib.import_module(module).SEEN)
    assert len(seen) > 1000, "the model was shown nothing: this test would pass for the wrong reason"
    output = capfd.readouterr()
    everything = {
        "the model": seen,
        "a log": caplog.text + output.out + output.err,
        "an error message": "".join(messages),
    }
    for value in [*PLANTED, str(CARD_AS_NUMBER)]:
        for where, text in everything.items():
            assert value not in text, f"{where} holds {value}"
        for path in [*(tmp_path / "ws").rglob("*"), tmp_path / "report.html", tmp_path / "audit.zip"]:
            if path.is_file():
                assert value.encode() not in path.read_bytes(), f"{path.name} holds {value}"


def _ragged(folder: Path) -> Path:
    path = folder / "ragged.csv"
    path.write_text(f"a,label\n1,yes\n{PLANTED[0]},no,{PLANTED[1]}\n")
    return path


def _dataset(columns: dict[str, list[object]]) -> object:
    from affidavit.interfaces.dataset import Dataset

    return Dataset.from_arrow(pa.table(columns))


def test_an_error_of_a_model_is_recorded_by_class_only(tmp_path: Path, install_plugin: Callable[[str, str], str]) -> None:
    install_plugin("spy", SPY)
    policy = {"plugins": {"allow": ["affidavit", "spy"]}}
    with Workspace(tmp_path / "ws", policy=policy, actor="tester") as workspace:
        data = workspace.load(table(), target="label")
        with pytest.raises(AffidavitError):
            workspace.train("spy.majority", data, unknown_parameter=PLANTED[0])
        failed = [entry for entry in workspace.ledger.entries() if entry.predicate.get("status") == "failed"]
        assert all(PLANTED[0] not in str(entry.statement) for entry in failed)
