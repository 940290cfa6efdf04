"""The budget of a data set: joint, durable, and not to be overspent by eight processes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from affidavit.errors import IntegrityError, Refused, UsageError
from affidavit.policy import PrivacyPolicy
from affidavit.store import Store
from affidavit_governance.privacy import Event, joint_epsilon
from affidavit_governance.privacy.budget import Budget

ROOT, OTHER = "a" * 64, "b" * 64
DELTA = 1e-5
RUN = Event("gaussian", 4.0)  # epsilon 0.97 at this delta
SPENT = [joint_epsilon([RUN] * runs, DELTA) for runs in range(8)]


def spend(budget: Budget, call: str, *, limit: float, roots: tuple[str, ...] = (ROOT,), event: Event = RUN) -> None:
    budget.reserve(call, roots, [event], delta=DELTA, limit=limit)
    budget.commit(call, [event])


def test_runs_are_composed_jointly_and_refused_at_the_limit(store: Store) -> None:
    budget = Budget(store)
    limit = round(SPENT[3] + 0.01, 6)
    assert sum([SPENT[1]] * 3) > limit  # adding up epsilons would refuse the third
    for run in range(3):
        spend(budget, f"call{run}", limit=limit)
    with pytest.raises(Refused, match="has spent epsilon") as refused:
        budget.reserve("call3", [ROOT], [RUN], delta=DELTA, limit=limit)
    assert (refused.value.by, refused.value.line, refused.value.bound) == ("budget", "privacy.dataset_budget", limit)
    assert refused.value.measured == pytest.approx(SPENT[4], abs=1e-6)
    (row,) = budget.status()
    assert row == {
        "root": ROOT, "spent": pytest.approx(SPENT[3], abs=2e-6), "reserved": 0.0, "limit": limit,
        "left": pytest.approx(limit - SPENT[3], abs=2e-6), "delta": DELTA, "runs": 3, "unsettled": 0, "unsettled_calls": [],
    }  # fmt: skip


def test_an_exhausted_budget_says_that_nothing_is_left(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store:
        budget = Budget(store)
        spend(budget, "one", limit=10.0)
        with pytest.raises(Refused, match="Nothing is left"):
            budget.reserve("two", [ROOT], [RUN], delta=DELTA, limit=0.5)


def test_a_reservation_counts_until_it_is_settled_also_after_a_crash(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store:
        Budget(store).reserve("died", [ROOT], [RUN], delta=DELTA, limit=1.0)
    with Store.open(tmp_path / "ws") as store:  # another process, later
        budget = Budget(store)
        with pytest.raises(Refused):
            budget.reserve("next", [ROOT], [RUN], delta=DELTA, limit=1.0)
        (row,) = budget.status()
        assert (row["spent"], row["unsettled"], row["unsettled_calls"], row["runs"]) == (0.0, 1, ["died"], 0)
        assert row["reserved"] == pytest.approx(SPENT[1], abs=2e-6)
        budget.release("died")
        budget.reserve("next", [ROOT], [RUN], delta=DELTA, limit=1.0)


def test_what_ran_takes_the_place_of_what_was_planned(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store:
        budget = Budget(store)
        planned, ran = Event("gaussian", 1.0, 0.1, 100), Event("gaussian", 1.0, 0.1, 40)
        budget.reserve("one", [ROOT], [RUN], delta=DELTA, limit=8.0)
        budget.reserve("one", [ROOT], [RUN, planned], delta=DELTA, limit=8.0)
        assert budget.status()[0]["reserved"] == pytest.approx(joint_epsilon([RUN, planned], DELTA), abs=2e-6)
        budget.commit("one", [RUN, ran])
        assert budget.spent(ROOT, DELTA) == joint_epsilon([RUN, ran], DELTA)


def test_every_root_of_a_data_set_is_charged(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store:
        budget = Budget(store)
        spend(budget, "one", limit=1.0, roots=(ROOT,))
        with pytest.raises(Refused, match=ROOT[:12]):
            budget.reserve("two", [OTHER, ROOT], [RUN], delta=DELTA, limit=1.0)
        assert budget.spent(OTHER, DELTA) == 0.0
        spend(budget, "three", limit=8.0, roots=(OTHER, ROOT))
        assert [row["root"] for row in budget.status()] == [ROOT, OTHER]
        assert budget.spent(OTHER, DELTA) == SPENT[1]


def test_a_run_may_spend_a_budget_to_the_last_millionth(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store:
        limit = -(-SPENT[1] * 1e6 // 1) / 1e6
        spend(Budget(store), "one", limit=limit)
        with pytest.raises(Refused):
            Budget(store).reserve("two", [OTHER], [RUN], delta=DELTA, limit=limit - 2e-6)


def test_committing_what_was_never_reserved_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store, pytest.raises(IntegrityError, match="nobody"):
        Budget(store).commit("nobody", [RUN])


def test_runs_at_different_deltas_are_composed_at_the_delta_of_the_run_that_asks(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store:
        budget = Budget(store)
        budget.reserve("one", [ROOT], [RUN], delta=1e-3, limit=8.0)
        budget.commit("one", [RUN])
        strict = joint_epsilon([RUN, RUN], 1e-7)
        assert strict > joint_epsilon([RUN, RUN], 1e-3)
        with pytest.raises(Refused) as refused:
            budget.reserve("two", [ROOT], [RUN], delta=1e-7, limit=strict - 0.01)
        assert refused.value.measured == pytest.approx(strict, abs=1e-6)
        budget.reserve("two", [ROOT], [RUN], delta=1e-7, limit=strict + 0.01)
        assert budget.status()[0]["delta"] == 1e-7  # the latest policy's


@pytest.mark.parametrize("wide", [Event("gaussian", 4.0, relation="replace-one"), Event("gaussian", 4.0, group_size=2)])
def test_once_a_run_named_wider_neighbours_all_runs_on_that_data_are_composed_for_them(tmp_path: Path, wide: Event) -> None:
    total = joint_epsilon([wide, RUN.under(wide.relation, wide.group_size)], DELTA)
    assert total > joint_epsilon([wide], DELTA) + 0.3 and total > joint_epsilon([RUN, RUN], DELTA) + 0.3
    for number, (first, second) in enumerate(((wide, RUN), (RUN, wide))):  # in whatever order
        with Store.open(tmp_path / f"ws{number}") as store:
            budget = Budget(store)
            spend(budget, "one", limit=8.0, event=first)
            with pytest.raises(Refused) as refused:
                budget.reserve("two", [ROOT], [second], delta=DELTA, limit=total - 0.01)
            assert refused.value.measured == pytest.approx(total, abs=1e-6)
            spend(budget, "two", limit=total + 0.01, event=second)
            assert budget.spent(ROOT, DELTA) == total


def test_the_history_is_what_each_call_added_in_the_order_of_time(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store:
        budget = Budget(store)
        spend(budget, "b", limit=4.0)
        spend(budget, "a", limit=5.0)
        budget.reserve("c", [ROOT], [RUN], delta=DELTA, limit=5.0)
        history = budget.history()
    assert [point["call"] for point in history] == ["b", "a", "c"]
    assert [point["spent"] for point in history] == pytest.approx(SPENT[1:4], abs=2e-6)
    assert [point["epsilon"] for point in history] == pytest.approx([SPENT[1]] * 3, abs=2e-6)
    assert [(point["limit"], point["settled"]) for point in history] == [(4.0, True), (5.0, True), (5.0, False)]
    assert [point["time"] for point in history] == sorted(point["time"] for point in history)


RACE = """
import os, sys
from affidavit.errors import Refused
from affidavit.store import Store
from affidavit_governance.privacy import Event, joint_epsilon
from affidavit_governance.privacy.budget import Budget

