"""The arithmetic of per-example gradients: squared norms and weighted sums of one parameter's uses, without the gradients where that is cheaper.

Shapes: B examples, T positions within one (time steps, pixels), I inputs and O outputs of a linear map.

A linear map's gradient for one example is the sum over its positions of output gradient ⊗ activation. Its squared norm is
``sum((a aᵀ) * (g gᵀ))`` over pairs of positions, the ghost norm (Goodfellow 2015 for T = 1; Li et al. 2022, "Large language models can be
strong differentially private learners"), or comes from the gradient itself. What is cheaper is chosen for each use by its shapes, as in mixed
ghost clipping (Bu et al. 2022, "Scalable and efficient training of large convolutional neural networks with differential privacy").
The weighted sum is one matrix product of activations and weighted output gradients (book-keeping, Bu et al. 2023).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn

CHUNK_BYTES = 16 * 2**20
"""Gradients of single examples that are made at a time only to measure them."""

ROUNDING = 4
"""Times ε: the rounding of a squared norm from pairs of positions, relative to (Σ |g||a|)². Up to 3 was seen, for up to 4,096 inputs."""

KEPT_BYTES = 64 * 2**20
"""Gradients of single examples of one parameter that are kept for the weighted sum, which is then a product of a vector and a matrix."""


class Use(ABC):
    """One parameter's per-example gradients."""

    @abstractmethod
    def squared_norms(self, memo: dict[int, Tensor]) -> Tensor:
        """Squared norms, shape (B,). `memo` holds row squares by the id of a tensor that lives as long, for uses that share one."""

    @abstractmethod
    def add_sum(self, factors: Tensor, into: Tensor) -> None:
        """Add the gradients, summed with weights `factors` of shape (B,), to `into`, which has the parameter's shape."""

    @abstractmethod
    def drop(self, examples: Tensor) -> None:
        """Make the gradients of the examples selected by a boolean mask zero, by selection: zero times NaN would still be NaN."""

    @abstractmethod
    def instantiate(self, shape: torch.Size) -> Tensor:
        """The gradients themselves, shape (B, *shape), where `shape` is the parameter's."""


class Direct(Use):
    """Gradients that are there, shape (B, *parameter.shape)."""

    def __init__(self, gradients: Tensor) -> None:
        self._gradients = gradients

    def squared_norms(self, memo: dict[int, Tensor]) -> Tensor:
        return row_squares(self._gradients, memo)

    def add_sum(self, factors: Tensor, into: Tensor) -> None:
        flat = self._gradients.reshape(self._gradients.shape[0], -1)
        into.view(-1).addmv_(flat.T, factors.to(flat.dtype))

    def drop(self, examples: Tensor) -> None:
        self._gradients = _without(self._gradients, examples)

    def instantiate(self, shape: torch.Size) -> Tensor:
        return self._gradients


