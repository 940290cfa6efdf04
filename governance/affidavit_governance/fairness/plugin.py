"""Registers the fairness service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the service that evaluation asks for group figures."""
    registry.add("service", "fairness", "affidavit_governance.fairness:assess")
