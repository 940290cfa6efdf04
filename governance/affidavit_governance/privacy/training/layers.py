"""Which layers compute through the tape, and how: rules by kind of layer, the fallback for every other, attached to a module and taken off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from affidavit_governance.privacy.training.attention import attention
from affidavit_governance.privacy.training.recurrent import recurrent, recurrent_cell
from affidavit_governance.privacy.training.tape import Tape

Rule = Callable[..., Any]
"""``rule(tape, layer, *args, **kwargs)`` gives what ``layer(*args, **kwargs)`` gives, with every trained parameter used through the tape."""


def _linear(tape: Tape, layer: nn.Linear, input: Tensor) -> Tensor:
    return tape.linear(input, layer.weight, layer.bias)


def _embedding(tape: Tape, layer: nn.Embedding, input: Tensor) -> Tensor:
    return tape.embedding(input, layer.weight, layer.padding_idx)


def _conv(tape: Tape, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, input: Tensor) -> Tensor:
    padding = [0] * len(layer.kernel_size) if isinstance(layer.padding, str) else list(layer.padding)
    # Two numbers for each dimension, the last dimension first, also for the words "same" and "valid".
    around: list[int] = layer._reversed_padding_repeated_twice
    if layer.padding_mode != "zeros":
        input, padding = functional.pad(input, around, mode=layer.padding_mode), [0] * len(padding)
    elif isinstance(layer.padding, str):
        input = functional.pad(input, around)
    return tape.conv(input, layer.weight, layer.bias, stride=layer.stride, padding=padding, dilation=layer.dilation, groups=layer.groups)


def _layer_norm(tape: Tape, layer: nn.LayerNorm, input: Tensor) -> Tensor:
    axes = range(input.dim() - len(layer.normalized_shape), input.dim())
    return tape.norm(input, layer.weight, layer.bias, lambda x, w, b: functional.layer_norm(x, layer.normalized_shape, w, b, layer.eps), list(axes))


def _rms_norm(tape: Tape, layer: nn.RMSNorm, input: Tensor) -> Tensor:
    axes = range(input.dim() - len(layer.normalized_shape), input.dim())

    def normalise(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        return functional.rms_norm(x, list(layer.normalized_shape), w, layer.eps)

    return tape.norm(input, layer.weight, None, normalise, list(axes))


def _group_norm(tape: Tape, layer: nn.GroupNorm, input: Tensor) -> Tensor:
    return tape.norm(input, layer.weight, layer.bias, lambda x, w, b: functional.group_norm(x, layer.num_groups, w, b, layer.eps), [1])


def _instance_norm(tape: Tape, layer: nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d, input: Tensor) -> Tensor:
    def normalise(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        return functional.instance_norm(x, None, None, w, b, True, 0.0, layer.eps)

    return tape.norm(input, layer.weight, layer.bias, normalise, [1])


def _recurrent(tape: Tape, layer: nn.RNNBase, input: Any, hx: Any = None) -> Any:
    return recurrent(layer, tape, input, hx)


def _recurrent_cell(tape: Tape, layer: nn.RNNCellBase, input: Tensor, hx: Any = None) -> Any:
    return recurrent_cell(layer, tape, input, hx)


def _attention(tape: Tape, layer: nn.MultiheadAttention, *args: Any, **kwargs: Any) -> Any:
    return attention(layer, tape, *args, **kwargs)


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
    nn.GroupNorm: _group_norm,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm3d: _instance_norm,
    nn.LSTM: _recurrent,
    nn.GRU: _recurrent,
    nn.RNN: _recurrent,
    nn.LSTMCell: _recurrent_cell,
    nn.GRUCell: _recurrent_cell,
    nn.RNNCell: _recurrent_cell,
    nn.MultiheadAttention: _attention,
}
"""By the class whose forward the layer has: a subclass with a forward of its own goes through the fallback."""


def rule_of(layer: nn.Module) -> Rule:
    """The rule of this layer; for a layer of a kind that has none, or whose tensors are computed from parameters, the fallback."""
    if "forward" not in vars(layer) and not torch.nn.utils.parametrize.is_parametrized(layer):
        for kind, rule in RULES.items():
            expected = ("weight", "bias") if hasattr(layer, "weight") else ()
            plain = all(name in layer._parameters for name in expected if hasattr(layer, name))
            if isinstance(layer, kind) and type(layer).forward is kind.forward and plain:
                return rule
    return Fallback(layer).rule


class Fallback(nn.Module):
    """The rule of a layer that has no other: its own forward, for each example with the example's own parameters."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        # The layer's forward without what is called around it, hooks for example: that is being called already.
        return self.layer.forward(*args, **kwargs)

    def of_one(self, parameters: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """The forward with these parameters."""
        return torch.func.functional_call(self, parameters, args, kwargs)

    def rule(self, tape: Tape, layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """See `Rule`."""
        trained = {name: parameter for name, parameter in self.named_parameters() if tape.trains(parameter)}
        return tape.generic(self.of_one, trained, *args, **kwargs)


def units(module: nn.Module, trained: Mapping[nn.Parameter, str]) -> dict[str, nn.Module]:
    """The layers, by name, that hold trained parameters; one that holds some directly stands for all that is inside it too."""
    found: dict[str, nn.Module] = {}
    seen: set[nn.Module] = set()

    def visit(name: str, layer: nn.Module) -> None:
        if layer in seen:
            return
        seen.add(layer)
        inside = layer.parametrizations.parameters() if torch.nn.utils.parametrize.is_parametrized(layer) else ()  # type: ignore[union-attr]  # it has them
        # Lists and dictionaries of parameters have no forward: who holds one uses what is in it.
        lists = [child for child in layer.children() if isinstance(child, (nn.ParameterList, nn.ParameterDict))]
        listed = (parameter for held in lists for parameter in held.parameters())
        if any(parameter in trained for parameter in (*layer.parameters(recurse=False), *inside, *listed)) or (
            isinstance(layer, nn.MultiheadAttention) and any(parameter in trained for parameter in layer.parameters())
        ):
            found[name] = layer
            return
        for child_name, child in layer.named_children():
            visit(f"{name}.{child_name}" if name else child_name, child)

    visit("", module)
    return found


class Attached:
    """The forwards of a module's layers, computed through a tape while it records."""

    def __init__(self, layers: Mapping[str, nn.Module], tape: Tape) -> None:
        self._layers = [(layer, vars(layer).get("forward")) for layer in layers.values()]
        for layer, own in self._layers:
            layer.forward = _Routed(tape, layer, rule_of(layer), layer.forward if own is None else own)

    def remove(self) -> None:
        """Put every layer's forward back as it was."""
        for layer, own in self._layers:
            if own is None:
                vars(layer).pop("forward", None)
            else:
                layer.forward = own
        self._layers = []


class _Routed:
    """A layer's forward: by its rule while the tape records in this thread, else its own."""

    def __init__(self, tape: Tape, layer: nn.Module, rule: Rule, own: Callable[..., Any]) -> None:
        self._tape, self._layer, self._rule, self._own = tape, layer, rule, own

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._tape.active:
            return self._rule(self._tape, self._layer, *args, **kwargs)
        return self._own(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A copy of the module is not the module that trains: it computes by itself, with its own parameters.
        copy = memo.get(id(self._layer))
        return self if copy is None else MethodType(type(copy).forward, copy)
