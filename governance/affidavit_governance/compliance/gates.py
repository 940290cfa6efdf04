"""POLICY: what may not happen does not, and the refusal says which line of the policy refused and what would satisfy it.

The gates read the ledger, not the database: a figure counts when signed evidence about this very artifact says it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Generator, Mapping
from typing import Any

from affidavit.calls import DeployCall, PromoteCall, RegisterCall, TrainCall
from affidavit.errors import IntegrityError, PluginError, Refused, UsageError, nearest
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.governance import Evidence, Stage
from affidavit.interfaces.schema import Role
from affidavit.policy import Gate
from affidavit.registry import Version
from affidavit.reveal import RevealCall
from affidavit_governance.access.module import SHRED
from affidavit_governance.explain.quality.metrics import LEAST_ROWS
from affidavit_governance.privacy.accounting import neighbours

Wrapped = Generator[None, Any, Any]


class Module:
    """The POLICY stage of one workspace."""

    stage = Stage.POLICY

    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace

    @hookimpl(wrapper=True)
    def affidavit_train(self, call: TrainCall) -> Wrapped:
        for name in self._workspace.policy.fairness.protected:
            if name in call.data.schema and call.data.schema[name].role is Role.FEATURE:
                raise Refused(
                    f"Column '{name}' is protected and would be a model input.",
                    by="policy",
                    line="fairness.protected",
                    satisfy="Give it the role 'protected', or load the data in this workspace, which does.",
                )
        model = yield
        if model is not call.model:
            raise PluginError(f"A plugin answered the training of '{call.model.type}' with another model than the one that governance watched.")
        for field in model.fitted.inputs:
            role = call.data.schema[field.name].role
            if role is not Role.FEATURE:
                message = f"Model type '{model.type}' reads column '{field.name}', which has the role '{role}'."
                raise PluginError(message, hint="Only features are model inputs.")
        return model

    @hookimpl(wrapper=True)
    def affidavit_register_version(self, call: RegisterCall) -> Wrapped:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", call.name):
            raise UsageError(f"'{call.name}' is no name for a model.", hint="Use lower-case letters, digits, '.', '_' and '-'.")
        if self._evidence("train", call.artifact.digest) is None:
            raise Refused(
                "This artifact was not trained in this workspace: there is no evidence of its training.",
                by="policy",
                line="the promise: no model leaves without its affidavit",
                satisfy="Train it here with Workspace.train, and do not change it afterwards.",
            )
        return (yield)

    @hookimpl(wrapper=True)
    def affidavit_promote(self, call: PromoteCall) -> Wrapped:
        call.state(Stage.POLICY, {"gates": self._check_gates(call.version)})
        return (yield)

    @hookimpl(wrapper=True)
    def affidavit_deploy(self, call: DeployCall) -> Wrapped:
        version = call.version
        held = self._promoted(version)
        for alias, number in self._workspace.versions.aliases(version.name).items():
            if number == version.number and alias not in held:
                raise IntegrityError(
                    f"The database says that '{alias}' is {version}, and the ledger does not: the row or the artifact was changed.",
                    hint=f"Promote it again: affidavit promote {version} {alias}.",
                )
        guarded = [alias for alias in self._workspace.policy.approvals if alias != SHRED]
        governed = [alias for alias in guarded if alias in held]
        if guarded and not governed:
            names = ", ".join(guarded)
            raise Refused(
                f"{version} holds none of the aliases that the policy guards ({names}).",
                by="policy",
                line="approvals",
                satisfy=f"Promote it first: affidavit promote {version} {guarded[0]}.",
            )
        call.state(Stage.POLICY, {"aliases": governed, "gates": self._check_gates(version)})
        return (yield)

    @hookimpl(wrapper=True)
    def affidavit_reveal(self, call: RevealCall) -> Wrapped:
        from affidavit_governance.masking.reveal.revealing import attempt, decide  # masking is not needed for anything else here

        call.state(Stage.POLICY, attempt(call))
        call.replace("grants", decide(call), stage=Stage.POLICY)
        return (yield)

    def _check_gates(self, version: Version) -> list[dict[str, Any]]:
        """Hold the version against every gate of today's policy, and give what passed."""
        policy, digest = self._workspace.policy, version.artifact
        passed: list[dict[str, Any]] = []
        self._check_privacy(digest, passed)
        evaluation = self._evidence("evaluate", digest)
        figures: Mapping[str, Any] | None = evaluation.predicate["details"]["evaluation"] if evaluation else None
        if evaluation and (policy.quality.gates or policy.fairness.gates) and _rows(evaluation) & _rows(self._evidence("train", digest)):
            raise Refused(
                f"{version} was last measured on the very rows that it was trained on.",
                by="policy",
                line="quality.gates" if policy.quality.gates else "fairness.gates",
                satisfy="Run Workspace.evaluate on rows kept for testing.",
            )
        for number, gate in enumerate(policy.quality.gates):
            line = f"quality.gates[{number}]"
            passed.append(_hold(gate, _metric(figures, gate, line), line, str(version)))
        for number, gate in enumerate(policy.fairness.gates):
            for field in policy.fairness.protected:
                line = f"fairness.gates[{number}] ({field})"
                passed.append(_hold(gate, _gap(figures, gate, field, line), line, str(version)))
        if policy.explain.required and self._evidence("explain", digest) is None:
            raise Refused(
                f"{version} has no explanation in evidence.", by="policy", line="explain.required", satisfy="Run Workspace.explain on the model."
            )
        for number, gate in enumerate(policy.explain.gates):
            line = f"explain.gates[{number}]"
            measured = _explained(self._measured_explanation(digest), gate, line, str(version))
            better = "Run Workspace.explain with quality=True: on more rows for a narrower interval, with a larger budget, or by another method."
            passed.append(_hold(gate, measured, line, str(version), satisfy=better))
        return passed

    def _promoted(self, version: Version) -> frozenset[str]:
        """The aliases whose latest promotion in the ledger is of this version with this very artifact."""
        latest: dict[str, bool] = {}
        for evidence in self._workspace.ledger.entries("promote"):
            predicate = evidence.predicate
            if predicate.get("phase") != "outcome" or predicate.get("status") != "done":
                continue
            for subject in evidence.statement["subject"]:
                if subject["name"].rpartition(":")[0] == version.name:
                    latest[predicate["details"]["alias"]] = subject == {"name": str(version), "digest": {"sha256": version.artifact}}
        return frozenset(alias for alias, is_this in latest.items() if is_this)

    def _evidence(self, kind: str, digest: str) -> Evidence | None:
        """The latest successful evidence of `kind` about the model with this digest."""
        found = None
        for evidence in self._workspace.ledger.entries(kind):
            predicate = evidence.predicate
            if predicate.get("phase") != "outcome" or predicate.get("status") != "done":
                continue
            if kind == "explain" and (predicate.get("details") or {}).get("scope", "rows") != "rows":
                continue  # a description of the whole model explains no prediction
            subjects = {subject["digest"]["sha256"] for subject in evidence.statement["subject"]}
            if digest in subjects or digest in predicate.get("inputs", {}).values():
                found = evidence
        return found

    def _measured_explanation(self, digest: str) -> Mapping[str, Any] | None:
        """What the EXPLAIN stage measured of the latest explanation of this model's answers that had rows enough; where none had, of the latest.

        An explainer's own word about its quality counts for nothing.
        """
        found: Mapping[str, Any] | None = None
        for evidence in self._workspace.ledger.entries("explain"):
            predicate = evidence.predicate
            if predicate.get("phase") != "outcome" or predicate.get("status") != "done" or digest not in predicate.get("inputs", {}).values():
                continue
            quality = predicate["stages"].get("explain", {}).get("quality")
            if quality is not None and (quality["rows"] or found is None or not found["rows"]):
                found = quality
        return found

    def _check_privacy(self, digest: str, passed: list[dict[str, Any]]) -> None:
        policy = self._workspace.policy.privacy
        if policy is None:
            return
        trained = self._evidence("train", digest)
        privacy = trained.predicate["stages"].get("privacy", {}) if trained else {}
        epsilon = privacy.get("epsilon")
        # An ε without a bound is written as text, which is none that a policy allows.
        bounded = privacy.get("private") is True and isinstance(epsilon, int | float) and epsilon <= policy.epsilon
        if not bounded or privacy.get("delta", 1.0) > policy.delta:
            raise Refused(
                "The training of this version is not as private as the policy asks.",
                by="policy",
                line="privacy.epsilon",
                measured=epsilon if epsilon is not None else "no guarantee",
                bound=policy.epsilon,
                satisfy="Train it again under this policy.",
            )
        asks = {"unit": policy.unit, "user": policy.user, "relation": neighbours(policy)[0]}
        for line, asked in asks.items():
            stated = privacy.get(line, {"unit": "record", "relation": "add-or-remove-one"}.get(line))
            if stated != asked:
                raise Refused(
                    "The training of this version protects something else than the policy asks.",
                    by="policy",
                    line=f"privacy.{line}",
                    measured=stated,
                    bound=asked,
                    satisfy="Train it again under this policy.",
                )
        if privacy.get("unit_records", 1) < policy.unit_records:
            raise Refused(
                "The training of this version protects smaller units than the policy asks.",
                by="policy",
                line="privacy.unit_records",
                measured=privacy.get("unit_records", 1),
                bound=policy.unit_records,
                satisfy="Train it again under this policy.",
            )
        passed.append({"line": "privacy.epsilon", "measured": epsilon, "bound": policy.epsilon})


