"""The governance module EXPLAIN: chooses the explainer, checks what it gives, and attaches explanations to predictions where asked."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from affidavit.errors import AffidavitError, PluginError, Refused, UsageError
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Counterfactuals, Explanation, GlobalExplanation
from affidavit.interfaces.governance import Stage
from affidavit.interfaces.model import Model, Predictions
from affidavit.interfaces.outputs import relative_residual
from affidavit.interfaces.schema import Role
from affidavit_governance.explain.checks import unrecordable, whole_changes, whole_description, whole_explanation
from affidavit_governance.explain.planner import choose
from affidavit_governance.explain.players.grouping import Grouping, grouped, is_masked
from affidavit_governance.explain.records.signed import plain, seal_record
from affidavit_governance.explain.release.leaving import Asked, Leaving
from affidavit_governance.explain.release.whole import released_whole

if TYPE_CHECKING:
    from affidavit.calls import ExplainCall, PredictCall
    from affidavit.workspace import Workspace

_NOT_ASKED = frozenset({"report", "model_digest"})
"""Options that are no part of a record: one is code, the other stands in it already."""

_STATED = ("exact", "additive", "background", "seed", "model_rows", "fallback")
"""Details of an explanation that stand in the evidence."""


_ASKED = {
    "rows": ("rows", "explain"),
    "model": ("a model as a whole", "explain_model"),
    "changes": ("changes that flip a decision", "counterfactuals"),
}
"""What each scope explains, and the workspace's call for it."""


Record = Explanation | GlobalExplanation | Counterfactuals


