"""Registers the explainers and the plot service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter

_HOME = "affidavit_governance.explain"

_EXPLAINERS = (
    ("linear", "methods.linear:Linear", None),
    ("tree", "methods.tree:Tree", "explain"),
    ("exact", "methods.sampled:Exact", None),
    ("permutation", "methods.sampled:Permutation", None),
    ("kernel", "methods.kernel:Kernel", "explain"),
    ("lime", "methods.lime:Lime", "explain"),
)

_SERVICES = (("plot_explanation", "pictures.plots:plot_explanation"),)


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the explainers by name."""
    for name, home, extra in _EXPLAINERS:
        registry.add("explainer", name, f"{_HOME}.{home}", extra=extra)
    for name, home in _SERVICES:
        registry.add("service", name, f"{_HOME}.{home}", extra="explain")