class Outer(Use):
    """A linear map's weight: activations (B, T, I) or (B, I), output gradients (B, T, O) or (B, O), of all its rows or of a slice of them."""

    def __init__(self, activations: Tensor, gradients: Tensor, rows: slice | None = None) -> None:
        self.activations, self.gradients, self.rows = activations, gradients, rows
        self._kept: Tensor | None = None

    def squared_norms(self, memo: dict[int, Tensor]) -> Tensor:
        a, g = self.activations, self.gradients
        if a.dim() == 2:
            return row_squares(a, memo) * row_squares(g, memo)
        (examples, positions, inputs), outputs = a.shape, g.shape[2]
        if positions * (inputs + outputs) <= inputs * outputs:
            step = _examples_in(CHUNK_BYTES, 2 * positions * positions * a.element_size())
            return torch.cat([_ghost(a[i : i + step], g[i : i + step]) for i in range(0, examples, step)])
        each = inputs * outputs * a.element_size()
        if each * examples <= KEPT_BYTES:
            self._kept = torch.bmm(g.transpose(1, 2), a)
            return row_squares(self._kept, memo)
        step = _examples_in(CHUNK_BYTES, each)
        parts = [_squares(torch.bmm(g[i : i + step].transpose(1, 2), a[i : i + step])) for i in range(0, examples, step)]
        return torch.cat(parts)

    def add_sum(self, factors: Tensor, into: Tensor) -> None:
        into = into if self.rows is None else into[self.rows]
        if self._kept is not None:
            Direct(self._kept).add_sum(factors, into)
            return
        a, g = self.activations, self.gradients
        weights = factors.to(g.dtype).view(-1, *[1] * (g.dim() - 1))
        # The smaller of the two takes the weights.
        a, g = (a, g * weights) if g.shape[-1] <= a.shape[-1] else (a * weights, g)
        into.addmm_(g.reshape(-1, g.shape[-1]).T, a.reshape(-1, a.shape[-1]))

    def drop(self, examples: Tensor) -> None:
        self.activations, self.gradients = _without(self.activations, examples), _without(self.gradients, examples)
        self._kept = None if self._kept is None else _without(self._kept, examples)

    def instantiate(self, shape: torch.Size) -> Tensor:
        a, g = self.whole(shape).sequences()
        return torch.bmm(g.transpose(1, 2), a)

    def sequences(self) -> tuple[Tensor, Tensor]:
        """Activations and output gradients with a dimension for positions, maybe of one."""
        a, g = self.activations, self.gradients
        return (a.unsqueeze(1), g.unsqueeze(1)) if a.dim() == 2 else (a, g)

    def whole(self, shape: torch.Size) -> Outer:
        """The same as a use of all rows, most of whose output gradients are zero."""
        return self if self.rows is None else Outer(self.activations, spread(self.gradients, self.rows, shape[0]))


class Lookup(Use):
    """An embedding's table: indices (B, T), output gradients (B, T, I), and the number of rows."""

    def __init__(self, indices: Tensor, gradients: Tensor, rows: int) -> None:
        self.indices, self.gradients, self._rows = indices, gradients, rows

    def squared_norms(self, memo: dict[int, Tensor]) -> Tensor:
        # An example's gradient has one row for each of its distinct indices: the sum of their output gradients.
        examples, rows = len(self.indices), self._rows
        keys = self.indices + rows * torch.arange(examples, device=self.indices.device)[:, None]
        distinct, places = torch.unique(keys, return_inverse=True)
        sums = self.gradients.new_zeros(len(distinct), self.gradients.shape[2]).index_add_(0, places.flatten(), self.gradients.flatten(0, 1))
        return sums.new_zeros(examples).index_add_(0, torch.div(distinct, rows, rounding_mode="floor"), _squares(sums))

    def add_sum(self, factors: Tensor, into: Tensor) -> None:
        weighted = self.gradients * factors.to(self.gradients.dtype)[:, None, None]
        into.index_add_(0, self.indices.flatten(), weighted.flatten(0, 1).to(into.dtype))

    def drop(self, examples: Tensor) -> None:
        self.gradients = _without(self.gradients, examples)

    def instantiate(self, shape: torch.Size) -> Tensor:
        examples, rows = len(self.indices), self._rows
        keys = self.indices + rows * torch.arange(examples, device=self.indices.device)[:, None]
        flat = self.gradients.new_zeros(examples * rows, self.gradients.shape[2]).index_add_(0, keys.flatten(), self.gradients.flatten(0, 1))
        return flat.view(examples, *shape)


class Tied(Use):
    """A table that is looked up and is also a linear map's weight: both, and the inner product of their gradients, from pairs of positions."""

    def __init__(self, lookup: Lookup, outer: Outer) -> None:
        self._lookup, self._outer = lookup, outer

    def squared_norms(self, memo: dict[int, Tensor]) -> Tensor:
        a, g = self._outer.sequences()
        # <lookup's, map's> = Σ over positions t, s of g[s, index of t] (looked-up gradient of t · a[s]).
        at_index = g.gather(2, self._lookup.indices.unsqueeze(1).expand(-1, g.shape[1], -1))
        cross = (at_index * torch.bmm(a, self._lookup.gradients.transpose(1, 2))).sum((1, 2))
        both = self._lookup.squared_norms(memo) + self._outer.squared_norms(memo)
        # Rounded up as in `_ghost`, because the two may cancel.
        return (both * (1 + ROUNDING * torch.finfo(both.dtype).eps) + 2 * cross).clamp_min(0)

    def add_sum(self, factors: Tensor, into: Tensor) -> None:
        self._lookup.add_sum(factors, into)
        self._outer.add_sum(factors, into)

    def drop(self, examples: Tensor) -> None:
        self._lookup.drop(examples)
        self._outer.drop(examples)

    def instantiate(self, shape: torch.Size) -> Tensor:
        return self._lookup.instantiate(shape) + self._outer.instantiate(shape)


