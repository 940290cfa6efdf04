"""Registers the ledger, the bundle and the verifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the services ``ledger``, ``bundle`` and ``verify``."""
    registry.add("service", "ledger", "affidavit_governance.audit.ledger:open_ledger")
    registry.add("service", "bundle", "affidavit_governance.audit.bundle:write_bundle")
    registry.add("service", "verify", "affidavit_governance.audit.verify:verify_bundle")
