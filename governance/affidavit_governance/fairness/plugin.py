"""Registers the fairness service."""

from __future__ import annotations

from typing import Any

from affidavit.hookspecs import hookimpl


@hookimpl
def affidavit_register(registry: Any) -> None:
    """Add the service that evaluation asks for group figures."""
    registry.add("service", "fairness", "affidavit_governance.fairness:assess")
