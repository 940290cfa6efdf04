"""Per-example gradients of recurrent layers, attention and transformers on the tape, against one backward pass for each example."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from affidavit.errors import Refused
from affidavit_governance.privacy.randomness import Randomness
from affidavit_governance.privacy.training import checks
from affidavit_governance.privacy.training.layers import Attached, units
from affidavit_governance.privacy.training.loop import PrivateLoop
from affidavit_governance.privacy.training.tape import Tape

EXAMPLES, STEPS, FEATURES = 4, 5, 6


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Reader(nn.Module):
    """Tokens, a recurrent layer, and a score from its last state: what people write."""

    def __init__(self, layer, packed=False):
        super().__init__()
        self.table = nn.Embedding(20, FEATURES)
        self.layer = layer
        self.head = nn.Linear((layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1), 3)
        self.packed = packed

    def forward(self, ids, lengths):
        x = self.table(ids)
        if self.packed:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        elif not self.layer.batch_first:
            x = x.transpose(0, 1)
        state = self.layer(x)[1]
        hidden = state[0] if isinstance(state, tuple) else state
        number = 2 if self.layer.bidirectional else 1
        return self.head(torch.cat(list(hidden[-number:]), dim=1))


RECURRENT = {
    "lstm": nn.LSTM(FEATURES, 7, batch_first=True),
    "two-layer bidirectional lstm": nn.LSTM(FEATURES, 7, num_layers=2, bidirectional=True, batch_first=True),
    "projected lstm": nn.LSTM(FEATURES, 7, proj_size=3, batch_first=True),
    "lstm without bias, steps first": nn.LSTM(FEATURES, 7, bias=False),
    "gru": nn.GRU(FEATURES, 7, batch_first=True),
    "bidirectional gru, steps first": nn.GRU(FEATURES, 7, bidirectional=True),
    "tanh rnn": nn.RNN(FEATURES, 7, batch_first=True),
    "relu rnn": nn.RNN(FEATURES, 7, nonlinearity="relu", num_layers=2, batch_first=True),
}


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("packed", [False, True])
def test_gradients_of_recurrent_layers_are_those_of_brute_force(kind, packed, check, filled):
    module = filled(Reader(RECURRENT[kind], packed))
    ids = torch.randint(20, (EXAMPLES, STEPS), generator=torch.Generator().manual_seed(0))
    lengths, labels = torch.tensor([5, 2, 4, 1]), torch.tensor([0, 1, 2, 1])
    check(module, lambda rows: functional.cross_entropy(module(ids[rows], lengths[rows]), labels[rows], reduction="none"))


def test_a_recurrent_layer_with_some_frozen_weights_trains_the_others(check, filled):
    module = filled(Reader(nn.LSTM(FEATURES, 7, batch_first=True)))
    module.layer.weight_hh_l0.requires_grad_(False)
    module.table.requires_grad_(False)
    ids = torch.randint(20, (EXAMPLES, STEPS), generator=torch.Generator().manual_seed(0))
    found = check(module, lambda rows: module(ids[rows], None).square().sum(1))
    assert "layer.weight_hh_l0" not in found[0]
    assert bool(found[0]["layer.weight_ih_l0"].any())


def test_a_state_that_is_computed_from_other_parameters_carries_gradients(check, filled):
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.layer = nn.Linear(FEATURES, 7), nn.GRU(FEATURES, 7, batch_first=True)

        def forward(self, x):
            return self.layer(x, self.start(x[:, 0])[None])[0]

    module, x = filled(Decoder()), randn(EXAMPLES, STEPS, FEATURES)
    found = check(module, lambda rows: module(x[rows]).sin().sum((1, 2)))
    assert bool(found[0]["start.weight"].any())


@pytest.mark.parametrize("cell", [nn.LSTMCell(FEATURES, 7), nn.GRUCell(FEATURES, 7), nn.RNNCell(FEATURES, 7)])
def test_gradients_of_cells_in_a_loop_of_the_users_are_those_of_brute_force(cell, check, filled):
    module, x = filled(nn.ModuleDict({"cell": cell})), randn(EXAMPLES, STEPS, FEATURES)

    def losses(rows):
        state = None
        for step in x[rows].unbind(1):
            state = module["cell"](step, state)
        return (state[0] if isinstance(state, tuple) else state).sin().sum(1)

    check(module, losses)


def test_a_recurrent_layer_with_a_forward_of_its_own_is_computed_by_it(check, filled):
    class Doubled(nn.GRU):
        def forward(self, x):
            return super().forward(2 * x)[0]

    module, x = filled(Doubled(FEATURES, 7, batch_first=True)), randn(EXAMPLES, STEPS, FEATURES)
    check(module, lambda rows: module(x[rows]).sin().sum((1, 2)))


class Attends(nn.Module):
    """Attention of one sequence to itself, to another one, or to two others."""

    def __init__(self, **options):
        super().__init__()
        self.layer = nn.MultiheadAttention(8, 2, **options)

    def forward(self, *inputs, **settings):
        if not self.layer.batch_first:
            inputs = tuple(x.transpose(0, 1) for x in inputs)
        output = self.layer(inputs[0], inputs[min(1, len(inputs) - 1)], inputs[-1], **settings)[0]
        return output if self.layer.batch_first else output.transpose(0, 1)


@pytest.mark.parametrize("sources", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [{"batch_first": True}, {"bias": False}, {"add_bias_kv": True, "batch_first": True}, {"add_bias_kv": True, "add_zero_attn": True}],
    ids=str,
)
@pytest.mark.parametrize("need_weights", [True, False])
def test_gradients_of_attention_are_those_of_brute_force(sources, options, need_weights, check, filled):
    module = filled(Attends(**options))
    inputs = [randn(EXAMPLES, STEPS if i == 0 else STEPS + 2, 8, seed=i) for i in range(sources)]
    padding = torch.zeros(EXAMPLES, inputs[min(sources, 2) - 1].shape[1], dtype=torch.bool)
    padding[1, 3:] = True

    def losses(rows):
        outputs = module(*(x[rows] for x in inputs), key_padding_mask=padding[rows], need_weights=need_weights)
        return outputs.sin().sum((1, 2))

    check(module, losses)


def test_gradients_of_attention_with_separate_projections_are_those_of_brute_force(check, filled):
    module = filled(Attends(kdim=5, vdim=3, batch_first=True))
    inputs = [randn(EXAMPLES, STEPS, 8), randn(EXAMPLES, 7, 5), randn(EXAMPLES, 7, 3)]
    check(module, lambda rows: module(*(x[rows] for x in inputs)).sin().sum((1, 2)))


@pytest.mark.parametrize("norm_first", [True, False])
def test_gradients_of_a_transformer_with_encoder_and_decoder_are_those_of_brute_force(norm_first, check, filled):
    module = filled(nn.Transformer(8, 2, 2, 1, 12, dropout=0.0, batch_first=True, norm_first=norm_first))
    x, y = randn(EXAMPLES, STEPS, 8), randn(EXAMPLES, 3, 8, seed=2)
    mask = nn.Transformer.generate_square_subsequent_mask(3).double()
    check(module, lambda rows: module(x[rows], y[rows], tgt_mask=mask, tgt_is_causal=True).sin().sum((1, 2)))


class StepsInFront(nn.Module):
    """A layer that works on steps × examples: the losses are right, and what each example did stands in the wrong dimension."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(FEATURES, 7)

    def forward(self, x):
        return self.layer(x.transpose(0, 1)).sin().sum((0, 2))


