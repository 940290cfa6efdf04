"""A self-check of the released noise: a run whose gradients are all zero releases nothing else, so that every step can be tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from affidavit.interfaces.governance import JSON
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.attacks.observed import Losses, ObservedEngine, Parameters, Watcher, engine_claim, joined
from affidavit_governance.privacy.randomness import Randomness
from affidavit_governance.privacy.training.engine import PrivateEngine

FALSE_ALARM = 1e-6
"""Chance that noise as claimed fails the whole check: small, because people rerun it until it passes. Divided among all tests (Bonferroni)."""

ROWS, EPOCHS = 8, 2
"""Eight rows, a batch of one: of the 16 steps, a third ((7/8)⁸) have an empty batch."""


@dataclass(frozen=True, slots=True)
class NoiseReport:
    """What the released noise looks like.

    Attributes
    ----------
    steps, values
        Steps that were tested, and noise values in each.
    empty_batches
        Steps among them that drew no row.
    claimed
        σC, the noise's standard deviation that the accountant's ε rests on.
    measured
        Root mean square of each step's noise, in the same unit.
    faults
        What is wrong, in words; empty if nothing was found.
    """

    steps: int
    values: int
    empty_batches: int
    claimed: float
    measured: tuple[float, ...]
    faults: tuple[str, ...]

    def to_json(self) -> dict[str, JSON]:
        """The record."""
        return {
            "version": 1,
            "method": "chi-square, Kolmogorov-Smirnov and correlation tests on the noise of a run without gradients",
            "steps": self.steps,
            "values": self.values,
            "empty_batches": self.empty_batches,
            "claimed": self.claimed,
            "measured": list(self.measured),
            "false_alarm": FALSE_ALARM,
            "faults": list(self.faults),
        }


def check_noise(policy: PrivacyPolicy, *, values: int = 4096, source: Randomness | None = None) -> NoiseReport:
    """Run the private engine on gradients of zero and test each step's noise against N(0, (σC)²).

    Three tests at a joint false alarm rate of 1e-6: the variance of each step (exact chi-square), its distribution (Kolmogorov-Smirnov), and
    the correlation of every two steps, which must not share noise. Reads no data and touches no budget.

    Parameters
    ----------
    policy
        The claim: its ε, δ, clipping bound, relation and sampler; records are eight, the unit is the record, σ is calibrated anew.
    values
        Parameters of the module, so values of noise a step. With 4096, a deviation of the noise that is 8 % too small or too large is found.
    source
        For replay in tests.
    """
    claim = engine_claim(policy, ROWS)
    module = torch.nn.Linear(values, 1, bias=False)
    inputs = torch.ones(ROWS, values)
    engine = PrivateEngine(claim, reserve=lambda events: None, source=source)
    seen = _Keep()
    observed = ObservedEngine(engine, members=np.arange(ROWS, dtype=np.int64), watcher=seen)
    loop = observed.begin(module, torch.optim.SGD(module.parameters(), lr=0.0), rows=ROWS, batch_size=1, epochs=EPOCHS, seed=0)
    try:
        for _ in range(EPOCHS):
            for indices in loop.epoch():
                loop.step(indices, lambda part: module(inputs[torch.from_numpy(part)]).squeeze(1) * 0.0)
    finally:
        loop.close()
    statement = engine.statement()
    claimed = float(statement["noise_multiplier"]) * policy.max_grad_norm
    divisor = float(statement["expected_batch_size"])
    released = [None if step is None else step * divisor / claimed for step in seen.steps]
    measured = tuple(0.0 if noise is None else claimed * math.sqrt(float(np.mean(noise**2))) for noise in released)
    return NoiseReport(len(released), values, seen.empty, claimed, measured, tuple(find_faults(released)))


def find_faults(steps: Sequence[NDArray[np.float64] | None]) -> list[str]:
    """What distinguishes each step's values from independent standard normal ones, in words.

    Parameters
    ----------
    steps
        The noise of each step over its claimed standard deviation, equally many values; None for a step that released nothing.
    """
    from scipy.stats import chi2, kstest, norm

    faults = [f"Step {number}: nothing was released." for number, noise in enumerate(steps, start=1) if noise is None]
    present = [(number, noise) for number, noise in enumerate(steps, start=1) if noise is not None]
    pairs = len(present) * (len(present) - 1) // 2
    level = FALSE_ALARM / max(1, 2 * len(present) + pairs)
    for number, noise in present:
        total, count = float(np.sum(noise**2)), len(noise)
        ratio = math.sqrt(total / count)
        if 2 * min(chi2.cdf(total, count), chi2.sf(total, count)) < level:
            faults.append(f"Step {number}: the noise is {ratio:.3g} times what is claimed.")
        elif kstest(noise, "norm").pvalue < level:
            faults.append(f"Step {number}: the noise is not Gaussian.")
    for place, (number, noise) in enumerate(present):
        for other, before in present[:place]:
            size = float(np.linalg.norm(noise) * np.linalg.norm(before))
            if size and 2 * norm.sf(abs(float(noise @ before)) / size * math.sqrt(len(noise))) < level:
                faults.append(f"Steps {other} and {number}: their noise is correlated.")
    return faults


class _Keep(Watcher):
    """Keeps what every step released."""

    def __init__(self) -> None:
        self.steps: list[NDArray[np.float64] | None] = []
        self.empty = 0

    def before(self, step: int, indices: NDArray[np.int64], losses: Losses, parameters: Parameters) -> None:
        self.empty += not len(indices)

    def after(self, step: int, losses: Losses, parameters: Parameters, released: Sequence[torch.Tensor] | None) -> None:
        self.steps.append(None if released is None else joined(released))
