"""Registers the report."""

from __future__ import annotations

from typing import Any

from affidavit.hookspecs import hookimpl


@hookimpl
def affidavit_register(registry: Any) -> None:
    """Add the service ``report``."""
    registry.add("service", "report", "affidavit_governance.compliance.report:render_report")