def private_loop(module, **options):
    settings = {"rows": 400, "sampling_rate": 0.25, "expected_batch_size": 100.0, "steps_per_epoch": 4, "epochs": 10}
    optimizer = torch.optim.Adam([parameter for parameter in module.parameters() if parameter.requires_grad], lr=0.02)
    return PrivateLoop(module, optimizer, **settings | {"noise_multiplier": 0.6, "max_grad_norm": 1.0, "source": Randomness(bytes(32))} | options)


@pytest.mark.parametrize("steps", [checks.EXAMPLES, 100, 400])
def test_steps_that_stand_where_examples_should_are_refused_also_where_there_are_as_many(steps, filled):
    module, x = filled(StepsInFront()), randn(400, steps, FEATURES)
    loop = private_loop(module, sampling_rate=1.0)
    for batch in loop.epoch():
        with pytest.raises(Refused, match="first dimension"):
            loop.step(batch, lambda rows: module(x[rows]))
        break
    loop.close()


@pytest.mark.parametrize("layer", [nn.TransformerEncoderLayer(8, 2, 12), nn.TransformerDecoderLayer(8, 2, 12)])
def test_a_transformer_layer_whose_batch_stands_second_is_refused_with_the_fix(layer):
    with pytest.raises(Refused, match="batch_first=True"):
        private_loop(nn.Sequential(layer, nn.Linear(8, 1)))
    private_loop(nn.Sequential(layer.requires_grad_(False), nn.Linear(8, 1))).close()


