"""The engine as an auditor sees it: a training engine that forwards to the private one and keeps what a step released.

Nothing of the private engine is changed or read: what a step releases is what it leaves in ``grad`` when the optimizer's own step begins.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.training import Release, Releases, TrainingEngine, TrainingLoop
from affidavit.policy import PrivacyPolicy

Losses = Callable[[NDArray[np.int64]], Any]
Parameters = list[torch.nn.Parameter]


class Watcher:
    """What an auditor does with the steps of a run; row numbers are the model's own."""

    def begin(self, module: torch.nn.Module) -> None:
        """Training begins."""

    def before(self, step: int, indices: NDArray[np.int64], losses: Losses, parameters: Parameters) -> None:
        """A batch is drawn, its step not yet taken."""

    def after(self, step: int, losses: Losses, parameters: Parameters, released: Sequence[torch.Tensor] | None) -> None:
        """The step was taken on `released`: the noisy sum over the expected batch size, one tensor a parameter; None if none was taken."""


class ObservedLoop:
    """Forwards to a loop over `members` only, and tells the watcher of every step."""

    def __init__(self, loop: TrainingLoop, optimizer: torch.optim.Optimizer, members: NDArray[np.int64], watcher: Watcher) -> None:
        self._loop, self._members, self._watcher = loop, members, watcher
        self._parameters: Parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self._released: list[torch.Tensor] | None = None
        self._hook = optimizer.register_step_pre_hook(self._see)
        self._batch = np.empty(0, dtype=np.int64)
        self._steps = 0

    def _see(self, *_: object) -> None:
        self._released = [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in self._parameters]

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """The inner loop's batches, in the model's own row numbers."""
        for batch in self._loop.epoch():
            self._batch = batch
            yield self._members[batch]

    def step(self, indices: NDArray[np.int64], losses: Losses) -> float:
        """The inner loop's step, watched."""
        self._watcher.before(self._steps, indices, losses, self._parameters)
        self._released = None
        # A batch that is not the one given is passed on as it is, for the inner loop to refuse.
        inner = self._batch if np.array_equal(indices, self._members[self._batch]) else indices
        result = self._loop.step(inner, lambda part: losses(self._members[part]))
        self._watcher.after(self._steps, losses, self._parameters, self._released)
        self._steps += 1
        return result

    def close(self) -> None:
        """Close the inner loop and stop watching."""
        self._hook.remove()
        self._loop.close()


class ObservedEngine:
    """A training engine that trains on `members` of the rows that the model knows, through `engine`.

    A model reads its rows before training and asks the engine for the rest; so one fit of the model serves for rows that the engine never
    draws: their losses can be had, their records take no part.
    """

    private = True

    def __init__(self, engine: TrainingEngine, *, members: NDArray[np.int64], watcher: Watcher) -> None:
        self._engine, self._members, self._watcher = engine, members, watcher

    def center_and_scale(self, columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The inner engine's answer for the members."""
        return self._engine.center_and_scale(columns[self._members])

    def vocabulary(self, values: Sequence[str | None]) -> tuple[str, ...] | None:
        """The inner engine's answer for the members."""
        return self._engine.vocabulary([values[index] for index in self._members])

    def begin(self, module: Any, optimizer: Any, *, rows: int, batch_size: int, epochs: int, seed: int) -> ObservedLoop:
        """The inner engine's loop over the members, watched."""
        inner = self._engine.begin(module, optimizer, rows=len(self._members), batch_size=batch_size, epochs=epochs, seed=seed)
        self._watcher.begin(module)
        return ObservedLoop(inner, optimizer, self._members, self._watcher)

    def releases(self, plan: Sequence[Release]) -> Releases:
        """Refused: what is observed here are gradient steps."""
        raise UsageError("This model learns from private releases and takes no gradient steps to watch.", hint="Use neighbour_replay.")


def engine_claim(policy: PrivacyPolicy, records: int) -> PrivacyPolicy:
    """The policy for a trial of the engine by itself on `records` rows without a user; σ is calibrated to their number anew."""
    changes = {"records": records, "unit": "record", "unit_records": 1, "user": None, "noise_multiplier": None, "without_noise": False}
    return policy.model_copy(update=changes)


def clipped_gradient(losses: Losses, row: int, parameters: Parameters, bound: float) -> list[torch.Tensor]:
    """One row's gradient by autograd alone, past whatever the engine does, clipped to norm `bound`; zero where it is not finite."""
    with torch.enable_grad(), warnings.catch_warnings():
        # The engine "opacus" leaves hooks on the layers; a first layer's input needs no gradient, and its hook reads none.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        value = losses(np.array([row], dtype=np.int64)).sum()
        found = torch.autograd.grad(value, parameters, allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients])))
    if not np.isfinite(norm):
        return [torch.zeros_like(g) for g in gradients]
    return [g * min(1.0, bound / norm) for g in gradients] if norm else gradients


def copies(parameters: Parameters) -> list[torch.Tensor]:
    """The parameters' present values."""
    return [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def put(parameters: Parameters, values: Sequence[torch.Tensor]) -> None:
    """Set the parameters' values in place."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def joined(tensors: Sequence[torch.Tensor]) -> NDArray[np.float64]:
    """All values in one array, in double precision."""
    return np.asarray(torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors]).cpu().numpy())
