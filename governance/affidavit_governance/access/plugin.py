"""Registers the roster of approvers."""

from __future__ import annotations

from typing import Any

from affidavit.hookspecs import hookimpl


@hookimpl
def affidavit_register(registry: Any) -> None:
    registry.add("service", "roster", "affidavit_governance.access.roster:Roster")
