"""What a module, an optimizer and the losses must be for private training, checked before the first step is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from affidavit.errors import PluginError, Refused
from affidavit_governance.privacy.training.gradients import Gradients, Losses, one_loss_each

EXAMPLES = 4
"""Examples that are compared with brute force."""

COMPANY = 256
"""Examples in whose company their losses are compared too: some losses mix in large batches only, as hard-example mining does."""

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


def check_module(module: nn.Module) -> None:
    """Refuse a module with layers that cannot train privately, naming the layer and what to do.

    Raises
    ------
    Refused
        BatchNorm, running statistics, layers that mix gradients of examples by their settings, compiled and wrapped modules.
    """
    for name, layer in module.named_modules():
        fix = _fix(layer)
        if fix is not None:
            message = f"Layer '{name or 'the module itself'}' ({type(layer).__name__}) cannot be trained privately."
            raise Refused(message, by="privacy", line="privacy.epsilon", satisfy=fix)


def _fix(layer: nn.Module) -> str | None:
    """What to do about a layer, None where it is fine."""
    trains = any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    if isinstance(layer, BATCH_NORMS):
        return "Replace it by GroupNorm or LayerNorm, or set privacy.replace_batchnorm: BatchNorm mixes the examples of a batch."
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm) and layer.track_running_stats:
        return "Set track_running_stats=False: running statistics are read from the rows without noise."
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and trains:
        if layer.scale_grad_by_freq:
            return "Set scale_grad_by_freq=False: it scales by counts over the whole batch."
        if layer.max_norm is not None:
            return "Set max_norm=None: it rewrites the rows that a batch looks up, without noise."
    if isinstance(layer, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        if not getattr(layer.self_attn, "batch_first", True) and any(parameter.requires_grad for parameter in layer.parameters()):
            return "Make it with batch_first=True, and give it examples × steps × features: its linear layers see the batch in second place."
        return None
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():
        return "Run the module once on any input before training: its parameters have no shape yet."
    # torch.compile's module holds the one it was given as "_orig_mod".
    if isinstance(layer, torch.jit.ScriptModule) or "_orig_mod" in layer._modules or layer._compiled_call_impl is not None:
        return "Train the module as it was before it was compiled: a compiled layer does not show what each example did."
    if isinstance(layer, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "Train the module that is inside of it."
    if any(parameter.is_complex() and parameter.requires_grad for parameter in layer.parameters(recurse=False)):
        return "Hold its complex parameters as two real ones."
    if trains and any(True for _ in layer.buffers(recurse=False)):
        return "Move its buffers or its trainable parameters to another layer."
    return None


def check_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, str]:
    """The parameters that `optimizer` trains, with their names.

    Raises
    ------
    Refused
        It reads the loss several times a step.
    PluginError
        It has no parameter to train, or one that is not the module's.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise Refused(
            "LBFGS reads the loss several times a step and cannot be private.", by="privacy", line="privacy.epsilon", satisfy="Use SGD or Adam."
        )
    known = {parameter: name for name, parameter in module.named_parameters()}
    given = [parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad]
    if not given:
        raise PluginError("The optimizer has no parameter to train.")
    if not known.keys() >= set(given):
        raise PluginError("The optimizer has parameters that are not the module's: their gradients would not be per example.")
    return {parameter: known[parameter] for parameter in given}


