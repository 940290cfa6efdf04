"""The last step of an explanation of rows before it leaves: measured where that is asked for, released as the policy says, audited."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from affidavit.errors import Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.outputs import explained_output, relative_residual
from affidavit_governance.explain.case import BACKGROUND_ROWS
from affidavit_governance.explain.quality.measure import BUDGET, Quality, measure_quality
from affidavit_governance.explain.release.audit import LEAST_ROWS, Reconstruction, reconstruction
from affidavit_governance.explain.release.masked import check_masked
from affidavit_governance.explain.release.modes import one_digit, released

if TYPE_CHECKING:
    from affidavit.workspace import Workspace

_OWN = frozenset({"quality", "release", "reconstruction"})
"""Details that governance states; what an explainer says under these names is dropped."""

_EFFORT = frozenset({"report", "seed", "budget", "seconds", "width"})
"""Options that change how well something is estimated, not what; an audit on the background is made with the method's own defaults, once."""

_LINE = "explain.max_reconstruction"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller wants measured of an explanation.

    Attributes
    ----------
    quality
        Model rows that measuring may cost; None does not measure.
    reconstruction
        Whether to audit the release.
    """

    quality: int | None = None
    reconstruction: bool = False

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> tuple[Asked, dict[str, Any]]:
        """Take the options `quality` and `reconstruction` out of a call's options; give both.

        Raises
        ------
        UsageError
            One of them is unfit.
        """
        rest = {name: value for name, value in options.items() if name not in ("quality", "reconstruction")}
        quality, audit = options.get("quality", False), options.get("reconstruction", False)
        if not isinstance(quality, int) or quality < 0:
            raise UsageError("Option 'quality' must be true, or how many model rows measuring may cost.")
        if not isinstance(audit, bool):
            raise UsageError("Option 'reconstruction' must be true or false.")
        budget = BUDGET if quality is True else int(quality) or None
        return cls(budget, audit), rest


class Leaving:
    """Lets explanations of rows leave a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._audits: WeakKeyDictionary[Model, dict[str, Reconstruction]] = WeakKeyDictionary()
        self._measured: WeakKeyDictionary[Model, set[str]] = WeakKeyDictionary()

    def leave(
        self,
        explanation: Explanation,
        model: Model,
        data: Dataset,
        background: Dataset,
        explainer: Explainer,
        options: Mapping[str, Any],
        asked: Asked | None = None,
    ) -> tuple[Explanation, dict[str, Any]]:
        """What leaves of a checked explanation, and what the evidence says of it.

        Parameters
        ----------
        options
            As the explainer got them.
        asked
            None for an explanation that goes with a prediction, whose quality is not measured. Where the policy has gates, quality is measured
            without being asked for once for each model and method, so that a served model does not pay in each call.

        Raises
        ------
        PluginError
            Players tell masked fields apart.
        Refused
            The audit gives back more than the policy allows, or could not be made.
        """
        policy = self._workspace.policy.explain
        check_masked(list(model.fitted.inputs), _groups(options, policy.groups, model), explanation)
        details = {name: value for name, value in explanation.details.items() if name not in _OWN}
        whole = replace(explanation, details=details)
        quality = None
        if asked and (asked.quality or (policy.gates and explainer.type not in self._measured.get(model, ()))):
            quality = self._quality(whole, model, data, background, explainer, options, asked.quality or BUDGET)
        out = self._released(whole, model, data, background)
        audit = None
        if policy.max_reconstruction is not None or (asked and asked.reconstruction):
            audit = self._audit(out, model, data, background, explainer, options)
            self._hold(audit)
        added = {
            **({} if quality is None else {"quality": quality.to_json()}),
            **({} if audit is None else {"reconstruction": audit.to_json()}),
        }
        return replace(out, details={**out.details, **added}), {**_residuals(whole, out), "release": _without_rows(out), **added}

    def _quality(
        self,
        explanation: Explanation,
        model: Model,
        data: Dataset,
        background: Dataset,
        explainer: Explainer,
        options: Mapping[str, Any],
        budget: int,
    ) -> Quality:
        report = {"report": options["report"]} if "report" in options else {}
        seed = int(explanation.details.get("seed", 0))
        found = measure_quality(model, explanation, data, background, explainer=explainer, options=options, budget=budget, seed=seed, **report)
        if found.rows:
            self._measured.setdefault(model, set()).add(explainer.type)
        return found

    def _released(self, explanation: Explanation, model: Model, data: Dataset, background: Dataset) -> Explanation:
        out = released(explanation, self._workspace.policy.explain, lambda: answer_spread(model, explanation.output, background))
        if out.details["release"]["mode"] == "full":
            return out
        # A plain digest of a row can be tested against guesses; a replay in this workspace can compare a keyed one.
        key = self._workspace.keyring.derive("explained rows digest")
        digest = hmac.digest(key, model.fitted.conform(data).fingerprint.encode(), hashlib.sha256).hex()
        return replace(out, details={**out.details, "data": digest})

    def _audit(
        self, out: Explanation, model: Model, data: Dataset, background: Dataset, explainer: Explainer, options: Mapping[str, Any]
    ) -> Reconstruction:
        """On the rows of the call; where these are too few and there is a bound, on the background's, once for each way of explaining."""
        if len(out) >= LEAST_ROWS or self._workspace.policy.explain.max_reconstruction is None:
            return reconstruction(out, model.fitted.conform(data))
        given = {name: value for name, value in options.items() if name not in _EFFORT}
        key = f"{explainer.type} {background.fingerprint} {sorted(given.items(), key=lambda item: item[0])!r}"
        known = self._audits.setdefault(model, {})
        if key not in known:
            rows = background.head(BACKGROUND_ROWS)
            found = explainer.explain(model, rows, background, **given)
            assert isinstance(found, Explanation)
            known[key] = reconstruction(self._released(found, model, rows, background), model.fitted.conform(rows))
        return known[key]

    def _hold(self, audit: Reconstruction) -> None:
        bound = self._workspace.policy.explain.max_reconstruction
        if bound is None:
            return
        worst = audit.worst
        if worst is None:
            why = next(iter(audit.missing.values()), "there are no inputs")
            raise Refused(
                f"The policy bounds what explanations give back of their inputs, and that was {why}.",
                by="policy",
                line=_LINE,
                measured="not measured",
                bound=bound,
                satisfy=f"Explain {LEAST_ROWS} rows in one call, or give a background of {LEAST_ROWS} rows.",
            )
        share = audit.fields[worst].share.value
        if share > bound:
            raise Refused(
                f"What would be released of this explanation gives back {share:.2g} of '{worst}', more than {bound:.2g}.",
                by="policy",
                line=_LINE,
                measured=share,
                bound=bound,
                satisfy="Release less (explain.release: quantised, top-k or reason-codes), or raise the bound.",
            )


