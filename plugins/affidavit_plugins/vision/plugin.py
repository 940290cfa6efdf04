"""Registers the image model types. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the image model types."""
    registry.add(
        "model",
        "vision.cnn",
        "affidavit_plugins.vision.cnn:CNN",
        capabilities={"private_training", "probabilities", "torch_module", "onnx"},
        extra="vision",
    )
