"""Registers the explainers and the plot service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter

_HOME = "affidavit_governance.explain"


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the explainers by name."""
    registry.add("explainer", "linear", f"{_HOME}.linear:Linear")
    registry.add("explainer", "tree", f"{_HOME}.tree:Tree", extra="explain")
    registry.add("explainer", "kernel", f"{_HOME}.kernel:Kernel", extra="explain")
    registry.add("explainer", "lime", f"{_HOME}.surrogate:Lime", extra="explain")
    registry.add("explainer", "exact", f"{_HOME}.game_explainers:Exact")
    registry.add("explainer", "permutation", f"{_HOME}.game_explainers:Permutation")
    registry.add("explainer", "words", f"{_HOME}.game_explainers:Words")
    registry.add("explainer", "regions", f"{_HOME}.game_explainers:Regions")
    registry.add("service", "plot_explanation", f"{_HOME}.plots:plot_explanation", extra="explain")