def _groups(options: Mapping[str, Any], policy: Mapping[str, Sequence[str]], model: Model) -> dict[str, Sequence[str]]:
    """The groups that the explainer got, or the policy's of this model's inputs where it takes none."""
    inputs = set(model.fitted.inputs.names)
    return dict(options.get("groups") or {name: kept for name, fields in policy.items() if (kept := [each for each in fields if each in inputs])})


def _residuals(whole: Explanation, out: Explanation) -> dict[str, float]:
    """The largest residuals for the evidence, with as many digits as the release leaves."""
    relative = relative_residual(whole)
    if out.details["release"]["mode"] != "full":
        relative = one_digit(relative)
    return {"max_residual": float(out.residual.max(initial=0.0)), "max_relative_residual": float(relative.max(initial=0.0))}


def _without_rows(out: Explanation) -> dict[str, Any]:
    return {name: value for name, value in out.details["release"].items() if not isinstance(value, list)}


def answer_spread(model: Model, output: str, background: Dataset) -> float:
    """The standard deviation of the model's answers to reference rows; never zero.

    Where all answers are alike it is one for probabilities and log-odds, and for numbers the size of the mean or one.
    """
    answers = explained_output(output, model.predict(background.head(BACKGROUND_ROWS)))
    if answers is None or not len(answers):
        return 1.0
    spread, size = float(answers.std()), float(abs(answers.mean()))
    if spread > 1e-9 * size:
        return spread
    return max(size, 1.0) if output == "value" else 1.0