def _rows(evidence: Evidence | None) -> set[str]:
    """Fingerprints of the data sets that went into a call, and of the one that a private training chose its users' rows from."""
    if evidence is None:
        return set()
    chosen_from = evidence.predicate["stages"].get("privacy", {}).get("chosen_from")
    found = {digest for name, digest in evidence.predicate["inputs"].items() if name.startswith("dataset:")}
    return found if chosen_from is None else {*found, chosen_from}


def _metric(figures: Mapping[str, Any] | None, gate: Gate, line: str) -> Mapping[str, Any]:
    if figures is None:
        raise Refused(
            "There is no evaluation of this version in evidence.", by="policy", line=line, satisfy="Run Workspace.evaluate on rows kept for testing."
        )
    metrics = figures["metrics"]
    if gate.metric not in metrics:
        raise UsageError(
            f"Policy, {line}: there is no metric '{gate.metric}'.{nearest(gate.metric, metrics)}", hint=f"Measured: {', '.join(metrics)}."
        )
    value: Mapping[str, Any] = metrics[gate.metric]
    return value


def _explained(quality: Mapping[str, Any] | None, gate: Gate, line: str, version: str) -> Mapping[str, Any]:
    if quality is None or gate.metric not in quality["metrics"]:
        why = "" if quality is None else f": {quality['missing'].get(gate.metric, 'the record does not say why')}"
        raise Refused(
            f"The {gate.metric} of explanations of {version} was not measured{why}.",
            by="policy",
            line=line,
            measured="not measured",
            bound=gate.min if gate.min is not None else gate.max,
            satisfy=f"Run Workspace.explain with quality=True on {LEAST_ROWS} rows or more whose answers differ.",
        )
    value: Mapping[str, Any] = quality["metrics"][gate.metric]
    return value


