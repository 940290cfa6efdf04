"""Registers the keyring."""

from __future__ import annotations

from typing import Any

from affidavit.hookspecs import hookimpl


@hookimpl
def affidavit_register(registry: Any) -> None:
    """Add the service ``keyring``."""
    registry.add("service", "keyring", "affidavit_governance.encryption.keyring:open_keyring")
