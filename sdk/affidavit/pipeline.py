"""The only caller of hooks, and the core's own innermost implementations, which forward to the object and check what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from affidavit.errors import AffidavitError, IntegrityError, PluginError, UsageError
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.deployment import Endpoint
from affidavit.interfaces.explanation import Counterfactuals, Explanation, ExplanationRecord, GlobalExplanation
from affidavit.interfaces.model import Evaluation, Model, Predictions, inside_call
from affidavit.interfaces.schema import Role

if TYPE_CHECKING:
    from affidavit.artifacts import Artifact
    from affidavit.calls import (
        ApproveCall,
        Call,
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
    from affidavit.interfaces.governance import Ledger
    from affidavit.plugins import PluginManager
    from affidavit.registry import Version
    from affidavit.reveal import Receipt, RevealCall, Revealed, ShredCall

_HOOK = {
    "load": "affidavit_load",
    "train": "affidavit_train",
    "evaluate": "affidavit_evaluate",
    "explain": "affidavit_explain",
    "package": "affidavit_package",
    "register": "affidavit_register_version",
    "approve": "affidavit_approve",
    "promote": "affidavit_promote",
    "deploy": "affidavit_deploy",
    "predict": "affidavit_predict",
    "reveal": "affidavit_reveal",
    "shred": "affidavit_shred",
}


class Pipeline:
    """Runs calls through the sealed hooks."""

    def __init__(self, manager: PluginManager, ledger: Ledger) -> None:
        self._manager = manager
        self._ledger = ledger
        self._closed = False

    def close(self) -> None:
        """Answer no more calls."""
        self._closed = True

    def run(self, call: Call) -> Any:
        """Run one call.

        Raises
        ------
        PluginError
            Nobody answered, or the hooks were tampered with.
        UsageError
            The workspace was closed.
        IntegrityError
            The call answered but its outcome is not in the ledger: an answer that nobody can check is not given out.
        """
        if self._closed:
            raise UsageError("This workspace is closed; it answers no more calls.", hint="Open it again: Workspace(location).")
        hook = self._manager.hook_for(_HOOK[call.kind])
        token = inside_call.set(True)
        try:
            result = hook(call=call)
        finally:
            inside_call.reset(token)
        if result is None:
            raise PluginError(f"No implementation answered the {call.kind} call.")
        if not self._ledger.has_outcome(call):
            raise IntegrityError(f"The outcome of this {call.kind} call is not in the ledger, so its result is withheld.")
        return result


class Core:
    """The innermost implementation of each lifecycle hook."""

    @hookimpl
    def affidavit_load(self, call: LoadCall) -> Dataset:
        try:
            source = call.reader.read(call.source, **call.options)
        except AffidavitError:
            raise
        except Exception as error:
            failure = type(error).__name__
        else:
            data = Dataset.from_arrow(source, name=call.name, target=call.target, fields=call.fields)
            return data.declare(call.derived_from) if call.derived_from else data
        # Raised outside the handler: a library's message may quote cells that nobody has masked yet.
        raise PluginError(f"Source '{call.reader.type}' failed on data set '{call.name}' ({failure}).", hint="Check the source and its options.")

    @hookimpl
    def affidavit_train(self, call: TrainCall) -> Model:
        call.model.fit(call.data, call.training)
        if call.model.signature is None:
            raise PluginError(f"Model type '{call.model.type}' set no signature in fit.")
        return call.model

    @hookimpl
    def affidavit_evaluate(self, call: EvaluateCall) -> Evaluation:
        from affidavit import metrics
        from affidavit.interfaces.infer import class_labels

        signature = call.model.fitted
        if call.data.schema.target is None or call.data.schema.target.name != signature.target:
            raise UsageError(f"The evaluation data have no target '{signature.target}'.", hint="Load them with target=….")
        predictions = _checked(call.model.predict(call.data), call)
        truth = class_labels(call.data)[0] if signature.task.classifies else call.data.to_numpy(signature.target)
        policy = call.workspace.policy.fairness
        evaluation = metrics.evaluate(
            predictions, truth, task=signature.task, classes=signature.classes, data_name=call.data.name, positive=policy.favourable, seed=call.seed
        )
        if not policy.protected and not call.data.schema.with_role(Role.PROTECTED):
            return evaluation
        fairness = call.workspace.service("fairness")(call.data, predictions, truth, policy)
        return Evaluation(evaluation.task, evaluation.rows, evaluation.data, evaluation.metrics, evaluation.curves, fairness)

    @hookimpl
    def affidavit_explain(self, call: ExplainCall) -> ExplanationRecord:
        if call.explainer is None:
            raise PluginError("No explainer was chosen for this call.")
        record = call.explainer.explain(call.model, call.data, call.background, **call.options)
        if not isinstance(record, (Explanation, GlobalExplanation, Counterfactuals)) or record.scope != call.scope:
            raise PluginError(f"Explainer '{call.explainer.type}' gave {type(record).__name__}, which is no explanation of {call.scope}.")
        return record

    @hookimpl
    def affidavit_package(self, call: PackageCall) -> Artifact:
        from affidavit.artifacts import package

        return package(call.model, call.workspace.objects)

    @hookimpl
    def affidavit_register_version(self, call: RegisterCall) -> Version:
        return call.workspace.versions.add(
            call.name, call.artifact.digest, model_type=call.artifact.model_type, submitter=call.actor.key or call.actor.name
        )

    @hookimpl
    def affidavit_approve(self, call: ApproveCall) -> Version:
        return call.version

    @hookimpl
    def affidavit_promote(self, call: PromoteCall) -> Version:
        call.workspace.versions.point(call.version.name, call.alias, call.version.number)
        return call.version

    @hookimpl
    def affidavit_deploy(self, call: DeployCall) -> Endpoint:
        endpoint = call.deployment.deploy(call.predictor, **call.options)
        if not isinstance(endpoint, Endpoint):
            raise PluginError(f"Target '{call.deployment.type}' gave {type(endpoint).__name__}, not an Endpoint.")
        return endpoint

    @hookimpl
    def affidavit_predict(self, call: PredictCall) -> Predictions:
        return _checked(call.model.predict(call.data), call)

    @hookimpl
    def affidavit_reveal(self, call: RevealCall) -> Revealed:
        revealed: Revealed = call.workspace.service("reveal")(call)
        return revealed

    @hookimpl
    def affidavit_shred(self, call: ShredCall) -> Receipt:
        receipt: Receipt = call.workspace.service("shred")(call)
        return receipt


def _checked(predictions: Predictions, call: PredictCall | EvaluateCall) -> Predictions:
    if type(predictions) is not Predictions:
        raise PluginError(f"Model type '{call.model.type}' gave {type(predictions).__name__} from predict, not Predictions.")
    if len(predictions) != len(call.data):
        raise PluginError(f"Model type '{call.model.type}' gave {len(predictions)} answers for {len(call.data)} rows.")
    return predictions
