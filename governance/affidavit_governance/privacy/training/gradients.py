"""Where per-example gradients come from: one interface, and the native engine behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affidavit.errors import MissingExtra, PluginError
from affidavit_governance.privacy.training.layers import Attached, units
from affidavit_governance.privacy.training.tape import Tape

Losses = Callable[[NDArray[np.int64]], Any]
"""Gives the loss of each of the rows asked for, shape ``(len(indices),)``."""


class Gradients(Protocol):
    """The per-example gradients of one part of a batch at a time."""

    @property
    def coarse(self) -> bool:
        """Whether the last part was computed, at least in part, in half precision."""
        ...

    @property
    def bytes_per_example(self) -> int:
        """What the last part held for each example."""
        ...

    def compute(self, part: NDArray[np.int64], losses: Losses) -> tuple[Tensor, Tensor]:
        """Forward and backward pass of the rows `part`: their losses and their squared gradient norms, both of shape ``(len(part),)``."""
        ...

    def drop(self, examples: Tensor) -> None:
        """Make the gradients of the examples selected by a boolean mask zero, whatever they were."""
        ...

    def add_sums(self, factors: Tensor, sums: Sequence[Tensor]) -> None:
        """Add the gradients, weighted by a factor for each example, to the sums, one for each parameter."""
        ...

    def clear(self) -> None:
        """Forget the part."""
        ...

    def close(self) -> None:
        """Take everything off the module."""
        ...


class NativeGradients:
    """Per-example gradients by book-keeping on a tape."""

    def __init__(self, module: nn.Module, names: Mapping[nn.Parameter, str]) -> None:
        self._tape = Tape(names)
        self._layers = units(module, names)
        self._attached = Attached(self._layers, self._tape)

    @property
    def coarse(self) -> bool:
        return self._tape.coarse

    @property
    def bytes_per_example(self) -> int:
        return self._tape.bytes // max(1, self._tape.examples)

    def compute(self, part: NDArray[np.int64], losses: Losses) -> tuple[Tensor, Tensor]:
        refuse_evaluation(self._layers)
        with torch.enable_grad(), self._tape.recording(len(part)):
            values = one_loss_each(losses(part), len(part))
        self._tape.backward(values)
        return values.detach(), self._tape.squared_norms()

    def drop(self, examples: Tensor) -> None:
        self._tape.drop(examples)

    def add_sums(self, factors: Tensor, sums: Sequence[Tensor]) -> None:
        self._tape.add_sums(factors, sums)

    def clear(self) -> None:
        self._tape.clear()

    def close(self) -> None:
        self.clear()
        self._attached.remove()


def make_gradients(engine: Literal["native", "opacus"], module: nn.Module, names: Mapping[nn.Parameter, str]) -> Gradients:
    """The source of per-example gradients that the policy names, attached to `module`.

    Parameters
    ----------
    names
        The trained parameters with their names.

    Raises
    ------
    MissingExtra
        Opacus is asked for and not installed.
    Refused
        Opacus has no rule for a layer.
    """
    if engine == "native":
        return NativeGradients(module, names)
    try:
        from affidavit_governance.privacy.training._opacus import OpacusGradients
    except ModuleNotFoundError as error:
        raise MissingExtra("The engine 'opacus' of private training", extra="bench", library="opacus") from error
    return OpacusGradients(module, names)


def one_loss_each(values: Any, examples: int) -> Tensor:
    """`values`, which a training loop gave as losses. Raises PluginError unless it is one number for each example."""
    if not isinstance(values, Tensor) or values.shape != (examples,):
        raise PluginError("The training loop's losses are not a tensor with one loss for each example.")
    return values


def refuse_evaluation(layers: Mapping[str, nn.Module]) -> None:
    """Raise PluginError where a layer is in evaluation mode."""
    for name, layer in layers.items():
        if not layer.training:
            raise PluginError(f"Layer '{name}' is in evaluation mode during a training step.", hint="Call module.train() before each epoch.")
