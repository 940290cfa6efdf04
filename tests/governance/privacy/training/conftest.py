"""Fixtures for layers on the tape: modules with seeded parameters, and their gradients by brute force.

`two_processes` beside this file is also run by the processes that the tests of distributed training start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def filled() -> Callable[..., nn.Module]:
    """Gives a module double precision and parameters from a seed, also biases, which some layers start at zero."""

    def fill(module: nn.Module, seed: int = 1) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return module.double().train()

    return fill


@pytest.fixture(scope="session")
def check() -> Callable[..., list[dict[str, Tensor]]]:
    """Compares norms and weighted sums of the tape with one backward pass for each example, and checks that the module is left as it was."""
    from affidavit_governance.privacy.training.layers import Attached, units
    from affidavit_governance.privacy.training.tape import Tape

    def compare(module: nn.Module, losses: Callable[[Tensor], Tensor], examples: int = 4) -> list[dict[str, Tensor]]:
        trained = {parameter: name for name, parameter in module.named_parameters() if parameter.requires_grad}
        rows = torch.arange(examples)
        plain = losses(rows)
        expected: list[dict[str, Tensor]] = []
        for row in rows:
            found: Any = torch.autograd.grad(losses(row[None]).sum(), list(trained), allow_unused=True)
            expected.append({name: torch.zeros_like(p) if g is None else g for (p, name), g in zip(trained.items(), found, strict=True)})
        tape = Tape(trained)
        attached = Attached(units(module, trained), tape)
        try:
            with tape.recording(examples):
                values = losses(rows)
            _close(values, plain)
            tape.backward(values)
            norms = tape.squared_norms()
            factors = torch.linspace(0.5, 2.0, examples, dtype=torch.float64)
            sums = [torch.zeros_like(parameter) for parameter in trained]
            tape.add_sums(factors, sums)
        finally:
            attached.remove()
        _close(norms, torch.stack([torch.stack([g.square().sum() for g in each.values()]).sum() for each in expected]))
        for total, name in zip(sums, trained.values(), strict=True):
            _close(total, torch.stack([factor * each[name] for factor, each in zip(factors, expected, strict=True)]).sum(0))
        assert not any("forward" in vars(layer) for layer in module.modules())
        assert all(parameter.grad is None for parameter in trained)
        return expected

    return compare


def _close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
