"""Counting approvals: distinct keys, a person for each role, and never the submitter."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affidavit.interfaces.governance import Actor
from affidavit.policy import ApprovalRule
from affidavit_governance.access.approvals import tally


def person(name: str, *roles: str) -> Actor:
    return Actor(name, roles, f"key-{name}")


RITA, CARL, BOTH = person("rita", "risk"), person("carl", "compliance"), person("bea", "risk", "compliance")
RULE = ApprovalRule(count=2, roles=("risk", "compliance"))


def test_two_people_in_the_two_roles_satisfy_the_rule() -> None:
    assert tally(RULE, [RITA, CARL], submitter="dora").complete


@pytest.mark.parametrize("approvals", [[], [RITA], [RITA, RITA], [BOTH], [RITA, person("ruth", "risk")]])
def test_too_few_people_or_a_role_without_a_person_of_its_own_do_not(approvals: list[Actor]) -> None:
    assert not tally(RULE, approvals, submitter="dora").complete


def test_the_submitters_approval_does_not_count_by_name_or_by_key() -> None:
    assert not tally(RULE, [RITA, CARL], submitter="rita").complete
    assert not tally(RULE, [RITA, CARL], submitter="key-carl").complete


def test_roles_are_matched_so_that_one_who_holds_both_leaves_room_for_the_other() -> None:
    assert tally(RULE, [BOTH, RITA], submitter="dora").complete
    assert tally(RULE, [RITA, BOTH], submitter="dora").complete


def test_an_approval_without_a_key_does_not_count() -> None:
    assert tally(RULE, [Actor("rita", ("risk",)), CARL], submitter="dora").missing == 1


roles = st.sampled_from(["a", "b", "c"])


@given(st.lists(roles, max_size=3), st.lists(st.sets(roles, max_size=3), max_size=4))
def test_the_number_of_filled_roles_equals_the_best_of_all_assignments(wanted: list[str], held: list[set[str]]) -> None:
    people = [Actor(f"p{number}", tuple(sorted(has)), f"k{number}") for number, has in enumerate(held)]
    result = tally(ApprovalRule(count=0, roles=tuple(wanted)), people, submitter="x")
    padded = [*people, *[Actor("nobody", (), "none")] * len(wanted)]
    best = max(
        (sum(role in actor.roles for role, actor in zip(wanted, order, strict=False)) for order in itertools.permutations(padded, len(wanted))),
        default=0,
    )
    assert len(wanted) - len(result.missing_roles) == best
