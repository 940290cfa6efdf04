"""Layers without a rule of their own: per-example gradients through their own forward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from affidavit.errors import Refused
from affidavit_governance.privacy.training import fallback
from affidavit_governance.privacy.training.layers import Attached, units
from affidavit_governance.privacy.training.tape import Tape

EXAMPLES = 4


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def losses_of(module: nn.Module, *inputs: Any) -> Any:
    def losses(rows: Tensor) -> Tensor:
        output = module(*(part[rows] if isinstance(part, Tensor) else part for part in inputs)).flatten(1)
        return (output.sin() * torch.linspace(0.5, 2.0, output.shape[1], dtype=output.dtype)).sum(1)

    return losses


class Conv1D(nn.Module):
    """The linear layer of GPT-2, whose weight is inputs × outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(3, 5)), nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], 5)


class Classifier(nn.Module):
    """Parameters of its own beside layers that have theirs, one of them tied to a layer outside, and a mask that all examples share."""

    def __init__(self, outside: nn.Linear) -> None:
        super().__init__()
        self.token, self.inner, self.tied = nn.Parameter(torch.zeros(1, 1, 3)), nn.Linear(3, 3), nn.Linear(3, 3)
        self.tied.weight = outside.weight
        self.extra = nn.ParameterDict({"shift": nn.Parameter(torch.zeros(3))})

    def forward(self, x: Tensor, *, mask: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.extra["shift"]
        return self.tied(self.inner(x).tanh()) * mask


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.classifier = Classifier(self.first)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.first(x), mask=torch.arange(3, dtype=x.dtype))


class Choosing(nn.Module):
    """Control flow by values, which torch.func.vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 2))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x @ self.weight if x.sum() > 0 else (x @ self.weight) * 2


class Doubling(nn.Linear):
    """A subclass with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + nn.functional.linear(x * 2, self.weight)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.PReLU(3), (numbers(EXAMPLES, 3, 5),)),
        (nn.Bilinear(3, 2, 4), (numbers(EXAMPLES, 3), numbers(EXAMPLES, 2, seed=1))),
        (nn.ConvTranspose2d(2, 3, 3), (numbers(EXAMPLES, 2, 4, 4),)),
        (nn.EmbeddingBag(7, 3, mode="mean"), (torch.arange(EXAMPLES * 5).view(EXAMPLES, 5) % 7,)),
        (parametrizations.weight_norm(nn.Linear(3, 4)), (numbers(EXAMPLES, 3),)),
        (parametrizations.orthogonal(nn.Linear(3, 3)), (numbers(EXAMPLES, 3),)),
        (Conv1D(), (numbers(EXAMPLES, 6, 3),)),
        (Doubling(3, 2), (numbers(EXAMPLES, 3),)),
        (Whole(), (numbers(EXAMPLES, 6, 3),)),
        (Choosing(), (numbers(EXAMPLES, 6, 3).abs(),)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_gradients_of_layers_without_a_rule_are_those_of_brute_force(check, filled, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    module = filled(layer)
    check(module, losses_of(module, *inputs))


def test_a_layer_that_vmap_cannot_follow_goes_example_by_example_from_then_on(filled) -> None:
    layer = filled(Choosing())
    tape = Tape({layer.weight: "weight"})
    attached = Attached(units(layer, {layer.weight: "weight"}), tape)
    counts = []
    for _ in range(2):
        layer.calls = 0
        with tape.recording(EXAMPLES):
            losses = layer(numbers(EXAMPLES, 3)).sum(1)
        tape.backward(losses)
        counts.append(layer.calls)
    attached.remove()
    assert counts == [EXAMPLES + 1, EXAMPLES]


def test_dropout_inside_drops_other_units_in_each_example_and_its_gradients_follow(filled) -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(50))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x * self.weight, 0.5)

    layer = filled(Dropping())
    tape = Tape({layer.weight: "weight"})
    attached = Attached(units(layer, {layer.weight: "weight"}), tape)
    with torch.random.fork_rng(), tape.recording(EXAMPLES):
        torch.manual_seed(0)
        output = layer(torch.ones(EXAMPLES, 50, dtype=torch.float64))
    tape.backward(output.sum(1))
    attached.remove()
    kept = (output != 0).double()
    assert len({tuple(row.tolist()) for row in kept}) == EXAMPLES
    torch.testing.assert_close(tape.squared_norms(), (2 * kept).square().sum(1))


def test_hooks_on_a_layer_are_called_once(check, filled) -> None:
    module = filled(Conv1D())
    calls: list[int] = []
    module.register_forward_hook(lambda layer, inputs, output: calls.append(len(inputs[0])))
    losses = losses_of(module, numbers(EXAMPLES, 2, 3))
    check(module, losses)
    # The comparison's own: all examples without the tape and with it, and each alone.
    assert sorted(calls) == [1] * EXAMPLES + [EXAMPLES] * 2


@pytest.mark.parametrize("wrong", ["no batch in", "no batch out", "no tensor out"])
def test_a_layer_whose_inputs_or_outputs_have_no_batch_in_front_is_refused(wrong: str, filled) -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Any:
            output = x * self.weight
            return {"no batch in": output, "no batch out": output.sum(), "no tensor out": (output, "text")}[wrong]

    layer = filled(Flat())
    tape = Tape({layer.weight: "weight"})
    attached = Attached(units(layer, {layer.weight: "weight"}), tape)
    with pytest.raises(Refused, match="first dimension is the batch"), tape.recording(EXAMPLES):
        layer(numbers(EXAMPLES + (wrong == "no batch in"), 3))
    attached.remove()


def test_an_error_of_the_layer_itself_is_its_own(filled) -> None:
    def broken(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        fallback.each_example(broken, {}, [torch.zeros(2, 1)], {}, examples=2, unrolled=set())
