"""Exact values for tree ensembles: `tree`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import MissingExtra, PluginError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import EncodedView, Model, Task
from affidavit.interfaces.outputs import relative_residual
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.estimators.stability import as_details, stability
from affidavit_governance.explain.planner import model_only, tree_unfit
from affidavit_governance.explain.players.fields import FieldBlock
from affidavit_governance.explain.trees.ensemble import read_ensemble
from affidavit_governance.explain.trees.values import TreeValues, interventional_values, path_dependent_values

TREE_TOLERANCE = 1e-6
"""Relative residual from which tree values are not believed: the trees that were read are not what the model answers by."""

_OWN: dict[str, Any] = {"game": "interventional", "engine": "native", "interactions": False}

_CHOICES = {"game": ("interventional", "path-dependent"), "engine": ("native", "shap"), "interactions": (False, True)}


class Tree(Explainer):
    """Exact Shapley values of tree ensembles, for players that are fields or groups of them. Options: label, seed, groups, report.

    Own options:

    - ``game``: ``"interventional"`` (absent players take the values of background rows; what `exact` enumerates) or ``"path-dependent"``
      (they go both ways at their splits, by the share of training rows; Lundberg, Erion, Lee 2018);
    - ``interactions``: give the matrix of interactions of order two as well;
    - ``engine``: ``"native"``, or ``"shap"`` for the library's TreeExplainer, whose players are encoded columns, summed to fields.

    What is explained is the trees' own raw score: a probability for trees and forests, log-odds for boosting on two classes, the centred
    log-ratio for boosting on several. Every row is checked against the model's own answer. Where shap does not add up, the native values
    take its place; where the trees cannot be read or are not what the model answers by, the model itself is asked. The record says so.
    """

    type = "tree"
    accepts = ACCEPTS

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options, own=_OWN)
        _check_own(read.own)
        reason = tree_unfit(model)
        if reason:
            raise UsageError(f"Method 'tree' does not fit: {reason}.")
        view = model.encoded_view()
        several = model.fitted.task is Task.MULTICLASS
        raw = view.output == "log-odds"
        case = Case.open(model, data, background, read, log_odds=raw and not several, log_ratio=raw and several)
        weights = _weights(view, case.score.label, model.fitted.classes)
        found, said = self._with_shap(case, view, weights) if read.own["engine"] == "shap" else (None, {})
        if found is None:
            found, why = self._native(case, view, weights)
            if found is None:
                return self._ask_model(case, background, why, options)
        read.report(Progress(len(case.data), len(case.data), "explaining"))
        return replace(found, details={**found.details, **said})

    def _native(self, case: Case, view: EncodedView, weights: NDArray[np.float64]) -> tuple[Explanation | None, str]:
        """The native values, or None and why not."""
        try:
            ensemble = read_ensemble(view.estimator, weights)
        except UsageError as error:
            return None, str(error.args[0]).rstrip(".")
        own = case.options.own
        names = case.grouping.names
        player = np.array([case.grouping.player_of(field) for field in view.players], dtype=np.int64)
        matrix = view.encode(case.data)
        if own["game"] == "interventional":
            reference = view.encode(case.background)
            tree_values = interventional_values(ensemble, player, len(names), matrix, reference, interactions=own["interactions"])
        else:
            tree_values = path_dependent_values(ensemble, player, len(names), matrix, interactions=own["interactions"])
        found = self._record(case, tree_values, {"engine": "native"})
        worst = float(relative_residual(found).max(initial=0.0))
        return (found, "") if worst <= TREE_TOLERANCE else (None, f"The trees missed the model's answer by {worst:.1e}")

    def _with_shap(self, case: Case, view: EncodedView, weights: NDArray[np.float64]) -> tuple[Explanation | None, dict[str, str]]:
        """shap's values, or None and what to say of the native ones that take their place."""
        try:
            # Here and not above: the native values need no library.
            from affidavit_governance.explain.methods.shap_trees import FAILURES, LIBRARY, shap_columns
        except ImportError as error:
            raise MissingExtra("Option engine='shap' of explainer 'tree'", extra="explain", library=error.name or "shap") from error
        try:
            columns, base = shap_columns(view, case, weights)
        except FAILURES as error:
            return None, {"fallback": f"shap's TreeExplainer raised {type(error).__name__}; the native values were used instead"}
        values = TreeValues(columns @ case.grouping.membership(view.players), base, None)
        game = f"{case.options.own['game']} over encoded columns, summed by field"
        found = self._record(case, values, {"engine": "shap", "library": LIBRARY, "game": game})
        worst = float(relative_residual(found).max(initial=0.0))
        if worst > TREE_TOLERANCE:
            why = f"shap's TreeExplainer missed the model's answer by {worst:.1e}"
            return None, {"fallback": f"{why}; the native values were used instead"}
        return found, {}

    def _record(self, case: Case, found: TreeValues, details: Mapping[str, Any]) -> Explanation:
        block, names = FieldBlock(case.data, case.background, case.grouping), case.grouping.names
        judged = as_details([stability(values) for values in found.values], [names] * len(case.data))
        return case.record(
            self.type,
            names,
            found.values,
            found.base,
            inputs=[block.labels(row) for row in range(len(case.data))],
            interactions=found.interactions,
            exact=True,
            at_once=True,
            details={"game": case.options.own["game"], "stability": judged, **details},
        )

    def _ask_model(self, case: Case, background: Dataset, why: str, options: Mapping[str, Any]) -> Explanation:
        """Ask only for the model's answers, where its trees cannot serve.

        Raises
        ------
        PluginError
            What was asked for needs the trees.
        """
        own = case.options.own
        if own["game"] != "interventional" or own["interactions"]:
            needs = "interactions" if own["interactions"] else "the path-dependent game"
            raise PluginError(f"{why}, so '{case.score.model.type}' has no {needs} to give.", hint="Leave 'game' and 'interactions' out.")
        explainer = model_only(case.data, case.background)
        shared = {name: value for name, value in options.items() if name not in _OWN}
        found = explainer.explain(case.score.model, case.data, background, **shared)
        assert isinstance(found, Explanation)
        details = {**found.details, "options": sorted(shared), "fallback": f"{why}; '{explainer.type}' was used instead"}
        return replace(found, details=details)


def _check_own(own: Mapping[str, Any]) -> None:
    for name, choices in _CHOICES.items():
        if own[name] not in choices or isinstance(own[name], bool) is not isinstance(choices[0], bool):
            shown = " or ".join(repr(choice) for choice in choices)
            raise UsageError(f"Option '{name}' of explainer 'tree' must be {shown}.")
    if own["engine"] == "shap" and own["interactions"]:
        raise UsageError("Interactions come from the native engine: shap's have encoded columns as players.", hint="Leave out engine='shap'.")


def _weights(view: EncodedView, label: str | None, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """How the estimator's outputs make the number that is explained."""
    if label is None:
        return np.ones(1)
    chosen = np.array([1.0 if name == label else 0.0 for name in classes])
    if view.output == "probability":
        return chosen
    if len(classes) > 2:
        return chosen - 1.0 / len(classes)
    return np.array([1.0 if label == classes[-1] else -1.0])
