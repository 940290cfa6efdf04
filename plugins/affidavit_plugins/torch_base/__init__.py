"""What every torch model type shares: one training loop, prediction in batches, weights as safetensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affidavit_plugins.torch_base.engine import PlainEngine
    from affidavit_plugins.torch_base.model import TorchModel, TorchParams

__all__ = ["PlainEngine", "TorchModel", "TorchParams"]


def __getattr__(name: str) -> Any:
    if name == "PlainEngine":
        from affidavit_plugins.torch_base import engine

        return engine.PlainEngine
    if name in __all__:
        from affidavit_plugins.torch_base import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