Geometry = tuple[list[int], list[int], list[int], int]
"""A convolution's stride, padding and dilation, one number for each dimension of space, and its groups."""


class Window(Use):
    """A convolution's weight: inputs (B, channels, *space), output gradients (B, O, *space). A linear map of the windows of its input."""

    def __init__(self, inputs: Tensor, gradients: Tensor, weight: Tensor, geometry: Geometry) -> None:
        self._inputs, self._gradients, self._weight, self._geometry = inputs, gradients, weight, geometry
        self._kept: Tensor | None = None

    def squared_norms(self, memo: dict[int, Tensor]) -> Tensor:
        groups = self._geometry[3]
        (outputs, channels), window = self._weight.shape[:2], math.prod(self._weight.shape[2:])
        positions = math.prod(self._gradients.shape[2:])
        each = self._weight.numel() * self._inputs.element_size()
        inputs = channels * window
        ghost = groups == 1 and positions * (inputs + outputs) <= inputs * outputs
        keep = not ghost and each * len(self._inputs) <= KEPT_BYTES
        step = _examples_in(CHUNK_BYTES, max(each, groups * inputs * positions * self._inputs.element_size()))
        norms, kept = [], []
        for start in range(0, len(self._inputs), step):
            a, g = self._columns(slice(start, start + step))
            if ghost:
                norms.append(_ghost(a.squeeze(1).transpose(1, 2), g.squeeze(1).transpose(1, 2)))
                continue
            gradients = torch.matmul(g, a.transpose(2, 3)).flatten(1)
            norms.append(_squares(gradients))
            if keep:
                kept.append(gradients)
        self._kept = torch.cat(kept) if keep else None
        return torch.cat(norms)

    def _columns(self, part: slice) -> tuple[Tensor, Tensor]:
        """Windows (B, groups, channels · window, T) and output gradients (B, groups, O, T) of some examples."""
        stride, padding, dilation, groups = self._geometry
        x, g, kernel = self._inputs[part], self._gradients[part], self._weight.shape[2:]
        x = nn.functional.pad(x, [amount for number in reversed(padding) for amount in (number, number)]).contiguous()
        space = g.shape[2:]
        strides = (
            *x.stride()[:2],
            *(s * d for s, d in zip(x.stride()[2:], dilation, strict=True)),
            *(s * d for s, d in zip(x.stride()[2:], stride, strict=True)),
        )
        windows = x.as_strided((*x.shape[:2], *kernel, *space), strides)
        return windows.reshape(len(x), groups, -1, math.prod(space)), g.reshape(len(x), groups, -1, math.prod(space))

    def add_sum(self, factors: Tensor, into: Tensor) -> None:
        if self._kept is not None:
            Direct(self._kept).add_sum(factors, into)
            return
        stride, padding, dilation, groups = self._geometry
        weighted = self._gradients * factors.to(self._gradients.dtype).view(-1, *[1] * (self._gradients.dim() - 1))
        weight = self._weight.to(weighted.dtype)
        mask, none = [False, True, False], [0] * len(stride)
        into += torch.ops.aten.convolution_backward(weighted, self._inputs, weight, None, stride, padding, dilation, False, none, groups, mask)[1]

    def drop(self, examples: Tensor) -> None:
        self._inputs, self._gradients = _without(self._inputs, examples), _without(self._gradients, examples)
        self._kept = None if self._kept is None else _without(self._kept, examples)

    def instantiate(self, shape: torch.Size) -> Tensor:
        a, g = self._columns(slice(None))
        return torch.matmul(g, a.transpose(2, 3)).view(len(a), *self._weight.shape)