class Module:
    """Wraps `affidavit_explain`, and `affidavit_predict` only where the policy asks for an explanation with each prediction."""

    stage = Stage.EXPLAIN

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._leaving = Leaving(workspace)
        if workspace.policy.explain.each_prediction:
            self.affidavit_predict = _predict_wrapper(self)
        self._backgrounds: WeakKeyDictionary[Model, Dataset] = WeakKeyDictionary()

    @hookimpl(wrapper=True)
    def affidavit_explain(self, call: ExplainCall) -> Generator[None, Record, Record]:
        """Choose the explainer before the call; after it, check every row against the model's own answer.

        No rows are refused: an explanation of nothing would pass as the evidence that promotion asks for.
        """
        if len(call.data) == 0:
            raise UsageError("There are no rows to explain.", hint="Pass at least one row.")
        asked, given = Asked.read(call.options) if call.scope == "rows" else (None, dict(call.options))
        _check_recordable(given)
        explainer, reason = self.choose(call.model, call.background, call.method, self._with_groups(call.model, given), scope=call.scope)
        call.replace("explainer", explainer, stage=Stage.EXPLAIN)
        call.replace("options", self._options(explainer, call.model, given), stage=Stage.EXPLAIN)
        # Asked before the explainer has had the model in its hands: answers of a model that it changed are not the model's own.
        predictions = call.model.predict(call.data) if call.scope == "rows" else None
        try:
            record = yield
        except (AffidavitError, MemoryError):
            raise
        except (Exception, SystemExit) as error:  # the message may quote rows, so it stays with the cause
            raise PluginError(f"Explainer '{explainer.type}' failed ({type(error).__name__}).", hint="Its own error is this one's cause.") from error
        left: dict[str, Any] = {}
        if isinstance(record, Explanation):
            assert predictions is not None
            record = self.checked(record, explainer, call.model, predictions, reason, given)
            record, left = self._leaving.leave(record, call.model, call.data, call.background, explainer, call.options, asked)
        elif isinstance(record, GlobalExplanation):
            record = released_whole(whole_description(record, method=explainer.type, rows=len(call.data)), self._workspace.policy.explain)
        elif isinstance(record, Counterfactuals):
            fixed = self._fixed(call.model, call.data, given)
            record = whole_changes(record, method=explainer.type, data=call.data, inputs=call.model.fitted.inputs.names, fixed=fixed)
        record = self._signed(record, call.model, call.options, reason)
        stated = {"method": record.method, "reason": reason, **left}
        call.state(Stage.EXPLAIN, stated | {key: record.details[key] for key in _STATED if key in record.details})
        return record

    def _signed(self, record: Record, model: Model, options: Mapping[str, Any], reason: str) -> Record:
        """The record with what a replay needs, in plain JSON values, signed by the workspace."""
        # Where another explainer stood in, the record says which of the options that one takes.
        kept = record.details.get("options")
        taken = set(kept) if isinstance(kept, list) else set(options)
        asked = {name: value for name, value in options.items() if name in taken - _NOT_ASKED}
        details = {**record.details, "reason": reason, "model": self._workspace.model_digest(model), "options": asked}
        whole = replace(record, details=plain(details), signed=None)
        return replace(whole, signed=seal_record(self._workspace, whole))

    def choose(
        self, model: Model, background: Dataset, method: str | None, options: Mapping[str, Any], *, scope: str = "rows"
    ) -> tuple[Explainer, str]:
        """An explainer and the reason for it.

        Raises
        ------
        UsageError
            The method is unknown, does not fit the model, or explains something else than was asked for.
        """
        if method is not None:
            if not isinstance(method, str):
                raise UsageError("'method' must be the name of an explainer.")
            found: Explainer = self._workspace.registry.get("explainer", method)()
            if found.scope != scope:
                raise UsageError(f"Method '{method}' explains {_ASKED[found.scope][0]}.", hint=f"Call {_ASKED[found.scope][1]}.")
            if scope != "rows":
                return found, "asked for by name"
        name, reason = choose(model, background, method, options)
        explainer: Explainer = self._workspace.registry.get("explainer", name)()
        return explainer, reason

    def _options(self, explainer: Explainer, model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
        """The caller's options with those that governance adds: every player of several fields, which the policy or masks keep together."""
        if not _is_names(given.get("immutable") or ()):
            raise UsageError("Option 'immutable' must be a list of fields.")
        added = {
            "groups": self._groups(model, given),
            "model_digest": self._workspace.model_digest(model),
            "immutable": sorted({*(given.get("immutable") or ()), *self._immutable(model)}),
        }
        return {**given, **{name: value for name, value in added.items() if name in explainer.accepts}}

    def _with_groups(self, model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options with the policy's groups of this model's inputs; the policy is for many models, so the names of other fields are left out."""
        inputs = {field.name for field in model.fitted.inputs}
        policy = self._workspace.policy.explain.groups
        groups = {name: kept for name, fields in policy.items() if (kept := tuple(field for field in fields if field in inputs))}
        own = given.get("groups")
        if own is not None and not (isinstance(own, Mapping) and all(isinstance(name, str) and _is_names(fields) for name, fields in own.items())):
            raise UsageError("Option 'groups' must be a mapping from a player's name to a list of its fields.")
        whole = grouped(list(model.fitted.inputs), groups).members  # with the masked fields, as a record of an earlier call has them
        same = {name: (set(fields), set(whole.get(name, fields))) for name, fields in groups.items()}
        taken = next((name for name, fields in (own or {}).items() if name in same and set(fields) not in same[name]), None)
        if taken is not None:
            raise UsageError(f"The policy has another group of the name '{taken}' already.", hint="Give yours another name.")
        return {**given, "groups": {**(own or {}), **groups}}

    def _players(self, model: Model, given: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        """The fields of each player."""
        return grouped(list(model.fitted.inputs), self._with_groups(model, given)["groups"]).members

    def _groups(self, model: Model, given: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """The players that are no single field of the same name."""
        return {name: fields for name, fields in self._players(model, given).items() if fields != (name,)}

    def _immutable(self, model: Model) -> set[str]:
        """Inputs of this model that the policy lets no change touch."""
        return {field.name for field in model.fitted.inputs} & {*self._workspace.policy.explain.immutable, *self._workspace.policy.fairness.protected}

    def _fixed(self, model: Model, data: Dataset, given: Mapping[str, Any]) -> set[str]:
        """Fields that no change may touch, whoever looks for it."""
        fields = (*model.fitted.inputs, *data.schema)
        kept = {field.name for field in fields if field.role is Role.PROTECTED or is_masked(field)}
        return {*self._immutable(model), *(given.get("immutable") or ()), *kept}

    def checked(
        self, found: Explanation, explainer: Explainer, model: Model, predictions: Predictions, reason: str, given: Mapping[str, Any]
    ) -> Explanation:
        """The explanation with the reason for its method, once it has proved whole and additive.

        Parameters
        ----------
        given
            The caller's options.

        Raises
        ------
        PluginError
            Rows, players or numbers are missing, or `predicted` is not what the model answers.
        Refused
            Attributions do not add up to the model's answer within ``explain.max_residual``, or a local surrogate follows the model less
            well than ``explain.min_local_r2`` asks.
        """
        explanation = whole_explanation(found, method=explainer.type, predictions=predictions, grouping=Grouping(self._players(model, given)))
        policy = self._workspace.policy.explain
        bound = policy.max_residual
        worst = float(relative_residual(explanation).max(initial=0.0))
        if explanation.details["additive"] and worst > bound:
            raise Refused(
                f"The '{explanation.method}' attributions miss the model's own answer by {worst:.2g} of its scale, more than {bound:.2g}.",
                by="policy",
                line="explain.max_residual",
                measured=worst,
                bound=bound,
                satisfy="Use another method (method='exact' or 'permutation'), or raise the bound for a model of low precision.",
            )
        fit = [value for value in explanation.details.get("local_r2", ()) if value is not None]
        if fit and not min(fit) >= policy.min_local_r2:
            raise Refused(
                f"The '{explanation.method}' surrogate has a local R² of {min(fit):.2g} only, less than {policy.min_local_r2:.2g}.",
                by="policy",
                line="explain.min_local_r2",
                measured=min(fit),
                bound=policy.min_local_r2,
                satisfy="Use another method, give a larger budget, or lower the bound.",
            )
        # An explainer that took the players from here need not repeat who they are.
        told = {"groups": plain(self._groups(model, given))} if "groups" in explainer.accepts else {}
        return replace(explanation, details={**told, **explanation.details, "reason": reason, "decision": _decision_rule(predictions)})

    def with_prediction(self, call: PredictCall, predictions: Predictions) -> Predictions:
        """Attach an explanation of each row to the answers."""
        background = self._backgrounds.get(call.model)
        if background is None:
            background = self._workspace.background(call.model)
        if background is None:
            raise Refused(
                "The policy wants an explanation with each prediction, and no background rows are stored for this model.",
                by="policy",
                line="explain.each_prediction",
                satisfy="Train the model in this workspace, or switch the line off.",
            )
        self._backgrounds[call.model] = background
        explainer, reason = self.choose(call.model, background, None, self._with_groups(call.model, {}))
        options = self._options(explainer, call.model, {})
        explanation = explainer.explain(call.model, call.data, background, **options)
        assert isinstance(explanation, Explanation)
        checked = self.checked(explanation, explainer, call.model, predictions, reason, {})
        released, _ = self._leaving.leave(checked, call.model, call.data, background, explainer, options)
        signed = self._signed(released, call.model, options, reason)
        assert isinstance(signed, Explanation)
        predictions.explanations = signed
        return predictions


def _predict_wrapper(module: Module) -> Any:
    """The wrapper of `affidavit_predict`; made only where the policy asks for it, so that other workspaces pay nothing."""

    @hookimpl(wrapper=True)
    def affidavit_predict(call: PredictCall) -> Generator[None, Predictions, Predictions]:
        predictions = yield
        return module.with_prediction(call, predictions)

    return affidavit_predict


def _decision_rule(predictions: Predictions) -> str:
    """How the model decides: whether the classes it gives follow from its probabilities, as the reasons of an adverse decision assume."""
    if predictions.probabilities is None:
        return "own rule" if predictions.classes else "value"
    likeliest = np.array(predictions.classes, dtype=object)[np.asarray(predictions.probabilities).argmax(axis=1)]
    return "argmax" if (likeliest == predictions.values).all() else "own rule"


def _is_names(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


def _check_recordable(given: Mapping[str, Any]) -> None:
    """Refuse what no record could hold before any work is done for it. Raises UsageError."""
    lacking = unrecordable({name: value for name, value in given.items() if name not in _NOT_ASKED})
    if lacking:
        raise UsageError(f"Option '{lacking[0]}' is no JSON value, so the record could not say what was asked for.")
