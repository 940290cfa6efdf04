"""Checks of an explainer inside a workspace: that governance records what it gives, and that it tells nothing that is masked."""

from __future__ import annotations

import json
from contextlib import suppress

from affidavit.errors import AffidavitError
from affidavit.interfaces.explanation import Counterfactuals, Explanation
from affidavit.interfaces.schema import FieldType
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.explainer.records import ROUNDING, difference
from affidavit.testing.kinds.explainer.session import MASKED, Session, session_of
from affidavit.testing.kinds.explainer.subject import ExplainerSubject
from affidavit.testing.report import Tier
from affidavit.testing.within import PLANTED

LENGTH = 8
"""Letters or digits from which a value is found in a text by no chance."""


@check("explainer", Tier.GOVERNANCE)
def an_explanation_leaves_one_intent_and_one_outcome(subject: ExplainerSubject) -> None:
    """Asked for by name in a workspace it gives a signed record; this leaves an intent and an outcome, and so does a call that raises."""
    session = session_of(subject)
    record, entries = session.made
    known = len(list(session.workspace.ledger.entries("explain")))
    with suppress(AffidavitError):
        session.explain(surely_no_such_option=1)
    entries = [*entries, *list(session.workspace.ledger.entries("explain"))[known:]]
    left = [(entry.predicate["phase"], entry.predicate["status"]) for entry in entries]
    if left != [("intent", None), ("outcome", "done"), ("intent", None), ("outcome", "failed")]:
        shown = ", ".join(phase if status is None else f"{phase} {status}" for phase, status in left) or "nothing"
        raise CheckFailed(f"one explanation and one that fails left: {shown}.")
    if record.signed is None:
        raise CheckFailed("the workspace did not sign its record.")


@check("explainer", Tier.GOVERNANCE)
def a_recorded_explanation_can_be_made_again(subject: ExplainerSubject) -> None:
    """What the record says of its options is enough to make it again, number for number."""
    session = session_of(subject)
    record, _ = session.made
    if isinstance(record, Explanation):
        replay = session.workspace.replay(record, session.rows, model=session.model, background=session.background)
        apart = replay.relative_deviation
    else:
        apart = difference(record, session.explain(**record.details["options"]))
    if apart > ROUNDING:
        raise CheckFailed(f"made again from its record it differs by {apart:.2g}: let everything random depend on the option seed.")


@check("explainer", Tier.GOVERNANCE)
def masked_fields_are_not_told_apart(subject: ExplainerSubject) -> None:
    """Fields that the policy masks are one player together, have no curve and no figure of their own, and never change."""
    if subject.case.data is not None:
        raise Skip("the case brings rows of its own, of which the kit does not know what to mask")
    record, _ = session_of(subject).made
    if isinstance(record, Explanation):
        named = set(record.players)
    elif isinstance(record, Counterfactuals):
        named = {name for row in record.changes for alternative in row for name in alternative}
    else:
        named = {part for name in record.importance for part in name.split(" × ")} | set(record.curves)
        named |= {name for name in MASKED if any(name in rule for rule in record.rules)}
    told = sorted(named & set(MASKED))
    if told:
        raise CheckFailed(f"it tells of the masked field '{told[0]}' on its own: accept 'groups', and leave masked fields alone.")


@check("explainer", Tier.GOVERNANCE)
def no_record_and_no_evidence_quotes_a_row(subject: ExplainerSubject) -> None:
    """No value of a single row stands in the record or in the ledger."""
    session = session_of(subject)
    record, entries = session.made
    texts = {"record": json.dumps(record.to_json(), default=str), "ledger": json.dumps([entry.statement for entry in entries], default=str)}
    for where, text in texts.items():
        quoted = [name for name, values in _single(session).items() if any(value in text for value in values)]
        if quoted:
            raise CheckFailed(f"values of '{quoted[0]}' stand in the {where}: name players, and leave values out of details.")


def _single(session: Session) -> dict[str, list[str]]:
    """What no record may say of the explained rows, by field: numbers to their last digit, texts and categories that one row alone has."""
    found: dict[str, list[str]] = {name: [PLANTED[0], PLANTED[2]] for name in MASKED}
    for field in session.rows.schema.features:
        if field.type in (FieldType.NUMERIC, FieldType.TEXT, FieldType.CATEGORICAL) and field.name not in MASKED:
            known = [str(value) for value in session.data.to_list(field.name)]
            given = {str(value) for value in session.rows.to_list(field.name)}
            found[field.name] = [value for value in given if len(value) >= LENGTH and known.count(value) == 1]
    return found
