"""Artifacts: one door, a digest that depends on the model alone, and refusal of whatever has changed or could run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel

from affidavit import artifacts
from affidavit.artifacts import ArtifactReader, ArtifactWriter, load_model, model_digest, package, read_artifact
from affidavit.errors import AffidavitError, IntegrityError, InvalidInput, PluginError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model, Predictions, Signature, Task
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.pickles import find_pickle
from affidavit.store import Objects, Store
from affidavit_governance.encryption import open_keyring

sklearn_trees = "sklearn.tree._tree.Tree"


class MeanParams(BaseModel):
    shift: float = 0.0


class Mean(Model):
    """Predicts the mean of the training target; also carries one file of every kind."""

    type: ClassVar[str] = "test.mean"
    Params = MeanParams
    params: MeanParams

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.mean = 0.0
        self.note = "ünïcode"

    def fit(self, data: Dataset, training: object = None) -> Self:
        self.mean = float(data.to_numpy("y").mean())
        self.signature = Signature(Schema((Field("x", FieldType.NUMERIC),)), Task.REGRESSION, "y")
        return self

    def predict(self, data: Dataset) -> Predictions:
        return Predictions(np.full(len(data), self.mean + self.params.shift))

    def save(self, files: ArtifactWriter) -> None:
        files.tensors("mean", {"mean": np.array([self.mean]), "extra": np.arange(6, dtype=np.float32).reshape(2, 3).T})
        files.json("settings", {"b": 1, "a": [1.5, None]})
        files.text("note.txt", self.note)
        files.bytes("graph.onnx", b"\x08\x07graph")

    @classmethod
    def load(cls, files: ArtifactReader) -> Self:
        model = cls(**files.params)
        model.mean = float(files.tensors("mean")["mean"][0])
        model.note = files.text("note.txt")
        assert files.json("settings") == {"a": [1.5, None], "b": 1}
        assert files.bytes("graph.onnx") == b"\x08\x07graph"
        assert files.names == ("graph.onnx", "mean.safetensors", "note.txt", "settings.json")
        return model


class Types:
    """Stands for the plugin registry."""

    def __init__(self, *classes: Any) -> None:
        self._classes = {cls.type: cls for cls in classes}

    def get(self, kind: str, name: str) -> Any:
        assert kind == "model"
        return self._classes[name]


DATA = Dataset(
    pa.table({"x": [1.0, 2.0], "y": [3.0, 5.0]}),
    Schema((Field("x", FieldType.NUMERIC), Field("y", FieldType.NUMERIC))),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "ws") as opened:
        yield opened


@pytest.fixture
def objects(store: Store) -> Objects:
    return Objects(store, open_keyring(store))


# -- objects -------------------------------------------------------------------------------------------------------------------------------


def test_an_object_comes_back_under_its_digest_and_purpose_alone(objects: Objects) -> None:
    digest = objects.put(b"weights", purpose="artifact")
    assert digest == "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    assert objects.get(digest, purpose="artifact") == b"weights"
    assert objects.exists(digest, purpose="artifact")
    with pytest.raises(UsageError, match="no stored object"):
        objects.get(digest, purpose="manifest")
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        objects.get("../keyring.json", purpose="artifact")


def test_storing_the_same_object_again_changes_nothing(objects: Objects, store: Store) -> None:
    digest = objects.put(b"weights", purpose="artifact")
    (name,) = store.files.list("objects/")
    sealed = store.files.read(name)
    assert objects.put(b"weights", purpose="artifact") == digest
    assert store.files.read(name) == sealed


def test_objects_that_are_swapped_moved_or_changed_are_refused_by_name(objects: Objects, store: Store) -> None:
    one, two = objects.put(b"one", purpose="artifact"), objects.put(b"two", purpose="artifact")
    names = {digest: next(name for name in store.files.list("objects/") if name.endswith(digest[2:])) for digest in (one, two)}
    sealed = store.files.read(names[one])
    store.files.write(names[one], store.files.read(names[two]))
    with pytest.raises(IntegrityError, match=one):
        objects.get(one, purpose="artifact")
    store.files.write(names[one].replace("artifact", "manifest"), sealed)
    with pytest.raises(IntegrityError, match=one):
        objects.get(one, purpose="manifest")


def test_content_is_hashed_again_even_where_the_envelope_opens(store: Store) -> None:
    keyring = open_keyring(store)
    objects = Objects(store, keyring)
    digest = objects.put(b"weights", purpose="artifact")
    (name,) = store.files.list("objects/")
    store.files.write(name, keyring.seal(b"other weights", purpose="artifact", name=digest))
    with pytest.raises(IntegrityError, match="no longer has the digest"):
        objects.get(digest, purpose="artifact")


# -- round trip and digest -----------------------------------------------------------------------------------------------------------------


def test_a_model_comes_back_as_it_was(objects: Objects) -> None:
    model = Mean(shift=0.5).fit(DATA)
    artifact = package(model, objects)
    loaded = load_model(artifact.digest, objects, Types(Mean))
    assert isinstance(loaded, Mean)
    assert loaded.signature == model.signature
    assert loaded.params == model.params
    assert loaded.note == model.note
    assert loaded.predict(DATA).values.tolist() == [4.5, 4.5]


def test_the_digest_names_the_model_and_nothing_else(objects: Objects) -> None:
    model = Mean(shift=0.5).fit(DATA)
    artifact = package(model, objects)
    assert model_digest(model) == artifact.digest == package(model, objects).digest
    assert model_digest(load_model(artifact.digest, objects, Types(Mean))) == artifact.digest
    assert model_digest(Mean(shift=0.25).fit(DATA)) != artifact.digest
    other = Mean(shift=0.5).fit(DATA)
    other.mean += 1e-12
    assert model_digest(other) != artifact.digest


def test_the_artifact_says_what_is_in_it(objects: Objects) -> None:
    artifact = package(Mean().fit(DATA), objects)
    assert artifact == read_artifact(artifact.digest, objects)
    assert artifact.model_type == "test.mean"
    assert set(artifact.file_digests) == {"graph.onnx", "mean.safetensors", "note.txt", "settings.json"}
    assert artifact.size == sum(entry["size"] for entry in artifact.manifest["files"].values())
    assert artifact.manifest["format"] == 1
    assert set(artifact.manifest["libraries"]) == {"numpy", "safetensors"}


def test_an_unfitted_model_is_refused(objects: Objects) -> None:
    with pytest.raises(UsageError, match="not fitted"):
        package(Mean(), objects)


def test_model_digest_stores_nothing(objects: Objects, store: Store) -> None:
    before = store.files.list()
    model_digest(Mean().fit(DATA))
    assert store.files.list() == before


# -- tampering -----------------------------------------------------------------------------------------------------------------------------


def test_a_changed_byte_of_any_stored_file_is_refused_and_the_file_named(objects: Objects, store: Store) -> None:
    artifact = package(Mean().fit(DATA), objects)
    for name, digest in artifact.file_digests.items():
        stored = f"objects/artifact/{digest[:2]}/{digest[2:]}"
        original = store.files.read(stored)
        for position in range(0, len(original), 7):
            changed = bytearray(original)
            changed[position] ^= 0x10
            store.files.write(stored, bytes(changed))
            with pytest.raises(IntegrityError, match=f"File '{name}' of artifact {artifact.digest[:12]}"):
                load_model(artifact.digest, objects, Types(Mean))
        store.files.delete(stored)
        with pytest.raises(IntegrityError, match=f"File '{name}' .* is missing"):
            load_model(artifact.digest, objects, Types(Mean))
        store.files.write(stored, original)
    load_model(artifact.digest, objects, Types(Mean))


def test_a_changed_manifest_is_refused(objects: Objects, store: Store) -> None:
    artifact = package(Mean().fit(DATA), objects)
    stored = f"objects/manifest/{artifact.digest[:2]}/{artifact.digest[2:]}"
    original = store.files.read(stored)
    for position in range(0, len(original), 11):
        changed = bytearray(original)
        changed[position] ^= 1
        store.files.write(stored, bytes(changed))
        with pytest.raises(IntegrityError, match=artifact.digest[:12]):
            load_model(artifact.digest, objects, Types(Mean))


def put_manifest(objects: Objects, manifest: Any) -> str:
    return objects.put(json.dumps(manifest).encode(), purpose="manifest")


@pytest.mark.parametrize("change", [{"files": None}, {"files": {"x": {}}}, {"type": 1}, {"params": []}, {"signature": None}, {"format": None}, None])
def test_a_malformed_manifest_is_one_clear_error(objects: Objects, change: dict[str, Any] | None) -> None:
    manifest = dict(package(Mean().fit(DATA), objects).manifest)
    digest = put_manifest(objects, "text" if change is None else {**manifest, **change})
    with pytest.raises(AffidavitError):
        load_model(digest, objects, Types(Mean))


def test_a_newer_manifest_is_refused_and_an_older_one_read_by_its_reader(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = dict(package(Mean(shift=2.0).fit(DATA), objects).manifest)
    with pytest.raises(InvalidInput, match="has format 2; this Affidavit reads up to 1"):
        load_model(put_manifest(objects, {**manifest, "format": 2}), objects, Types(Mean))
    old = {**manifest, "format": 0, "kind": manifest["type"]}
    del old["type"]
    monkeypatch.setitem(artifacts._READERS, 0, lambda manifest: {**manifest, "type": manifest["kind"]})
    assert load_model(put_manifest(objects, old), objects, Types(Mean)).params == MeanParams(shift=2.0)


class Impostor(Mean):
    type: ClassVar[str] = "test.mean"

    @classmethod
    def load(cls, files: ArtifactReader) -> Self:
        model = super().load(files)
        model.signature = Signature(Schema((Field("z", FieldType.TEXT),)), Task.REGRESSION, "y")
        return model


class Wrong(Mean):
    type: ClassVar[str] = "test.mean"

    @classmethod
    def load(cls, files: ArtifactReader) -> Any:
        return "a model"


def test_a_type_that_loads_something_else_is_refused(objects: Objects) -> None:
    digest = package(Mean().fit(DATA), objects).digest
    with pytest.raises(PluginError, match="another signature"):
        load_model(digest, objects, Types(Impostor))
    with pytest.raises(PluginError, match="loaded a str"):
        load_model(digest, objects, Types(Wrong))


# -- the writer's refusals -----------------------------------------------------------------------------------------------------------------


def writer() -> ArtifactWriter:
    return ArtifactWriter(lambda data: "0" * 64)


@pytest.mark.parametrize("value", [float("nan"), {"x": float("inf")}, {1, 2}, np.ones(2), "\ud800", {("a",): 1}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be written as JSON"):
        writer().json("settings", value)


def test_arrays_of_objects_are_no_tensors() -> None:
    with pytest.raises(InvalidInput, match=r"safetensors: its arrays have the types object"):
        writer().tensors("weights", {"a": np.array([{}], dtype=object)})


def test_a_name_is_written_once_and_stays_inside() -> None:
    files = writer()
    files.text("a.txt", "x")
    with pytest.raises(PluginError, match=r"'a\.txt' of its artifact twice"):
        files.text("a.txt", "y")
    with pytest.raises(PluginError, match="a name that is taken"):
        files.json("manifest", {})
    with pytest.raises(UsageError, match="no name for a stored file"):
        files.text("../a", "x")


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("echo pwned",)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def saved(array: Any, compress: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, array=array) if compress else np.save(buffer, array)
    return buffer.getvalue()


PICKLES = {f"protocol {protocol}": pickle.dumps(Bomb(), protocol) for protocol in range(6)}
PICKLES |= {f"plain data, protocol {protocol}": pickle.dumps({"a": [1, 2.5, "x"]}, protocol) for protocol in range(6)}
PICKLES |= {
    "junk behind the call": b"cos\nsystem\n(S'ls'\ntRjunk that is no pickle",
    "build": b"c__builtin__\nobject\n(dbx",
    "inst": b"(S'ls'\nios\nsystem\n.",
    "zip": zipped(data=pickle.dumps(Bomb(), 4)),
    "zip, protocol 0": zipped(**{"a/b/data": pickle.dumps(Bomb(), 0)}),
    "zip, by name": zipped(**{"archive/data.pkl": b""}),
    "zip behind a prefix": b"#!/bin/sh\n" + zipped(data=pickle.dumps(Bomb(), 2)),
    "zip in a zip": zipped(inner=zipped(data=pickle.dumps(Bomb(), 2))),
    "npy of objects": saved(np.array([Bomb()], dtype=object)),
    "npy with an object field": saved(np.array([(1, Bomb())], dtype=[("a", int), ("b", object)])),
    "npy of objects, said in other words": saved(np.array([Bomb()], dtype=object)).replace(b"'|O'", b"'O8'"),
    "npy of objects behind a long header": saved(np.array([Bomb()], dtype=object)).replace(b"\x01\x00v\x00{", b"\x01\x00\x76\x14{" + b" " * 5120),
    "npz of objects": saved(np.array([Bomb()], dtype=object), compress=True),
}


@pytest.mark.parametrize("data", PICKLES.values(), ids=PICKLES.keys())
def test_bytes_that_are_or_hold_a_pickle_are_refused_whatever_their_name(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="reading a pickle runs whatever its author wrote"):
        writer().bytes("model.bin", data)


@pytest.mark.parametrize("name", ["a.pkl", "a.PKL", "a.pt", "a.pth", "a.joblib", "a.pickle", "a.ckpt", "a.pkl.gz", "b/a.dill"])
def test_bytes_named_like_a_pickle_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="refused"):
        writer().bytes(name, b"harmless")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"cat\ndog\nRat\nbat.\n",
        b"category\n(other)\nRate: 1.0\n",
        b"\x08\x07\x12\x07pytorch",
        b"\x80",
        b"\x80\xff\x00",
        zipped(config=b"{}", weights=b"\x00" * 100),
        saved(np.ones((3, 2))),
        saved(np.frombuffer(b"|O" * 32, np.float64)),
        bytes(range(256)) * 100,
    ],
)
def test_other_bytes_are_accepted(data: bytes) -> None:
    assert find_pickle("model.onnx", data) is None


def test_random_bytes_are_rarely_taken_for_a_pickle() -> None:
    random = np.random.default_rng(0)
    assert sum(find_pickle("x", random.bytes(200)) is not None for _ in range(5000)) <= 2


def test_pickled_bytes_are_refused_on_the_way_out_too(objects: Objects) -> None:
    """An artifact that another program wrote."""
    artifact = package(Mean().fit(DATA), objects)
    evil = objects.put(pickle.dumps(Bomb()), purpose="artifact")
    manifest = json.loads(json.dumps(artifact.manifest))
    manifest["files"]["graph.onnx"]["sha256"] = evil
    with pytest.raises(InvalidInput, match=r"'graph\.onnx' .* is refused"):
        load_model(put_manifest(objects, manifest), objects, Types(Mean))


# -- skops ---------------------------------------------------------------------------------------------------------------------------------


def test_a_model_stored_with_skops_trusts_only_what_its_code_names() -> None:
    trees = pytest.importorskip("sklearn.tree", reason="scikit-learn is not installed (extra 'tabular')")
    pytest.importorskip("skops", reason="skops is not installed (extra 'tabular')")
    stored: dict[str, bytes] = {}
    files = ArtifactWriter(lambda data: stored.setdefault("tree.skops", data) and "0" * 64)
    tree = trees.DecisionTreeClassifier(random_state=0).fit([[0.0], [1.0], [2.0]], ["a", "b", "a"])
    files.skops("tree", tree)
    assert files.libraries == {"numpy", "scikit-learn", "skops"}
    reader = ArtifactReader({"params": {}, "signature": Mean().fit(DATA).fitted.to_json()}, stored)
    with pytest.raises(IntegrityError, match=r"types that are not trusted: sklearn\.tree\._tree\.Tree\."):
        reader.skops("tree")
    loaded = reader.skops("tree", trusted=[sklearn_trees])
    assert loaded.predict([[0.0], [1.0], [2.0]]).tolist() == ["a", "b", "a"]
    again = writer()
    again._sink = lambda data: "same" if data == stored["tree.skops"] else "other"
    again.skops("tree", loaded)
    assert again.files["tree.skops"]["sha256"] == "same"
    broken = ArtifactReader({"params": {}, "signature": Mean().fit(DATA).fitted.to_json()}, {"tree.skops": stored["tree.skops"][:-30]})
    with pytest.raises(IntegrityError, match="no readable skops file"):
        broken.skops("tree", trusted=[sklearn_trees])


def test_an_own_function_in_an_estimator_is_refused_by_name() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is not installed (extra 'tabular')")
    pytest.importorskip("skops", reason="skops is not installed (extra 'tabular')")
    stored: dict[str, bytes] = {}
    files = ArtifactWriter(lambda data: stored.setdefault("f.skops", data) and "0" * 64)
    files.skops("f", preprocessing.FunctionTransformer(os.system))
    reader = ArtifactReader({"params": {}, "signature": Mean().fit(DATA).fitted.to_json()}, stored)
    with pytest.raises(IntegrityError, match=r"posix\.system"):
        reader.skops("f", trusted=[sklearn_trees])


ESTIMATORS = """
import hashlib
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from affidavit.skops_format import dump
x = np.random.default_rng(0).normal(size=(60, 3))
y = np.where(x[:, 0] > 0, "yes", "no")
for estimator in (
    make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y),
    RandomForestRegressor(3, random_state=1).fit(x, x[:, 0]),
    HistGradientBoostingClassifier(max_iter=3, random_state=1).fit(x, y),
    OneHotEncoder(handle_unknown="ignore").fit(y[:, None]),
    FunctionTransformer(np.add, kw_args={"names": {"of", "mice", "and", "men"}, "shared": [y, y]}),
):
    print(hashlib.sha256(dump(estimator, "e")).hexdigest())
"""


def test_an_estimator_gives_the_same_bytes_in_every_process() -> None:
    pytest.importorskip("skops", reason="skops is not installed (extra 'tabular')")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra 'tabular')")
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed (extra 'tabular')")
    here = io.StringIO()
    # Boosting adds up in another order on another number of threads; the bundled type fits on one, and so does the other process.
    with threadpoolctl.threadpool_limits(1), contextlib.redirect_stdout(here):
        exec(ESTIMATORS, {})
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", ESTIMATORS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 5
    assert here.getvalue() == done.stdout


def test_unused_bytes_of_records_do_not_reach_the_file() -> None:
    from affidavit.skops_format import _without_padding

    kind = np.dtype([("a", "i1"), ("b", "i8")], align=True)
    clean, dirty = np.zeros(3, kind), np.full(3 * kind.itemsize, 0xAA, np.uint8).view(kind)
    dirty["a"] = dirty["b"] = 0
    assert saved(clean) != saved(dirty)
    assert _without_padding(saved(clean)) == _without_padding(saved(dirty))


def test_equal_json_values_have_one_encoding() -> None:
    assert artifacts.canonical_json({"b": [1, 2.5], "a": "é"}, "x") == '{"a":"é","b":[1,2.5]}'.encode()
