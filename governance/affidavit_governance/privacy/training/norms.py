"""GroupNorm in the place of BatchNorm, for the policy's ``replace_batchnorm``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

CHANNELS = 16
"""Channels of a group, where that divides them: as good as any other number in Wu and He (2018), "Group normalization", table 3."""


@contextmanager
def batchnorms_replaced(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Replace every BatchNorm inside `module` by GroupNorm, where that is `wanted`; put them back where the block fails.

    The new layers hold the old ones' very parameters, so an optimizer that has these trains on. They stay after training, because the
    weights then belong to them; running statistics, which only BatchNorm has, go with it.
    """
    places = list(_places(module)) if wanted else []
    new = {old: group_norm(old) for _, _, old in places}
    try:
        for parent, name, old in places:
            setattr(parent, name, new[old])
        yield
    except BaseException:
        for parent, name, old in places:
            setattr(parent, name, old)
        raise


def group_norm(layer: nn.modules.batchnorm._BatchNorm) -> nn.GroupNorm:
    """The GroupNorm with the parameters and the mode of a BatchNorm, in groups of 16 channels, or one where that does not divide them."""
    channels = layer.num_features
    groups = channels // CHANNELS if channels % CHANNELS == 0 else 1
    new = nn.GroupNorm(groups, channels, eps=layer.eps, affine=False)
    new.affine, new.weight, new.bias = layer.affine, layer.weight, layer.bias
    return new.train(layer.training)


def _places(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.modules.batchnorm._BatchNorm]]:
    """Every BatchNorm with its parent and its name there. The module itself has no parent: it stays, and is refused."""
    for parent in module.modules():
        for name, child in parent._modules.items():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                yield parent, name, child
