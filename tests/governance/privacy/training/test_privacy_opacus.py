"""Beside Opacus: the same batches and the same noise give the same parameters, by its own optimizer and by our engine on its hooks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from affidavit.errors import MissingExtra, Refused
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_governance.privacy.training.gradients import make_gradients

pytest.importorskip("opacus", reason="Opacus comes with the extra 'bench'")
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing", "ignore:.*register_full_backward_hook.*")
KEY = bytes(range(32))
ROWS, BATCH, EPOCHS, CLIP = 40, 10, 3, 0.8


class Known(Randomness):
    """Samples that can be replayed, and noise that can be told to Opacus as well."""

    def add_noise_(self, sums: Sequence[Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        for tensor in sums:
            tensor.add_(noise(step, tensor.numel()) * deviation)


def noise(step: int, count: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


class Mixed(nn.Module):
    """Every kind of layer that Opacus has a rule for as well."""

    def __init__(self, padding_idx: int | None = None) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(6, 4, padding_idx=padding_idx), nn.Linear(4, 4, bias=False)
        self.convolution, self.norm = nn.Conv1d(4, 6, 3, padding=1, groups=2), nn.GroupNorm(2, 6)
        self.ends, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.places(self.words(tokens)).transpose(1, 2)
        return self.head(self.ends(torch.relu(self.norm(self.convolution(x))).mean(2)))


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(6, (ROWS, 5), generator=generator), torch.randint(3, (ROWS,), generator=generator)


def fresh(build: Callable[[], nn.Module] = Mixed) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().double()


def losses_of(module: Any) -> Callable[[np.ndarray], Tensor]:
    tokens, labels = problem()

    def losses(rows: np.ndarray) -> Tensor:
        chosen = torch.from_numpy(rows)
        return functional.cross_entropy(module(tokens[chosen]), labels[chosen], reduction="none")

    return losses


def ours(engine: str, make: Callable[[Any], torch.optim.Optimizer], build: Callable[[], nn.Module] = Mixed) -> nn.Module:
    module = fresh(build)
    policy = PrivacyPolicy(epsilon=50, max_grad_norm=CLIP, noise_multiplier=0.7, engine=engine)
    training = PrivateEngine(policy, reserve=lambda events: None, source=Known(KEY))
    loop = training.begin(module, make(module.parameters()), rows=ROWS, batch_size=BATCH, epochs=EPOCHS, seed=0)
    for _ in range(EPOCHS):
        for indices in loop.epoch():
            loop.step(indices, losses_of(module))
    training.check_finished("test")
    assert training.statement()["engine"]["name"] == engine
    return module


def theirs(make: Callable[[Any], torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Opacus's module and optimizer on the same batches, with the same noise in the place of its own."""
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer
    from opacus.optimizers import optimizer as opacus_optimizer

    module = fresh()
    wrapped = GradSampleModule(module)
    optimizer = DPOptimizer(make(module.parameters()), noise_multiplier=0.7, max_grad_norm=CLIP, expected_batch_size=BATCH)
    total = sum(parameter.numel() for parameter in module.parameters())
    for step in range(1, EPOCHS * ROWS // BATCH + 1):
        rows = Randomness(KEY).sample(step, ROWS, BATCH / ROWS)
        pieces = iter(noise(step, total).split([parameter.numel() for parameter in module.parameters()]))
        monkeypatch.setattr(opacus_optimizer, "_generate_noise", lambda std, reference, pieces=pieces, **_: next(pieces).view_as(reference) * std)
        optimizer.zero_grad()
        losses_of(wrapped)(rows).mean().backward()
        optimizer.step()
    return module


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        lambda parameters: torch.optim.SGD(parameters, lr=0.2, momentum=0.9, weight_decay=0.01),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.05),
    ],
    ids=["SGD", "momentum", "AdamW"],
)
def test_several_steps_end_where_opacus_ends(make: Callable[[Any], torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch) -> None:
    native, hooks, opacus = ours("native", make), ours("opacus", make), theirs(make, monkeypatch)
    start = fresh()
    for (name, one), two, three, first in zip(native.named_parameters(), hooks.parameters(), opacus.parameters(), start.parameters(), strict=True):
        assert float((one - two).detach().abs().max()) < 1e-6, name
        assert float((one - three).detach().abs().max()) < 1e-6, name
        assert float((one - first).detach().abs().max()) > 1e-3, name


def test_where_opacus_is_wrong_the_comparison_with_brute_force_says_so() -> None:
    """Opacus 1.6 gives the row of the padding a gradient, which torch does not."""
    with pytest.raises(Refused, match=r"'words\.weight'.*differs from that of one example at a time"):
        ours("opacus", torch.optim.SGD, lambda: Mixed(padding_idx=0))
    ours("native", torch.optim.SGD, lambda: Mixed(padding_idx=0))


def test_opacus_s_hooks_leave_the_module_as_it_was() -> None:
    module = fresh()
    gradients = make_gradients("opacus", module, {parameter: name for name, parameter in module.named_parameters()})
    gradients.compute(np.arange(4), losses_of(module))
    gradients.close()
    assert not any(layer._forward_hooks or layer._backward_hooks or hasattr(layer, "activations") for layer in module.modules())
    assert not any(hasattr(parameter, "grad_sample") or parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("layer", [nn.LSTM(4, 4), nn.GRU(4, 4), nn.MultiheadAttention(4, 2)], ids=lambda layer: type(layer).__name__)
def test_what_opacus_cannot_train_is_refused_by_its_kind(layer: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(4, 4), layer)
    with pytest.raises(Refused, match=f"{type(layer).__name__}.*native engine"):
        make_gradients("opacus", module, {parameter: name for name, parameter in module.named_parameters()})


def test_opacus_is_imported_only_where_the_policy_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; import affidavit_governance.privacy.training.engine; sys.exit('opacus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    monkeypatch.setitem(sys.modules, "affidavit_governance.privacy.training._opacus", None)
    with pytest.raises(MissingExtra, match=r"affidavit\[bench\]"):
        make_gradients("opacus", nn.Linear(1, 1), {})
