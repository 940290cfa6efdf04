"""Faults planted in the engine: each is caught by one of its own checks, and the engine as it is passes the same check.

| fault | caught by |
| --- | --- |
| noise divided by ten at a claimed ε of 2 | one-run audit (its lower bound exceeds the claim); noise check |
| an empty batch that is skipped | the engine's own count of steps; noise check |
| a step without noise | noise check |
| a divisor taken from N, the private row count | neighbour replay |
| a sampling rate taken from N | neighbour replay |
| clipping at three times the bound | neighbour replay; one-run audit |
| a model that mixes its rows, past an engine without its own check | neighbour replay |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from affidavit.errors import PluginError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Capabilities, Model, Predictions, Signature, Task
from affidavit.interfaces.training import Training
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.attacks import audit_engine, check_noise, neighbour_replay
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.checks import BruteForce
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_governance.privacy.training.loop import PrivateLoop

POLICY = PrivacyPolicy(epsilon=2.0, delta=1e-5)


class Plain(Model):
    """The smallest honest model."""

    type = "test.plain"
    capabilities = Capabilities(private_training=True)
    mixing = 0.0

    def fit(self, data: Dataset, training: Training | None = None) -> Plain:
        assert training is not None and training.engine is not None
        inputs = torch.tensor(np.column_stack([data.to_numpy(name) for name in ("a", "b")])).float()
        self.layer = torch.nn.Linear(2, 1)
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        optimizer = torch.optim.SGD(self.layer.parameters(), lr=0.1)

        def losses(rows: np.ndarray) -> torch.Tensor:
            chosen = inputs[torch.from_numpy(rows)]
            return torch.nn.functional.softplus(-self.layer(chosen - self.mixing * chosen.mean(0)).squeeze(1))

        loop = training.engine.begin(self.layer, optimizer, rows=len(data), batch_size=10, epochs=3, seed=0)
        for _ in range(3):
            for indices in loop.epoch():
                loop.step(indices, losses)
        loop.close()
        self.signature = Signature(data.features().schema, Task.REGRESSION, "y")
        return self

    def predict(self, data: Dataset) -> Predictions:
        return Predictions(np.zeros(len(data)))

    def save(self, files: object) -> None: ...

    @classmethod
    def load(cls, files: object) -> Plain:
        return cls()


def data() -> Dataset:
    columns = np.random.default_rng(0).normal(size=(50, 2))
    return Dataset.from_arrow({"a": columns[:, 0], "b": columns[:, 1], "y": columns[:, 0]}, target="y")


def plant(patch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Build every private loop with other settings than the engine gave it."""
    made = PrivateLoop.__init__
    patch.setattr(PrivateLoop, "__init__", lambda self, *args, **settings: made(self, *args, **settings | change(settings)))


class Tenth(Randomness):
    def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        super().add_noise_(sums, deviation / 10, purpose, step)


class Third(Randomness):
    """No noise in one step, the third."""

    def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        if step != 3:
            super().add_noise_(sums, deviation, purpose, step)


def test_the_engine_as_it_is_passes_every_check() -> None:
    assert not audit_engine(POLICY).refuted
    assert check_noise(POLICY).faults == ()
    assert neighbour_replay(Plain, data(), 3).faults == ()


def test_noise_divided_by_ten_is_refuted_by_the_one_run_audit() -> None:
    report = audit_engine(POLICY, source=Tenth())
    assert report.epsilon_upper is not None and report.epsilon_upper <= 2.0
    assert report.epsilon_lower > 4.0
    assert report.refuted


def test_noise_divided_by_ten_is_named_by_the_noise_check() -> None:
    faults = check_noise(POLICY, source=Tenth()).faults
    assert len(faults) == 16 and all("the noise is 0.1" in fault or "the noise is 0.09" in fault for fault in faults)


def test_a_step_without_noise_is_named_by_the_noise_check() -> None:
    faults = check_noise(POLICY, source=Third()).faults
    assert faults == ("Step 3: the noise is 0 times what is claimed.",)


def test_a_skipped_empty_batch_is_found_by_the_step_count_and_by_the_noise_check(monkeypatch: pytest.MonkeyPatch) -> None:
    step = PrivateLoop.step

    def skipping(self: PrivateLoop, indices: np.ndarray, losses: Any) -> float:
        if len(indices):
            return step(self, indices, losses)
        self._pending = None
        return float("nan")

    monkeypatch.setattr(PrivateLoop, "step", skipping)
    source = Randomness(bytes(32))
    report = check_noise(POLICY, source=source)
    assert report.empty_batches > 0
    assert len([fault for fault in report.faults if "nothing was released" in fault]) == report.empty_batches == len(report.faults)

    engine = PrivateEngine(PrivacyPolicy(epsilon=2.0, delta=1e-3, records=8), reserve=lambda events: None, source=Randomness(bytes(32)))
    module = torch.nn.Linear(1, 1)
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=8, batch_size=1, epochs=2, seed=0)
    for _ in range(2):
        for indices in loop.epoch():
            loop.step(indices, lambda rows: module(torch.ones(len(rows), 1)).squeeze(1))
    with pytest.raises(PluginError, match="of the 16 private steps"):
        engine.check_finished("test")


def test_a_divisor_taken_from_the_private_row_count_is_found_by_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda settings: {"expected_batch_size": settings["sampling_rate"] * settings["rows"]})
    faults = neighbour_replay(Plain, data(), 3).faults
    assert any("did not draw the record, yet its sum differs" in fault for fault in faults)


def test_a_sampling_rate_taken_from_the_private_row_count_is_found_by_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda settings: {"sampling_rate": 10 / settings["rows"]})
    faults = neighbour_replay(Plain, data(), 3).faults
    assert any("the sampling depends on more than the declared records" in fault for fault in faults)


def test_clipping_at_three_times_the_bound_is_found_by_the_replay_and_by_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(
        monkeypatch,
        lambda settings: {"max_grad_norm": 3 * settings["max_grad_norm"], "noise_multiplier": settings["noise_multiplier"] / 3},
    )
    faults = neighbour_replay(Plain, data(), 3).faults
    assert any("more than the clipping bound C" in fault for fault in faults)
    assert audit_engine(POLICY, canaries=3000).refuted


def test_a_model_that_mixes_its_rows_a_little_is_refused_by_the_engine_and_found_by_the_replay_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mixing(Plain):
        mixing = 0.02

    assert any("could not be clipped rightly" in fault for fault in neighbour_replay(Mixing, data(), 3).faults)
    monkeypatch.setattr(BruteForce, "check", lambda *_: None)
    assert neighbour_replay(Plain, data(), 3).faults == ()
    assert any("other than its own clipped gradient" in fault for fault in neighbour_replay(Mixing, data(), 3).faults)
