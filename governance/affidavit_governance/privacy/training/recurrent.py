"""LSTM, GRU and RNN layers computed step by step through a tape, so that the gradients of single examples can be told apart.

torch computes a whole recurrent layer in one fused call, which gives only the gradient of the batch. Here the input projection of all time
steps is one use of its weight, and the recurrent projection one use a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from affidavit.errors import Refused

if TYPE_CHECKING:
    from affidavit_governance.privacy.training.tape import Tape

State = tuple[Tensor, ...]
"""What a step hands to the next one, hidden state first: each entry examples × features."""

Step = Callable[[Tensor, State, Callable[[Tensor], Tensor]], State]
"""Next state from the projected input (examples × gates), the state, and the recurrent projection of a hidden state."""


def recurrent(layer: nn.RNNBase, tape: Tape, inputs: Any, state: Any = None) -> tuple[Any, Any]:
    """What ``layer(inputs, state)`` gives, with every use of a parameter on `tape`.

    Parameters
    ----------
    layer
        An `torch.nn.LSTM`, `torch.nn.GRU` or `torch.nn.RNN`, with any number of layers, both directions, dropout between layers and, for an
        LSTM, a projection.
    tape
        Its ``linear`` is called with examples × steps × features for the inputs and examples × features for each step, whatever
        ``layer.batch_first`` is.
    inputs
        Examples × steps × features, steps × examples × features without ``batch_first``, or a `PackedSequence`.
    state
        As torch has it: (layers · directions) × examples × features, for an LSTM a pair of these; zeros where None.

    Raises
    ------
    Refused
        `inputs` is a single sequence without a dimension for examples.
    """
    packed = inputs if isinstance(inputs, PackedSequence) else None
    if packed is None and inputs.dim() != 3:
        raise _without_examples(layer, "examples × steps × features with batch_first=True")
    sequences, lengths = (inputs if layer.batch_first else inputs.transpose(0, 1), None) if packed is None else _unpacked(packed)
    states = _initial(layer, sequences, inputs if packed is None else packed, state)
    live = None if lengths is None or bool((lengths == sequences.shape[1]).all()) else _live(lengths, sequences)
    directions = 2 if layer.bidirectional else 1
    last: list[State] = []
    for depth in range(layer.num_layers):
        if depth:
            sequences = functional.dropout(sequences, layer.dropout, layer.training)
        outputs = []
        for direction in range(directions):
            output, final = _direction(layer, tape, sequences, states[depth * directions + direction], live, f"l{depth}{'_reverse' * direction}")
            outputs.append(output)
            last.append(final)
        sequences = torch.cat(outputs, dim=2) if directions == 2 else outputs[0]
    final_states = tuple(torch.stack(entry) for entry in zip(*last, strict=True))
    result = (sequences if layer.batch_first else sequences.transpose(0, 1)) if packed is None else _packed_like(packed, sequences, lengths)
    return result, final_states if isinstance(layer, nn.LSTM) else final_states[0]


def recurrent_cell(cell: nn.RNNCellBase, tape: Tape, inputs: Tensor, state: Any = None) -> Any:
    """What ``cell(inputs, state)`` gives, with every use of a parameter on `tape`: one step, which a module calls in a loop of its own.

    Parameters
    ----------
    cell
        An `torch.nn.LSTMCell`, `torch.nn.GRUCell` or `torch.nn.RNNCell`.
    inputs
        Examples × features.
    state
        Examples × features, for an LSTMCell a pair of these; zeros where None.

    Raises
    ------
    Refused
        `inputs` has no dimension for examples.
    """
    if inputs.dim() != 2:
        raise _without_examples(cell, "examples × features")
    number = 2 if isinstance(cell, nn.LSTMCell) else 1
    if state is None:
        before: State = (inputs.new_zeros(len(inputs), cell.hidden_size),) * number
    else:
        before = tuple(state) if number == 2 else (state,)
    gates = tape.linear(inputs, cell.weight_ih, cell.bias_ih)
    after = STEPS[_mode(cell)](gates, before, lambda hidden: tape.linear(hidden, cell.weight_hh, cell.bias_hh))
    return after if number == 2 else after[0]


def _direction(layer: nn.RNNBase, tape: Tape, sequences: Tensor, state: State, live: Tensor | None, suffix: str) -> tuple[Tensor, State]:
    """All steps of one layer in one direction: the hidden states, examples × steps × features, and the state after the last step."""
    step = STEPS[_mode(layer)]
    weight, bias = getattr(layer, f"weight_hh_{suffix}"), getattr(layer, f"bias_hh_{suffix}", None)
    projection = getattr(layer, f"weight_hr_{suffix}", None)
    gates = tape.linear(sequences, getattr(layer, f"weight_ih_{suffix}"), getattr(layer, f"bias_ih_{suffix}", None)).unbind(1)
    backwards = suffix.endswith("reverse")
    hidden: list[Tensor] = []
    for time in reversed(range(len(gates))) if backwards else range(len(gates)):
        after = step(gates[time], state, lambda h: tape.linear(h, weight, bias))
        if projection is not None:
            after = (tape.linear(after[0], projection), *after[1:])
        if live is not None:
            # Past its end a sequence keeps its state. What it computes there is chosen away, so its gradient there is exactly zero.
            after = tuple(torch.where(live[:, time, None], new, old) for new, old in zip(after, state, strict=True))
        state = after
        hidden.append(state[0])
    if backwards:
        hidden.reverse()
    return torch.stack(hidden, dim=1), state


def _lstm(gates: Tensor, state: State, recurrence: Callable[[Tensor], Tensor]) -> State:
    hidden, cell = state
    enter, forget, candidate, leave = (gates + recurrence(hidden)).chunk(4, dim=1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def _gru(gates: Tensor, state: State, recurrence: Callable[[Tensor], Tensor]) -> State:
    (hidden,) = state
    reset, update, candidate = gates.chunk(3, dim=1)
    reset_hidden, update_hidden, candidate_hidden = recurrence(hidden).chunk(3, dim=1)
    fresh = torch.tanh(candidate + torch.sigmoid(reset + reset_hidden) * candidate_hidden)
    return (torch.lerp(fresh, hidden, torch.sigmoid(update + update_hidden)),)


def _tanh(gates: Tensor, state: State, recurrence: Callable[[Tensor], Tensor]) -> State:
    return (torch.tanh(gates + recurrence(state[0])),)


def _relu(gates: Tensor, state: State, recurrence: Callable[[Tensor], Tensor]) -> State:
    return (torch.relu(gates + recurrence(state[0])),)


STEPS: dict[str, Step] = {"LSTM": _lstm, "GRU": _gru, "RNN_TANH": _tanh, "RNN_RELU": _relu}
"""By ``layer.mode``; gates in the order in which torch stacks them in its weights."""


def _mode(layer: nn.Module) -> str:
    """The key of a layer's or a cell's steps."""
    if isinstance(layer, nn.RNNBase):
        return layer.mode
    return f"RNN_{layer.nonlinearity.upper()}" if isinstance(layer, nn.RNNCell) else "LSTM" if isinstance(layer, nn.LSTMCell) else "GRU"


def _without_examples(layer: nn.Module, shape: str) -> Refused:
    return Refused(
        f"A {type(layer).__name__} got an input without a dimension for examples, so that gradients cannot be told by example.",
        by="privacy",
        line="privacy.epsilon",
        satisfy=f"Give it batches: {shape}.",
    )


def _initial(layer: nn.RNNBase, sequences: Tensor, inputs: Any, state: Any) -> Sequence[State]:
    """The first state of each layer and direction."""
    number = layer.num_layers * (2 if layer.bidirectional else 1)
    if state is None:
        entries = [sequences.new_zeros(number, len(sequences), layer.proj_size or layer.hidden_size)]
        if isinstance(layer, nn.LSTM):
            entries.append(sequences.new_zeros(number, len(sequences), layer.hidden_size))
    else:
        data, sizes = (inputs.data, inputs.batch_sizes) if isinstance(inputs, PackedSequence) else (inputs, None)
        # torch's own words for a state of a wrong shape.
        layer.check_forward_args(data, state, sizes)
        entries = list(state) if isinstance(layer, nn.LSTM) else [state]
    return list(zip(*entries, strict=True))


def _unpacked(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """Sequences as examples × steps × features in the caller's order, and their lengths."""
    return pad_packed_sequence(packed, batch_first=True)


def _live(lengths: Tensor, sequences: Tensor) -> Tensor:
    """Where a sequence has not ended: examples × steps."""
    return torch.arange(sequences.shape[1], device=sequences.device) < lengths.to(sequences.device)[:, None]


def _packed_like(packed: PackedSequence, sequences: Tensor, lengths: Tensor | None) -> PackedSequence:
    """Pack outputs in the very order of the inputs."""
    assert lengths is not None  # a packed input has lengths
    order = packed.sorted_indices
    if order is not None:
        sequences, lengths = sequences.index_select(0, order), lengths.index_select(0, order.cpu())
    data = pack_padded_sequence(sequences, lengths, batch_first=True).data
    return PackedSequence(data, packed.batch_sizes, order, packed.unsorted_indices)
