"""The PRIVACY stage: training runs through the private engine, and its ε is charged to the data set."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from affidavit.errors import MissingExtra, Refused, UsageError
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.governance import JSON, Stage
from affidavit_governance.privacy.accounting import Event, calibrate
from affidavit_governance.privacy.budget import Budget

if TYPE_CHECKING:
    from affidavit.calls import TrainCall
    from affidavit.interfaces.model import Model
    from affidavit.policy import PrivacyPolicy
    from affidavit.workspace import Workspace
    from affidavit_governance.privacy.training.engine import PrivateEngine


class Module:
    """Makes training private where the policy says so, and refuses what cannot be."""

    stage = Stage.PRIVACY

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @hookimpl(wrapper=True)
    def affidavit_train(self, call: TrainCall) -> Generator[None, Model, Model]:
        """Put the private engine on the call, reserve the budget before and settle it after, on exceptions too."""
        policy = _policy_of(call, self._workspace.policy.privacy)
        if policy is None:
            call.state(Stage.PRIVACY, {"private": False})
            return (yield)
        self._check_type(call)
        _check_libraries()
        from affidavit_governance.privacy.training.engine import PrivateEngine

        cautions = _cautions(policy, policy.records or len(call.data))
        budget = Budget(self._workspace.store)
        roots = sorted(call.data.roots)
        before = {root: budget.spent(root, policy.delta) for root in roots}
        reserve = partial(budget.reserve, call.id, roots, delta=policy.delta, limit=policy.dataset_budget)
        # How the run will spend its ε shows only in `begin`; until then one Gaussian mechanism of the same ε keeps its place.
        place = [Event("gaussian", calibrate(policy.epsilon, sampling_rate=1.0, steps=1, delta=policy.delta))]
        reserve(place, expected=partial(_expected, call, policy))
        engine = PrivateEngine(policy, reserve=reserve)
        try:
            call.replace("training", replace(call.training, engine=engine, validation=None), stage=Stage.PRIVACY)
            model = yield
            engine.check_finished(call.model.type)
        finally:
            _settle(call, budget, engine, policy, before)
            call.state(Stage.PRIVACY, {"warnings": cautions})
        return model

    def _check_type(self, call: TrainCall) -> None:
        if call.model.capabilities.private_training:
            return
        able = ", ".join(self._workspace.registry.names("model", capability="private_training")) or "none is installed"
        raise Refused(
            f"Model type '{call.model.type}' cannot be trained privately, and the policy asks for it.",
            by="privacy",
            line="privacy.epsilon",
            satisfy=f"Use a type that can: {able}.",
        )


def _policy_of(call: TrainCall, policy: PrivacyPolicy | None) -> PrivacyPolicy | None:
    """The policy of this run: the workspace's, with the smaller ε that the call asks for."""
    spend = call.training.spend
    if spend is None:
        return policy
    if policy is None:
        raise UsageError(f"This training is to spend epsilon = {spend:g}, and the policy asks for no privacy.", hint="Add a 'privacy' section to it.")
    if not spend > 0:
        raise UsageError(f"epsilon = {spend} is not positive.", hint="No training reaches it.")
    if spend > policy.epsilon:
        raise Refused(
            f"This training is to spend epsilon = {spend:g}, and the policy allows {policy.epsilon:g}.",
            by="privacy",
            line="privacy.epsilon",
            measured=spend,
            bound=policy.epsilon,
            satisfy="Ask for less, or change the policy.",
        )
    return policy.model_copy(update={"epsilon": spend})


def _expected(call: TrainCall, policy: PrivacyPolicy) -> list[Event]:
    """What the run is going to do, as far as its parameters say so."""
    batch, epochs = (getattr(getattr(call.model, "params", None), name, None) for name in ("batch_size", "epochs"))
    if not batch or not epochs:
        return []
    records = policy.records or len(call.data)
    rate, steps = min(1.0, batch / records), -(-records // batch) * epochs
    return [Event("gaussian", calibrate(policy.epsilon, sampling_rate=rate, steps=steps, delta=policy.delta), rate, steps)]


def _settle(call: TrainCall, budget: Budget, engine: PrivateEngine, policy: PrivacyPolicy, before: dict[str, float]) -> None:
    """Charge what ran, give back a reservation of which nothing ran, and say so in the evidence."""
    if engine.events:
        budget.commit(call.id, engine.events)
    else:
        budget.release(call.id)
    spent = {
        root: {"before": round(epsilon, 6), "after": round(budget.spent(root, policy.delta), 6), "limit": policy.dataset_budget}
        for root, epsilon in before.items()
    }
    call.state(Stage.PRIVACY, {**engine.statement(), "budget": spent})


def _cautions(policy: PrivacyPolicy, records: int) -> list[JSON]:
    if policy.delta < 1 / records:
        return []
    caution = f"delta {policy.delta:g} is not below 1/records = {1 / records:.3g}: publishing one record whole would be allowed."
    warnings.warn(f"Private training: {caution} Lower privacy.delta in the policy.", stacklevel=3)
    return [caution]


def _check_libraries() -> None:
    for library in ("torch", "dp_accounting"):
        if find_spec(library) is None:
            raise MissingExtra("Private training", extra="privacy", library=library)