class Reads(nn.Module):
    """Score of a token sequence by a transformer encoder."""

    def __init__(self):
        super().__init__()
        self.table, self.places = nn.Embedding(20, 16), nn.Embedding(STEPS, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 16, batch_first=True), 1)
        self.head = nn.Linear(16, 3)

    def forward(self, ids, lengths):
        return self.head(self.encoder(self.table(ids) + self.places(torch.arange(STEPS)[None])).mean(1))


@pytest.mark.parametrize("make", [lambda: Reader(nn.LSTM(FEATURES, 16, batch_first=True)), Reads], ids=["lstm", "transformer encoder"])
def test_a_classifier_of_sequences_trains_privately(make):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        module = make().train()
        ids = torch.randint(20, (400, STEPS), generator=torch.Generator().manual_seed(0))
        labels = (ids[:, -1] // 7).long()  # the last token tells the class
        before = {name: type(layer) for name, layer in module.named_modules()}
        loop = private_loop(module)
        for _ in range(10):
            for batch in loop.epoch():
                loop.step(batch, lambda rows: functional.cross_entropy(module(ids[rows], None), labels[rows], reduction="none"))
        loop.close()
    assert (loop.executed, loop.non_finite) == (40, 0)
    assert {name: type(layer) for name, layer in module.named_modules()} == before
    assert not any("forward" in vars(layer) for layer in module.modules())
    with torch.no_grad():
        assert float((module.eval()(ids, None).argmax(1) == labels).float().mean()) > 0.7


@pytest.mark.parametrize("layer", [nn.LSTM(16, 16, batch_first=True), nn.MultiheadAttention(16, 2, batch_first=True)])
def test_layers_in_bfloat16_give_the_norms_of_single_precision_but_for_rounding(layer, filled):
    x, norms = randn(EXAMPLES, STEPS, 16).float(), []
    for dtype in (torch.float32, torch.bfloat16):
        module = filled(nn.ModuleList([layer])).to(dtype)
        trained = {parameter: name for name, parameter in module.named_parameters()}
        tape = Tape(trained)
        attached = Attached(units(module, trained), tape)
        with tape.recording(EXAMPLES):
            inputs = (x.to(dtype),) * (1 if isinstance(layer, nn.LSTM) else 3)
            losses = module[0](*inputs)[0].float().square().sum((1, 2))
        tape.backward(losses)
        norms.append(tape.squared_norms())
        attached.remove()
    assert norms[1].dtype == torch.float32
    torch.testing.assert_close(norms[1], norms[0], rtol=0.1, atol=0)
