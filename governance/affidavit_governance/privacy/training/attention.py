"""`torch.nn.MultiheadAttention` computed through a tape, so that the gradients of single examples can be told apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from affidavit.errors import Refused

if TYPE_CHECKING:
    from affidavit_governance.privacy.training.tape import Tape


def attention(
    layer: nn.MultiheadAttention,
    tape: Tape,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What ``layer(query, key, value, ...)`` gives, with every use of a parameter on `tape`.

    Parameters
    ----------
    layer
        With or without bias, ``add_bias_kv``, ``add_zero_attn``, ``kdim``, ``vdim`` and ``batch_first``.
    tape
        Its ``linear`` is called with examples × steps × features, whatever ``layer.batch_first`` is.
    query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights
        As torch has them.
    is_causal
        As torch: a hint that `attn_mask` is the causal mask, which is needed anyway.

    Raises
    ------
    Refused
        `query` is a single sequence without a dimension for examples, or a nested tensor.
    """
    if query.dim() != 3 or any(tensor.is_nested for tensor in (query, key, value)):
        raise Refused(
            "A MultiheadAttention got one sequence without a dimension for examples, or nested tensors; gradients cannot be told by example.",
            by="privacy",
            line="privacy.epsilon",
            satisfy="Give the layer a batch of sequences: examples × steps × features with batch_first=True, and a key_padding_mask for padding.",
        )
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")  # as torch
    queries, keys, values = _projected(layer, tape, query, key, value)
    extra = 0
    if layer.bias_k is not None and layer.bias_v is not None:
        keys, values = (
            torch.cat([old, tape.expand(more).reshape(len(queries), 1, -1)], dim=1) for old, more in ((keys, layer.bias_k), (values, layer.bias_v))
        )
        extra += 1
    if layer.add_zero_attn:
        keys, values = (functional.pad(tensor, (0, 0, 0, 1)) for tensor in (keys, values))
        extra += 1
    mask = _mask(layer, queries, key_padding_mask, attn_mask, extra)
    heads = (layer.num_heads, layer.head_dim)
    queries, keys, values = (tensor.reshape(*tensor.shape[:2], *heads).transpose(1, 2) for tensor in (queries, keys, values))
    dropout = layer.dropout if layer.training else 0.0
    weights = None
    if need_weights:
        scores = (queries * math.sqrt(1.0 / layer.head_dim)) @ keys.transpose(-2, -1)
        weights = functional.dropout(torch.softmax(scores if mask is None else scores + mask, dim=-1), dropout)
        mixed = weights @ values
        weights = weights.mean(dim=1) if average_attn_weights else weights
    else:
        mixed = functional.scaled_dot_product_attention(queries, keys, values, mask, dropout)
    output = tape.linear(mixed.transpose(1, 2).flatten(2), layer.out_proj.weight, layer.out_proj.bias)
    return output if layer.batch_first else output.transpose(0, 1), weights


def _projected(layer: nn.MultiheadAttention, tape: Tape, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values after their projections, each examples × steps × features."""
    # What is one tensor before must be one after: then its projections are one use of the weight.
    front = {id(tensor): tensor if layer.batch_first else tensor.transpose(0, 1) for tensor in (query, key, value)}
    query, key, value = (front[id(tensor)] for tensor in (query, key, value))
    if layer.in_proj_weight is None:
        weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        found = [tape.linear(tensor, weight) for tensor, weight in zip((query, key, value), weights, strict=True)]
        if layer.in_proj_bias is not None:
            # One bias for three weights, of which each takes a third.
            biases = tape.expand(layer.in_proj_bias).unsqueeze(1).chunk(3, dim=2)
            found = [tensor + bias for tensor, bias in zip(found, biases, strict=True)]
        return found[0], found[1], found[2]

    def thirds(tensor: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        rows = None if (first, last) == (0, 3) else slice(first * layer.embed_dim, last * layer.embed_dim)
        return tape.linear(tensor, layer.in_proj_weight, layer.in_proj_bias, rows=rows).chunk(last - first, dim=2)

    if query is key and key is value:
        queries, keys, values = thirds(query, 0, 3)
    elif key is value:
        queries, keys, values = *thirds(query, 0, 1), *thirds(key, 1, 3)
    else:
        queries, keys, values = *thirds(query, 0, 1), *thirds(key, 1, 2), *thirds(value, 2, 3)
    return queries, keys, values


def _mask(layer: nn.MultiheadAttention, queries: Tensor, padding: Tensor | None, mask: Tensor | None, extra: int) -> Tensor | None:
    """Both masks as one that is added to the scores: examples or 1 × heads or 1 × queries or 1 × keys; None where there is none.

    `extra` keys at the end, which ``add_bias_kv`` and ``add_zero_attn`` put there, are always seen.
    """
    parts: list[Tensor] = []
    if mask is not None:
        shape = (1, 1) if mask.dim() == 2 else (len(queries), layer.num_heads)
        parts.append(_additive(mask, queries.dtype).reshape(*shape, *mask.shape[-2:]))
    if padding is not None:
        parts.append(_additive(padding, queries.dtype)[:, None, None, :])
    return functional.pad(sum(parts[1:], parts[0]), (0, extra)) if parts else None


def _additive(mask: Any, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
    converted: Tensor = mask.to(dtype)
    return converted