def _gap(figures: Mapping[str, Any] | None, gate: Gate, field: str, line: str) -> Mapping[str, Any]:
    if figures is None or field not in figures["fairness"]:
        raise Refused(
            f"The groups of '{field}' were not measured for this version.",
            by="policy",
            line=line,
            satisfy="Run Workspace.evaluate under this policy, on data that has the column.",
        )
    gaps = figures["fairness"][field]["gaps"]
    if gate.metric not in gaps:
        raise UsageError(
            f"Policy, {line}: there is no group metric '{gate.metric}'.{nearest(gate.metric, gaps)}", hint=f"Measured: {', '.join(gaps)}."
        )
    value: Mapping[str, Any] = gaps[gate.metric]
    return value


_BETTER = "Improve the model, or measure it on more rows for a narrower interval."


def _hold(gate: Gate, metric: Mapping[str, Any], line: str, version: str, *, satisfy: str = _BETTER) -> dict[str, Any]:
    """Check one gate. A missing interval end or figure fails: what was not measured does not pass."""
    measured = metric.get({"value": "value", "lower": "low", "upper": "high"}[gate.bound])
    end = {"value": "", "lower": "lower end of the 95 % interval of ", "upper": "upper end of the 95 % interval of "}[gate.bound]
    for bound, sign, holds in ((gate.min, "at least", operator.ge), (gate.max, "at most", operator.le)):
        if bound is None or (measured is not None and holds(measured, bound)):
            continue
        figure = "not measured" if measured is None else f"{measured:.4g}"
        raise Refused(
            f"{version}: the {end}{gate.metric} is {figure}, and the policy asks for {sign} {bound:g}.",
            by="policy",
            line=line,
            measured=measured,
            bound=bound,
            satisfy=satisfy,
        )
    return {"line": line, "metric": gate.metric, "measured": measured, "min": gate.min, "max": gate.max}
