"""Counting approvals: distinct keys, the roles that the policy asks for, and never the submitter's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from affidavit.interfaces.governance import Actor
from affidavit.policy import ApprovalRule


@dataclass(frozen=True, slots=True)
class Tally:
    """Where the approvals of one version for one alias stand.

    Attributes
    ----------
    valid
        The approvals that count, one a key.
    missing_roles
        Roles that no approver of their own fills yet.
    missing
        How many more approvals are needed.
    """

    valid: tuple[Actor, ...]
    missing_roles: tuple[str, ...]
    missing: int

    @property
    def complete(self) -> bool:
        """Whether the rule is satisfied."""
        return self.missing == 0 and not self.missing_roles


def tally(rule: ApprovalRule, approvals: Sequence[Actor], *, submitter: str) -> Tally:
    """Count `approvals` against `rule`.

    Each role needs a person of its own: one who holds two roles fills one of them (four-eyes principle). Roles are matched to people so
    that as many as possible are filled.
    """
    by_key = {actor.key: actor for actor in approvals if actor.key and submitter not in (actor.key, actor.name)}
    people = tuple(by_key.values())
    filled = _match(rule.roles, people)
    missing_roles = tuple(role for number, role in enumerate(rule.roles) if number not in filled)
    return Tally(people, missing_roles, max(0, rule.count - len(people)))


def _match(roles: Sequence[str], people: Sequence[Actor]) -> set[int]:
    """Positions in `roles` that can be filled, each by a person of its own: a maximum bipartite matching (Kuhn's augmenting paths)."""
    taken: dict[str | None, int] = {}

    def place(number: int, tried: set[str | None]) -> bool:
        for person in people:
            if roles[number] not in person.roles or person.key in tried:
                continue
            tried.add(person.key)
            if person.key not in taken or place(taken[person.key], tried):
                taken[person.key] = number
                return True
        return False

    for number in range(len(roles)):
        place(number, set())
    return set(taken.values())
