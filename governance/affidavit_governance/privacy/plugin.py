"""What the privacy module adds to the registry."""

from __future__ import annotations

from typing import Any

from affidavit.hookspecs import hookimpl


@hookimpl
def affidavit_register(registry: Any) -> None:
    registry.add("service", "budget", "affidavit_governance.privacy.budget:Budget", extra="privacy")
