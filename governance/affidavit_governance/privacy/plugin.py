"""What the privacy module adds to the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the service ``budget``."""
    registry.add("service", "budget", "affidavit_governance.privacy.budget:Budget", extra="privacy")
