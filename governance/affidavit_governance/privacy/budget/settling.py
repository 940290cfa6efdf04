"""Settling what a dead process left reserved: with evidence of who did it and why, and never below what is known to have run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from affidavit.errors import Refused, UsageError
from affidavit.interfaces.governance import JSON, Evidence
from affidavit_governance.privacy.accounting import Event, joint_epsilon
from affidavit_governance.privacy.budget.spending import Budget, Reservation

if TYPE_CHECKING:
    import sqlalchemy as sa

    from affidavit.workspace import Workspace

LINE = "privacy.dataset_budget"


def settle(workspace: Workspace, call: str, *, reason: str, nothing_ran: bool = False, checkpoint: str | Path | None = None) -> Evidence:
    """Settle an unsettled reservation, and leave evidence of kind ``budget``; both in one transaction.

    It becomes spent as the outcome of the call in the ledger says that it ran; where that says nothing, as its checkpoint counts its steps;
    and where there is none, as it was reserved.

    Parameters
    ----------
    call
        The call's id, as `Budget.status` gives it.
    reason
        Why; it stands in evidence, so write no personal data.
    nothing_ran
        Give the whole reservation back, on the word of whoever says so.
    checkpoint
        The folder of the run's checkpoint. It is believed as it is: nobody signed it.

    Raises
    ------
    UsageError
        No reason, no such reservation, or a checkpoint of another run.
    Refused
        The call is still under way, or it is to be settled as if nothing had run and the ledger shows that something did.
    """
    if not reason.strip():
        raise UsageError("Settling a privacy budget needs a reason.", hint="Say what happened to the run.")
    budget = Budget(workspace.store)
    held = _find(budget, call)
    executed, action = _what_ran(workspace, call), "as-executed"
    if executed is None and checkpoint is not None:
        executed, action = _what_was_counted(workspace, held, Path(checkpoint)), "as-checkpointed"
    if nothing_ran and (executed or held.continues):
        steps = sum(event.steps for event in executed or held.events)
        raise Refused(
            f"Call {call} cannot be settled as if nothing had run: evidence shows that it took steps.",
            by="budget",
            line=LINE,
            measured=steps,
            bound=0,
            satisfy="Settle it without --nothing-ran.",
        )
    stands: Sequence[Event] = () if nothing_ran else held.events if executed is None else executed
    predicate: dict[str, JSON] = {
        "call": call,
        "action": "nothing-ran" if nothing_ran else "as-reserved" if executed is None else action,
        "reason": reason.strip(),
        "by": workspace.actor.name,
        "roots": list(held.roots),
        "delta": held.delta,
        "reserved": [event.to_json() for event in held.events],
        "stands": [event.to_json() for event in stands],
        "epsilon": joint_epsilon(stands, held.delta),
    }

    def also(connection: sa.Connection, _index: int) -> None:
        budget.settle(call, executed, nothing_ran=nothing_ran, connection=connection)

    return workspace.ledger.append("budget", subject={f"dataset:{root}": root for root in held.roots}, predicate=predicate, also=also)


def _find(budget: Budget, call: str) -> Reservation:
    unsettled = {held.call: held for held in budget.unsettled()}
    if call not in unsettled:
        known = ", ".join(unsettled) or "there is none"
        raise UsageError(f"Call '{call[:80]}' has no unsettled reservation.", hint=f"Unsettled calls: {known}.")
    return unsettled[call]


def _what_ran(workspace: Workspace, call: str) -> list[Event] | None:
    """What the ledger says of a call's mechanisms, None where it says nothing. Raises Refused for a call that has not ended."""
    announced, outcome = False, None
    for evidence in workspace.ledger.entries():
        predicate = evidence.predicate
        if predicate.get("call") == call and "phase" in predicate:
            announced = True
            outcome = predicate if predicate["phase"] == "outcome" else outcome
    if announced and outcome is None:
        raise Refused(
            f"Call {call} is still under way, or its process died on another machine.",
            by="budget",
            line=LINE,
            satisfy="Wait for its end. If its process died, open the workspace on the machine where it ran: that records the end.",
        )
    events = ((outcome or {}).get("stages", {}).get("privacy") or {}).get("events")
    return None if events is None else [Event.from_json(event) for event in events]


def _what_was_counted(workspace: Workspace, held: Reservation, folder: Path) -> list[Event]:
    """The mechanisms that a run's checkpoint counts, with the steps since it was written."""
    from affidavit_governance.privacy.training.checkpoints import Checkpoint
    from affidavit_governance.privacy.training.resume import Keeper

    try:
        identity = json.loads((folder / "checkpoint.json").read_bytes())["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"'{folder}' holds no checkpoint.", hint="Leave it out to settle the call as it was reserved.") from None
    checkpoint = Checkpoint(folder, identity)
    try:
        keeper = Keeper(checkpoint, held.call)
        if held.call not in keeper.earlier_calls or identity.get("workspace") != workspace.store.workspace_id:
            raise UsageError(f"The checkpoint '{folder}' is not of call {held.call}.", hint="Leave it out to settle the call as it was reserved.")
        first = held.events[0]
        return [*(event for event, _ in keeper.statistics), *keeper.taken_before((first.relation, first.group_size))]
    finally:
        checkpoint.close()
