"""Private training where the tensors are: per-example gradients, noise and whole runs on an accelerator give what the CPU gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_governance.privacy.training.layers import Attached, units
from affidavit_governance.privacy.training.tape import Tape

KEY = bytes(range(32))
ROWS, EXAMPLES = 48, 6
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")),
]


class Last(nn.Module):
    """The outputs of a recurrent or attention layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x, x, x, need_weights=False) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        return found[0]


class Words(nn.Module):
    """Tokens, with the embedding's weights tied to the head's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm, self.head = nn.Embedding(11, 6), nn.LayerNorm(6), nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.abs().mul(3).long() % 11
        return self.head(self.norm(self.embedding(tokens)))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), (4,)),
    "long sequence": (lambda: nn.Sequential(nn.Linear(4, 3), nn.RMSNorm(3), nn.Linear(3, 2)), (30, 4)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=2)), (2, 6, 6)),
    "recurrent": (lambda: Last(nn.LSTM(4, 3, batch_first=True)), (5, 4)),
    "gated": (lambda: Last(nn.GRU(4, 3, num_layers=2, batch_first=True)), (5, 4)),
    "attention": (lambda: Last(nn.MultiheadAttention(4, 2, batch_first=True)), (5, 4)),
    "tied words": (Words, (5,)),
    "fallback": (lambda: nn.Sequential(nn.Linear(4, 5), nn.PReLU(5), nn.Linear(5, 2)), (4,)),
}


class Silent(Randomness):
    """Replayable samples and no noise."""

    def add_noise_(self, sums: Sequence[Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        assert deviation > 0


def fresh(network: str, device: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[network][0]().train().double().to(device)


def rows_of(network: str, device: str, count: int = ROWS) -> Tensor:
    shape = NETWORKS[network][1]
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)


def losses_of(module: nn.Module, inputs: Tensor) -> Callable[[np.ndarray], Tensor]:
    def losses(rows: np.ndarray) -> Tensor:
        output = module(inputs[torch.as_tensor(rows, device=inputs.device)]).flatten(1)
        return (output.sin() * torch.linspace(0.5, 2.0, output.shape[1], dtype=output.dtype, device=output.device)).sum(1)

    return losses


def brute_force(module: nn.Module, losses: Callable[[np.ndarray], Tensor], trained: Sequence[nn.Parameter]) -> list[list[Tensor]]:
    found = []
    for row in range(EXAMPLES):
        gradients: Any = torch.autograd.grad(losses(np.array([row])).sum(), list(trained), allow_unused=True)
        found.append([torch.zeros_like(p) if g is None else g for p, g in zip(trained, gradients, strict=True)])
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", [name for name in NETWORKS if name not in ("recurrent", "gated")])
def test_norms_and_sums_are_those_of_one_backward_pass_for_each_example(network: str, device: str) -> None:
    module = fresh(network, device)
    losses = losses_of(module, rows_of(network, device, EXAMPLES))
    trained = {parameter: name for name, parameter in module.named_parameters()}
    expected = brute_force(module, losses, list(trained))
    tape = Tape(trained)
    attached = Attached(units(module, trained), tape)
    try:
        with tape.recording(EXAMPLES):
            values = losses(np.arange(EXAMPLES))
        tape.backward(values)
        norms = tape.squared_norms()
        factors = torch.linspace(0.5, 2.0, EXAMPLES, dtype=torch.float64, device=device)
        sums = [torch.zeros_like(parameter) for parameter in trained]
        tape.add_sums(factors, sums)
    finally:
        attached.remove()
    torch.testing.assert_close(norms, torch.stack([sum(g.square().sum() for g in each) for each in expected]), rtol=1e-7, atol=1e-9)
    for position, total in enumerate(sums):
        torch.testing.assert_close(total, sum(f * each[position] for f, each in zip(factors, expected, strict=True)), rtol=1e-7, atol=1e-9)


def train(module: nn.Module, inputs: Tensor, source: Randomness) -> Any:
    engine = PrivateEngine(PrivacyPolicy(epsilon=50, delta=1e-3, noise_multiplier=1.0), reserve=lambda events: None, source=source)
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5), rows=len(inputs), batch_size=12, epochs=2, seed=0)
    try:
        for _ in range(2):
            for indices in loop.epoch():
                loop.step(indices, losses_of(module, inputs))
    finally:
        loop.close()
    engine.check_finished("test")
    return loop


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("source", [Silent, Randomness], ids=["without noise", "with noise"])
def test_a_run_ends_where_it_ends_on_the_cpu(network: str, device: str, source: type[Randomness]) -> None:
    """With the same key the samples and the noise are the same on every device."""
    here, there = fresh(network, "cpu"), fresh(network, device)
    start = copy.deepcopy(here)
    train(here, rows_of(network, "cpu"), source(KEY))
    train(there, rows_of(network, device), source(KEY))
    assert any(not torch.equal(a, b) for a, b in zip(start.parameters(), here.parameters(), strict=True))
    for one, other in zip(here.parameters(), there.parameters(), strict=True):
        assert other.device.type == device
        torch.testing.assert_close(other.cpu(), one, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_noise_is_the_same_on_every_device_and_stands_on_the_same_lattice(device: str, dtype: torch.dtype) -> None:
    sums = [torch.zeros(500, dtype=dtype, device=device), torch.zeros(3, 7, dtype=dtype, device=device)]
    expected = [torch.zeros(500, dtype=dtype), torch.zeros(3, 7, dtype=dtype)]
    Randomness(KEY).add_noise_(sums, 2.0, Purpose.GRADIENT_NOISE, 1)
    Randomness(KEY).add_noise_(expected, 2.0, Purpose.GRADIENT_NOISE, 1)
    assert all(torch.equal(one.cpu(), other) for one, other in zip(sums, expected, strict=True))
    assert 1.5 < float(sums[0].double().std()) < 2.5


@pytest.mark.parametrize("device", DEVICES)
def test_examples_that_are_not_finite_count_as_zero(device: str) -> None:
    module, inputs = fresh("linear", device), rows_of("linear", device)
    inputs[3] = float("nan")
    loop = train(module, inputs, Silent(KEY))
    assert loop.non_finite > 0
    assert all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())


@pytest.mark.parametrize("device", DEVICES)
def test_a_loss_under_autocast_in_bfloat16_trains(device: str) -> None:
    module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).to(device)
    inputs, labels = rows_of("linear", device).float(), torch.arange(ROWS, device=device) % 2
    engine = PrivateEngine(PrivacyPolicy(epsilon=50, delta=1e-3, noise_multiplier=1.0), reserve=lambda events: None, source=Randomness(KEY))
    loop = engine.begin(module, torch.optim.Adam(module.parameters()), rows=ROWS, batch_size=12, epochs=1, seed=0)

    def losses(rows: np.ndarray) -> Tensor:
        chosen = torch.as_tensor(rows, device=device)
        with torch.autocast(device, dtype=torch.bfloat16):
            output = module(inputs[chosen])
        return functional.cross_entropy(output.float(), labels[chosen], reduction="none")

    before = copy.deepcopy(module)
    for indices in loop.epoch():
        loop.step(indices, losses)
    loop.close()
    engine.check_finished("test")
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), module.parameters(), strict=True))
