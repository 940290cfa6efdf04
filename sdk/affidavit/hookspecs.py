"""Every hook, on one page.

``affidavit_register`` is the hook that plugin authors implement. The others are the lifecycle: each has one innermost implementation, the
core's own, which only forwards to the object; governance stands around it in the order of `affidavit.interfaces.governance.Stage`. A
lifecycle hook takes one argument, `call`, and must give a result: ``None`` is an error.

A plugin's module, named by an entry point in the group ``affidavit.plugins.v1``:

>>> from affidavit import hookimpl
>>> @hookimpl
... def affidavit_register(registry):
...     registry.add("model", "acme.centroid", "acme_plugin.model:Centroid", capabilities={"probabilities"}, extra=None)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from affidavit.artifacts import Artifact
    from affidavit.calls import (
        ApproveCall,
        DeployCall,
        EvaluateCall,
        ExplainCall,
        LoadCall,
        PackageCall,
        PredictCall,
        PromoteCall,
        RegisterCall,
        TrainCall,
    )
    from affidavit.interfaces.dataset import Dataset
    from affidavit.interfaces.deployment import Endpoint
    from affidavit.interfaces.explanation import ExplanationRecord
    from affidavit.interfaces.model import Evaluation, Model, Predictions
    from affidavit.plugins import RegistryWriter
    from affidavit.registry import Version
    from affidavit.reveal import Receipt, RevealCall, Revealed, ShredCall

hookspec = pluggy.HookspecMarker("affidavit")
hookimpl = pluggy.HookimplMarker("affidavit")
"""Marks a function as the implementation of the hook of its name; ``@hookimpl(wrapper=True)`` as a wrapper around it (docs/hooks.md)."""


@hookspec
def affidavit_register(registry: RegistryWriter) -> None:
    """Add names to the registry, as lazy ``"module:Class"`` paths. Import nothing heavy here."""


@hookspec(firstresult=True)
def affidavit_load(call: LoadCall) -> Dataset:
    """Read a data set from `call.source`. Wrapped by AUDIT, ACCESS, MASKING."""


@hookspec(firstresult=True)
def affidavit_train(call: TrainCall) -> Model:
    """Fit `call.model` on `call.data`. Wrapped by AUDIT, ACCESS, POLICY, MASKING, PRIVACY."""


@hookspec(firstresult=True)
def affidavit_evaluate(call: EvaluateCall) -> Evaluation:
    """Measure `call.model` on `call.data`. Wrapped by AUDIT, ACCESS, MASKING."""


@hookspec(firstresult=True)
def affidavit_explain(call: ExplainCall) -> ExplanationRecord:
    """Explain `call.model` on `call.data`. Wrapped by AUDIT, ACCESS, MASKING, EXPLAIN."""


@hookspec(firstresult=True)
def affidavit_package(call: PackageCall) -> Artifact:
    """Write `call.model` as an artifact. Wrapped by AUDIT, ACCESS."""


@hookspec(firstresult=True)
def affidavit_register_version(call: RegisterCall) -> Version:
    """Give `call.artifact` the next version of `call.name`. Wrapped by AUDIT, ACCESS, POLICY."""


@hookspec(firstresult=True)
def affidavit_approve(call: ApproveCall) -> Version:
    """Record one approval. Wrapped by AUDIT, ACCESS, which checks the signature and the role."""


@hookspec(firstresult=True)
def affidavit_promote(call: PromoteCall) -> Version:
    """Point an alias at a version. Wrapped by AUDIT, ACCESS (approvals), POLICY (gates)."""


@hookspec(firstresult=True)
def affidavit_deploy(call: DeployCall) -> Endpoint:
    """Start an endpoint. Wrapped by AUDIT, ACCESS, POLICY."""


@hookspec(firstresult=True)
def affidavit_predict(call: PredictCall) -> Predictions:
    """Answer a batch. Wrapped by AUDIT (journal), ACCESS, MASKING and, where the policy asks for it, EXPLAIN."""


@hookspec(firstresult=True)
def affidavit_reveal(call: RevealCall) -> Revealed:
    """Put originals in the place of what masked them. Wrapped by AUDIT, ACCESS, which proves who asks, and POLICY, which allows or refuses."""


@hookspec(firstresult=True)
def affidavit_shred(call: ShredCall) -> Receipt:
    """Destroy the key of one subject. Wrapped by AUDIT and ACCESS, which counts the signatures that the policy asks for."""
