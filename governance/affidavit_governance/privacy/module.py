"""The PRIVACY stage: training runs through the private engine, and its ε is charged to the data set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from affidavit.artifacts import canonical_json
from affidavit.errors import MissingExtra, Refused, UsageError
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.governance import JSON, Stage
from affidavit.interfaces.training import Stepwise
from affidavit_governance.privacy.accounting import Event, calibrate, neighbours
from affidavit_governance.privacy.budget import Budget
from affidavit_governance.privacy.contributions import bound_contributions
from affidavit_governance.privacy.randomness import Randomness

if TYPE_CHECKING:
    from affidavit.calls import TrainCall
    from affidavit.interfaces.model import Model
    from affidavit.policy import PrivacyPolicy
    from affidavit.workspace import Workspace
    from affidavit_governance.privacy.training.distributed import Ranks
    from affidavit_governance.privacy.training.engine import PrivateEngine
    from affidavit_governance.privacy.training.resume import Keeper


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
            for name in ("checkpoint", "distributed"):
                if getattr(call.training, name):
                    raise UsageError(f"'{name}' is for private training, and the policy asks for none.", hint=f"Leave out '{name}'.")
            call.state(Stage.PRIVACY, {"private": False})
            return (yield)
        self._check_type(call)
        _check_libraries()
        from affidavit_governance.privacy.training.engine import PrivateEngine

        fingerprint = call.data.fingerprint
        ranks = _meet(call, fingerprint) if call.training.distributed else None
        if policy.user is not None:
            source = Randomness(None if ranks is None else ranks.new_key(partial(os.urandom, 32)))
            call.replace("data", bound_contributions(call.data, policy.user, policy.unit_records, source), stage=Stage.PRIVACY)
            call.state(Stage.PRIVACY, {"chosen_from": fingerprint})
        cautions = _cautions(policy, policy.records or len(call.data))
        budget = Budget(self._workspace.store)
        roots = sorted(call.data.roots)
        before = {root: budget.spent(root, policy.delta) for root in roots}
        reserve = partial(budget.reserve, call.id, roots, delta=policy.delta, limit=policy.dataset_budget)
        keeper = _open_checkpoint(call, policy, fingerprint)
        try:
            if keeper is not None and keeper.begun:
                _take_over(call, budget, keeper)
            else:
                # How the run will spend its ε shows only in `begin`; until then one Gaussian mechanism of the same ε keeps its place.
                place = partial(reserve, [_calibrated(policy, rate=1.0, steps=1)], expected=partial(_expected, call, policy))
                place() if ranks is None else ranks.first_does(place)
            engine = PrivateEngine(policy, reserve=reserve, keeper=keeper, ranks=ranks)
            trained = False
            try:
                call.replace("training", replace(call.training, engine=engine, validation=None), stage=Stage.PRIVACY)
                model = yield
                trained = True
                engine.check_finished(call.model.type)
            finally:
                engine.close()
                if ranks is not None and not ranks.first:
                    call.state(Stage.PRIVACY, {**engine.statement(), "charged_by_process": 0})
                elif trained or keeper is None or not keeper.begun:
                    _settle(call, budget, engine, policy, before)
                    if keeper is not None:
                        keeper.remove()
                else:
                    # Another call can go on from the checkpoint and settle both; until then what was reserved stays so.
                    call.state(Stage.PRIVACY, {**engine.statement(), "resumable": True})
                call.state(Stage.PRIVACY, {"warnings": cautions})
        finally:
            if keeper is not None:
                keeper.close()
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


def _meet(call: TrainCall, fingerprint: str) -> Ranks:
    """The processes that train this model together, in one workspace: the first one charges its budget for all."""
    from affidavit_governance.privacy.training.distributed import Ranks

    if call.training.checkpoint is not None:
        raise UsageError("A training in several processes keeps no checkpoint.", hint="Leave out 'checkpoint'.")
    ranks = Ranks()
    same = {
        "workspace": call.workspace.store.workspace_id,
        "model": call.model.type,
        "parameters": call.model.params.model_dump(mode="json"),
        "data": fingerprint,
        "seed": call.training.seed,
    }
    ranks.check_same("workspace, model, data and seed", canonical_json(same, "What is trained"))
    return ranks


def _open_checkpoint(call: TrainCall, policy: PrivacyPolicy, fingerprint: str) -> Keeper | None:
    """The checkpoint that the call asks for; `fingerprint` is that of the data as they were given. Raises Refused where it is another run's."""
    if call.training.checkpoint is None:
        return None
    from affidavit_governance.privacy.training.checkpoints import Checkpoint
    from affidavit_governance.privacy.training.resume import Keeper

    identity: dict[str, JSON] = {
        "workspace": call.workspace.store.workspace_id,
        "model": call.model.type,
        "parameters": call.model.params.model_dump(mode="json"),
        "data": fingerprint,
        "seed": call.training.seed,
        # What the data set may spend in its life is asked anew; all else decides what the run is.
        "policy": policy.model_dump(mode="json", exclude={"dataset_budget"}),
    }
    return Keeper(Checkpoint(call.training.checkpoint, identity), call.id)


def _take_over(call: TrainCall, budget: Budget, keeper: Keeper) -> None:
    """Give the call what the killed call before it had reserved."""
    unsettled = {held.call for held in budget.unsettled()}
    old = next((earlier for earlier in reversed(keeper.earlier_calls) if earlier in unsettled), None)
    if old is None:
        raise Refused(
            "The checkpoint's run cannot go on: what it had reserved of the privacy budget was settled.",
            by="budget",
            line="privacy.dataset_budget",
            satisfy="Train anew with another folder; what was settled stays spent.",
        )
    keeper.take_over()
    budget.adopt(old, call.id)


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
    """What the run is going to do, where its model can say."""
    if not isinstance(call.model, Stepwise):
        return []
    settings = call.model.settings(len(call.data), private=True)
    batch, epochs = settings.batch_size, settings.epochs
    if policy.sampler == "shuffle":
        return [_calibrated(policy, rate=1.0, steps=epochs)]
    records = policy.records or len(call.data)
    return [_calibrated(policy, rate=min(1.0, batch / records), steps=-(-records // batch) * epochs)]


def _calibrated(policy: PrivacyPolicy, *, rate: float, steps: int) -> Event:
    """A Gaussian mechanism that costs the policy's ε."""
    relation, size = neighbours(policy)
    sigma = calibrate(policy.epsilon, sampling_rate=rate, steps=steps, delta=policy.delta, relation=relation, group_size=size)
    return Event("gaussian", sigma, rate, steps, relation, size)


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
