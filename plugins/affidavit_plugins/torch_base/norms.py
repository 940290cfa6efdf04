"""Loading what a private engine trained with GroupNorm in the place of BatchNorm (the policy's ``replace_batchnorm``)."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

CHANNELS = 16
"""Channels of a group, or one group where that does not divide them: what the private engine puts in."""


def follow_replacements(module: nn.Module, saved: Collection[str]) -> None:
    """Replace each BatchNorm inside `module` of which the `saved` names hold no running statistics: it was GroupNorm when it was saved."""
    for path, parent in list(module.named_modules()):
        for name, child in list(parent.named_children()):
            statistics = f"{path}.{name}.running_mean" if path else f"{name}.running_mean"
            if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.track_running_stats and statistics not in saved:
                channels = child.num_features
                groups = channels // CHANNELS if channels % CHANNELS == 0 else 1
                setattr(parent, name, nn.GroupNorm(groups, channels, eps=child.eps, affine=child.affine))
