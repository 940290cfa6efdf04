"""Per-example gradients by Opacus's hooks, for the policy's ``engine: opacus``: the other implementation to compare with.

Opacus is imported without its side effect: it calls ``logging.basicConfig``, and that choice is the application's.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affidavit.errors import Refused
from affidavit_governance.privacy.training.gradients import Losses, one_loss_each, refuse_evaluation
from affidavit_governance.privacy.training.tape import cannot

_handlers = logging.getLogger().handlers[:]

from opacus.grad_sample.grad_sample_module import GradSampleHooks  # noqa: E402  # between the two lines that undo its side effect

logging.getLogger().handlers[:] = _handlers


class OpacusGradients:
    """Per-example gradients, all of them in memory, in ``grad_sample`` of each parameter."""

    coarse = False

    def __init__(self, module: nn.Module, names: Mapping[nn.Parameter, str]) -> None:
        self._module = module
        self._names = dict(names)
        self._layers = {
            name: layer for name, layer in module.named_modules() if any(parameter in names for parameter in layer.parameters(recurse=False))
        }
        self._hooks = _attach(module)
        self.bytes_per_example = sum(parameter.numel() * parameter.element_size() for parameter in names)

    def compute(self, part: NDArray[np.int64], losses: Losses) -> tuple[Tensor, Tensor]:
        self._prepare()
        self._hooks.enable_hooks()
        try:
            with torch.enable_grad(), warnings.catch_warnings():
                # A first layer's input needs no gradient, and its hook reads none.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                values = one_loss_each(losses(part), len(part))
                values.sum().backward()  # type: ignore[no-untyped-call]  # torch's own
        finally:
            self._hooks.disable_hooks()
        for parameter, name in self._names.items():
            if parameter.grad_sample is None:  # type: ignore[attr-defined]  # Opacus's
                if parameter.grad is not None and bool(parameter.grad.any()):
                    raise cannot(name, "is used outside its layer's own forward")
                parameter.grad_sample = parameter.new_zeros(()).expand(len(part), *parameter.shape)  # type: ignore[attr-defined]  # Opacus's
            elif not isinstance(parameter.grad_sample, Tensor) or len(parameter.grad_sample) != len(part):  # type: ignore[attr-defined]  # as above
                raise cannot(name, "belongs to a layer whose first dimension is not the batch")
        return values.detach(), torch.stack([_row_squares(samples) for samples in self._samples()]).sum(0)

    def _samples(self) -> list[Tensor]:
        return [parameter.grad_sample for parameter in self._names]  # type: ignore[attr-defined]  # Opacus's

    def drop(self, examples: Tensor) -> None:
        for parameter, samples in zip(self._names, self._samples(), strict=True):
            parameter.grad_sample = samples.masked_fill(examples.view(-1, *[1] * (samples.dim() - 1)), 0.0)  # type: ignore[attr-defined]  # as above

    def add_sums(self, factors: Tensor, sums: Sequence[Tensor]) -> None:
        for samples, into in zip(self._samples(), sums, strict=True):
            into += torch.einsum("i,i...", factors.to(into.dtype), samples.to(into.dtype))

    def clear(self) -> None:
        for parameter in self._names:
            parameter.grad_sample = None  # type: ignore[attr-defined]  # Opacus's
            parameter.grad = None

    def close(self) -> None:
        self.clear()
        self._hooks.cleanup()
        for parameter in self._module.parameters():
            if hasattr(parameter, "grad_sample"):
                del parameter.grad_sample
        for module in self._module.modules():
            for name in ("activations", "max_batch_len"):
                if hasattr(module, name):
                    delattr(module, name)

    def _prepare(self) -> None:
        """Drop what a forward pass without a backward pass left behind, which would be taken for this batch's."""
        refuse_evaluation(self._layers)
        self.clear()
        for layer in self._module.modules():
            if hasattr(layer, "activations"):
                layer.activations = []  # type: ignore[assignment]  # Opacus's
        for parameter in self._module.parameters():
            if hasattr(parameter, "_forward_counter"):
                parameter._forward_counter = 0
            if hasattr(parameter, "_current_grad_sample"):
                del parameter._current_grad_sample


def _row_squares(samples: Tensor) -> Tensor:
    wide = torch.promote_types(samples.dtype, torch.float32)
    rows: Tensor = samples.reshape(len(samples), math.prod(samples.shape[1:]))
    return rows.to(wide).square().sum(dim=1)


def _attach(module: nn.Module) -> Any:
    for name, layer in module.named_modules():
        if isinstance(layer, nn.RNNBase | nn.MultiheadAttention):
            raise Refused(
                f"Opacus cannot give per-example gradients of layer '{name}' ({type(layer).__name__}).",
                by="privacy",
                line="privacy.engine",
                satisfy=f"Use the native engine, or opacus.layers.DP{type(layer).__name__}.",
            )
    try:
        hooks = GradSampleHooks(module, loss_reduction="sum", strict=True)
    except (NotImplementedError, ValueError) as error:
        kinds = sorted({type(layer).__name__ for layer in module.modules()})
        raise Refused(
            f"Opacus cannot give per-example gradients of this module ({type(error).__name__}; layers: {', '.join(kinds)}).",
            by="privacy",
            line="privacy.engine",
            satisfy="Use the native engine, or layers that Opacus supports.",
        ) from error
    hooks.disable_hooks()
    return hooks
