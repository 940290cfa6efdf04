"""Registers the deployment targets. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the deployment targets."""
    registry.add("target", "in-process", "affidavit_plugins.targets.in_process:InProcess")
    registry.add("target", "http", "affidavit_plugins.targets.http.target:Http", extra="serve")
    registry.add("target", "onnx", "affidavit_plugins.targets.onnx.target:Onnx", extra="onnx")
