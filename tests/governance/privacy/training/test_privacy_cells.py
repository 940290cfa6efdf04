"""The replacement cells give what torch's own layers give, and the gradients of single examples as brute force finds them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from affidavit.errors import Refused
from affidavit_governance.privacy.training.attention import attention
from affidavit_governance.privacy.training.recurrent import recurrent, recurrent_cell

EXAMPLES, STEPS, INPUTS, HIDDEN = 3, 5, 4, 6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def filled(module, seed=1):
    """The module with parameters from a seed: also biases, which some layers start at zero."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return module.double()


class Plain:
    """Computes as a tape does, and checks that the examples are in front; keeps what goes into each weight and what comes out."""

    def __init__(self):
        self.uses = []

    def linear(self, x, weight, bias=None, *, rows=None):
        assert len(x) == EXAMPLES, "the examples are not in front"
        rows = rows or slice(None)
        y = functional.linear(x, weight[rows], None if bias is None else bias[rows])
        self.uses.append((weight, x, y))
        return y

    def expand(self, parameter):
        return parameter.expand(EXAMPLES, *parameter.shape)


RECURRENT = {
    "lstm": lambda **options: nn.LSTM(INPUTS, HIDDEN, **options),
    "projected lstm": lambda **options: nn.LSTM(INPUTS, HIDDEN, proj_size=2, **options),
    "gru": lambda **options: nn.GRU(INPUTS, HIDDEN, **options),
    "tanh rnn": lambda **options: nn.RNN(INPUTS, HIDDEN, **options),
    "relu rnn": lambda **options: nn.RNN(INPUTS, HIDDEN, nonlinearity="relu", **options),
}


def close(found, expected):
    found, expected = ([x] if isinstance(x, torch.Tensor) else list(x) for x in (found, expected))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, True), (3, False)])
@pytest.mark.parametrize(("batch_first", "bias"), [(True, True), (False, True), (True, False)])
def test_a_recurrent_cell_gives_what_torchs_layer_gives(kind, layers, bidirectional, batch_first, bias):
    layer = filled(RECURRENT[kind](num_layers=layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias))
    x = randn(EXAMPLES, STEPS, INPUTS) if batch_first else randn(STEPS, EXAMPLES, INPUTS)
    expected, state = layer(x)
    found, final = recurrent(layer, Plain(), x)
    close(found, expected)
    close(final, state)
    # A state of its own, as a decoder gets from an encoder.
    start = tuple(randn(*entry.shape, seed=2 + i) for i, entry in enumerate(state)) if isinstance(layer, nn.LSTM) else randn(*state.shape, seed=2)
    expected, state = layer(x, start)
    found, final = recurrent(layer, Plain(), x, start)
    close(found, expected)
    close(final, state)


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [[5, 3, 1], [2, 5, 5], [4, 4, 4]])
def test_a_recurrent_cell_reads_packed_sequences_as_torch_does(kind, bidirectional, lengths):
    layer = filled(RECURRENT[kind](num_layers=2, bidirectional=bidirectional, batch_first=True))
    packed = pack_sequence([randn(length, INPUTS, seed=length) for length in lengths], enforce_sorted=False)
    expected, state = layer(packed)
    found, final = recurrent(layer, Plain(), packed)
    close(final, state)
    close(found.data, expected.data)
    close(pad_packed_sequence(found)[0], pad_packed_sequence(expected)[0])
    start = tuple(randn(*entry.shape, seed=2) for entry in state) if isinstance(layer, nn.LSTM) else randn(*state.shape, seed=2)
    close(recurrent(layer, Plain(), packed, start)[0].data, layer(packed, start)[0].data)


def test_a_recurrent_cell_reads_packed_sequences_that_were_sorted_by_the_caller():
    layer = filled(nn.GRU(INPUTS, HIDDEN))
    packed = pack_padded_sequence(randn(EXAMPLES, STEPS, INPUTS), torch.tensor([5, 4, 2]), batch_first=True)
    close(recurrent(layer, Plain(), packed)[0].data, layer(packed)[0].data)


def test_padding_of_a_packed_sequence_has_no_gradient():
    layer = filled(nn.LSTM(INPUTS, HIDDEN, bidirectional=True))
    tape = Plain()
    packed = pack_sequence([randn(5, INPUTS), randn(3, INPUTS), randn(2, INPUTS)])
    result = recurrent(layer, tape, packed)[0].data.sum()
    whole = torch.autograd.grad(result, tape.uses[0][2])[0]
    assert bool((whole[1, 3:] == 0).all())
    assert bool((whole[2, 2:] == 0).all())
    assert bool((whole[0] != 0).any(dim=-1).all())


def test_dropout_between_layers_leaves_out_and_rescales():
    layer = filled(nn.RNN(INPUTS, 200, num_layers=2, dropout=0.25, batch_first=True))
    tape = Plain()
    x = randn(EXAMPLES, STEPS, INPUTS)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        recurrent(layer, tape, x)
    layer.eval()
    recurrent(layer, tape, x)
    dropped, whole = (seen for weight, seen, _ in tape.uses if weight is layer.weight_ih_l1)
    kept = dropped != 0
    assert 0.7 < float(kept.float().mean()) < 0.8
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    close(recurrent(layer, Plain(), x)[0], layer(x)[0])


