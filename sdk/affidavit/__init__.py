"""Affidavit: governed machine learning. Public names only; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affidavit.approver import Approver
    from affidavit.artifacts import Artifact
    from affidavit.errors import (
        AffidavitError,
        IntegrityError,
        InvalidInput,
        MissingExtra,
        PluginError,
        Refused,
        UngovernedCallWarning,
        UsageError,
    )
    from affidavit.hookspecs import hookimpl
    from affidavit.interfaces.dataset import Dataset, DatasetSource, Lineage
    from affidavit.interfaces.deployment import Deployment, Endpoint
    from affidavit.interfaces.explainer import Explainer
    from affidavit.interfaces.explanation import Counterfactuals, Explanation, GlobalExplanation
    from affidavit.interfaces.governance import Actor, Evidence, Stage
    from affidavit.interfaces.model import Capabilities, Evaluation, Model, Predictions, Signature, Task
    from affidavit.interfaces.schema import Field, FieldType, Role, Schema
    from affidavit.interfaces.training import Progress, Training
    from affidavit.policy import Policy
    from affidavit.project import Project
    from affidavit.registry import Version
    from affidavit.workspace import Workspace

__version__ = "0.1.0"

_HOME = {
    "Approver": "approver",
    "Artifact": "artifacts",
    "AffidavitError": "errors",
    "IntegrityError": "errors",
    "InvalidInput": "errors",
    "MissingExtra": "errors",
    "PluginError": "errors",
    "Refused": "errors",
    "UngovernedCallWarning": "errors",
    "UsageError": "errors",
    "hookimpl": "hookspecs",
    "Dataset": "interfaces.dataset",
    "DatasetSource": "interfaces.dataset",
    "Lineage": "interfaces.dataset",
    "Deployment": "interfaces.deployment",
    "Endpoint": "interfaces.deployment",
    "Explainer": "interfaces.explainer",
    "Counterfactuals": "interfaces.explanation",
    "Explanation": "interfaces.explanation",
    "GlobalExplanation": "interfaces.explanation",
    "Actor": "interfaces.governance",
    "Evidence": "interfaces.governance",
    "Stage": "interfaces.governance",
    "Capabilities": "interfaces.model",
    "Evaluation": "interfaces.model",
    "Model": "interfaces.model",
    "Predictions": "interfaces.model",
    "Signature": "interfaces.model",
    "Task": "interfaces.model",
    "Field": "interfaces.schema",
    "FieldType": "interfaces.schema",
    "Role": "interfaces.schema",
    "Schema": "interfaces.schema",
    "Progress": "interfaces.training",
    "Training": "interfaces.training",
    "Policy": "policy",
    "Project": "project",
    "Version": "registry",
    "Workspace": "workspace",
}

__all__ = [
    "Actor",
    "AffidavitError",
    "Approver",
    "Artifact",
    "Capabilities",
    "Counterfactuals",
    "Dataset",
    "DatasetSource",
    "Deployment",
    "Endpoint",
    "Evaluation",
    "Evidence",
    "Explainer",
    "Explanation",
    "Field",
    "FieldType",
    "GlobalExplanation",
    "IntegrityError",
    "InvalidInput",
    "Lineage",
    "MissingExtra",
    "Model",
    "PluginError",
    "Policy",
    "Predictions",
    "Progress",
    "Project",
    "Refused",
    "Role",
    "Schema",
    "Signature",
    "Stage",
    "Task",
    "Training",
    "UngovernedCallWarning",
    "UsageError",
    "Version",
    "Workspace",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'affidavit' has no attribute '{name}'")
    value = getattr(import_module(f"affidavit.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
