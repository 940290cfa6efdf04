"""Poisson batches and private steps over one module and one optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from affidavit.errors import PluginError, Refused
from affidavit_governance.privacy.randomness import Randomness
from affidavit_governance.privacy.training._opacus import GradSampleHooks
from affidavit_governance.privacy.training.optimizer import PrivateOptimizer

PHYSICAL_EXAMPLES = 256
PHYSICAL_BYTES = 512 * 2**20
"""Per-example gradients held at a time: a batch goes through in parts of at most so many examples and bytes."""

REPLACEMENTS: dict[type[nn.Module], str] = {
    nn.modules.batchnorm._BatchNorm: "GroupNorm or LayerNorm: BatchNorm mixes the examples of a batch",
    nn.MultiheadAttention: "opacus.layers.DPMultiheadAttention",
    nn.LSTM: "opacus.layers.DPLSTM",
    nn.GRU: "opacus.layers.DPGRU",
    nn.RNN: "opacus.layers.DPRNN",
}


class PrivateLoop:
    """The batches and steps of one private run. Made by `PrivateEngine.begin`.

    Each step draws every row with probability q (Poisson sampling), clips the gradient of each drawn example, adds noise to the sum and
    divides by the expected batch size. An empty batch is a step like any other: skipping it would tell that it was empty.

    Attributes
    ----------
    planned, executed
        Steps that were calibrated for, and steps whose noisy sum was made.
    empty_batches
        Steps without any example.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        rows: int,
        sampling_rate: float,
        expected_batch_size: float,
        steps_per_epoch: int,
        epochs: int,
        noise_multiplier: float,
        max_grad_norm: float,
        source: Randomness,
    ) -> None:
        check_module(module)
        check_optimizer(module, optimizer)
        self._module = module
        self._names = {parameter: name for name, parameter in module.named_parameters()}
        self._rows, self._rate, self._source = rows, sampling_rate, source
        self._steps_per_epoch = steps_per_epoch
        self.planned = steps_per_epoch * epochs
        self.drawn = 0
        self.empty_batches = 0
        self.buffers_changed: str | None = None
        self._pending: NDArray[np.int64] | None = None
        self._inside = False
        self._checked = False
        self._buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
        self._hooks = _attach(module)
        self._optimizer = PrivateOptimizer(
            optimizer, noise_multiplier=noise_multiplier, max_grad_norm=max_grad_norm, expected_batch_size=expected_batch_size, source=source
        )
        trained = sum(parameter.numel() for parameter in self._optimizer.params)
        self._part = max(1, min(PHYSICAL_EXAMPLES, PHYSICAL_BYTES // (4 * trained)))
        self._guard = optimizer.register_step_pre_hook(self._refuse_outside)
        self._closed = False

    @property
    def executed(self) -> int:
        """Steps that count as released, which is from just before their noise is drawn."""
        return self._optimizer.released

    @property
    def non_finite(self) -> int:
        """Examples whose gradient was NaN or infinite and counted as zero."""
        return self._optimizer.non_finite

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """One epoch's Poisson batches; some may be empty, and each must be passed to `step`.

        Raises
        ------
        PluginError
            A batch was passed over, or there are more batches than the noise was calibrated for.
        """
        for _ in range(self._steps_per_epoch):
            if self._pending is not None:
                raise PluginError("The training loop passed over a batch: in private training every batch is a step, also an empty one.")
            if self.drawn >= self.planned:
                raise PluginError(f"The training loop asked for more than the {self.planned} batches that the noise was calibrated for.")
            self.drawn += 1
            self._pending = self._source.sample(self.drawn, self._rows, self._rate)
            yield self._pending

    def step(self, indices: NDArray[np.int64], losses: Callable[[NDArray[np.int64]], Any]) -> float:
        """Take one private step.

        Returns
        -------
        float
            NaN always: a batch's loss is read from the rows without noise, so it may not leave.

        Raises
        ------
        PluginError
            `indices` is not the batch that `epoch` gave last, or `losses` does not give one loss for each example.
        Refused
            A parameter is used in a way that per-example gradients cannot follow.
        """
        if self._closed or self._pending is None or not np.array_equal(indices, self._pending):
            raise PluginError("The training loop made a step with other rows than the batch it was given.")
        self._optimizer.clear()
        parts = [indices[start : start + self._part] for start in range(0, len(indices), self._part)] or [indices]
        for part in parts:
            self._optimizer.zero_grad(set_to_none=True)
            self._gradients(part, losses)
            self._optimizer.signal_skip_step(part is not parts[-1])
            self._inside = True
            try:
                self._optimizer.step()
            finally:
                self._inside = False
        self._optimizer.clear()
        self.empty_batches += not len(indices)
        self._pending = None
        return float("nan")

    def _gradients(self, part: NDArray[np.int64], losses: Callable[[NDArray[np.int64]], Any]) -> None:
        """Leave each example's gradient in ``grad_sample`` of each parameter."""
        if len(part):
            _prepare(self._module)
            self._hooks.enable_hooks()
            try:
                with torch.enable_grad(), warnings.catch_warnings():
                    # A first layer's input needs no gradient, and its hook reads none.
                    warnings.filterwarnings("ignore", message="Full backward hook is firing")
                    values = losses(part)
                    if not isinstance(values, torch.Tensor) or values.shape != (len(part),):
                        raise PluginError("The training loop's losses are not a tensor with one loss for each example.")
                    values.sum().backward()  # type: ignore[no-untyped-call]  # torch's own
            finally:
                self._hooks.disable_hooks()
        for parameter in self._optimizer.params:
            if parameter.grad_sample is None:
                if parameter.grad is not None and bool(parameter.grad.any()):
                    self._refuse(parameter, "is used outside its layer's own forward")
                parameter.grad_sample = parameter.new_zeros(()).expand(len(part), *parameter.shape)
            elif not isinstance(parameter.grad_sample, torch.Tensor) or len(parameter.grad_sample) != len(part):
                self._refuse(parameter, "belongs to a layer whose first dimension is not the batch")
        if len(part) and not self._checked:
            self._check_sums()
            self._checked = True

    def _check_sums(self) -> None:
        """Per-example gradients must sum to what autograd finds: a parameter that is also used past its layer's forward shows here."""
        # A convolution's bias before a normalisation has a gradient of zero, of which both sides show only rounding: hence the second term.
        largest = max(float(parameter.grad_sample.abs().sum(0).max()) for parameter in self._optimizer.params)
        for parameter in self._optimizer.params:
            total = parameter.grad_sample.sum(0)
            found = torch.zeros_like(total) if parameter.grad is None else parameter.grad
            if not bool(torch.isfinite(total).all()):
                continue
            # Rounding grows with the size of the summands, not of the sum.
            bound = 1e-2 * float(parameter.grad_sample.abs().sum(0).max()) + 1e-5 * largest + 1e-8
            if float((total - found).abs().max()) > bound:
                self._refuse(parameter, "is used in two ways, of which only one goes through its layer's forward")

    def _refuse(self, parameter: nn.Parameter, why: str) -> None:
        raise Refused(
            f"Per-example gradients of parameter '{self._names[parameter]}' cannot be found: it {why}.",
            by="privacy",
            line="privacy.epsilon",
            satisfy="Use each parameter only through its own layer, with the batch in front.",
        )

    def _refuse_outside(self, *_: object) -> None:
        if not self._inside:
            raise PluginError("The training loop called the optimizer's own step: that step would have had no noise.")

    def close(self) -> None:
        """Take everything off the module and the optimizer; calling it twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._guard.remove()
        self._optimizer.detach()
        self._hooks.cleanup()
        for module in self._module.modules():
            for name in ("activations", "max_batch_len"):
                if hasattr(module, name):
                    delattr(module, name)
        changed = (name for name, buffer in self._module.named_buffers() if not _same(buffer, self._buffers.get(name)))
        self.buffers_changed = next(changed, None)


def check_module(module: nn.Module) -> None:
    """Refuse a module with layers that have no per-example gradient, naming the layer and what to put in its place."""
    for name, layer in module.named_modules():
        for kind, replacement in REPLACEMENTS.items():
            if isinstance(layer, kind):
                raise _unsupported(name, layer, f"Replace it by {replacement}.")
        if isinstance(layer, nn.modules.instancenorm._InstanceNorm) and layer.track_running_stats:
            raise _unsupported(name, layer, "Set track_running_stats=False: running statistics are read from the rows without noise.")
        if any(True for _ in layer.buffers(recurse=False)) and any(parameter.requires_grad for parameter in layer.parameters(recurse=False)):
            raise _unsupported(name, layer, "Move its buffers or its trainable parameters to another layer.")


def _unsupported(name: str, layer: nn.Module, fix: str) -> Refused:
    message = f"Layer '{name or 'the module itself'}' ({type(layer).__name__}) cannot be trained privately."
    return Refused(message, by="privacy", line="privacy.epsilon", satisfy=fix)


def check_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer whose steps would not be the private ones."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise Refused(
            "LBFGS reads the loss several times a step and cannot be private.", by="privacy", line="privacy.epsilon", satisfy="Use SGD or Adam."
        )
    known = set(module.parameters())
    given = [parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad]
    if not given:
        raise PluginError("The optimizer has no parameter to train.")
    if not known.issuperset(given):
        raise PluginError("The optimizer has parameters that are not the module's: their gradients would not be per example.")


def _attach(module: nn.Module) -> Any:
    try:
        hooks = GradSampleHooks(module, loss_reduction="sum", strict=True)
    except (NotImplementedError, ValueError) as error:
        kinds = sorted({type(layer).__name__ for layer in module.modules()})
        raise Refused(
            f"Opacus cannot give per-example gradients of this module ({type(error).__name__}; layers: {', '.join(kinds)}).",
            by="privacy",
            line="privacy.epsilon",
            satisfy="Use layers that Opacus supports.",
        ) from error
    hooks.disable_hooks()
    return hooks


def _prepare(module: nn.Module) -> None:
    """Drop what a forward pass without a backward pass left behind, which would be taken for this batch's."""
    for name, layer in module.named_modules():
        if not layer.training and any(parameter.requires_grad for parameter in layer.parameters(recurse=False)):
            raise PluginError(f"Layer '{name}' is in evaluation mode during a training step.", hint="Call module.train() before each epoch.")
        if hasattr(layer, "activations"):
            layer.activations = []
    for parameter in module.parameters():
        if hasattr(parameter, "_forward_counter"):
            parameter._forward_counter = 0
        if hasattr(parameter, "_current_grad_sample"):
            del parameter._current_grad_sample


def _same(buffer: torch.Tensor, before: torch.Tensor | None) -> bool:
    return before is not None and torch.equal(torch.nan_to_num(buffer), torch.nan_to_num(before))
