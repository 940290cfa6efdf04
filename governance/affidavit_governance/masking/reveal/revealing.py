"""What POLICY decides about a call that asks for originals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from affidavit.errors import InvalidInput, Refused, UsageError
from affidavit.interfaces.governance import JSON
from affidavit.reveal import RevealCall
from affidavit_governance.masking.operators import token, vaulted
from affidavit_governance.masking.operators.arrays import is_text
from affidavit_governance.masking.operators.catalogue import make_operator
from affidavit_governance.masking.reveal.origins import SPANS, History, Origin, origin_of
from affidavit_governance.masking.reveal.rules import LINE, Grant, Request, grant
from affidavit_governance.masking.text import scan_text
from affidavit_governance.masking.tools import Tools, workspace_tools

SHAPED = re.compile(f"{token.PATTERN.pattern}|{vaulted.PATTERN.pattern}")
"""What may be a token inside a text. Whether it is one shows when it opens."""


def attempt(call: RevealCall) -> dict[str, JSON]:
    """What the evidence says of a call whatever comes of it, in words of the policy and counts: the caller's own words may hold anything."""
    rules = call.workspace.policy.masking.reveal
    listed = any(call.purpose in rule.purposes for rule in rules)
    named = {name for rule in rules for name in rule.fields} | set(call.workspace.policy.masking.fields)
    fields = call.fields or ()
    return {
        "purpose": call.purpose if listed else None,
        "fields": sorted(named.intersection(fields)),
        "other_fields": len(set(fields) - named),
        "rows": len(call.data),
    }


def decide(call: RevealCall) -> tuple[Grant, ...]:
    """What the policy allows of what `call` asks for: all of it, or it is refused. Of a text, whatever entities some rule allows.

    Raises
    ------
    Refused
        No rule covers the role, the purpose, today, a column or an entity; or nothing says how a column was masked.
    UsageError
        There is no such column, or it was masked one-way.
    InvalidInput
        The name of the data set or of a column holds personal data.
    """
    person = call.person
    if person is None:
        raise Refused("Nobody has proved who asks for originals.", by="policy", line=LINE, satisfy="Pass by=, a person whose key is enrolled.")
    for name in (call.table, *(call.fields or ())):
        if scan_text(name):
            raise InvalidInput("The name of the data set or of a column to reveal holds personal data.", hint="Names stand in evidence; rename it.")
    tools = workspace_tools(call.workspace)
    history = History.read(call.workspace.ledger, call.table)
    rules = call.workspace.policy.masking.reveal
    today = datetime.now(UTC).date()

    def granted(origin: Origin, entities: set[str]) -> Grant:
        return grant(rules, Request(person, call.purpose, today, origin, frozenset(entities), history.sharing(origin)))

    def granted_in_text(column: str) -> list[Grant]:
        """The entities that a rule covers; the others' tokens stay. Refused where none is."""
        found, refusal = [], None
        for origin in history.in_text(column, sorted(tools.entities)):
            operator = operator_of(origin, tools)
            # Only these prove themselves. What `ff1` made is a number like any other, and it would turn back any.
            if isinstance(operator, (token.Token, vaulted.Vault)) and operator.subject is None and origin.entity is not None:
                try:
                    found.append(granted(origin, {origin.entity}))
                except Refused as error:
                    refusal = refusal or error
        if refusal is not None and not found:
            raise refusal
        if not found:
            raise UsageError("The policy masks nothing inside texts in a way that can be undone.", hint="Use token or vault for an entity.")
        return found

    if call.as_text:
        return tuple(granted_in_text(""))
    grants: list[Grant] = []
    for name in _columns(call, history, tools):
        if _is_text(call, name, history) or _holds_tokens(call, name, history):
            grants += granted_in_text(name)
            continue
        origin = origin_of(history, call.data, name, _said(call, name))
        if not operator_of(origin, tools).reversible:
            raise UsageError(f"Column '{name}' was masked by '{origin.operator.name}', which nobody can undo.", hint="Leave it out of fields=.")
        grants.append(granted(origin, history.entities(name) | ({origin.entity} if origin.entity else set())))
    return tuple(grants)


def operator_of(origin: Origin, tools: Tools) -> Any:
    """The operator that a policy line names."""
    return make_operator(origin.operator.name, origin.operator.settings, where=f"Policy line '{origin.line}'", known=tools.operators)


def _columns(call: RevealCall, history: History, tools: Tools) -> Sequence[str]:
    """The columns asked for, or all that can be undone."""
    if call.fields is not None:
        for name in call.fields:
            call.data.schema.position(name)  # raises for an unknown one
        return list(dict.fromkeys(call.fields))
    names = []
    for name in call.data.schema.names:
        possible = history.origins(name, None) if call.data.schema[name].masked or name in history.columns else []
        if _is_text(call, name, history) or any(operator_of(origin, tools).reversible for origin in possible):
            names.append(name)
    if not names:
        raise UsageError("No column here was masked in a way that can be undone.", hint="Name columns with fields= to see why.")
    return names


def _is_text(call: RevealCall, name: str, history: History) -> bool:
    """Whether findings were masked one by one inside the column's texts."""
    recorded = [loaded.operator for loaded in history.columns.get(name, ())]
    return call.data.schema[name].masked == SPANS or (call.data.schema[name].masked is None and recorded[-1:] == [SPANS])


def _holds_tokens(call: RevealCall, name: str, history: History) -> bool:
    """Whether a column of which nothing is known, such as one of a file, has tokens inside longer texts. Those prove themselves."""
    column = call.data.table.column(name)
    if history.origins(name, _said(call, name)) or not is_text(column.type):
        return False
    return any(value is not None and SHAPED.search(value) and not SHAPED.fullmatch(value) for value in column.to_pylist())


def _said(call: RevealCall, name: str) -> str | None:
    """The entity that the caller says a column holds."""
    entities: Mapping[str, str] = call.entities
    return entities.get(name) or call.data.schema[name].entity
