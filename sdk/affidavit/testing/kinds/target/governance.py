"""Checks of a deployment target inside a workspace: that governance sees, records and refuses whatever passes through it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from affidavit.errors import AffidavitError, Refused, UsageError
from affidavit.interfaces.deployment import Predictor
from affidavit.interfaces.explanation import Explanation
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.target.api import ROUNDING, freed
from affidavit.testing.kinds.target.subject import Session, TargetSubject
from affidavit.testing.report import Tier
from affidavit.testing.within import PLANTED, enter


@check("target", Tier.GOVERNANCE)
def a_deployment_leaves_one_intent_and_one_outcome(subject: TargetSubject) -> None:
    """Deploying leaves an intent and an outcome in the ledger, and so does a deployment that raises."""
    workspace, version = subject.session.workspace, subject.session.version
    known = len(list(workspace.ledger.entries("deploy")))
    with workspace.deploy(version, target=subject.name, **subject.options()) as endpoint:
        endpoint.predict(subject.session.rows(1))
    with suppress(AffidavitError):
        workspace.deploy(version, target=subject.name, **{**subject.options(), "surely_no_such_option": 1})
    left = [(entry.predicate["phase"], entry.predicate["status"]) for entry in list(workspace.ledger.entries("deploy"))[known:]]
    if left != [("intent", None), ("outcome", "done"), ("intent", None), ("outcome", "failed")]:
        shown = ", ".join(phase if status is None else f"{phase} {status}" for phase, status in left) or "nothing"
        raise CheckFailed(f"one deployment that runs and one that fails left: {shown}.")


@check("target", Tier.GOVERNANCE)
def every_row_asked_through_an_endpoint_is_journalled(subject: TargetSubject) -> None:
    """The prediction journal holds as many rows of the deployed version as were asked, and none that nobody asked."""
    session = subject.session
    before = _journalled(session)
    with session.workspace.deploy(session.version, target=subject.name, **subject.options()) as endpoint:
        unasked = _journalled(session) - before
        for count in (3, 2):
            endpoint.predict(session.rows(count))
    if unasked:
        raise CheckFailed(f"deploying asked the model about {unasked} rows that nobody sent: warm up with an empty batch.")
    rows = _journalled(session) - before
    if rows != 5:
        raise CheckFailed(f"5 rows left {rows} rows in the journal: ask the predictor that deploy was given.")


@check("target", Tier.GOVERNANCE)
def planted_personal_data_never_pass_an_endpoint(subject: TargetSubject) -> None:
    """What masking finds in the rows that are sent to an endpoint does not reach the model."""
    session = subject.session
    seen = len(session.seen)
    with session.workspace.deploy(session.version, target=subject.name, **subject.options()) as endpoint:
        endpoint.predict(session.rows(6))
    reached = [str(table.to_pydict()) for table in session.seen[seen:]]
    if not reached:
        raise CheckFailed("the rows reached no model of the workspace: ask the predictor that deploy was given.")
    found = [value for value in PLANTED if any(value in text for text in reached)]
    if found:
        raise CheckFailed(f"{len(found)} planted values reached the model: ask the predictor that deploy was given, which masks.")


@check("target", Tier.GOVERNANCE)
def a_refused_deployment_starts_nothing(subject: TargetSubject) -> None:
    """A version that misses what the policy asks is refused before `deploy`, and making the target has begun nothing."""
    session = subject.session
    reached: list[str] = []

    class Watching(subject.value):  # type: ignore[name-defined,misc]  # the class under check
        type = subject.name

        def deploy(self, predictor: Predictor, **options: Any) -> Any:
            reached.append("deploy")
            return super().deploy(predictor, **options)

    enter(session.workspace, subject, value=Watching)
    try:
        with freed("after a refusal") as settle:
            try:
                session.workspace.deploy(session.versions["unexplained"], target=subject.name, **subject.options())
            except Refused:
                settle()
            else:
                raise CheckFailed("a version that the policy refuses was deployed.")
    finally:
        enter(session.workspace, subject)
    if reached:
        raise CheckFailed("deploy was called for a version that the policy refuses.")


@check("target", Tier.GOVERNANCE)
def an_endpoint_explains_inside_governance_or_says_that_it_does_not(subject: TargetSubject) -> None:
    """`explain` gives the record that the workspace gives, and leaves evidence; or it raises UsageError."""
    session = subject.session
    rows = session.rows(2)
    with session.workspace.deploy(session.version, target=subject.name, **subject.options()) as endpoint:
        known = len(list(session.workspace.ledger.entries("explain")))
        try:
            found = endpoint.explain(rows, method="leverage", budget=1024, seed=3)
        except UsageError:
            return
        except Exception as error:
            raise CheckFailed(f"explain raised {type(error).__name__}: explain through the predictor, or raise UsageError.") from error
        left = [entry.predicate["phase"] for entry in list(session.workspace.ledger.entries("explain"))[known:]]
    if not isinstance(found, Explanation):
        raise CheckFailed(f"explain gave {type(found).__name__}, not an Explanation.")
    if left != ["intent", "outcome"]:
        raise CheckFailed(f"an explanation left {', '.join(left) or 'nothing'} in the ledger: ask the predictor's explain.")
    own = session.workspace.explain(session.workspace.model(session.version), rows, method="leverage", budget=1024, seed=3)
    if found.players != own.players or found.values.shape != own.values.shape or float(abs(found.values - own.values).max(initial=0.0)) > ROUNDING:
        raise CheckFailed("the explanation is not the workspace's own.")


def _journalled(session: Session) -> int:
    """Rows in the journal, where nothing but the deployed version is asked."""
    session.workspace.ledger.seal_journals()
    return sum(entry.predicate["journal"]["rows"] for entry in session.workspace.ledger.entries("predict"))
