"""The tape: what each trained parameter saw and what came back, from which per-example gradients follow after one backward pass.

While the tape records, a layer's forward asks the tape to compute with its parameters. The tape computes with parameters detached from
autograd, and remembers the activation that went in and the place in autograd's graph where the output's gradient will pass. `Tape.backward`
runs one backward pass to those places only; then `squared_norms` gives each example's squared gradient norm, and `add_sums` adds the
gradients weighted by a factor for each example, both from activations and output gradients alone: book-keeping (Bu et al. 2023,
"Differentially private optimization on large foundation models made efficient"). See `uses` for the arithmetic.

What a layer's forward may call, with the examples in the first dimension of every input (a first dimension of 1 is repeated for all):

========================================================  ============================================================================
``tape.linear(x, weight, bias=None, rows=None)``          ``x @ weight[rows].T + bias[rows]`` for x of shape (examples, ..., inputs)
``tape.embedding(indices, weight, padding_idx=None)``     ``weight[indices]``
``tape.conv(x, weight, bias, stride, padding, ...)``      convolution over one, two or three dimensions, by the weight's shape
``tape.norm(x, weight, bias, normalise, axes)``           any normalisation within an example that ends in ``* weight + bias``
``tape.expand(parameter)``                                ``parameter`` repeated, shape (examples, *parameter.shape); compute what you like
``tape.generic(function, parameters, *args, **kwargs)``   any function of one example's parameters and inputs, by torch.func.vmap
========================================================  ============================================================================

Weights and biases are the module's own Parameter objects; None and parameters that are not trained are allowed anywhere. A parameter may be
used any number of times, in any of these: its uses add up exactly, cross terms included. ``tape.active`` says whether the tape records; a
layer's forward computes by itself where it does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.nn import functional

from affidavit.errors import PluginError, Refused
from affidavit_governance.privacy.training import recorded
from affidavit_governance.privacy.training.recorded import Resolve
from affidavit_governance.privacy.training.uses import Use, combine

HALF = (torch.bfloat16, torch.float16)


class Tape:
    """Records the uses of `parameters` in the forward passes of one part of a batch at a time.

    Parameters
    ----------
    names
        The trained parameters with their names, in the order in which `add_sums` takes its sums.

    Attributes
    ----------
    coarse
        Whether some of the last part was computed in half precision.
    bytes
        What the last part's activations and output gradients took.
    """

    def __init__(self, names: Mapping[nn.Parameter, str]) -> None:
        self._names = dict(names)
        # By identity: to hash a tensor takes a call into Python each time.
        self._trained = {id(parameter): name for parameter, name in names.items()}
        self._examples = 0
        self._thread: int | None = None
        self._replays = self._replays_anywhere = False
        self._unrolled: set[object] = set()
        self.coarse = False
        self.bytes = 0
        self._forget()

    def _forget(self) -> None:
        self._edges: list[Any] = []  # GradientEdge or Tensor, which torch's types know one by one only
        self._resolve: list[Resolve] = []
        self._inputs: list[tuple[Tensor, int, str]] = []
        self._uses: dict[int, Use] = {}

    # -- recording --------------------------------------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether layers in this thread compute through the tape: it records, or a checkpointed part computes again what was recorded."""
        return self._replays_anywhere or self._thread == threading.get_ident()

    @property
    def examples(self) -> int:
        """Examples of the part that is being recorded."""
        return self._examples

    @contextmanager
    def recording(self, examples: int) -> Iterator[None]:
        """Record the forward pass of so many examples; what an earlier part left is forgotten."""
        self._forget()
        self._examples = examples
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._thread = None

    @contextmanager
    def _replaying(self, device: torch.device) -> Iterator[None]:
        """Compute as when it recorded, and record nothing: activation checkpointing calls layers again while gradients pass."""
        # Gradients pass in the calling thread on a CPU, and in threads of autograd's own on any other device.
        self._replays, self._replays_anywhere, self._thread = True, device.type != "cpu", threading.get_ident()
        try:
            yield
        finally:
            self._replays, self._replays_anywhere, self._thread = False, False, None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let layers compute by themselves inside the block."""
        thread, anywhere = self._thread, self._replays_anywhere
        self._thread, self._replays_anywhere = None, False
        try:
            yield
        finally:
            self._thread, self._replays_anywhere = thread, anywhere

    def trains(self, parameter: Tensor | None) -> bool:
        """Whether `parameter` is one of the trained ones."""
        return id(parameter) in self._trained

    # -- what layers compute with -----------------------------------------------------------------------------------------------------

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, rows: slice | None = None) -> Tensor:
        """``x @ weight.T + bias`` for x of shape (examples, ..., inputs); with `rows`, a slice with start and stop, by these rows only."""
        own, own_bias = self._own(weight), self._own(bias)
        tracked = own is not None or own_bias is not None
        w, b = (self._detached(weight), self._detached(bias)) if tracked else (weight, bias)
        if rows is not None:
            w, b = w[rows], None if b is None else b[rows]
        if not tracked:
            return functional.linear(x, w, b)
        x = self._batch_first(x, weight, bias)
        y = functional.linear(_reaching(x), w, b)
        self._record(y, x, recorded.linear(x, own, own_bias, rows), weight)
        return y

    def embedding(self, indices: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
        """Rows of `weight` for integer `indices` of shape (examples, ...); the row `padding_idx` gets no gradient."""
        if not self.trains(weight):
            return functional.embedding(indices, weight, padding_idx)
        indices = self._batch_first(indices, weight)
        y = functional.embedding(indices, _reaching(weight.detach()), padding_idx)
        self._record(y, indices, recorded.embedding(indices, self._own(weight), padding_idx), weight)
        return y

    def conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int = 1,
    ) -> Tensor:
        """Convolution of x, shape (examples, channels, *space), with zeros for padding; one number for each dimension of space."""
        dimensions = weight.dim() - 2
        function = (functional.conv1d, functional.conv2d, functional.conv3d)[dimensions - 1]
        stride, padding, dilation = list(stride), list(padding), list(dilation)
        if not (self.trains(weight) or self.trains(bias)):
            return function(x, weight, bias, stride, padding, dilation, groups)
        if x.dim() != weight.dim():
            raise self._not_batch_first(weight, bias)
        x = self._batch_first(x, weight, bias)
        y = function(_reaching(x), self._detached(weight), self._detached(bias), stride, padding, dilation, groups)
        self._record(y, x, recorded.conv(x, weight.detach(), self._own(weight), self._own(bias), (stride, padding, dilation, groups)), weight)
        return y

    def norm(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        normalise: Callable[[Tensor, Tensor | None, Tensor | None], Tensor],
        axes: Sequence[int],
    ) -> Tensor:
        """``normalise(x, weight, bias)``, which must be ``normalise(x, None, None) * weight + bias`` and stay within each example.

        `axes` are the dimensions of x along which weight and bias lie.
        """
        if not (self.trains(weight) or self.trains(bias)):
            return normalise(x, weight, bias)
        x = self._batch_first(x, weight, bias)
        y = normalise(_reaching(x), self._detached(weight), self._detached(bias))
        self._record(y, x, recorded.norm(x, self._own(weight), self._own(bias), normalise, axes), weight if weight is not None else bias)
        return y

    def expand(self, parameter: Tensor) -> Tensor:
        """`parameter` once for each example, shape (examples, *parameter.shape), without taking memory."""
        repeated = parameter.expand(self._examples, *parameter.shape)
        own = self._own(parameter)
        if own is None or not torch.is_grad_enabled():
            return repeated
        repeated = repeated.detach().requires_grad_()
        if not self._replays:
            self._edges.append(repeated)
            self._resolve.append(recorded.direct(own))
        return repeated

    def generic(self, function: Callable[..., Any], parameters: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """``function(parameters, *args, **kwargs)`` for each example, stacked.

        `function` is called with tensors of one example: inputs whose first dimension is the number of examples come with 1 in its place,
        other inputs whole, and each tensor that it returns must have 1 there too. It is vectorised by torch.func.vmap, with its own random
        numbers for each example; where vmap cannot follow it, it is called for one example after the other.
        """
        from affidavit_governance.privacy.training import fallback

        repeated = {name: self.expand(parameter) for name, parameter in parameters.items()}
        with self.paused():
            return fallback.each_example(function, repeated, args, kwargs, examples=self._examples, unrolled=self._unrolled)

    def _own(self, parameter: Tensor | None) -> nn.Parameter | None:
        return parameter if self.trains(parameter) else None  # type: ignore[return-value]  # what is trained is a Parameter

    def _detached(self, parameter: Any) -> Any:  # a Tensor or None, and None only for None
        # A parameter that is not trained, or a tensor computed from one, keeps its place in autograd's graph.
        return parameter.detach() if self.trains(parameter) else parameter

    def _batch_first(self, x: Tensor, *parameters: Tensor | None) -> Tensor:
        if x.dim() and x.shape[0] == self._examples:
            return x
        if x.dim() > 1 and x.shape[0] == 1:
            # What all examples share, such as positions: each needs a use of its own.
            return x.expand(self._examples, *x.shape[1:])
        raise self._not_batch_first(*parameters)

    def _not_batch_first(self, *parameters: Tensor | None) -> Refused:
        own = next(parameter for parameter in map(self._own, parameters) if parameter is not None)
        return cannot(self._names[own], "belongs to a layer whose first dimension is not the batch")

    def _record(self, y: Tensor, x: Tensor, resolve: Resolve, weight: Tensor | None) -> None:
        if y.grad_fn is None or self._replays:  # under no_grad no gradient passes; what is computed again was recorded the first time
            return
        # The place in the graph, not the tensor: an activation in place may change what the tensor is the output of.
        self._edges.append(GradientEdge(y.grad_fn, y.output_nr))
        self._resolve.append(resolve)
        self._inputs.append((x, x._version, self._trained.get(id(weight), "")))

    # -- gradients --------------------------------------------------------------------------------------------------------------------

    def backward(self, losses: Tensor) -> None:
        """Find what `squared_norms` and `add_sums` need; one backward pass.

        Parameters
        ----------
        losses
            One for each recorded example.

        Raises
        ------
        Refused
            A trained parameter also acts past the tape, so that its gradients would be incomplete.
        PluginError
            The losses depend on no trained parameter, or a layer's input was changed in place after the layer had read it.
        """
        if losses.grad_fn is None:
            raise PluginError("The losses do not depend on any parameter that trains.", hint="Compute them with gradients enabled.")
        self._refuse_other_uses(losses)
        for x, version, name in self._inputs:
            if x._version != version:
                raise PluginError(
                    f"The input of the layer of '{name}' was changed in place after the layer had read it.", hint="Change a copy of it."
                )
        edges = self._edges
        with self._replaying(losses.device):
            found = torch.autograd.grad(losses.sum(), edges, allow_unused=True) if edges else ()
        held = [x for x, _, _ in self._inputs] + [gradient for gradient in found if gradient is not None]
        self.coarse = any(tensor.dtype in HALF for tensor in held)
        self.bytes = sum(tensor.nbytes for tensor in held)
        collected: dict[int, tuple[nn.Parameter, list[Use]]] = {}
        for resolve, gradient in zip(self._resolve, found, strict=True):
            if gradient is not None:
                for parameter, use in resolve(gradient):
                    collected.setdefault(id(parameter), (parameter, []))[1].append(use)
        self._uses = {key: combine(several, parameter) for key, (parameter, several) in collected.items()}
        self._edges, self._resolve, self._inputs = [], [], []

    def _refuse_other_uses(self, losses: Tensor) -> None:
        """Walk autograd's graph: where it still reaches a trained parameter, that parameter acts past the tape."""
        seen: set[Any] = set()
        waiting: list[Any] = [losses.grad_fn]  # nodes, of whose kinds torch has no types
        while waiting:
            for node, _ in waiting.pop().next_functions:
                if node is not None and node not in seen:
                    seen.add(node)
                    if type(node).__name__ == "CheckpointFunctionBackward":
                        raise _hidden()
                    if type(node).__name__ == "AccumulateGrad":
                        if self.trains(node.variable):
                            raise cannot(self._names[node.variable], "is used outside its layer's own forward")
                    else:
                        waiting.append(node)

    @torch.no_grad()
    def squared_norms(self) -> Tensor:
        """Each example's squared gradient norm over all trained parameters, shape (examples,), in single precision or wider."""
        memo: dict[int, Tensor] = {}
        total: Tensor | None = None
        for use in self._uses.values():
            part = use.squared_norms(memo)
            total = part if total is None else total + part
        if total is None:
            return torch.zeros(self._examples, device=next(iter(self._names)).device)
        return total

    @torch.no_grad()
    def drop(self, examples: Tensor) -> None:
        """Forget the examples that the boolean mask `examples` selects: their gradients become zero whatever they were."""
        for use in self._uses.values():
            use.drop(examples)

    @torch.no_grad()
    def add_sums(self, factors: Tensor, sums: Sequence[Tensor]) -> None:
        """Add to each of `sums` its parameter's gradient, summed over the examples with weights `factors`, shape (examples,)."""
        for parameter, into in zip(self._names, sums, strict=True):
            use = self._uses.get(id(parameter))
            if use is not None:
                use.add_sum(factors, into)

    def clear(self) -> None:
        """Free everything."""
        self._forget()


def cannot(name: str, why: str) -> Refused:
    """The refusal to train the parameter `name`."""
    return Refused(
        f"Per-example gradients of parameter '{name}' cannot be found: it {why}.",
        by="privacy",
        line="privacy.epsilon",
        satisfy="Use each parameter only through its own layer, with the batch in front (or 1 for what all examples share).",
    )


def _hidden() -> Refused:
    return Refused(
        "A part of the module is checkpointed in the reentrant way, which hides its parameters from autograd's graph.",
        by="privacy",
        line="privacy.epsilon",
        satisfy="Checkpoint with use_reentrant=False.",
    )


def _reaching(x: Tensor) -> Tensor:
    """`x`, or where no gradient reaches it a stand-in that one would reach: so the output has a place in the graph. Costs no work."""
    return x if x.requires_grad else x.detach().requires_grad_()
