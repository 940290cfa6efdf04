"""Reservations that a dead process left: settled with evidence, handed on to a resumed run, and never spent below what ran."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from affidavit.calls import TrainCall
from affidavit.errors import IntegrityError, PluginError, Refused, UsageError
from affidavit.store import Store
from affidavit.workspace import Workspace
from affidavit_governance.audit.story import call_digest
from affidavit_governance.privacy import Event, joint_epsilon
from affidavit_governance.privacy.budget import Budget, settle

ROOT, OTHER = "a" * 64, "b" * 64
DELTA = 1e-5
STATISTIC, PLANNED, RAN = Event("gaussian", 9.0), Event("gaussian", 20.0, 1.0, 100), Event("gaussian", 20.0, 1.0, 40)
OLD, NEW = "0" * 31 + "1", "0" * 31 + "2"


@pytest.fixture
def workspace(store_location: str) -> Iterator[Workspace]:
    with Workspace(store_location, actor="dora") as opened:
        yield opened


def leave(store: Store, call: str = OLD, roots: tuple[str, ...] = (ROOT,)) -> Budget:
    """What a process leaves that dies in training."""
    budget = Budget(store)
    budget.reserve(call, roots, [STATISTIC, PLANNED], delta=DELTA, limit=8.0)
    return budget


def record(workspace: Any, call: str, *, status: str | None, stages: dict[str, Any] | None = None) -> None:
    """A train call in the ledger: its intent, and its outcome where there is a status."""
    moment = "2026-01-01T00:00:00.000000Z"
    intent = {
        "call": call, "phase": "intent", "status": None, "actor": {"name": "dora", "roles": [], "key": None},
        "workspace": workspace.store.workspace_id, "policy": "0" * 64, "started": moment, "finished": None, "software": {}, "inputs": {},
        "stages": {}, "replacements": [], "details": {}, "refusal": None, "error": None,
    }  # fmt: skip
    workspace.ledger.append("train", subject={f"call:{call}": call_digest(call)}, predicate=intent)
    if status:
        outcome = {**intent, "phase": "outcome", "status": status, "finished": moment, "stages": stages or {}, "error": "Died"}
        workspace.ledger.append("train", subject={f"call:{call}": call_digest(call)}, predicate=outcome)


def test_a_dead_reservation_is_settled_as_it_was_reserved_and_evidence_says_who_and_why(workspace: Workspace) -> None:
    budget = leave(workspace.store, roots=(ROOT, OTHER))
    record(workspace, OLD, status="interrupted")
    before = budget.spent(ROOT, DELTA)
    workspace.settle(OLD, reason=" power cut ")
    assert budget.spent(ROOT, DELTA) == before
    assert budget.unsettled() == []
    for row in workspace.budget():
        assert (row["runs"], row["unsettled"], row["reserved"]) == (1, 0, 0.0)
        assert row["spent"] == pytest.approx(before, abs=2e-6)
    (evidence,) = workspace.ledger.entries("budget")
    said = evidence.predicate
    assert (said["by"], said["reason"], said["action"], said["call"]) == ("dora", "power cut", "as-reserved", OLD)
    assert said["roots"] == [ROOT, OTHER]
    assert said["stands"] == said["reserved"] == [STATISTIC.to_json(), PLANNED.to_json()]
    assert said["epsilon"] == before


def test_where_the_outcome_says_that_less_ran_that_is_spent(workspace: Workspace) -> None:
    budget = leave(workspace.store)
    record(workspace, OLD, status="failed", stages={"privacy": {"events": [STATISTIC.to_json(), RAN.to_json()]}})
    settle(workspace, OLD, reason="the database was away when it ended")
    assert budget.spent(ROOT, DELTA) == joint_epsilon([STATISTIC, RAN], DELTA)
    (evidence,) = workspace.ledger.entries("budget")
    assert evidence.predicate["action"] == "as-executed"


def test_nothing_ran_gives_back_on_the_word_of_a_person_only_and_not_against_evidence(workspace: Workspace) -> None:
    budget = leave(workspace.store)
    settle(workspace, OLD, reason="it was killed while the data were read", nothing_ran=True)
    assert budget.status() == []
    (evidence,) = workspace.ledger.entries("budget")
    assert (evidence.predicate["action"], evidence.predicate["stands"], evidence.predicate["epsilon"]) == ("nothing-ran", [], 0.0)
    leave(workspace.store, NEW)
    record(workspace, NEW, status="failed", stages={"privacy": {"events": [STATISTIC.to_json()]}})
    with pytest.raises(Refused, match="took steps"):
        settle(workspace, NEW, reason="I say so", nothing_ran=True)
    assert [held.call for held in budget.unsettled()] == [NEW]
    assert len(list(workspace.ledger.entries("budget"))) == 1


def test_a_call_that_is_under_way_is_not_settled(workspace: Workspace) -> None:
    budget = leave(workspace.store)
    record(workspace, OLD, status=None)
    for nothing_ran in (False, True):
        with pytest.raises(Refused, match="under way"):
            settle(workspace, OLD, reason="impatience", nothing_ran=nothing_ran)
    assert len(budget.unsettled()) == 1


def test_settling_needs_a_reason_and_a_reservation(workspace: Workspace) -> None:
    leave(workspace.store)
    with pytest.raises(UsageError, match="needs a reason"):
        workspace.settle(OLD, reason="  ")
    with pytest.raises(UsageError, match="no unsettled reservation") as error:
        workspace.settle(NEW, reason="why not")
    assert OLD in str(error.value.hint)
    workspace.settle(OLD, reason="power cut")
    with pytest.raises(UsageError, match="no unsettled reservation"):
        workspace.settle(OLD, reason="again")


def test_settlement_and_evidence_stand_or_fall_together(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = leave(workspace.store)
    size = len(workspace.ledger)

    def fail(*args: object, **options: object) -> None:
        raise IntegrityError("the disk is gone")

    monkeypatch.setattr(Budget, "settle", fail)
    with pytest.raises(IntegrityError):
        settle(workspace, OLD, reason="power cut")
    assert len(workspace.ledger) == size
    assert len(budget.unsettled()) == 1


@pytest.mark.parametrize("flaw", [{"reason": ""}, {"by": None}, {"action": "forgiven"}, {"roots": []}, {"stands": [RAN.to_json()]}])
def test_evidence_without_reason_or_person_is_not_signed(workspace: Workspace, flaw: dict[str, Any]) -> None:
    said = {
        "call": OLD,
        "action": "nothing-ran",
        "reason": "x",
        "by": "dora",
        "roots": [ROOT],
        "delta": DELTA,
        "reserved": [],
        "stands": [],
        "epsilon": 0.0,
    }
    with pytest.raises(PluginError, match="does not fit its schema"):
        workspace.ledger.append("budget", subject={"dataset": ROOT}, predicate={**said, **flaw})


# -- the table alone ---------------------------------------------------------------------------------------------------------------------


def test_more_than_was_reserved_is_not_settled(store: Store) -> None:
    budget = leave(store)
    for executed in ([Event("gaussian", 20.0, 1.0, 101)], [Event("gaussian", 0.5)], [STATISTIC, STATISTIC]):
        with pytest.raises(IntegrityError, match="More ran"):
            budget.settle(OLD, executed)
    budget.settle(OLD, [STATISTIC, RAN])
    assert budget.spent(ROOT, DELTA) == joint_epsilon([STATISTIC, RAN], DELTA)
    with pytest.raises(IntegrityError):
        budget.settle(OLD)


def test_a_run_that_somebody_settled_can_neither_reserve_nor_commit(store: Store) -> None:
    budget = leave(store)
    budget.settle(OLD)
    spent = budget.spent(ROOT, DELTA)
    with pytest.raises(IntegrityError, match="was settled"):
        budget.reserve(OLD, [ROOT], [PLANNED], delta=DELTA, limit=80.0)
    with pytest.raises(IntegrityError):
        budget.commit(OLD, [])
    budget.release(OLD)
    assert budget.spent(ROOT, DELTA) == spent


def test_a_killed_runs_reservation_is_handed_to_the_call_that_resumes_it(store: Store) -> None:
    budget = leave(store, roots=(ROOT, OTHER))
    held = budget.adopt(OLD, NEW)
    assert (held.call, held.continues, held.roots, held.events) == (NEW, OLD, (ROOT, OTHER), (STATISTIC, PLANNED))
    assert [row["unsettled_calls"] for row in budget.status()] == [[NEW], [NEW]]
    assert budget.spent(ROOT, DELTA) == joint_epsilon([STATISTIC, PLANNED], DELTA)
    for call in (OLD, "0" * 31 + "3"):
        with pytest.raises(IntegrityError, match="no privacy budget set aside"):
            budget.adopt(call, "0" * 31 + "4")
    budget.reserve(NEW, [ROOT, OTHER], [STATISTIC, PLANNED], delta=DELTA, limit=8.0)
    budget.commit(NEW, [STATISTIC, RAN])
    assert [row["spent"] for row in budget.status()] == pytest.approx([joint_epsilon([STATISTIC, RAN], DELTA)] * 2, abs=2e-6)


def test_a_resumed_call_cannot_give_back_what_the_killed_one_had_set_aside(store: Store) -> None:
    budget = leave(store)
    budget.adopt(OLD, NEW)
    budget.reserve(NEW, [ROOT], [STATISTIC, Event("gaussian", 20.0, 1.0, 200)], delta=DELTA, limit=8.0)
    budget.release(NEW)
    assert budget.spent(ROOT, DELTA) == joint_epsilon([STATISTIC, PLANNED], DELTA)
    (held,) = budget.unsettled()
    assert (held.call, held.continues, held.epsilon) == (NEW, OLD, pytest.approx(joint_epsilon([STATISTIC, PLANNED], DELTA), abs=2e-6))
    with pytest.raises(IntegrityError, match="steps were taken"):
        budget.settle(NEW, nothing_ran=True)
    budget.adopt(NEW, "0" * 31 + "3")  # killed once more


def test_a_resumed_call_stays_with_the_data_and_an_adopter_has_nothing_of_its_own(store: Store) -> None:
    budget = leave(store)
    budget.adopt(OLD, NEW)
    with pytest.raises(IntegrityError, match="other data"):
        budget.reserve(NEW, [ROOT, OTHER], [PLANNED], delta=DELTA, limit=8.0)
    leave(store, "0" * 31 + "3")
    with pytest.raises(IntegrityError, match="a reservation of its own"):
        budget.adopt(NEW, "0" * 31 + "3")


def test_what_is_settled_is_neither_handed_on_nor_given_back(store: Store) -> None:
    budget = leave(store)
    budget.commit(OLD, [STATISTIC, RAN])
    before = budget.status()
    with pytest.raises(IntegrityError, match="no privacy budget set aside"):
        budget.adopt(OLD, NEW)
    with pytest.raises(IntegrityError, match="no privacy budget set aside"):
        budget.settle(OLD, nothing_ran=True)
    assert budget.status() == before
    assert [point["call"] for point in budget.history()] == [OLD]


ADOPTERS = """
import os, sys
from affidavit.errors import IntegrityError
from affidavit.store import Store
from affidavit_governance.privacy.budget import Budget

