"""What the privacy module adds to the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter

SERVICES = {
    "budget": "budget:Budget",
    "settle_budget": "budget:settle",
    "privacy_sweep": "sweep:sweep",
    "sweep_plot": "figures:plot_curve",
    "budget_plot": "figures:plot_spending",
    "privacy_epsilon": "accounting:epsilon",
    "privacy_calibrate": "accounting:calibrate",
    "neighbour_replay": "attacks.replay:neighbour_replay",
}


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the services of the privacy module."""
    for name, target in SERVICES.items():
        registry.add("service", name, f"affidavit_governance.privacy.{target}", extra="privacy")