location, limit = sys.argv[1], float(sys.argv[2])
RUN = Event("gaussian", 4.0)
joint_epsilon([RUN], 1e-5)  # imports are done once, before the fork; nothing is open and no thread runs yet
start, go = os.pipe()
workers = []
for worker in range(8):
    if pid := os.fork():
        workers.append(pid)
        continue
    os.close(go)
    with Store.open(location) as store:
        budget = Budget(store)
        os.read(start, 1)  # returns in all workers at once, when the parent closes its end
        for turn in range(2):
            try:
                budget.reserve(f"{worker}-{turn}", ["a" * 64], [RUN], delta=1e-5, limit=limit)
                if turn:
                    budget.commit(f"{worker}-{turn}", [RUN])
                os.write(1, b"reserved\\n")
            except Refused:
                os.write(1, b"refused\\n")
    os._exit(0)
os.close(start)
os.close(go)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers))
"""


def test_eight_processes_cannot_overspend_together(store_location: str) -> None:
    limit = round(SPENT[5] + 0.001, 6)  # five of the sixteen runs fit
    with Store.open(store_location) as store:
        Budget(store)
    race = subprocess.run([sys.executable, "-c", RACE, store_location, str(limit)], capture_output=True, text=True, timeout=120, check=True)
    assert sorted(race.stdout.split()) == ["refused"] * 11 + ["reserved"] * 5
    with Store.open(store_location) as store:
        (row,) = Budget(store).status()
    assert row["runs"] + row["unsettled"] == 5
    assert row["spent"] + row["reserved"] <= limit


@pytest.mark.parametrize("limit", [math.inf, 1e300, math.nan, 0.0, -1.0])
def test_a_limit_that_is_no_limit_is_refused_and_sets_nothing_aside(tmp_path: Path, limit: float) -> None:
    with Store.open(tmp_path / "ws") as store:
        with pytest.raises(UsageError, match="cannot be kept"):
            Budget(store).reserve("one", [ROOT], [RUN], delta=DELTA, limit=limit)
        assert Budget(store).status() == []


@pytest.mark.parametrize(
    "policy", [{"dataset_budget": math.inf}, {"dataset_budget": 1e300}, {"max_grad_norm": math.inf}, {"max_grad_norm": 1e-300}, {"records": 10**400}]
)
def test_a_policy_with_numbers_that_nothing_can_be_done_with_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PrivacyPolicy(**policy)
