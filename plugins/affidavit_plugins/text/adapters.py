"""Low-rank adapters on an encoder's linear layers (LoRA), and the telling apart of their weights from the encoder's own."""

from __future__ import annotations

from torch import Tensor, nn

RANK = 8
"""Rank of the matrices that an adapter adds to a layer: the value that Hu et al. (2022), table 6, find enough."""

SCALE = 16
"""LoRA's α: an adapter's output is multiplied by α / rank."""


def add_adapters(encoder: nn.Module, *, rank: int, scale: int) -> None:
    """Freeze `encoder` and add trainable adapters to its linear layers, in place (Hu et al. 2022, "LoRA", section 4.1).

    The pooler is left out, which is not used here. The adapters' first matrices are drawn from torch's generator, the second ones are zero,
    so that the encoder gives what it gave.
    """
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import, and needed for this alone

    encoder.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=scale, target_modules="all-linear", exclude_modules=r".*pooler.*"), encoder)


def adapter_weights(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: the adapters in `module` and whatever stands beside the encoder."""
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    return {name: tensor for name, tensor in module.state_dict().items() if name in trained}


def encoder_weights(encoder: nn.Module) -> dict[str, Tensor]:
    """The weights of `encoder` under the names that they have without adapters."""
    return {name.replace(".base_layer.", "."): tensor for name, tensor in encoder.state_dict().items() if ".lora_" not in name}
