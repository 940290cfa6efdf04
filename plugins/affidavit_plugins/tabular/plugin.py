"""Registers the tabular model types. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter

HERE = "affidavit_plugins.tabular"


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the tabular model types."""
    registry.add(
        "model", "tabular.logistic", f"{HERE}.linear:Logistic", capabilities={"private_training", "probabilities", "linear", "onnx"}, extra="tabular"
    )
    registry.add("model", "tabular.linear", f"{HERE}.linear:Linear", capabilities={"private_training", "linear", "onnx"}, extra="tabular")
    registry.add(
        "model",
        "tabular.additive",
        f"{HERE}.additive:Additive",
        capabilities={"private_training", "probabilities", "linear", "onnx"},
        extra="tabular",
    )
    registry.add("model", "tabular.tree", f"{HERE}.trees:Tree", capabilities={"probabilities", "tree_ensemble"}, extra="tabular")
    registry.add("model", "tabular.forest", f"{HERE}.trees:Forest", capabilities={"probabilities", "tree_ensemble"}, extra="tabular")
    registry.add("model", "tabular.boosting", f"{HERE}.trees:Boosting", capabilities={"probabilities", "tree_ensemble"}, extra="tabular")
    registry.add("model", "tabular.mlp", f"{HERE}.mlp:MLP", capabilities={"private_training", "probabilities", "torch_module", "onnx"}, extra="torch")
