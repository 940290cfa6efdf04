"""Norms and weighted sums from the tape, beside one backward pass for each example, for every kind of layer that has a rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from affidavit.errors import PluginError, Refused
from affidavit_governance.privacy.training import uses
from affidavit_governance.privacy.training.layers import Attached, units
from affidavit_governance.privacy.training.tape import Tape

EXAMPLES = 4
quick = settings(max_examples=12, deadline=None)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integers(high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(0))


def losses_of(module: nn.Module, inputs: Tensor) -> Any:
    """A loss whose gradients differ from output to output and from row to row."""

    def losses(rows: Tensor) -> Tensor:
        output = module(inputs[rows]).flatten(1)
        return (output.sin() * torch.linspace(0.5, 2.0, output.shape[1], dtype=output.dtype)).sum(1)

    return losses


# -- layers ---------------------------------------------------------------------------------------------------------------------------------


@quick
@given(middle=st.lists(st.integers(1, 9), max_size=2), inputs=st.integers(1, 12), outputs=st.integers(1, 12), bias=st.booleans())
def test_linear_layers_of_any_shape(check, filled, middle: list[int], inputs: int, outputs: int, bias: bool) -> None:
    module = filled(nn.Linear(inputs, outputs, bias=bias))
    check(module, losses_of(module, numbers(EXAMPLES, *middle, inputs)))


@pytest.mark.parametrize("limit", [0, 2**30])
@pytest.mark.parametrize("positions", [3, 40])
def test_a_linear_layer_s_norms_are_the_same_by_pairs_of_positions_and_by_the_gradients_kept_or_in_chunks(
    check, filled, monkeypatch: pytest.MonkeyPatch, limit: int, positions: int
) -> None:
    """At 7 × 8 numbers, 3 positions go by pairs and 40 by gradients; the limits make chunks of one example, or keep everything."""
    monkeypatch.setattr(uses, "CHUNK_BYTES", limit)
    monkeypatch.setattr(uses, "KEPT_BYTES", limit)
    module = filled(nn.Linear(7, 8))
    check(module, losses_of(module, numbers(EXAMPLES, positions, 7)))
    convolution = filled(nn.Conv1d(4, 8, 5))
    check(convolution, losses_of(convolution, numbers(EXAMPLES, 4, positions + 4)))


@quick
@given(data=st.data(), dimensions=st.integers(1, 3))
def test_convolutions_of_any_stride_padding_dilation_and_groups(check, filled, data, dimensions: int) -> None:
    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.tuples(*[st.integers(low, high)] * dimensions)))

    groups = data.draw(st.integers(1, 3))
    kernel, dilation = each(1, 3), each(1, 2)
    padding = data.draw(st.sampled_from([each(0, 2), "same", "valid"]))
    stride = (1,) * dimensions if padding == "same" else each(1, 3)
    mode = data.draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    module = filled(kind(groups * 2, groups * 3, kernel, stride, padding, dilation, groups, data.draw(st.booleans()), mode))
    check(module, losses_of(module, numbers(EXAMPLES, groups * 2, *each(5, 6))))


def test_a_depthwise_convolution(check, filled) -> None:
    module = filled(nn.Conv2d(6, 12, 3, groups=6))
    check(module, losses_of(module, numbers(EXAMPLES, 6, 5, 5)))


@pytest.mark.parametrize("padding_idx", [None, 0, -1])
@pytest.mark.parametrize("shape", [(), (1,), (9,), (2, 3)])
def test_embeddings_also_of_words_that_come_back(check, filled, padding_idx: int | None, shape: tuple[int, ...]) -> None:
    module = filled(nn.Embedding(5, 3, padding_idx=padding_idx))
    check(module, losses_of(module, integers(5, EXAMPLES, *shape)))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.LayerNorm(6), (6,)),
        (nn.LayerNorm((3, 6)), (2, 3, 6)),
        (nn.LayerNorm(6, bias=False), (5, 6)),
        (nn.LayerNorm(6, elementwise_affine=False), (5, 6)),
        (nn.RMSNorm(6), (5, 6)),
        (nn.RMSNorm((3, 6), eps=1e-3), (3, 6)),
        (nn.GroupNorm(2, 6), (6,)),
        (nn.GroupNorm(3, 6), (6, 4, 5)),
        (nn.InstanceNorm1d(6, affine=True), (6, 5)),
        (nn.InstanceNorm2d(6, affine=True), (6, 2, 5)),
    ],
    ids=str,
)
def test_norms(check, filled, layer: nn.Module, shape: tuple[int, ...]) -> None:
    first = nn.Linear(shape[-1], shape[-1])
    module = filled(nn.Sequential(first, layer))
    check(module, losses_of(module, numbers(EXAMPLES, *shape)))


def test_a_network_with_activations_in_place(check, filled) -> None:
    module = filled(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(27, 4), nn.SELU(inplace=True)))
    check(module, losses_of(module, numbers(EXAMPLES, 1, 5, 5)))


def test_frozen_parts_pass_gradients_on(check, filled) -> None:
    module = filled(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)))
    module[1].requires_grad_(False)
    module[0].bias.requires_grad_(False)
    assert set(check(module, losses_of(module, numbers(EXAMPLES, 3)))[0]) == {"0.weight", "3.weight", "3.bias"}


# -- parameters with several uses -------------------------------------------------------------------------------------------------------------


class Repeated(nn.Module):
    """One layer several times, on inputs of several lengths."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x))) + self.layer(x[:, :1])


