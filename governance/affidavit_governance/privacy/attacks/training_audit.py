"""One-run audits of private training: canaries in a model's own training data, and Dirac canaries for the engine by itself."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.training import TrainingEngine
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.accounting import Event
from affidavit_governance.privacy.attacks.observed import (
    Losses,
    ObservedEngine,
    Parameters,
    Watcher,
    clipped_gradient,
    copies,
    engine_claim,
    joined,
    put,
)
from affidavit_governance.privacy.attacks.one_run import AuditReport, audit_scores
from affidavit_governance.privacy.randomness import Randomness
from affidavit_governance.privacy.training.engine import PrivateEngine

Attack = Literal["white box", "black box"]

DIRAC_SIZE = 10.0
"""Norm of a Dirac canary's gradient over the clipping bound: an engine that does not clip shows too."""


def audit_training(
    fit: Callable[[TrainingEngine], object],
    policy: PrivacyPolicy,
    *,
    rows: int,
    canaries: NDArray[np.int64],
    reserve: Callable[[Sequence[Event]], None],
    attack: Attack = "white box",
    guesses: Sequence[int] | None = None,
    confidence: float = 0.95,
    source: Randomness | None = None,
) -> AuditReport:
    """Train once, with about half of the canaries, and bound ε from below by how well an attack tells which.

    White box (algorithm 2 of the paper): the attacker sees every noisy sum; a canary's score is the sum over the steps of the inner product of
    its clipped gradient with it. Black box: the attacker sees losses before and after training only; the score is by how much the
    canary's own loss fell.

    The report is computed from what training released and from the canaries, so where these are made up it is as private as the model:
    what `reserve` was asked for covers both.

    Parameters
    ----------
    fit
        Trains a model on all `rows` rows, canaries among them, through the engine given to it, such as
        ``lambda engine: model.fit(data, Training(engine=engine))``. Canaries that the coins leave out are never drawn, and the engine's
        statistics are computed without them; what a model reads past its engine is not audited.
    policy
        The claim to audit. `records` must be declared, so that the number of rows, which the coins change, plays no part.
    canaries
        Indices of the canary rows. Crafted ones leak most: rows with a wrong label, and of many directions, because canaries whose
        gradients point alike hide one another.
    reserve
        As for `PrivateEngine`: an audit of a run on private rows spends their budget like any other run.
    guesses, confidence
        See `audit_scores`.
    source
        For replay in tests.

    Raises
    ------
    UsageError
        The policy declares no `records`, its unit is not one that single rows can audit, or `canaries` are no distinct rows.
    PluginError
        The model did not train through the engine, to the last step.
    """
    if policy.records is None:
        raise UsageError("An audit varies the number of rows, which the policy takes for public.", hint="Declare privacy.records.")
    if policy.unit not in ("record", "group"):
        raise UsageError(f"Single rows that come and go do not audit the unit '{policy.unit}'.", hint="Audit with the unit 'record'.")
    chosen = np.asarray(canaries, dtype=np.int64)
    if not len(chosen) or len(np.unique(chosen)) != len(chosen) or chosen.min() < 0 or chosen.max() >= rows:
        raise UsageError("The canaries are no distinct row numbers of the data.")
    included = np.frombuffer(os.urandom(len(chosen)), dtype=np.uint8) % 2 == 1
    members = np.setdiff1d(np.arange(rows, dtype=np.int64), chosen[~included])
    engine = PrivateEngine(policy, reserve=reserve, source=source)
    watcher = _Gradients(chosen, policy.max_grad_norm) if attack == "white box" else _LossFall(chosen)
    fit(ObservedEngine(engine, members=members, watcher=watcher))
    engine.check_finished("audited model")
    claimed = engine.statement()["epsilon"]
    return audit_scores(
        watcher.scores(),
        included,
        attack=attack,
        delta=policy.delta,
        epsilon_upper=float(claimed) if claimed is not None and math.isfinite(claimed) else None,
        guesses=guesses,
        confidence=confidence,
    )


