"""The target `onnx`: what it writes, what it refuses, and that governance stays around it."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import affidavit as af
from affidavit.errors import AffidavitError, IntegrityError, MissingExtra, Refused, UsageError
from affidavit.interfaces.model import OnnxView
from affidavit.onnx_format import session
from affidavit.predictor import GovernedPredictor
from affidavit.testing.within import PLANTED
from affidavit_plugins.tabular.mlp import MLP
from affidavit_plugins.tabular.torch_encoding import TableEncoding
from affidavit_plugins.targets.onnx.target import Onnx


def people(rows=120):
    generator = np.random.default_rng(8)
    income = generator.normal(40, 10, rows)
    return pa.table(
        {
            "income": income,
            "job": np.array(["clerk", "driver", "nurse"])[generator.integers(0, 3, rows)],
            "mail": [PLANTED[0]] * rows,
            "paid": np.where(income + generator.normal(0, 4, rows) > 40, "yes", "no"),
        }
    )


def opened(folder, **policy):
    return af.Workspace(folder / "ws", policy={"approvals": {}, **policy}, actor="tester")


def registered(workspace, kind="tabular.mlp", **params):
    data = workspace.load(people(), target="paid", name="people")
    model = workspace.train(kind, data, **params)
    workspace.explain(model, data.head(1))
    return workspace.register(model, kind.partition(".")[2])


def asked(workspace, rows):
    return workspace.load(people(rows).drop_columns(["paid"]), name="asked")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("onnx")) as workspace:
        yield workspace


@pytest.fixture(scope="module")
def version(workspace):
    return registered(workspace, epochs=2)


def journalled(workspace):
    workspace.ledger.seal_journals()
    return sum(entry.predicate["journal"]["rows"] for entry in workspace.ledger.entries("predict"))


def test_the_folder_answers_as_the_registered_model_does(workspace, version, tmp_path):
    endpoint = workspace.deploy(version, target="onnx", folder=tmp_path / "deep" / "out")
    folder = tmp_path / "deep" / "out"
    assert sorted(path.name for path in folder.parent.rglob("*")) == ["model.onnx", "out", "signature.json"]
    signature = json.loads((folder / "signature.json").read_text())
    assert (signature["version"], signature["artifact"], signature["type"]) == ("mlp:1", version.artifact, "tabular.mlp")
    assert signature["graph"]["sha256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    rows = asked(workspace, 120)
    encoded = TableEncoding.from_json(signature["encoding"]).transform(rows.select([each["name"] for each in signature["inputs"]]))
    answers = session((folder / "model.onnx").read_bytes())({"rows": encoded})
    found = endpoint.predict(rows)
    assert abs(answers - found.probabilities).max() < 1e-13 and tuple(signature["classes"]) == found.classes


def test_the_ledger_says_what_left_and_the_journal_what_was_asked(workspace, version, tmp_path):
    before = journalled(workspace)
    endpoint = workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    *_, intent, outcome = (entry.predicate for entry in workspace.ledger.entries("deploy"))
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "out").iterdir()}
    assert intent["phase"] == "intent" and outcome["status"] == "done"
    assert outcome["details"] == {"version": "mlp:1", "target": "onnx", "files": digests}
    assert journalled(workspace) == before
    endpoint.predict(asked(workspace, 7))
    assert journalled(workspace) == before + 7


def test_what_leaves_holds_no_personal_data_and_no_path(workspace, version, tmp_path):
    workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert not any(word.encode() in content for word in (*PLANTED, str(tmp_path), sys.prefix))


def test_what_leaves_says_nothing_of_how_the_training_rows_were_answered(workspace, version, tmp_path):
    workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    known = {"format", "version", "artifact", "graph", "type", "inputs", "task", "target", "classes", "encoding"}
    assert set(json.loads((tmp_path / "out/signature.json").read_text())) == known


def test_two_deployments_write_the_same_bytes(workspace, version, tmp_path):
    first, second = (workspace.deploy(version, target="onnx", folder=tmp_path / name) for name in ("one", "two"))
    assert first.files == second.files


def test_an_endpoint_is_healthy_while_its_files_are_as_they_were(workspace, version, tmp_path):
    endpoint = workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    assert endpoint.healthy()
    content = (tmp_path / "out/model.onnx").read_bytes()
    (tmp_path / "out/model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not endpoint.healthy()
    (tmp_path / "out/model.onnx").unlink()
    assert not endpoint.healthy()
    (tmp_path / "out/model.onnx").write_bytes(content)
    assert endpoint.healthy()
    endpoint.stop()
    assert not endpoint.healthy() and (tmp_path / "out/model.onnx").exists()
    with pytest.raises(UsageError, match="was stopped"):
        endpoint.predict(asked(workspace, 2))


def other_weights(self, _original=MLP.onnx_view):
    view = _original(self)
    return replace(view, encode=lambda rows: {name: array * 1.01 for name, array in view.encode(rows).items()})


def no_graph(self):
    return OnnxView(b"not a graph", lambda rows: {})


@pytest.mark.parametrize(("view", "said"), [(other_weights, "answers otherwise than the model"), (no_graph, "cannot run this graph")])
def test_a_graph_that_answers_otherwise_does_not_leave(workspace, version, tmp_path, monkeypatch, view, said):
    monkeypatch.setattr(MLP, "onnx_view", view)
    with pytest.raises(AffidavitError, match=said) as raised:
        workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    assert isinstance(raised.value, IntegrityError) == (view is other_weights)
    assert list(tmp_path.iterdir()) == []
    assert [entry.predicate["status"] for entry in workspace.ledger.entries("deploy")][-2:] == [None, "failed"]


def test_nothing_is_left_where_the_folder_cannot_be_written(workspace, version, tmp_path, monkeypatch):
    from affidavit_plugins.targets.onnx import target

    def full(path, content):
        if path.name == "signature.json":
            raise OSError(28, "No space left on device")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr(target, "write_atomic", full)
    with pytest.raises(AffidavitError, match="out"):
        workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_touched(workspace, version, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_link_to_nothing_is_there_and_a_name_too_long_ends_in_one_error(workspace, version, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nothing")
    with pytest.raises(UsageError, match="there already"):
        workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    with pytest.raises(AffidavitError, match="could not be written: File name too long"):
        workspace.deploy(version, target="onnx", folder=tmp_path / ("x" * 300))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("options", [{}, {"folder": 5}, {"folder": "out", "port": 1}])
def test_it_takes_a_folder_and_nothing_else(workspace, version, options):
    with pytest.raises(UsageError, match="takes one option: folder"):
        workspace.deploy(version, target="onnx", **options)


def test_a_type_without_a_graph_is_refused_with_those_that_have_one(workspace, tmp_path):
    with pytest.raises(UsageError, match=r"'tabular.tree' cannot be exported.*tabular.mlp.*signed-folder"):
        workspace.deploy(registered(workspace, "tabular.tree"), target="onnx", folder=tmp_path / "out")


def test_only_a_registered_version_is_handed_over(workspace, version, tmp_path):
    loose = GovernedPredictor(workspace, workspace.model(version), None)
    for predictor in (loose, object()):
        with pytest.raises(UsageError, match="registered version"):
            Onnx().deploy(predictor, folder=tmp_path / "out")


def test_the_policys_approvals_come_first(tmp_path):
    with opened(tmp_path, approvals={"production": {"count": 1, "roles": ["risk"]}}) as workspace:
        version = registered(workspace, epochs=1)
        with pytest.raises(Refused, match="none of the aliases"):
            workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_weight_in_the_store_never_leaves(tmp_path):
    with opened(tmp_path) as workspace:
        version = registered(workspace, epochs=1)
        workspace.deploy(version)  # the workspace then has the model in memory, and the store is not asked again for it
        stored = [path for path in (tmp_path / "ws").rglob("objects/**/*") if path.is_file()]
        assert stored
        for path in stored:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.chmod(0o600)
            path.write_bytes(content)
        with pytest.raises(IntegrityError):
            workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named_with_its_extra(workspace, version, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"'{library}'.*pip install 'affidavit\[onnx\]'"):
        workspace.deploy(version, target="onnx", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
