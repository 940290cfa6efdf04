"""What each of two processes does in the tests of distributed training; run as ``python two_processes.py RANK FOLDER``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

import affidavit as af
from affidavit.errors import AffidavitError, Refused
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.accounting import Event
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.distributed import Ranks
from affidavit_governance.privacy.training.engine import PrivateEngine

KEY = bytes(range(32))
ROWS, EPOCHS = 60, 2
POLICY = PrivacyPolicy(epsilon=4.0, delta=1e-3, records=ROWS, noise_multiplier=2.0)
"""A fixed noise multiplier needs no calibration, which every scenario would do twice."""


class Counting(Randomness):
    """Counts the noise that it makes; makes none where `silent`."""

    def __init__(self, key: bytes | None = None, *, silent: bool = False, sampling: Randomness | None = None) -> None:
        super().__init__(key)
        self.silent, self.sampling, self.releases = silent, sampling, list[str]()

    def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        self.releases.append(f"{purpose.name} {step}")
        if not self.silent:
            super().add_noise_(sums, deviation, purpose, step)

    def sample(self, step: int, rows: int, rate: float) -> np.ndarray:
        return super().sample(step, rows, rate) if self.sampling is None else self.sampling.sample(step, rows, rate)


def alone(silent: bool) -> Counting:
    """The randomness of one process that draws what two processes with the key `KEY` in the first one draw."""
    return Counting(KEY, silent=silent, sampling=Randomness(Randomness(KEY).words(Purpose.SAMPLING_KEY, 0, 4).tobytes()))


def train(
    source: Counting,
    ranks: Ranks | None,
    *,
    batch_size: int = 20,
    rows: int = ROWS,
    reserve: Callable[[Sequence[Event]], None] = lambda events: None,
    fail: Callable[[], None] = lambda: None,
    between: Callable[[nn.Module], None] = lambda module: None,
    statistics: bool = False,
    bad: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a small model and say what came of it."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(ROWS, 4, generator=generator) * 3
    labels = (inputs.sum(1) > 0).long()
    if bad is not None:
        inputs[bad] = torch.nan
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    shares: list[int] = []
    engine = PrivateEngine(POLICY, reserve=reserve, source=source, ranks=ranks)
    asked = [part.tolist() for part in engine.center_and_scale(np.tile(inputs.numpy().astype(float), (100, 1)))] if statistics else []

    def losses(indices: np.ndarray) -> torch.Tensor:
        fail()
        shares.append(len(indices))
        chosen = torch.from_numpy(indices)
        return nn.functional.cross_entropy(module(inputs[chosen]), labels[chosen], reduction="none")

    # So many more steps would blow up the rounding errors.
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5 if batch_size > 1 else 0.01, momentum=0.9)
    loop = engine.begin(module, optimizer, rows=rows, batch_size=batch_size, epochs=EPOCHS, seed=0)
    try:
        for _ in range(EPOCHS):
            for indices in loop.epoch():
                loop.step(indices, losses)
    finally:
        loop.close()
    between(module)
    engine.check_finished("test")
    statement = engine.statement()
    kept = ("epsilon", "steps", "empty_batches", "non_finite_examples", "processes", "noise_multiplier", "expected_batch_size")
    return {
        "weights": [parameter.detach().double().flatten().tolist() for parameter in module.parameters()],
        "statement": {name: statement[name] for name in kept},
        "statistics": asked,
        "releases": source.releases,
        "shares": shares,
    }


def open_workspace(folder: Path) -> af.Workspace:
    """The workspace that all processes share."""
    return af.Workspace(folder / "ws", policy=af.Policy.model_validate({"privacy": {"epsilon": 4.0, "delta": 1e-3}}))


def in_workspace(folder: Path, **changes: Any) -> dict[str, Any]:
    """Train in the shared workspace, and give the trained model's digest."""
    workspace = open_workspace(folder)
    columns = np.random.default_rng(0).normal(size=(200, 2))
    data = workspace.load({"a": columns[:, 0], "b": columns[:, 1], "y": np.where(columns[:, 0] > 0, "yes", "no")}, target="y", name="shared")
    model = workspace.train("tabular.mlp", data, hidden=[4], epochs=2, batch_size=50, distributed=True, **changes)
    return {"digest": workspace.model_digest(model)}


def outcome(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What came of `work`, or how it failed."""
    try:
        return work()
    except (AffidavitError, ValueError) as error:
        return {"error": type(error).__name__, "message": str(error)}


def main(rank: int, folder: Path) -> None:
    """Every scenario, in one pair of processes."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ranks = Ranks()
    reserved: list[int] = []

    def source(*, silent: bool = False) -> Counting:
        return Counting(KEY if rank == 0 else None, silent=silent)

    def refuse(events: Sequence[Event]) -> None:
        raise Refused("nothing left", by="budget", line="privacy.dataset_budget", satisfy="other data")

    def fail_here() -> None:
        if rank == 1:
            raise ValueError("the loss fails in process 1")

    def change(module: nn.Module) -> None:
        if rank == 1:
            with torch.no_grad():
                next(module.parameters()).add_(1e-7)

    found = {
        "silent": outcome(lambda: train(source(silent=True), ranks)),
        "tiny": outcome(lambda: train(source(silent=True), ranks, batch_size=1)),
        "noisy": outcome(lambda: train(source(), ranks, statistics=True, reserve=lambda events: reserved.append(len(events)))),
        "non_finite": outcome(lambda: train(source(), ranks, bad=3)),
        "other_weights": outcome(lambda: train(source(silent=True), ranks, seed=rank)),
        "other_rows": outcome(lambda: train(source(), ranks, rows=ROWS - rank)),
        "refused": outcome(lambda: train(source(), ranks, reserve=refuse)),
        "fails": outcome(lambda: train(source(), ranks, fail=fail_here)),
        "workspace": outcome(lambda: in_workspace(folder)),
        "other_seed": outcome(lambda: in_workspace(folder, seed=rank)),
        "checkpoint": outcome(lambda: in_workspace(folder, checkpoint=folder / "checkpoint")),
        "changed": outcome(lambda: train(source(), ranks, between=change)),
    }
    (folder / f"{rank}.json").write_text(json.dumps({**found, "reserved": reserved}))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