class BruteForce:
    """Compares per-example gradients with those of one example at a time, until every parameter was compared where it mattered.

    Per-example gradients are wrong where a loss mixes examples, where a parameter acts in a way that its layer's rule does not know, or where
    the first dimension is not the batch: all of these show here. Random numbers in the forward pass, dropout for example, are replaced by
    constants for the comparison, so that an example sees the same ones alone and in company; the module stays in training mode.

    A batch of one example cannot mix, so mixing is looked for in the first batch that has two, and losses are compared once more in the first
    one that has more than are compared. A parameter whose gradient is zero, behind a
    layer that starts at zero for example, is compared again in steps 2, 4, 8 and so on until it is not.
    """

    def __init__(self, names: Mapping[nn.Parameter, str]) -> None:
        self._names = dict(names)
        self._unseen = set(names)
        self._together = self._accompanied = False
        self._steps = 0
        self._next = 1

    def check(self, indices: NDArray[np.int64], gradients: Gradients, losses: Losses) -> None:
        """Compare on some examples of a batch, where that is due.

        Raises
        ------
        Refused
            They differ.
        """
        self._steps += 1
        due = not self._together or (self._unseen and self._steps >= self._next) or (not self._accompanied and len(indices) > EXAMPLES)
        if not len(indices) or not due:
            return
        while self._next <= self._steps:
            self._next *= 2
        chosen = indices[:EXAMPLES]
        device = next(iter(self._names)).device
        devices = [device] if device.type == "cuda" else []
        company = indices[:COMPANY] if not self._accompanied and len(indices) > EXAMPLES else chosen
        even = _Even()  # type: ignore[no-untyped-call]  # torch's own
        with torch.random.fork_rng(devices=devices), even, torch.enable_grad():
            self._compare(chosen, company, gradients, losses)

    def _compare(self, chosen: NDArray[np.int64], company: NDArray[np.int64], gradients: Gradients, losses: Losses) -> None:
        parameters = list(self._names)
        alone = [self._one(index, losses) for index in chosen]
        with torch.no_grad():
            together = one_loss_each(losses(company), len(company))
        ours, squared_norms = gradients.compute(chosen, losses)
        try:
            precise = not gradients.coarse
            finite = [i for i, (loss, found) in enumerate(alone) if bool(torch.isfinite(loss)) and all(bool(torch.isfinite(g).all()) for g in found)]
            good = [i for i in finite if bool(torch.isfinite(squared_norms[i]))]
            bad = torch.ones(len(chosen), dtype=torch.bool, device=squared_norms.device)
            bad[good] = False
            gradients.drop(bad)
            for i in good:
                loss, expected = alone[i]
                tolerance = _tolerance(expected, precise=precise)
                if not (_near(together[i], loss, tolerance) and _near(ours[i], loss, tolerance)):
                    raise _mixing()
            for i in good:
                _, expected = alone[i]
                tolerance = _tolerance(expected, precise=precise)
                only = torch.zeros_like(squared_norms)
                only[i] = 1.0
                found = [torch.zeros(p.shape, dtype=torch.promote_types(p.dtype, torch.float32), device=p.device) for p in parameters]
                gradients.add_sums(only, found)
                self._compare_gradients(found, expected, float(squared_norms[i].clamp_min(0)) ** 0.5, tolerance)
            self._together = self._together or len(good) > 1
            self._accompanied = self._accompanied or (len(company) > EXAMPLES and len(good) > 0)
        finally:
            gradients.clear()

    def _one(self, index: int, losses: Losses) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradients of one example."""
        try:
            loss = one_loss_each(losses(np.array([index])), 1)
        except ValueError as error:  # as functional.batch_norm has it
            raise _mixing() from error
        if not loss.requires_grad:
            raise PluginError("The losses do not depend on any parameter that trains.", hint="Compute them with gradients enabled.")
        found = torch.autograd.grad(loss.sum(), list(self._names), allow_unused=True)
        return loss.detach()[0], [torch.zeros_like(p) if g is None else g for p, g in zip(self._names, found, strict=True)]

    def _compare_gradients(self, found: list[Tensor], expected: list[Tensor], norm: float, tolerance: float) -> None:
        sizes = [float(torch.linalg.vector_norm(gradient.double())) for gradient in expected]
        total = sum(size**2 for size in sizes) ** 0.5
        for (parameter, name), one, other, size in zip(self._names.items(), found, expected, sizes, strict=True):
            # The second term: a gradient that is zero but for rounding, as that of a bias before a normalisation, has only rounding to show.
            if float(torch.linalg.vector_norm((one - other).double())) > tolerance * (size + 0.01 * total) + 1e-12:
                raise _differs(f"The gradient of parameter '{name}'")
            if size > 0:
                self._unseen.discard(parameter)
        if abs(norm - total) > tolerance * total + 1e-12:
            raise _differs("The norm of the gradient")


def _tolerance(expected: list[Tensor], *, precise: bool) -> float:
    """Relative difference that rounding may make: kernels for a batch and for one example sum in different orders."""
    coarsest = max(torch.finfo(gradient.dtype).eps for gradient in expected)
    if not precise or coarsest > 1e-4:
        return 5e-2
    if any(gradient.device.type != "cpu" for gradient in expected):
        return 1e-2  # accelerators may round single precision to 10 bits inside a product
    return 1e-7 if coarsest < 1e-10 else 1e-3


def _near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return abs(float(one) - float(other)) <= tolerance * (1.0 + abs(float(other)))


def _mixing() -> Refused:
    return Refused(
        "The loss of an example depends on the other examples of its batch, so that one record would reach the gradients of others.",
        by="privacy",
        line="privacy.epsilon",
        satisfy="Give each example a loss of its own: no statistics or means over the batch, no contrastive terms.",
    )


def _differs(what: str) -> Refused:
    return Refused(
        f"{what} of single examples differs from that of one example at a time, so that it could not be clipped rightly.",
        by="privacy",
        line="privacy.epsilon",
        satisfy="Keep the batch in the first dimension of every layer, and let no example reach another one's loss.",
    )


class _Even(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Puts constants in the place of random numbers."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import all of its compiler, to keep it out of the method below

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        if func._overloadpacket is torch.ops.aten.native_dropout:
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        names = [argument.name for argument in func._schema.arguments]
        if "dropout_p" in names:
            place = names.index("dropout_p")
            if place < len(args):
                args = (*args[:place], 0.0, *args[place + 1 :])
            kwargs.pop("dropout_p", None)
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            value = 1 if "bernoulli" in func._schema.name else 0.5 if result.is_floating_point() else 0
            result.fill_(value)
        return result