start, go = os.pipe()
workers = []
for worker in range(8):
    if pid := os.fork():
        workers.append(pid)
        continue
    os.close(go)
    with Store.open(sys.argv[1]) as store:
        budget = Budget(store)
        os.read(start, 1)  # returns in all workers at once, when the parent closes its end
        try:
            budget.adopt(sys.argv[2], f"{worker:032x}")
            os.write(1, b"adopted\\n")
        except IntegrityError:
            os.write(1, b"too late\\n")
    os._exit(0)
os.close(start)
os.close(go)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers))
"""


def test_of_eight_processes_one_resumes_a_killed_run(store_location: str) -> None:
    call = secrets.token_hex(16)
    with Store.open(store_location) as store:
        leave(store, call)
    race = subprocess.run([sys.executable, "-c", ADOPTERS, store_location, call], capture_output=True, text=True, timeout=120, check=True)
    assert sorted(race.stdout.split("\n")) == ["", "adopted", *["too late"] * 7]


DIE = """
import os, signal, sys
from affidavit.store import Store
from affidavit_governance.privacy import Event
from affidavit_governance.privacy.budget import Budget

with Store.open(sys.argv[1]) as store:
    Budget(store).reserve("0" * 32, ["a" * 64], [Event("gaussian", 4.0)], delta=1e-5, limit=8.0)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_reserved_counts(store_location: str) -> None:
    assert subprocess.run([sys.executable, "-c", DIE, store_location], timeout=120, check=False).returncode == -9
    with Store.open(store_location) as store:
        assert Budget(store).spent(ROOT, DELTA) == joint_epsilon([Event("gaussian", 4.0)], DELTA)


