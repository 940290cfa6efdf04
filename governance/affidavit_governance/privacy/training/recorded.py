"""What the tape's recorded calls become once the gradients of their outputs are known: uses of their parameters.

Half precision is widened here, before anything is summed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from affidavit_governance.privacy.training.uses import Direct, Geometry, Lookup, Outer, Use, Window, spread

Resolve = Callable[[Tensor], Sequence[tuple[nn.Parameter, Use]]]
"""What a recorded call becomes once the gradient of its output is known: a use for each parameter."""


def linear(x: Tensor, weight: nn.Parameter | None, bias: nn.Parameter | None, rows: slice | None) -> Resolve:
    """For ``x @ weight[rows].T + bias[rows]``, x of shape (B, ..., I)."""
    x = x.detach()

    def resolve(gradient: Tensor) -> list[tuple[nn.Parameter, Use]]:
        a, g = _wide(x, gradient)
        if a.dim() > 3:
            a, g = a.flatten(1, -2), g.flatten(1, -2)
        found: list[tuple[nn.Parameter, Use]] = []
        if weight is not None:
            found.append((weight, Outer(a, g, rows)))
        if bias is not None:
            total = g if g.dim() == 2 else g.sum(1)
            found.append((bias, Direct(total if rows is None else spread(total, rows, len(bias)))))
        return found

    return resolve


def embedding(indices: Tensor, weight: nn.Parameter | None, padding_idx: int | None) -> Resolve:
    """For rows of `weight`, indices of shape (B, ...)."""
    assert weight is not None  # an embedding without a trained table is not recorded

    def resolve(gradient: Tensor) -> list[tuple[nn.Parameter, Use]]:
        (g,) = _wide(gradient)
        flat = indices.reshape(len(indices), -1)
        g = g.reshape(*flat.shape, -1)
        if padding_idx is not None:
            g = g.masked_fill((flat == padding_idx % len(weight)).unsqueeze(2), 0.0)
        return [(weight, Lookup(flat, g, len(weight)))]

    return resolve


def conv(x: Tensor, weight: Tensor, own_weight: nn.Parameter | None, own_bias: nn.Parameter | None, geometry: Geometry) -> Resolve:
    """For a convolution, x of shape (B, channels, *space)."""
    x = x.detach()

    def resolve(gradient: Tensor) -> list[tuple[nn.Parameter, Use]]:
        a, g = _wide(x, gradient)
        found: list[tuple[nn.Parameter, Use]] = []
        if own_weight is not None:
            found.append((own_weight, Window(a, g, weight, geometry)))
        if own_bias is not None:
            found.append((own_bias, Direct(g.flatten(2).sum(2))))
        return found

    return resolve


def norm(
    x: Tensor,
    weight: nn.Parameter | None,
    bias: nn.Parameter | None,
    normalise: Callable[[Tensor, Tensor | None, Tensor | None], Tensor],
    axes: Sequence[int],
) -> Resolve:
    """For ``normalise(x, None, None) * weight + bias`` along the dimensions `axes` of x."""
    x = x.detach()
    others = [axis for axis in range(1, x.dim()) if axis not in axes]

    def summed(values: Tensor) -> Tensor:
        return values.sum(others) if others else values

    def resolve(gradient: Tensor) -> list[tuple[nn.Parameter, Use]]:
        a, g = _wide(x, gradient)
        found: list[tuple[nn.Parameter, Use]] = []
        if weight is not None:
            with torch.no_grad():
                found.append((weight, Direct(summed(g * normalise(a, None, None)))))
        if bias is not None:
            found.append((bias, Direct(summed(g))))
        return found

    return resolve


def direct(parameter: nn.Parameter) -> Resolve:
    """For a parameter repeated for each example, whose gradient is the examples' own."""

    def resolve(gradient: Tensor) -> list[tuple[nn.Parameter, Use]]:
        return [(parameter, Direct(*_wide(gradient)))]

    return resolve


def _wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in their common precision, at least single."""
    dtype = torch.float32
    if all(tensor.dtype is dtype for tensor in tensors):
        return tensors
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)
