"""What is compared before the first step, and the modules and losses that it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from affidavit.errors import PluginError, Refused
from affidavit_governance.privacy.training.checks import BruteForce, check_module
from affidavit_governance.privacy.training.gradients import NativeGradients

ROWS = 12
INPUTS = torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(ROWS) % 3
Losses = Callable[[np.ndarray], Tensor]


def mlp() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def cross_entropy(module: nn.Module) -> Losses:
    def losses(rows: np.ndarray) -> Tensor:
        chosen = torch.from_numpy(rows)
        return functional.cross_entropy(module(INPUTS[chosen]), LABELS[chosen], reduction="none")

    return losses


def compare(module: nn.Module, losses: Losses, *batches: list[int]) -> BruteForce:
    """The comparison on these batches, one after the other."""
    names = {parameter: name for name, parameter in module.named_parameters() if parameter.requires_grad}
    gradients, brute_force = NativeGradients(module, names), BruteForce(names)
    try:
        for batch in batches or [list(range(ROWS))]:
            brute_force.check(np.array(batch, dtype=np.int64), gradients, losses)
    finally:
        gradients.close()
    return brute_force


class Around(nn.Module):
    """A network with something done to its hidden units."""

    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last, self.what = nn.Linear(6, 5), nn.Linear(5, 3), what

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.what(self.first(x)))


# -- losses that mix examples ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        lambda h: h - h.mean(0),
        lambda h: h - h.mean(0).detach(),
        lambda h: functional.batch_norm(h, None, None, training=True),
        lambda h: h + 0.01 * h.roll(1, 0),
        lambda h: torch.softmax(h, dim=0),
        lambda h: h[torch.randperm(len(h))],
        lambda h: (h @ h.T).softmax(1) @ h,
    ],
    ids=["mean", "detached mean", "batch statistics", "neighbour", "softmax over the batch", "shuffle", "attention over the batch"],
)
def test_a_layer_that_mixes_examples_is_refused(what: Callable[[Tensor], Tensor]) -> None:
    module = Around(what)
    with pytest.raises(Refused, match="depends on the other examples"):
        compare(module, cross_entropy(module))


@pytest.mark.parametrize("from_examples", [2, 5, 9])
@pytest.mark.parametrize("first", [[0], [0, 1, 2]])
def test_a_loss_that_mixes_in_large_batches_only_is_refused(from_examples: int, first: list[int]) -> None:
    module = mlp()

    def hardest(rows: np.ndarray) -> Tensor:
        found = cross_entropy(module)(rows)
        return found if len(rows) < from_examples else found * (found.detach() >= found.detach().median())

    with pytest.raises(Refused, match="depends on the other examples"):
        compare(module, hardest, first, list(range(ROWS)))


def test_a_contrastive_loss_is_refused() -> None:
    module = mlp()

    def losses(rows: np.ndarray) -> Tensor:
        z = functional.normalize(module(INPUTS[torch.from_numpy(rows)]), dim=1)
        return functional.cross_entropy(z @ z.T / 0.1, torch.arange(len(rows)), reduction="none")

    with pytest.raises(Refused, match="no contrastive terms"):
        compare(module, losses)


def test_a_mean_dressed_up_as_one_loss_each_is_refused() -> None:
    module = mlp()
    losses = cross_entropy(module)
    for wrong in (lambda rows: losses(rows).mean().expand(len(rows)), lambda rows: losses(rows) / len(rows)):
        with pytest.raises(Refused, match="depends on the other examples"):
            compare(module, wrong)


def test_mixing_is_looked_for_in_the_first_batch_that_has_two_examples() -> None:
    module = Around(lambda h: h - h.mean(0).detach() * (len(h) > 1))
    losses = cross_entropy(module)
    compare(module, losses, [], [3], [5])
    with pytest.raises(Refused, match="depends on the other examples"):
        compare(module, losses, [], [3], [5], [1, 2])


def test_a_layer_whose_own_parameters_hide_that_it_mixes_is_refused() -> None:
    """The fallback runs it for each example alone, where it cannot mix; plain training would."""

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(5))

        def forward(self, x: Tensor) -> Tensor:
            return (x - x.mean(0)) * self.scale

    module = nn.Sequential(nn.Linear(6, 5), Centred(), nn.Linear(5, 3))
    with pytest.raises(Refused, match="depends on the other examples"):
        compare(module, cross_entropy(module))


class Scaled(torch.autograd.Function):
    """Says that gradients grow with the batch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * len(gradient)


# -- gradients that would be wrong ----------------------------------------------------------------------------------------------------------


def test_a_layer_that_tells_autograd_something_else_for_a_batch_is_refused() -> None:
    module = Around(Scaled.apply)
    with pytest.raises(Refused, match=r"parameter 'first\.weight'.*differs from that of one example at a time"):
        compare(module, cross_entropy(module))


def test_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from affidavit_governance.privacy.training import layers

    module = mlp()
    monkeypatch.setitem(layers.RULES, nn.Linear, lambda tape, layer, x: tape.linear(x, layer.weight, layer.bias.detach()))
    with pytest.raises(Refused, match=r"'0\.bias'"):
        compare(module, cross_entropy(module))