# -- a table of version 1 ----------------------------------------------------------------------------------------------------------------

VERSION_1 = """CREATE TABLE privacy_spending ("call" TEXT NOT NULL, root TEXT NOT NULL, state TEXT NOT NULL, epsilon_micro BIGINT NOT NULL,
delta TEXT NOT NULL, limit_micro BIGINT NOT NULL, events TEXT NOT NULL, changed TEXT NOT NULL, PRIMARY KEY ("call", root))"""
ROWS = [
    (
        "one",
        ROOT,
        "committed",
        926342,
        "1e-05",
        8000000,
        '[{"type": "gaussian", "noise_multiplier": 4.0, "sampling_rate": 1.0, "steps": 1}]',
        "2026-01-01T00:00:00+00:00",
    ),
    (
        "two",
        ROOT,
        "reserved",
        926342,
        "1e-05",
        8000000,
        '[{"type": "gaussian", "noise_multiplier": 4.0, "sampling_rate": 1.0, "steps": 1}]',
        "2026-01-02T00:00:00+00:00",
    ),
]


def test_a_budget_of_version_1_is_read_and_goes_on(store: Store) -> None:
    with store.write() as connection:
        connection.exec_driver_sql(VERSION_1)
        for row in ROWS:
            names = ("call", "root", "state", "epsilon_micro", "delta", "limit_micro", "events", "changed")
            connection.execute(sa.table("privacy_spending", *map(sa.column, names)).insert().values(**dict(zip(names, row, strict=True))))
        connection.execute(sa.table("components", sa.column("name"), sa.column("version")).insert().values(name="privacy", version=1))
    budget = Budget(store)
    (row,) = budget.status()
    assert (row["runs"], row["unsettled_calls"], row["limit"]) == (1, ["two"], 8.0)
    assert budget.spent(ROOT, DELTA) == joint_epsilon([Event("gaussian", 4.0)] * 2, DELTA)
    assert budget.adopt("two", "three").continues == "two"
    budget.commit("three", [Event("gaussian", 4.0)])
    assert Budget(store).status()[0]["runs"] == 2


def test_whatever_set_something_aside_can_be_settled(workspace: Workspace) -> None:
    training = TrainCall(workspace, workspace.actor, model=None, data=None, training=None)  # type: ignore[arg-type]  # only its id is looked at
    for call in (training.id, "statistics-0123456789abcdef"):
        Budget(workspace.store).reserve(call, [ROOT], [STATISTIC], delta=DELTA, limit=8.0)
        workspace.settle(call, reason="power cut")
    assert [evidence.predicate["call"] for evidence in workspace.ledger.entries("budget")] == [training.id, "statistics-0123456789abcdef"]
