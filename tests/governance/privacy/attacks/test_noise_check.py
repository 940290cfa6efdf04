"""The noise self-check: the engine's noise passes, and noise that is not what is claimed is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.attacks import check_noise
from affidavit_governance.privacy.attacks.noise_check import find_faults
from affidavit_governance.privacy.randomness import Purpose, Randomness

OPACUS = pytest.param("opacus", marks=pytest.mark.filterwarnings("ignore:Full backward hook is firing"))
"""Opacus's hooks warn while the engine compares its gradients with brute force."""

POLICY = PrivacyPolicy(epsilon=2.0, delta=1e-5, max_grad_norm=0.3)


@pytest.mark.parametrize("engine", ["native", OPACUS])
def test_the_engines_noise_is_what_is_claimed_in_every_step_empty_batches_included(engine: str) -> None:
    report = check_noise(POLICY.model_copy(update={"engine": engine}))
    assert report.faults == ()
    assert report.steps == len(report.measured) == 16
    assert np.median(report.measured) == pytest.approx(report.claimed, rel=0.02)
    record = json.loads(json.dumps(report.to_json()))
    assert record["claimed"] == report.claimed and record["faults"] == []


def test_some_batches_are_empty_so_that_their_noise_is_tested_too() -> None:
    assert check_noise(POLICY, source=Randomness(bytes(32)), values=64).empty_batches > 0


@pytest.mark.parametrize("factor", [0.1, 0.92, 1.08])
def test_noise_of_another_size_is_found(factor: float) -> None:
    generator = np.random.default_rng(1)
    faults = find_faults([generator.normal(size=4096) * factor for _ in range(16)])
    assert any("times what is claimed" in fault for fault in faults)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda steps: [*steps[:3], np.zeros(4096), *steps[4:]], "Step 4: the noise is 0 times"),
        (lambda steps: [*steps[:3], None, *steps[4:]], "Step 4: nothing was released"),
        (lambda steps: [*steps[:3], np.sqrt(3) * np.random.default_rng(2).uniform(-1, 1, 4096), *steps[4:]], "Step 4: the noise is not Gaussian"),
        (lambda steps: [*steps[:3], steps[1], *steps[4:]], "Steps 2 and 4: their noise is correlated"),
        (lambda steps: [*steps[:3], -steps[1], *steps[4:]], "Steps 2 and 4: their noise is correlated"),
    ],
)
def test_each_kind_of_wrong_noise_is_named_by_its_step(change: Callable[[list[np.ndarray]], list[np.ndarray | None]], found: str) -> None:
    generator = np.random.default_rng(1)
    steps = [generator.normal(size=4096) for _ in range(8)]
    faults = find_faults(change(steps))
    assert len(faults) == 1 and faults[0].startswith(found)


def test_true_noise_raises_no_alarm() -> None:
    generator = np.random.default_rng(3)
    for _ in range(50):
        assert find_faults([generator.normal(size=512) for _ in range(8)]) == []


def test_noise_is_tested_as_it_is_released() -> None:
    class Signs(Randomness):
        """Of the right size, and no Gaussian."""

        def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
            super().add_noise_(sums, deviation, purpose, step)
            for part in sums:
                part.sign_().mul_(deviation)

    faults = check_noise(POLICY, source=Signs()).faults
    assert len(faults) == 16 and all("not Gaussian" in fault for fault in faults)
