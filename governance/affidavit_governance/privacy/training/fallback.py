"""Per-example gradients of any layer: its forward runs for each example with the example's own copy of the parameters.

A gradient with respect to such a copy is that example's gradient. The copies take no memory; their gradients do, as many times the parameters
as there are examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from affidavit.errors import Refused


def each_example(
    function: Callable[..., Any],
    parameters: Mapping[str, Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    examples: int,
    unrolled: set[object],
) -> Any:
    """``function(parameters, *args, **kwargs)`` for each example, its outputs stacked.

    Parameters
    ----------
    parameters
        With one copy for each example, shape (examples, *shape).
    args, kwargs
        Tensors whose first dimension is `examples` are inputs of each example; anything else is shared.
    unrolled
        Functions that vmap could not follow, which grows; for them one example comes after the other.

    Raises
    ------
    Refused
        No input has the examples in front, or an output has not.
    """
    leaves, structure = pytree.tree_flatten((list(args), dict(kwargs)))
    mapped = [isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.shape[0] == examples for leaf in leaves]
    if not any(mapped):
        raise _refused("gets no input with the batch in front")

    def one(own: dict[str, Tensor], inputs: list[Any]) -> list[Any]:
        rest = iter(inputs)
        filled = [next(rest).unsqueeze(0) if is_mapped else leaf for leaf, is_mapped in zip(leaves, mapped, strict=True)]
        given, named = pytree.tree_unflatten(filled, structure)
        outputs, shape = pytree.tree_flatten(function(own, *given, **named))
        shapes.append(shape)
        if not all(isinstance(output, Tensor) and output.dim() and output.shape[0] == 1 for output in outputs):
            raise _refused("gives something else than tensors with the batch in front")
        return [output.squeeze(0) for output in outputs]

    shapes: list[Any] = []
    own = dict(parameters)
    inputs = [leaf for leaf, is_mapped in zip(leaves, mapped, strict=True) if is_mapped]
    if function not in unrolled:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="There is a performance drop")  # true, and no business of the user's
                stacked = torch.func.vmap(one, randomness="different")(own, inputs)
            return pytree.tree_unflatten(stacked, shapes[-1])
        except RuntimeError:
            # Control flow that depends on values, an operation without a batching rule, ...: whatever is wrong with the function itself
            # shows again below.
            unrolled.add(function)
    rows = [one({name: copies[i] for name, copies in own.items()}, [leaf[i] for leaf in inputs]) for i in range(examples)]
    return pytree.tree_unflatten([torch.stack(column) for column in zip(*rows, strict=True)], shapes[-1])


def _refused(why: str) -> Refused:
    return Refused(
        f"A layer without a rule of its own {why}, so its per-example gradients cannot be found.",
        by="privacy",
        line="privacy.epsilon",
        satisfy="Let it take and give tensors whose first dimension is the batch.",
    )