@pytest.mark.parametrize("layer", [nn.LSTM(INPUTS, HIDDEN), nn.GRU(INPUTS, HIDDEN), nn.RNN(INPUTS, HIDDEN)])
def test_one_sequence_without_examples_is_refused_with_the_fix(layer):
    with pytest.raises(Refused, match="without a dimension for examples") as error:
        recurrent(layer, Plain(), randn(STEPS, INPUTS))
    assert "batch_first=True" in str(error.value)
    with pytest.raises(Refused, match="without a dimension for examples"):
        mha = nn.MultiheadAttention(4, 2)
        attention(mha, Plain(), *[randn(STEPS, 4)] * 3)


CELLS = {
    "lstm": lambda **options: nn.LSTMCell(INPUTS, HIDDEN, **options),
    "gru": lambda **options: nn.GRUCell(INPUTS, HIDDEN, **options),
    "tanh rnn": lambda **options: nn.RNNCell(INPUTS, HIDDEN, **options),
    "relu rnn": lambda **options: nn.RNNCell(INPUTS, HIDDEN, nonlinearity="relu", **options),
}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_single_step_gives_what_torchs_cell_gives(kind, bias):
    cell, x = filled(CELLS[kind](bias=bias)), randn(EXAMPLES, INPUTS)
    first = cell(x)
    close(recurrent_cell(cell, Plain(), x), first)
    close(recurrent_cell(cell, Plain(), x, first), cell(x, first))
    with pytest.raises(Refused, match="without a dimension for examples"):
        recurrent_cell(cell, Plain(), x[0])


def test_a_state_of_a_wrong_shape_gets_torchs_own_error():
    layer, x = filled(nn.LSTM(INPUTS, HIDDEN, batch_first=True)), randn(EXAMPLES, STEPS, INPUTS)
    wrong = (torch.zeros(1, EXAMPLES + 1, HIDDEN), torch.zeros(1, EXAMPLES, HIDDEN))
    with pytest.raises(RuntimeError, match="Expected hidden"):
        recurrent(layer, Plain(), x, wrong)


EMBED, HEADS, KEYS = 8, 2, 7
ATTENTION = [
    {"bias": bias, "add_bias_kv": kv, "add_zero_attn": zero, **sizes}
    for bias, kv, zero in itertools.product([True, False], repeat=3)
    for sizes in ({}, {"kdim": 5, "vdim": 3})
]


@pytest.mark.parametrize("options", ATTENTION, ids=lambda options: ",".join(f"{key}={value}" for key, value in options.items()))
@pytest.mark.parametrize("batch_first", [True, False])
def test_an_attention_cell_gives_what_torchs_layer_gives(options, batch_first):
    layer = filled(nn.MultiheadAttention(EMBED, HEADS, batch_first=batch_first, **options))

    def ordered(tensor):
        return tensor if batch_first else tensor.transpose(0, 1)

    query = ordered(randn(EXAMPLES, STEPS, EMBED))
    memory = ordered(randn(EXAMPLES, KEYS, EMBED, seed=3))
    padding = torch.zeros(EXAMPLES, KEYS, dtype=torch.bool)
    padding[1, 4:] = True
    mask = randn(STEPS, KEYS, seed=4)
    cases = []
    if options.get("kdim"):
        cases.append(((query, ordered(randn(EXAMPLES, KEYS, 5, seed=5)), ordered(randn(EXAMPLES, KEYS, 3, seed=6))), padding, mask))
    else:
        cases += [((query, query, query), padding[:, :STEPS], mask[:, :STEPS]), ((query, memory, memory), padding, mask)]
        cases += [((query, memory, memory + 1), padding, mask)]
    for inputs, key_padding, attn_mask in cases:
        many = attn_mask.double().repeat(EXAMPLES * HEADS, 1, 1) * torch.arange(1.0, EXAMPLES * HEADS + 1)[:, None, None]
        for kpm, am, weights, average in itertools.product(
            [None, key_padding], [None, attn_mask, attn_mask > 0.8, many], [True, False], [True, False]
        ):
            if kpm is not None and am is not None and am.dtype != torch.bool:
                kpm = torch.zeros(kpm.shape).double().masked_fill(kpm, -torch.inf)
            settings = {"key_padding_mask": kpm, "attn_mask": am, "need_weights": weights, "average_attn_weights": average}
            expected, expected_weights = layer(*inputs, **settings)
            found, found_weights = attention(layer, Plain(), *inputs, **settings)
            close(found, expected)
            assert (found_weights is None) == (expected_weights is None)
            if found_weights is not None:
                close(found_weights, expected_weights)


def test_an_attention_cell_reads_the_causal_hint_as_torch_does():
    layer = filled(nn.MultiheadAttention(EMBED, HEADS, batch_first=True))
    x, mask = randn(EXAMPLES, STEPS, EMBED), nn.Transformer.generate_square_subsequent_mask(STEPS).double()
    for weights in (True, False):
        settings = {"attn_mask": mask, "is_causal": True, "need_weights": weights}
        close(attention(layer, Plain(), x, x, x, **settings)[0], layer(x, x, x, **settings)[0])
    with pytest.raises(RuntimeError, match="Need attn_mask"):
        attention(layer, Plain(), x, x, x, is_causal=True)


@pytest.mark.parametrize("weights", [True, False])
def test_an_attention_cell_drops_weights_as_torch_does(weights):
    layer = filled(nn.MultiheadAttention(EMBED, HEADS, dropout=0.3, batch_first=True))
    x = randn(EXAMPLES, STEPS, EMBED)
    outputs = []
    for call in (layer, lambda *inputs, **settings: attention(layer, Plain(), *inputs, **settings)):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            outputs.append(call(x, x, x, need_weights=weights)[0])
    close(*outputs)
    layer.eval()
    close(attention(layer, Plain(), x, x, x, need_weights=weights)[0], layer(x, x, x, need_weights=weights)[0])
