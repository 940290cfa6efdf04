"""Neighbour replay: honest models pass exactly, and models that let a record in by another door are found out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Capabilities, Model, Predictions, Signature, Task
from affidavit.interfaces.training import Training
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.attacks import neighbour_replay
from affidavit_governance.privacy.mechanisms import convex
from affidavit_governance.privacy.randomness import Randomness
from affidavit_governance.privacy.training.engine import PrivateEngine

OPACUS = pytest.param("opacus", marks=pytest.mark.filterwarnings("ignore:Full backward hook is firing"))
"""Opacus's hooks warn while the engine compares its gradients with brute force."""


class Linear(Model):
    """An honest linear model, and the doors that the tests open in it."""

    type = "test.replayed"
    capabilities = Capabilities(private_training=True, probabilities=True)

    def __init__(self, door: str = "") -> None:
        super().__init__()
        self.door = door

    def fit(self, data: Dataset, training: Training | None = None) -> Linear:
        assert training is not None and training.engine is not None
        columns, labels = self.columns(data), torch.tensor(data.to_numpy("y")).long()
        center, scale = training.engine.center_and_scale(columns)
        if self.door == "own statistics":
            center, scale = columns.mean(0), columns.std(0)
        self.center, self.scale = center, scale
        self.mean = float(labels.double().mean()) if self.door == "keeps a mean" else 0.0
        inputs = torch.tensor((columns - center) / scale).float()
        self.layer = torch.nn.Linear(columns.shape[1], 2)
        generator = torch.Generator().manual_seed(training.seed)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(self.layer.weight.shape, generator=generator) / 2)
            self.layer.bias.fill_(float(inputs.mean()) if self.door == "starts from a mean" else 0.0)
        if self.door == "unseeded":
            torch.nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(int.from_bytes(np.random.default_rng().bytes(4))))
        self.layer.requires_grad_(True)
        if self.door == "ignores":
            self.signature = Signature(data.features().schema, Task.BINARY, "y", ("0", "1"))
            return self

        def losses(indices: np.ndarray) -> torch.Tensor:
            rows = inputs[torch.from_numpy(indices)]
            if self.door == "mixes" and len(indices) > 1:
                rows = rows - 0.5 * rows.mean(0)
            if self.door == "random":
                rows = torch.nn.functional.dropout(rows, 0.3)
            return torch.nn.functional.cross_entropy(self.layer(rows), labels[torch.from_numpy(indices)], reduction="none")

        epochs = 4 + (len(data) % 2 if self.door == "epochs by rows" else 0)
        optimizer = torch.optim.Adam(self.layer.parameters(), lr=0.1)
        loop = training.engine.begin(self.layer, optimizer, rows=len(data), batch_size=12, epochs=epochs, seed=0)
        for _ in range(epochs):
            for indices in loop.epoch():
                loop.step(indices, losses)
                if self.door == "peeks":
                    with torch.no_grad():
                        self.layer.bias += inputs.mean()
        loop.close()
        self.signature = Signature(data.features().schema, Task.BINARY, "y", ("0", "1"))
        return self

    @staticmethod
    def columns(data: Dataset) -> np.ndarray:
        return np.column_stack([data.to_numpy(field.name) for field in data.schema.features])

    def predict(self, data: Dataset) -> Predictions:
        inputs = torch.tensor((self.columns(data) - self.center) / self.scale).float()
        with torch.no_grad():
            probabilities = torch.softmax(self.layer(inputs) + self.mean * torch.tensor([0.0, 1.0]), dim=1).double().numpy()
        return Predictions(np.where(probabilities[:, 1] > 0.5, "1", "0"), ("0", "1"), probabilities)

    def save(self, files: object) -> None: ...

    @classmethod
    def load(cls, files: object) -> Linear:
        return cls()


def data(rows: int = 61) -> Dataset:
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(rows, 3))
    columns[7] *= 6  # the record to replay stands out
    return Dataset.from_arrow({"a": columns[:, 0], "b": columns[:, 1], "c": columns[:, 2], "y": (columns[:, 0] > 0).astype(int)}, target="y")


@pytest.mark.parametrize("engine", ["native", OPACUS])
def test_an_honest_model_passes_and_a_clipped_record_changes_the_sum_by_exactly_the_bound(engine: str) -> None:
    report = neighbour_replay(Linear, data(), 7, policy=PrivacyPolicy(engine=engine))  # type: ignore[arg-type]  # a literal, from parametrize
    assert report.faults == ()
    assert report.steps == 24 and 1 <= report.drawn < 24
    assert report.largest == pytest.approx(report.bound, rel=1e-3)
    assert report.largest_elsewhere == 0.0


def test_every_record_passes() -> None:
    for row in (0, 30, 60):
        assert neighbour_replay(Linear, data(), row).faults == ()


def test_statistics_that_the_engine_released_may_differ_and_the_steps_are_compared_given_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrivateEngine, "center_and_scale", lambda self, columns: (columns.mean(0), columns.std(0)))
    assert neighbour_replay(Linear, data(), 7).faults == ()


