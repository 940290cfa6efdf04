"""The governance module EXPLAIN: chooses the explainer, checks what it gives, and attaches explanations to predictions where asked."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from affidavit.errors import PluginError, Refused, UsageError
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation, ExplanationRecord
from affidavit.interfaces.governance import Stage
from affidavit.interfaces.model import Model, Predictions
from affidavit_governance.explain.case import explained_output, relative_residual
from affidavit_governance.explain.planner import choose

if TYPE_CHECKING:
    from affidavit.calls import ExplainCall, PredictCall
    from affidavit.workspace import Workspace

_SAME_ANSWER = 1e-4
"""How far two answers of one float32 model may lie apart, relative to their size, when its rows stand in batches of other sizes."""

_STATED = ("exact", "additive", "background", "seed", "model_rows", "fallback")
"""Details of an explanation that stand in the evidence."""


_ASKED = {
    "rows": ("rows", "explain"),
    "model": ("a model as a whole", "explain_model"),
    "changes": ("changes that flip a decision", "counterfactuals"),
}
"""What each scope explains, and the workspace's call for it."""


class Module:
    """Wraps `affidavit_explain`, and `affidavit_predict` only where the policy asks for an explanation with each prediction."""

    stage = Stage.EXPLAIN

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        if workspace.policy.explain.each_prediction:
            self.affidavit_predict = _predict_wrapper(self)
        self._backgrounds: WeakKeyDictionary[Model, Dataset] = WeakKeyDictionary()

    @hookimpl(wrapper=True)
    def affidavit_explain(self, call: ExplainCall) -> Generator[None, ExplanationRecord, ExplanationRecord]:
        """Choose the explainer before the call; after it, check every row against the model's own answer.

        No rows are refused: an explanation of nothing would pass as the evidence that promotion asks for.
        """
        if len(call.data) == 0:
            raise UsageError("There are no rows to explain.", hint="Pass at least one row.")
        explainer, reason = self.choose(call.model, call.background, call.method, call.options, scope=call.scope)
        call.replace("explainer", explainer, stage=Stage.EXPLAIN)
        call.replace("options", self._options(explainer, call.model, call.options), stage=Stage.EXPLAIN)
        record = yield
        stated: dict[str, Any] = {"method": record.method, "reason": reason}
        if isinstance(record, Explanation):
            record = self.checked(record, call.model.predict(call.data), reason)
            stated |= {
                "max_residual": float(record.residual.max(initial=0.0)),
                "max_relative_residual": float(relative_residual(record).max(initial=0.0)),
            }
        call.state(Stage.EXPLAIN, stated | {key: record.details[key] for key in _STATED if key in record.details})
        return record

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
            found: Explainer = self._workspace.registry.get("explainer", method)()
            if found.scope != scope:
                raise UsageError(f"Method '{method}' explains {_ASKED[found.scope][0]}.", hint=f"Call {_ASKED[found.scope][1]}.")
            if scope != "rows":
                return found, "asked for by name"
        name, reason = choose(model, background, method, options)
        explainer: Explainer = self._workspace.registry.get("explainer", name)()
        return explainer, reason

    def _options(self, explainer: Explainer, model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
        """The caller's options with those that governance adds; the policy's groups stay whole."""
        policy = self._workspace.policy.explain
        inputs = {field.name for field in model.fitted.inputs}
        groups = {name: kept for name, fields in policy.groups.items() if (kept := tuple(field for field in fields if field in inputs))}
        added = {
            "groups": {**dict(given.get("groups") or {}), **groups},
            "model_digest": self._workspace.model_digest(model),
            "immutable": sorted({*(given.get("immutable") or ()), *policy.immutable}),
        }
        return {**given, **{name: value for name, value in added.items() if name in explainer.accepts}}

    def checked(self, explanation: Explanation, predictions: Predictions, reason: str) -> Explanation:
        """The explanation with the reason for its method, once it has proved whole and additive.

        Raises
        ------
        PluginError
            Rows, players or numbers are missing, or `predicted` is not what the model answers.
        Refused
            Attributions do not add up to the model's answer within ``explain.max_residual``.
        """
        _check_whole(explanation, predictions)
        bound = self._workspace.policy.explain.max_residual
        worst = float(relative_residual(explanation).max(initial=0.0))
        if explanation.details.get("additive", True) and worst > bound:
            raise Refused(
                f"The '{explanation.method}' attributions miss the model's own answer by {worst:.2g} of its scale, more than {bound:.2g}.",
                by="policy",
                line="explain.max_residual",
                measured=worst,
                bound=bound,
                satisfy="Use another method (method='exact' or 'permutation'), or raise the bound for a model of low precision.",
            )
        return replace(explanation, details={**explanation.details, "reason": reason})

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
        explainer, reason = self.choose(call.model, background, None, {})
        explanation = explainer.explain(call.model, call.data, background, **self._options(explainer, call.model, {}))
        assert isinstance(explanation, Explanation)
        predictions.explanations = self.checked(explanation, predictions, reason)
        return predictions


def _predict_wrapper(module: Module) -> Any:
    """The wrapper of `affidavit_predict`; made only where the policy asks for it, so that other workspaces pay nothing."""

    @hookimpl(wrapper=True)
    def affidavit_predict(call: PredictCall) -> Generator[None, Predictions, Predictions]:
        predictions = yield
        return module.with_prediction(call, predictions)

    return affidavit_predict


def _check_whole(explanation: Explanation, predictions: Predictions) -> None:
    rows, players = len(predictions), len(explanation.players)
    shapes = {"values": (rows, players), "base": (rows,), "predicted": (rows,)}
    for name, shape in shapes.items():
        array = getattr(explanation, name)
        if np.shape(array) != shape:
            raise PluginError(f"Explainer '{explanation.method}' gave {name} of shape {np.shape(array)}; {shape} was due.")
        if not np.isfinite(array).all():
            raise PluginError(f"Explainer '{explanation.method}' gave {name} that are not finite numbers.")
    own = explained_output(explanation.output, predictions)
    if own is None:
        raise PluginError(f"Explainer '{explanation.method}' explains '{explanation.output}', which this model does not answer.")
    if (abs(own - explanation.predicted) > _SAME_ANSWER * np.maximum(1.0, abs(own))).any():
        raise PluginError(f"Explainer '{explanation.method}' recorded answers that the model does not give.")
    if not isinstance(explanation.details, Mapping):
        raise PluginError(f"Explainer '{explanation.method}' gave details that are no mapping.")
