"""The policy's rules for revealing: refused, unless one of them covers role, purpose, day, column and entity."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from affidavit.errors import Refused
from affidavit.interfaces.governance import Actor
from affidavit.policy import RevealRule
from affidavit_governance.masking.reveal.origins import Origin

LINE = "masking.reveal"


@dataclass(frozen=True, slots=True)
class Grant:
    """One column, or one entity inside texts, that may be revealed.

    Attributes
    ----------
    line, rule
        The rule that allows it: its place in the policy, and the SHA-256 of its JSON.
    """

    origin: Origin
    line: str
    rule: str


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for what.

    Attributes
    ----------
    origin
        How the values were masked.
    entities
        Every entity that they may be of. A rule that names entities must name all of them, and there must be some.
    sharing
        Other policy lines whose values cannot be told from these, so that the rule must cover them too.
    today
        In UTC.
    """

    person: Actor
    purpose: str
    today: date
    origin: Origin
    entities: frozenset[str]
    sharing: Sequence[Origin] = ()

    @property
    def what(self) -> str:
        """The values, in words."""
        return f"column '{self.origin.field}'" if self.origin.field else f"{self.origin.entity} in a text"


def grant(rules: Sequence[RevealRule], request: Request) -> Grant:
    """What allows the request.

    Raises
    ------
    Refused
        No rule does. Names the rule that comes nearest, and what would satisfy it.
    """
    if not rules:
        raise Refused(
            f"'{request.person.name}' may not reveal {request.what}: the policy lets nobody see originals.",
            by="policy",
            line=LINE,
            satisfy="Add a rule to masking.reveal with roles, purposes and until.",
        )
    nearest: tuple[int, Refused] | None = None
    for number, rule in enumerate(rules):
        failed = _first_failed(rule, request)
        if failed is None:
            return Grant(request.origin, f"{LINE}[{number}]", hashlib.sha256(rule.model_dump_json().encode()).hexdigest())
        if nearest is None or failed[0] > nearest[0]:
            nearest = failed[0], _refusal(f"{LINE}[{number}]", request, *failed[1:])
    assert nearest is not None
    raise nearest[1]


def _first_failed(rule: RevealRule, request: Request) -> tuple[int, str, str, str, str, str] | None:
    """The first condition that does not hold: its rank, its key, why, what was measured, the bound, and what would satisfy it."""
    if not set(rule.roles) & set(request.person.roles):
        held, wanted = ", ".join(request.person.roles), " or ".join(rule.roles)
        return 0, "roles", f"their roles are {held}", held, wanted, f"It takes the role {wanted}: Workspace.enrol."
    if request.purpose not in rule.purposes:
        # The caller's words stay out of what goes into evidence: a free text may hold anything.
        allowed = ", ".join(rule.purposes)
        return 1, "purposes", f"'{request.purpose}' is no purpose of the rule", "another purpose", allowed, f"State one of its purposes: {allowed}."
    if request.today > rule.until:
        ended, today = rule.until.isoformat(), request.today.isoformat()
        return 2, "until", f"the rule held until {ended}", today, ended, "Renew the rule's 'until' in the policy."
    for origin, entities in ((request.origin, request.entities), *((each, frozenset({each.entity} - {None})) for each in request.sharing)):
        other = "" if origin is request.origin else f"they share a namespace with {origin.line}, and "
        if rule.fields and origin.field not in rule.fields:
            return 3, "fields", f"{other}the rule does not name that column", origin.line, ", ".join(rule.fields), "Name it in the rule's 'fields'."
        if rule.fields and not origin.bound:
            satisfy = "Pass the rows under the name that the data set was loaded with (table=)."
            return 3, "fields", f"{other}nothing in the ledger says that they are of that column", origin.line, ", ".join(rule.fields), satisfy
        if rule.entities and not (entities and entities <= set(rule.entities)):
            held = ", ".join(sorted(str(entity) for entity in entities)) or "no known entity"
            return 4, "entities", f"{other}they hold {held}", held, ", ".join(rule.entities), "Name every one of them in the rule's 'entities'."
    return None


def _refusal(line: str, request: Request, key: str, why: str, measured: str, bound: str, satisfy: str) -> Refused:
    message = f"'{request.person.name}' may not reveal {request.what}: {why}."
    return Refused(message, by="policy", line=f"{line}.{key}", measured=measured, bound=bound, satisfy=satisfy)