@pytest.mark.parametrize("layer", [nn.Linear(3, 3), nn.LayerNorm(3), nn.PReLU(), nn.Conv1d(4, 4, 3, padding=1)], ids=str)
def test_a_layer_used_several_times_has_all_cross_terms(check, filled, layer: nn.Module) -> None:
    module = filled(Repeated(layer) if not isinstance(layer, nn.Conv1d) else nn.Sequential(layer, nn.Tanh(), layer))
    check(module, losses_of(module, numbers(EXAMPLES, 4, 3)))


class Language(nn.Module):
    """A table that is looked up twice and is the output's weight as well; positions are shared by all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.out = nn.Embedding(7, 4, padding_idx=0), nn.Embedding(5, 4), nn.Linear(4, 7)
        self.out.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places(torch.arange(5)[None]) + self.words(tokens.flip(1))
        return self.out(torch.tanh(x))


def test_weights_tied_between_a_table_and_an_output(check, filled) -> None:
    module = filled(Language())
    names = check(module, losses_of(module, integers(7, EXAMPLES, 5)))[0]
    assert set(names) == {"words.weight", "places.weight", "out.bias"}


def test_weights_tied_between_layers_of_different_kinds(check, filled) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.convolution = nn.Linear(3, 4, bias=False), nn.Conv1d(3, 4, 1, bias=False)
            self.scale = nn.PReLU(4)
            self.norm = nn.LayerNorm(4, bias=False)
            self.norm.weight = self.scale.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.scale(self.linear(x)) + self.convolution(x[..., None]).squeeze(2))

    module = filled(Odd())
    check(module, losses_of(module, numbers(EXAMPLES, 3)))


@quick
@given(slices=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=4))
def test_uses_of_some_rows_of_a_weight_add_up_whether_or_not_they_overlap(slices: list[tuple[int, int]]) -> None:
    weight, bias = nn.Parameter(numbers(8, 3)), nn.Parameter(numbers(8))
    x = numbers(EXAMPLES, 2, 3, seed=1)
    tape = Tape({weight: "weight", bias: "bias"})

    def losses(linear: Any, x: Tensor) -> Tensor:
        return torch.stack([linear(x, slice(a, a + n)).sin().sum((1, 2)) * (i + 1) for i, (a, n) in enumerate(slices)]).sum(0)

    with tape.recording(EXAMPLES):
        values = losses(lambda x, rows: tape.linear(x, weight, bias, rows=rows), x)
    tape.backward(values)
    norms = tape.squared_norms()
    for i in range(EXAMPLES):
        plain = losses(lambda x, rows: nn.functional.linear(x, weight[rows], bias[rows]), x[i : i + 1])
        expected = torch.autograd.grad(plain.sum(), [weight, bias])
        only = torch.zeros(EXAMPLES, dtype=torch.float64)
        only[i] = 1.0
        sums = [torch.zeros_like(weight), torch.zeros_like(bias)]
        tape.add_sums(only, sums)
        torch.testing.assert_close(sums, list(expected))
        torch.testing.assert_close(norms[i], sum(g.square().sum() for g in expected))


def test_a_parameter_repeated_for_each_example_may_be_used_in_any_way() -> None:
    parameter = nn.Parameter(numbers(2, 3))
    x = numbers(EXAMPLES, 2, 3, seed=1)
    tape = Tape({parameter: "parameter"})
    with tape.recording(EXAMPLES):
        values = (tape.expand(parameter) * x).exp().sum((1, 2))
    tape.backward(values)
    expected = (parameter * x).exp() * x
    torch.testing.assert_close(tape.squared_norms(), expected.square().sum((1, 2)))


# -- precision --------------------------------------------------------------------------------------------------------------------------------


def one_pass(module: nn.Module, values: Any, examples: int) -> tuple[Tape, Tensor]:
    trained = {parameter: name for name, parameter in module.named_parameters()}
    tape = Tape(trained)
    attached = Attached(units(module, trained), tape)
    try:
        with tape.recording(examples):
            losses = values(module)
        tape.backward(losses)
    finally:
        attached.remove()
    return tape, tape.squared_norms()


def test_half_precision_is_summed_in_single() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4)).to(torch.bfloat16)
    x = numbers(256, 5, 8).to(torch.bfloat16)
    tape, norms = one_pass(module, lambda m: m(x).sum((1, 2)), 256)
    assert norms.dtype == torch.float32
    assert tape.coarse
    sums = [torch.zeros(parameter.shape) for parameter in module.parameters()]
    tape.add_sums(torch.ones(256), sums)
    # 1,280 ones: bfloat16 would stop adding at 256.
    torch.testing.assert_close(sums[-1], torch.full((4,), 1280.0))


def test_autocast_around_the_forward_pass_is_followed() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    x = numbers(6, 8).float()

    def cast(m: nn.Module) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return m(x).sin().sum(1)

    tape, norms = one_pass(module, cast, 6)
    _, exact = one_pass(module, lambda m: m(x).sin().sum(1), 6)
    assert tape.coarse
    torch.testing.assert_close(norms, exact, rtol=0.1, atol=0)


def test_a_norm_by_pairs_of_positions_is_not_understated_where_its_terms_cancel() -> None:
    # Two positions with opposite gradients of size 10³: rounding alone would say zero, or less.
    a = torch.randn(64, 1, 300, generator=torch.Generator().manual_seed(0)).repeat(1, 2, 1)
    g = torch.randn(64, 1, 300, generator=torch.Generator().manual_seed(1)) * 1e3
    g = torch.cat([g, -g * (1 + 1e-4)], dim=1)
    exact = torch.bmm(g.double().transpose(1, 2), a.double()).square().sum((1, 2))
    found = uses.Outer(a, g).squared_norms({})
    assert bool((found.double() >= exact * 0.99).all())
    assert bool((found.double() <= exact + 1e-5 * (a.double().norm(dim=2) * g.double().norm(dim=2)).sum(1).square()).all())


@pytest.mark.parametrize("small", [1e-21, 1e-23, 1e-30])
def test_a_norm_is_not_understated_where_the_square_of_a_factor_has_no_digits_left(small: float) -> None:
    a, g = torch.full((3, 4), small), torch.full((3, 2), 1e18)
    exact = (a.double().square().sum(1) * g.double().square().sum(1)).sqrt()
    assert bool((uses.Outer(a, g).squared_norms({}).double().sqrt() >= exact * 0.999).all())


# -- what the tape refuses --------------------------------------------------------------------------------------------------------------------


def test_an_input_changed_in_place_after_its_layer_read_it_is_refused() -> None:
    class Mutating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            x.zero_()
            return y

    with pytest.raises(PluginError, match=r"'first\.weight' was changed in place"):
        one_pass(Mutating(), lambda m: m(torch.ones(4, 3)).sum(1), 4)


@pytest.mark.parametrize("how", ["penalty", "functional", "detour"])
def test_a_parameter_that_acts_past_its_layer_is_refused_by_name(how: str) -> None:
    class Acting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            if how == "penalty":
                return y + self.layer.weight.square().mean()
            if how == "functional":
                return nn.functional.linear(y, self.layer.weight)
            return y * torch.exp(self.layer.bias)

    with pytest.raises(Refused, match=r"'layer\.(weight|bias)'.*outside its layer's own forward"):
        one_pass(Acting(), lambda m: m(torch.ones(4, 3)).sum(1), 4)


def test_losses_that_depend_on_nothing_that_trains_are_refused() -> None:
    with pytest.raises(PluginError, match="do not depend on any parameter"):
        one_pass(nn.Linear(3, 2), lambda m: m(torch.ones(4, 3)).sum(1).detach(), 4)


def test_another_thread_s_forward_pass_is_not_recorded() -> None:
    import threading

    module = nn.Linear(3, 2)
    trained = {parameter: name for name, parameter in module.named_parameters()}
    tape = Tape(trained)
    attached = Attached(units(module, trained), tape)
    shapes: list[torch.Size] = []
    with tape.recording(4):
        values = module(torch.ones(4, 3)).sum(1)
        other = threading.Thread(target=lambda: shapes.append(module(torch.ones(7, 3)).shape))
        other.start()
        other.join()
    tape.backward(values)
    attached.remove()
    assert shapes == [(7, 2)]  # which the tape would have refused
    torch.testing.assert_close(tape.squared_norms(), torch.full((4,), 8.0))
