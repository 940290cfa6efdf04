"""Accuracy of private training on MNIST 5k at ε = 3, beside Opacus with the same network, batches, epochs, learning rates, C and δ."""

from __future__ import annotations

import statistics
import time
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from tests.benchmarks.bench_quality import DATA, mnist
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_plugins.torch_base.loop import LoopSettings, decayed, make_optimizer, run
from affidavit_plugins.torch_base.seeding import seeded
from affidavit_plugins.vision.cnn import CNNParams, ConvNet
from affidavit_plugins.vision.images import ImageEncoding

EPSILON, DELTA, CLIP = 3.0, 1e-5, 1.0
SEEDS = range(1, 6)
SETTINGS = LoopSettings(epochs=20, batch_size=256, learning_rate=0.015, optimizer="adam", l1=0.0, l2=0.0, patience=None)
"""The defaults of ``vision.cnn`` in private training."""

Split = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def split() -> Split:
    """4,000 training and 1,000 test images with their digits, the same for everybody."""
    table = mnist()
    images = torch.from_numpy(table.column("image").combine_chunks().to_numpy_ndarray().copy())[:, None]
    digits = torch.tensor([int(digit) for digit in table.column("digit").to_pylist()])
    order = torch.from_numpy(np.random.default_rng(7).permutation(len(digits)))
    train, test = order[:4000], order[4000:]
    return images[train], digits[train], images[test], digits[test]


def network(seed: int) -> ConvNet:
    """The network of ``vision.cnn``, initialised by `seed`."""
    with seeded(seed):
        return ConvNet(ImageEncoding("image", "HW", (28, 28), 255.0), 10, CNNParams())


def accuracy(module: nn.Module, images: torch.Tensor, digits: torch.Tensor) -> float:
    """Share of right answers."""
    module.eval()
    with torch.inference_mode():
        return float((module(images).argmax(dim=1) == digits).float().mean())


def ours(seed: int, data: Split) -> float:
    """Test accuracy of our engine."""
    images, digits, *test = data
    module = network(seed)

    def losses(indices: NDArray[np.int64]) -> torch.Tensor:
        chosen = torch.from_numpy(indices)
        return functional.cross_entropy(module(images[chosen]), digits[chosen], reduction="none")

    engine = PrivateEngine(PrivacyPolicy(epsilon=EPSILON, delta=DELTA, max_grad_norm=CLIP), reserve=lambda events: None)
    with seeded(seed):
        run(module, losses, rows=len(digits), settings=SETTINGS, engine=engine, seed=seed, report=lambda progress: None)
    assert engine.statement()["epsilon"] <= EPSILON
    return accuracy(module, test[0], test[1])


def opacus(seed: int, data: Split) -> float:
    """Test accuracy of Opacus."""
    from opacus import PrivacyEngine

    images, digits, *test = data
    module = network(seed)
    module.train()
    optimizer = make_optimizer(module, SETTINGS)
    engine = PrivacyEngine(accountant="prv")
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        private, optimizer, loader = engine.make_private_with_epsilon(
            module=module,
            optimizer=optimizer,
            data_loader=DataLoader(TensorDataset(images, digits), batch_size=SETTINGS.batch_size),
            target_epsilon=EPSILON,
            target_delta=DELTA,
            epochs=SETTINGS.epochs,
            max_grad_norm=CLIP,
        )
        for epoch in range(1, SETTINGS.epochs + 1):
            for group in optimizer.param_groups:
                group["lr"] = decayed(SETTINGS.learning_rate, epoch, SETTINGS.epochs)
            for batch, truth in loader:
                optimizer.zero_grad()
                functional.cross_entropy(private(batch), truth).backward()
                optimizer.step()
    return accuracy(private, test[0], test[1])


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval, by Student's t."""
    half = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), half


def main() -> None:
    """Train both in turn with five seeds, and print the mean accuracies and the mean difference."""
    if not DATA.is_dir():
        print(f"Skipped: the data are not beside this checkout ({DATA.name}).")
        return
    data = split()
    found: dict[str, list[float]] = {"affidavit": [], "opacus": []}
    seconds = dict.fromkeys(found, 0.0)
    for seed in SEEDS:
        for name, train in (("affidavit", ours), ("opacus", opacus)):
            started = time.perf_counter()
            found[name].append(train(seed, data))
            seconds[name] += time.perf_counter() - started
    print(f"MNIST 5k, 4,000 training and 1,000 test images, ε = {EPSILON:g}, δ = {DELTA:g}, C = {CLIP:g}, {len(SEEDS)} seeds")
    for name, values in found.items():
        mean, half = interval(values)
        print(f"{name:<10} accuracy {mean:.4f} ± {half:.4f}   ({', '.join(f'{value:.3f}' for value in values)}; {seconds[name]:.0f} s)")
    mean, half = interval([a - b for a, b in zip(found["affidavit"], found["opacus"], strict=True)])
    print(f"difference {mean:+.4f} ± {half:.4f}   (target: at or above Opacus)")
