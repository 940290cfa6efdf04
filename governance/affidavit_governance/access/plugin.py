"""Registers the roster of approvers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the service ``roster``."""
    registry.add("service", "roster", "affidavit_governance.access.roster:Roster")
