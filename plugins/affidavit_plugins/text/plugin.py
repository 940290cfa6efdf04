"""Registers the text model types and the recognizer of names. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the text model types and the recognizer ``names``."""
    registry.add(
        "model",
        "text.classifier",
        "affidavit_plugins.text.classifier:TextClassifier",
        capabilities={"private_training", "probabilities", "token_inputs"},
        extra="text",
    )
    registry.add("recognizer", "names", "affidavit_plugins.text.names:Names", extra="text")