def test_a_norm_that_is_understated_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from affidavit_governance.privacy.training.tape import Tape

    honest = Tape.squared_norms
    monkeypatch.setattr(Tape, "squared_norms", lambda tape: honest(tape) * 0.9)
    module = mlp()
    with pytest.raises(Refused, match="The norm of the gradient"):
        compare(module, cross_entropy(module))


def test_a_parameter_without_gradient_at_the_start_is_compared_once_it_has_one() -> None:
    module = Around(lambda h: h)
    nn.init.zeros_(module.last.weight)
    losses = cross_entropy(module)
    brute_force = compare(module, losses, [0, 1])
    names = {name for name, parameter in module.named_parameters() if parameter in brute_force._unseen}
    assert names == {"first.weight", "first.bias"}

    wrong = Around(Scaled.apply)
    nn.init.zeros_(wrong.last.weight)
    learn = cross_entropy(wrong)
    calls = iter(range(100))

    def later(rows: np.ndarray) -> Tensor:
        if next(calls) == 4:  # the first comparison asks for two examples alone, and twice for both
            nn.init.ones_(wrong.last.weight[0])
        return learn(rows)

    with pytest.raises(Refused, match=r"'first\.weight'"):
        compare(wrong, later, [0, 1], [0, 1])
    assert next(calls) > 4


# -- what is fine ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        nn.Dropout(0.5),
        nn.AlphaDropout(0.3),
        lambda h: functional.dropout(h, 0.7),
        lambda h: h * torch.bernoulli(torch.full_like(h, 0.5)),
        lambda h: h + torch.randn_like(h) + torch.rand(h.shape) + torch.randint(3, h.shape),
        lambda h: functional.scaled_dot_product_attention(h[:, None], h[:, None], h[:, None], dropout_p=0.5)[:, 0],
        lambda h: functional.gumbel_softmax(h),
    ],
    ids=["dropout", "alpha dropout", "functional dropout", "bernoulli", "noise", "attention", "gumbel"],
)
def test_random_numbers_in_the_forward_pass_are_no_difference(what: Callable[[Tensor], Tensor]) -> None:
    module = Around(what)
    state = torch.random.get_rng_state()
    assert not compare(module, cross_entropy(module))._unseen
    assert torch.equal(torch.random.get_rng_state(), state)


def test_random_numbers_in_a_layer_without_a_rule_are_no_difference() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(5))

        def forward(self, x: Tensor) -> Tensor:
            return functional.dropout(x * self.scale, 0.5) + 0.1 * torch.randn_like(x)

    module = nn.Sequential(nn.Linear(6, 5), Dropping(), nn.Linear(5, 3))
    assert not compare(module, cross_entropy(module))._unseen


def test_an_example_that_is_not_finite_is_left_out_and_nothing_is_held_against_it() -> None:
    module = mlp()
    inputs = INPUTS.clone()
    inputs[1] = float("nan")
    inputs[2] = float("inf")

    def losses(rows: np.ndarray) -> Tensor:
        return module(inputs[torch.from_numpy(rows)]).square().sum(1)

    assert not compare(module, losses)._unseen
    # With one finite example mixing could not be seen: the next batch is looked at again.
    assert not compare(module, losses, [0, 1])._together
    assert compare(module, losses, [0, 1], [3, 4])._together


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_each_precision_has_its_tolerance(dtype: torch.dtype) -> None:
    module = Around(lambda h: functional.layer_norm(h, [5])).to(dtype)

    def losses(rows: np.ndarray) -> Tensor:
        return functional.cross_entropy(module(INPUTS[torch.from_numpy(rows)].to(dtype)), LABELS[torch.from_numpy(rows)], reduction="none")

    compare(module, losses)
    share = {torch.bfloat16: 0.2, torch.float32: 5e-3, torch.float64: 1e-6}[dtype]
    module.what = lambda h: h + share * h.roll(1, 0)
    with pytest.raises(Refused):
        compare(module, losses)


def test_losses_without_gradient_are_an_error() -> None:
    module = mlp()
    with pytest.raises(PluginError, match="do not depend"):
        compare(module, lambda rows: cross_entropy(module)(rows).detach())


# -- modules that cannot --------------------------------------------------------------------------------------------------------------------


def test_compiled_scripted_and_wrapped_modules_are_refused() -> None:
    called = mlp()
    called.compile()
    for module in (torch.compile(mlp()), nn.Sequential(called), nn.DataParallel(mlp())):
        with pytest.raises(Refused, match="before it was compiled|inside of it"):
            check_module(module)
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(mlp())
    with pytest.raises(Refused, match="before it was compiled"):
        check_module(scripted)


def test_complex_parameters_are_refused() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.complex64))
    with pytest.raises(Refused, match="Layer '1'.*two real ones"):
        check_module(module)


def test_a_table_that_training_rewrites_or_scales_by_the_batch_is_fine_where_it_is_frozen() -> None:
    check_module(nn.Embedding(3, 2, scale_grad_by_freq=True).requires_grad_(False))