def audit_engine(
    policy: PrivacyPolicy,
    *,
    canaries: int = 1000,
    sampling_rate: float = 1.0,
    epochs: int = 1,
    confidence: float = 0.95,
    source: Randomness | None = None,
) -> AuditReport:
    """White-box audit of the private engine by Dirac canaries (Nasr et al. 2023): each has a gradient along a coordinate of its own.

    The strongest attack there is on the engine itself, and without a model or data: no budget is touched.

    Parameters
    ----------
    policy
        The claim: its ε, δ, clipping bound, relation and sampler; records are the canaries, the unit is the record, σ is calibrated anew.
    canaries
        m. The more, the more the audit can show: 1000 show up to ε ≈ 5.4.
    sampling_rate
        q. 1 leaks most.
    """
    claim = engine_claim(policy, canaries)
    module = torch.nn.Linear(canaries, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    batch_size = max(1, round(sampling_rate * canaries))

    def losses(indices: NDArray[np.int64]) -> torch.Tensor:
        inputs = torch.zeros(len(indices), canaries)
        inputs[torch.arange(len(indices)), torch.from_numpy(indices)] = DIRAC_SIZE * policy.max_grad_norm
        scores: torch.Tensor = module(inputs).squeeze(1)
        return -scores

    def fit(engine: TrainingEngine) -> None:
        loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=1.0), rows=canaries, batch_size=batch_size, epochs=epochs, seed=0)
        try:
            for _ in range(epochs):
                for indices in loop.epoch():
                    loop.step(indices, losses)
        finally:
            loop.close()

    everybody = np.arange(canaries, dtype=np.int64)
    return audit_training(fit, claim, rows=canaries, canaries=everybody, reserve=lambda events: None, confidence=confidence, source=source)


class _Gradients(Watcher):
    """White box: sums the inner products of each canary's clipped gradient with what the steps released."""

    def __init__(self, canaries: NDArray[np.int64], max_grad_norm: float) -> None:
        self._canaries, self._bound = canaries, max_grad_norm
        self._scores = np.zeros(len(canaries))
        self._start: list[torch.Tensor] = []

    def before(self, step: int, indices: NDArray[np.int64], losses: Losses, parameters: Parameters) -> None:
        self._start = copies(parameters)

    def after(self, step: int, losses: Losses, parameters: Parameters, released: Sequence[torch.Tensor] | None) -> None:
        if released is None:
            return
        end, sums = copies(parameters), joined(released)
        put(parameters, self._start)
        for place, canary in enumerate(self._canaries):
            self._scores[place] += joined(clipped_gradient(losses, int(canary), parameters, self._bound)) @ sums
        put(parameters, end)

    def scores(self) -> NDArray[np.float64]:
        return self._scores


class _LossFall(Watcher):
    """Black box: how far each canary's loss fell from the first step to the end of training."""

    def __init__(self, canaries: NDArray[np.int64]) -> None:
        self._canaries = canaries
        self._first: NDArray[np.float64] | None = None
        self._last: Callable[[], NDArray[np.float64]] | None = None
        self._module: torch.nn.Module

    def begin(self, module: torch.nn.Module) -> None:
        self._module = module

    def before(self, step: int, indices: NDArray[np.int64], losses: Losses, parameters: Parameters) -> None:
        if self._first is None:
            self._first = self._evaluate(losses)
            self._last = lambda: self._evaluate(losses)

    def _evaluate(self, losses: Losses) -> NDArray[np.float64]:
        modes = {part: part.training for part in self._module.modules()}
        self._module.eval()
        try:
            with torch.no_grad():
                values = joined([losses(self._canaries)])
        finally:
            for part, mode in modes.items():
                part.training = mode
        # A loss that overflowed is larger than any: it stays in the ranking, at its end.
        return np.nan_to_num(values, nan=1e300, posinf=1e300, neginf=-1e300)

    def scores(self) -> NDArray[np.float64]:
        assert self._first is not None and self._last is not None  # check_finished has seen the steps
        return self._first - self._last()