@pytest.mark.parametrize(
    ("door", "found"),
    [
        ("own statistics", "Step"),
        ("keeps a mean", "keep more of their rows"),
        ("starts from a mean", "parameters differ"),
        ("unseeded", "parameters differ"),
        ("peeks", "parameters differ"),
        ("epochs by rows", "depends on the record"),
        ("ignores", "did not train through the engine"),
    ],
)
def test_a_record_that_gets_in_by_another_door_is_found(door: str, found: str) -> None:
    report = neighbour_replay(lambda: Linear(door), data(), 7)
    assert any(found in fault for fault in report.faults), report.faults


def test_a_model_that_mixes_its_rows_is_found_by_the_engine_or_by_the_replay() -> None:
    assert neighbour_replay(lambda: Linear("mixes"), data(), 7).faults


def test_a_record_that_no_step_drew_is_not_taken_for_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Randomness.sample

    def others_only(self: Randomness, step: int, rows: int, rate: float) -> np.ndarray:
        drawn = sample(self, step, rows, rate)
        return drawn[drawn < 60]

    monkeypatch.setattr(Randomness, "sample", others_only)
    report = neighbour_replay(Linear, data(), 7)
    assert report.drawn == 0 and any("nothing was tested" in fault for fault in report.faults)


def test_the_report_is_a_record() -> None:
    record = json.loads(json.dumps(neighbour_replay(Linear, data(), 7).to_json()))
    assert record["version"] == 1 and record["faults"] == [] and record["largest"] <= record["bound"] * 1.001


def test_what_cannot_be_replayed_is_refused() -> None:
    with pytest.raises(UsageError, match="no row 61"):
        neighbour_replay(Linear, data(), 61)
    with pytest.raises(UsageError, match="unit"):
        neighbour_replay(Linear, data(), 7, policy=PrivacyPolicy(unit="label"))
    with pytest.raises(UsageError, match="sampler"):
        neighbour_replay(Linear, data(), 7, policy=PrivacyPolicy(sampler="shuffle"))
    with pytest.raises(UsageError, match="random numbers"):
        neighbour_replay(lambda: Linear("random"), data(), 7)


# -- models that learn from private sums and minimisers --------------------------------------------------------------------------------------


class Means(Model):
    """Knows the private mean of each class, and the doors that the tests open in it."""

    type = "test.means"
    capabilities = Capabilities(private_training=True, probabilities=True)

    def __init__(self, door: str = "") -> None:
        super().__init__()
        self.door = door

    def fit(self, data: Dataset, training: Training | None = None) -> Means:
        assert training is not None and training.engine is not None
        rows, labels = Linear.columns(data), data.to_numpy("y")
        times = 2 + len(data) % 2 if self.door == "releases by rows" else 2
        releases = training.engine.releases([("sums", 2.0), *([("minimise", 1.0)] * (times - 1))])
        if self.door == "own statistics":
            rows = rows - rows.mean(0)
        sums, _ = releases.sums(rows, bound=len(data) / 30 if self.door == "own bound" else 2.0, groups=labels.astype(np.int64), number=2)
        for _ in range(times - 1):
            theta = releases.minimise(rows, labels, loss="logistic", bound=2.0)
        self.means = sums[1] - sums[0] + theta
        self.kept = float(rows.mean()) if self.door == "keeps a mean" else 0.0
        self.signature = Signature(data.features().schema, Task.BINARY, "y", ("0", "1"))
        return self

    def predict(self, data: Dataset) -> Predictions:
        yes = 1 / (1 + np.exp(-Linear.columns(data) @ self.means / 100 - self.kept))
        return Predictions(np.where(yes > 0.5, "1", "0"), ("0", "1"), np.column_stack([1 - yes, yes]))

    def save(self, files: object) -> None: ...

    @classmethod
    def load(cls, files: object) -> Means:
        return cls()


def test_an_honest_model_of_private_releases_passes_and_a_clipped_record_moves_a_sum_by_its_bound() -> None:
    report = neighbour_replay(Means, data(), 7)
    assert report.faults == ()
    assert report.steps == report.drawn == 2
    assert report.largest == pytest.approx(report.bound)


@pytest.mark.parametrize(
    ("door", "found"),
    [
        ("own statistics", "the rows of other rows depend on the record"),
        ("own bound", "its settings depend on the record"),
        ("releases by rows", "number of releases depends on the record"),
        ("keeps a mean", "keep more of their rows"),
    ],
)
def test_a_record_that_gets_past_the_releases_is_found(door: str, found: str) -> None:
    report = neighbour_replay(lambda: Means(door), data(), 7)
    assert any(found in fault for fault in report.faults), report.faults


def test_sums_that_are_not_clipped_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convex, "clipped", lambda rows, bound: rows)
    assert any("times their bound" in fault for fault in neighbour_replay(Means, data(), 7).faults)
