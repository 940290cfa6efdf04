"""Registers the keyring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the service ``keyring``."""
    registry.add("service", "keyring", "affidavit_governance.encryption.keyring:open_keyring")
