"""Time of a private training step beside the same loop without privacy and beside Opacus, by hooks and by ghost clipping.

On a CUDA device where there is one, and on the CPU otherwise. All four take the same batches' worth of rows from tensors by index, one after the other in one run. Ours includes Poisson sampling and
noise from the operating system's entropy, hardened; Opacus's noise is torch's own and its batches are given to it, without its data loader.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from affidavit.interfaces.training import TrainingLoop
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.training._opacus import GradSampleHooks  # noqa: F401  # first, because it keeps Opacus off the logging
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_plugins.torch_base.engine import PlainEngine

BATCH, STEPS, CLIP, SIGMA = 256, 24, 1.0, 1.0
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROWS = BATCH * STEPS
HOOKS_STEPS = 2
"""Steps of Opacus's hooks in a round; of the others it is `STEPS`, so that each runs from warm caches, as in training."""


@dataclass(frozen=True)
class Job:
    """A network, its inputs' shape, and the most that privacy may cost: times the plain step, and as a part of Opacus's."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    plain: float
    hooks: float | None
    ghost: float
    rounds: int


def mlp(width: int) -> nn.Module:
    """64-width-width-10."""
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def cnn() -> nn.Module:
    """Two convolutions with GroupNorm for 28 × 28 images."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


JOBS = (
    Job("MLP 64-256-256-10", lambda: mlp(256), (64,), 1.5, 10.0, 1.6, 15),
    Job("MLP 64-1024-1024-10", lambda: mlp(1024), (64,), 1.5, 10.0, 1.6, 7),
    Job("CNN 28 × 28", cnn, (1, 28, 28), 2.5, None, 1.0, 5),
)

Losses = Callable[[np.ndarray], torch.Tensor]


def data(job: Job) -> tuple[torch.Tensor, torch.Tensor]:
    """Random inputs and labels."""
    generator = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(ROWS, *job.shape, generator=generator), torch.randint(0, 10, (ROWS,), generator=generator)
    return inputs.to(DEVICE), labels.to(DEVICE)


def losses_of(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> Losses:
    """Cross-entropy of the rows asked for."""

    def losses(indices: np.ndarray) -> torch.Tensor:
        chosen = torch.from_numpy(indices).to(DEVICE)
        return functional.cross_entropy(module(inputs[chosen]), labels[chosen], reduction="none")

    return losses


def loop_epochs(loop: TrainingLoop, losses: Losses) -> Iterator[int]:
    """An epoch of one of our loops each time."""
    while True:
        examples = 0
        for indices in loop.epoch():
            loop.step(indices, losses)
            examples += len(indices)
        yield examples


def plain(job: Job, epochs: int) -> Iterator[int]:
    """Epochs without privacy."""
    module, tensors = job.build().to(DEVICE), data(job)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    loop = PlainEngine().begin(module, optimizer, rows=ROWS, batch_size=BATCH, epochs=epochs, seed=1)
    return loop_epochs(loop, losses_of(module, *tensors))


def ours(job: Job, epochs: int) -> Iterator[int]:
    """Epochs of our engine."""
    module, tensors = job.build().to(DEVICE), data(job)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    engine = PrivateEngine(PrivacyPolicy(epsilon=50, max_grad_norm=CLIP), reserve=lambda events: None)
    loop = engine.begin(module, optimizer, rows=ROWS, batch_size=BATCH, epochs=epochs, seed=1)
    return loop_epochs(loop, losses_of(module, *tensors))


def opacus(job: Job, *, ghost: bool) -> Iterator[int]:
    """Epochs of Opacus on shuffled batches."""
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    inner, tensors = job.build().to(DEVICE), data(job)
    arguments = {"noise_multiplier": SIGMA, "max_grad_norm": CLIP, "expected_batch_size": BATCH}
    sgd = torch.optim.SGD(inner.parameters(), lr=0.05)
    if ghost:
        module = GradSampleModuleFastGradientClipping(inner, max_grad_norm=CLIP, use_ghost_clipping=True)
        optimizer = DPOptimizerFastGradientClipping(sgd, **arguments)
    else:
        module, optimizer = GradSampleModule(inner), DPOptimizer(sgd, **arguments)
    losses, generator = losses_of(module, *tensors), np.random.default_rng(1)
    steps = STEPS if ghost else HOOKS_STEPS
    while True:
        for indices in np.split(generator.permutation(ROWS)[: BATCH * steps], steps):
            optimizer.zero_grad()
            values = losses(indices)
            (DPTensorFastGradientClipping(module, optimizer, values) if ghost else values.mean()).backward()
            optimizer.step()
        yield BATCH * steps


def measure(job: Job) -> dict[str, list[float]]:
    """Milliseconds a step of 256 rows, by contender, a figure for each round."""
    epochs = job.rounds + 2
    running = {"plain": plain(job, epochs), "ours": ours(job, epochs), "hooks": opacus(job, ghost=False), "ghost": opacus(job, ghost=True)}
    times: dict[str, list[float]] = {name: [] for name in running}
    for round_number in range(epochs):
        for name, epoch in running.items():
            started = time.perf_counter()
            examples = next(epoch)
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            if round_number > 1:
                times[name].append((time.perf_counter() - started) * 1e3 * BATCH / examples)
    return times


def main() -> None:
    """Print medians and the ratios that are held to a bound."""
    print(f"Milliseconds a step of {BATCH} rows, medians; {DEVICE.type}, {torch.get_num_threads()} threads.")
    print(f"{'network':<22}{'plain':>8}{'ours':>8}{'hooks':>8}{'ghost':>8}   {'ours/plain':<18}{'hooks/ours':<18}{'ghost/ours':<18}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        for job in JOBS:
            times = measure(job)
            plain_time, own, hooks, ghost = (statistics.median(times[name]) for name in ("plain", "ours", "hooks", "ghost"))
            print(
                f"{job.name:<22}{plain_time:8.2f}{own:8.2f}{hooks:8.2f}{ghost:8.2f}   "
                f"{bound(own / plain_time, '≤', job.plain):<18}{bound(hooks / own, '≥', job.hooks):<18}{bound(ghost / own, '≥', job.ghost):<18}",
                flush=True,
            )


def bound(ratio: float, relation: str, target: float | None) -> str:
    """A ratio, and the bound it is held to."""
    if target is None:
        return f"{ratio:.2f}"
    met = ratio <= target if relation == "≤" else ratio >= target
    return f"{ratio:.2f} ({relation} {target:g}{'' if met else ', missed'})"


if __name__ == "__main__":
    main()
