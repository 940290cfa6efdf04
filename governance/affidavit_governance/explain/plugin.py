"""Registers the explainers and the plot service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter

_HOME = "affidavit_governance.explain"

_EXPLAINERS = (
    ("linear", "methods.linear:Linear", None),
    ("tree", "methods.tree:Tree", None),
    ("exact", "methods.sampled:Exact", None),
    ("leverage", "methods.sampled:Leverage", None),
    ("permutation", "methods.sampled:Permutation", None),
    ("partition", "methods.partition:Partition", None),
    ("kernel", "methods.kernel:Kernel", "explain"),
    ("gradient", "methods.gradient:Gradient", "torch"),
    ("deep", "methods.deep:Deep", "explain,torch"),
    ("lime", "methods.lime:Lime", None),
    ("permutation-importance", "overall.importance:PermutationImportance", None),
    ("partial-dependence", "overall.dependence:PartialDependence", None),
    ("shapley-importance", "overall.shapley_importance:ShapleyImportance", None),
    ("surrogate-tree", "overall.surrogates:SurrogateTree", "explain"),
    ("rule-list", "overall.surrogates:RuleList", "explain"),
    ("counterfactual", "counterfactuals.explainer:Counterfactual", None),
)

_SERVICES = (
    ("plot_explanation", "pictures.plots:plot_explanation", "explain"),
    ("plot_global_explanation", "pictures.overall:plot_global_explanation", "explain"),
    ("explanation_html", "pictures.html:explanation_html", None),
    ("explanation_text", "pictures.terminal:explanation_text", None),
    ("reason_codes", "release.reasons:reason_codes", None),
    ("cohorts", "overall.cohorts:cohorts", None),
    ("read_explanation", "records.signed:read_record", None),
)


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the explainers and services by name."""
    for name, home, extra in _EXPLAINERS:
        registry.add("explainer", name, f"{_HOME}.{home}", extra=extra)
    for name, home, extra in _SERVICES:
        registry.add("service", name, f"{_HOME}.{home}", extra=extra)