class Rows(Use):
    """A weight of which several uses take rows of their own: what has no rows in common adds up without cross terms."""

    def __init__(self, parts: list[Outer]) -> None:
        self._parts = parts

    def squared_norms(self, memo: dict[int, Tensor]) -> Tensor:
        return torch.stack([part.squared_norms(memo) for part in self._parts]).sum(0)

    def add_sum(self, factors: Tensor, into: Tensor) -> None:
        for part in self._parts:
            part.add_sum(factors, into)

    def drop(self, examples: Tensor) -> None:
        for part in self._parts:
            part.drop(examples)

    def instantiate(self, shape: torch.Size) -> Tensor:
        return torch.stack([part.instantiate(shape) for part in self._parts]).sum(0)


def combine(several: list[Use], parameter: nn.Parameter) -> Use:
    """All uses of one parameter as one use."""
    if len(several) == 1:
        return several[0]
    outers = [use for use in several if isinstance(use, Outer)]
    lookups = [use for use in several if isinstance(use, Lookup)]
    if len(outers) + len(lookups) < len(several):
        return Direct(torch.stack([use.instantiate(parameter.shape) for use in several]).sum(0))
    if not lookups:
        return _of_rows(outers, parameter.shape)
    lookup = Lookup(torch.cat([use.indices for use in lookups], dim=1), torch.cat([use.gradients for use in lookups], dim=1), len(parameter))
    return Tied(lookup, _joined([use.whole(parameter.shape) for use in outers])) if outers else lookup


def _of_rows(several: list[Outer], shape: torch.Size) -> Use:
    """Uses of the same rows joined; where different ones overlap, as uses of all rows."""
    groups: dict[tuple[int, int], list[Outer]] = {}
    for use in several:
        groups.setdefault((0, shape[0]) if use.rows is None else (use.rows.start, use.rows.stop), []).append(use)
    ends = sorted(groups)
    if any(before[1] > after[0] for before, after in pairwise(ends)):
        return _joined([use.whole(shape) for use in several])
    parts = [_joined(group) for group in groups.values()]
    return parts[0] if len(parts) == 1 else Rows(parts)


def _joined(several: list[Outer]) -> Outer:
    """Several uses of the same rows are one use with the positions of all."""
    if len(several) == 1:
        return several[0]
    activations, gradients = zip(*(use.sequences() for use in several), strict=True)
    return Outer(torch.cat(activations, dim=1), torch.cat(gradients, dim=1), several[0].rows)


# -- pieces --------------------------------------------------------------------------------------------------------------------------------


def row_squares(values: Tensor, memo: dict[int, Tensor]) -> Tensor:
    """The squared norm of each row of `values`, remembered in `memo`."""
    known = memo.get(id(values))
    if known is None:
        known = memo[id(values)] = _squares(values)
    return known


def _squares(values: Tensor) -> Tensor:
    squares: Tensor = torch.linalg.vector_norm(values.reshape(values.shape[0], -1), dim=1).square_()
    # A square that ran out of digits would be too small, and be multiplied by another that is huge.
    return squares.add_(torch.finfo(squares.dtype).tiny)


def _ghost(a: Tensor, g: Tensor) -> Tensor:
    """Squared norms of Σ g ⊗ a over positions, from the products of all pairs of positions, rounded up.

    Where the summands nearly cancel, what remains is rounding of the order ε (Σ |g||a|)². Adding it keeps a norm from being understated,
    and with it the sensitivity within the clipping bound.
    """
    aa, gg = torch.bmm(a, a.transpose(1, 2)), torch.bmm(g, g.transpose(1, 2))
    sizes = (aa.diagonal(dim1=1, dim2=2) * gg.diagonal(dim1=1, dim2=2)).sqrt().sum(1)
    return (aa.mul_(gg).sum((1, 2)) + ROUNDING * torch.finfo(a.dtype).eps * sizes.square()).clamp_min(0)


def spread(values: Tensor, rows: slice, size: int) -> Tensor:
    """`values`, whose last dimension is that of `rows`, among zeros for all `size` rows."""
    return nn.functional.pad(values, (rows.start, size - rows.stop))


def _examples_in(limit: int, each: int) -> int:
    return max(1, limit // max(1, each))


def _without(values: Tensor, examples: Tensor) -> Tensor:
    return values.masked_fill(examples.view(-1, *[1] * (values.dim() - 1)), 0.0)
