"""AUDIT, the outermost stage: an intent before each call, an outcome after it, whatever happens in between."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa

from affidavit.calls import Call, PredictCall
from affidavit.errors import Refused
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.governance import JSON, Stage
from affidavit.interfaces.model import Predictions
from affidavit_governance.audit.evidence import now, software
from affidavit_governance.audit.journal import ABSENT
from affidavit_governance.audit.ledger import SqlLedger
from affidavit_governance.audit.recovery import close_call, open_call
from affidavit_governance.audit.retention import delete_expired
from affidavit_governance.audit.story import call_digest

Wrapped = Generator[None, Any, Any]


class Module:
    """The AUDIT stage of one workspace.

    An intent that cannot be written stops the call before it begins. An outcome that cannot be written withholds the result. Predictions
    have no intent: each leaves a line in the journal before its answer is given out.
    """

    stage = Stage.AUDIT

    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace
        self._ledger: SqlLedger = workspace.ledger
        delete_expired(workspace)

    @hookimpl(wrapper=True)
    def affidavit_load(self, call: Call) -> Wrapped:
        intent = self._intent(call)
        try:
            result = yield
            if result is not None:  # nobody answered: the pipeline turns that into an error
                self._done(call, intent, result)
        except BaseException as error:
            self._ended(call, intent, error)
            raise
        if result is None:
            self._ended(call, intent, None)
        return result

    affidavit_train = affidavit_evaluate = affidavit_explain = affidavit_package = affidavit_load
    affidavit_register_version = affidavit_approve = affidavit_promote = affidavit_deploy = affidavit_load
    affidavit_reveal = affidavit_shred = affidavit_load

    @hookimpl(wrapper=True)
    def affidavit_predict(self, call: PredictCall) -> Wrapped:
        try:
            result = yield
        except BaseException as error:
            _noting(error, partial(self._journal, call, None, _status(error)))
            raise
        if result is None:
            self._journal(call, None, "failed")
        else:
            self._journal(call, result, "done")
            self._ledger.confirm(call.id)
        return result

    # -- lifecycle calls ------------------------------------------------------------------------------------------------------------

    def _intent(self, call: Call) -> dict[str, JSON]:
        actor = call.actor
        predicate = {
            "call": call.id,
            "phase": "intent",
            "status": None,
            "actor": {"name": actor.name, "roles": list(actor.roles), "key": actor.key},
            "workspace": self._workspace.store.workspace_id,
            "policy": self._workspace.policy.digest,
            "started": now(),
            "finished": None,
            "software": software(),
            "inputs": {},
            "stages": {},
            "replacements": [],
            "details": {},
            "refusal": None,
            "error": None,
        }

        def also(connection: sa.Connection, index: int) -> None:
            open_call(connection, call.id, index, self._ledger.session.id)

        self._ledger.commit(call.kind, _about(call), predicate, also)
        return predicate

    def _done(self, call: Call, intent: Mapping[str, JSON], result: Any) -> None:
        outcome = {**_outcome(call, intent, "done"), "inputs": call.inputs(), "details": call.details(result)}
        self._write(call, call.outputs(result) or _about(call), outcome)

    def _ended(self, call: Call, intent: Mapping[str, JSON], error: BaseException | None) -> None:
        """Record a call that gave no result."""
        if self._ledger.has_outcome(call):
            return  # the outcome is in the ledger, and what failed is its publication: the next open makes up for it
        status = "failed" if error is None else _status(error)
        outcome = _outcome(call, intent, status)
        if isinstance(error, Refused):
            outcome["refusal"] = {"by": error.by, "line": error.line, "measured": error.measured, "bound": error.bound, "satisfy": error.satisfy}
        else:
            outcome["error"] = "NoResult" if error is None else type(error).__name__
        if status != "interrupted":
            outcome["inputs"] = _inputs(call)
        _noting(error, partial(self._write, call, _about(call), outcome))

    def _write(self, call: Call, subject: Mapping[str, str], outcome: Mapping[str, JSON]) -> None:
        self._ledger.commit(call.kind, subject, outcome, lambda connection, _: close_call(connection, call.id))

    # -- predictions ----------------------------------------------------------------------------------------------------------------

    def _journal(self, call: PredictCall, result: Predictions | None, status: str) -> None:
        journal = self._ledger.journal
        data = call.data
        try:
            table = data.table
            rows, inputs = table.num_rows, journal.input_digest(table, data.cells)
        except Exception:
            if result is not None:
                raise
            rows, inputs = 0, ABSENT  # rows that could not even be read are why the call failed
        outputs = ABSENT if result is None else journal.output_digest(result)
        version = None if call.version is None else str(call.version)
        journal.record(call.id, self._workspace.model_digest(call.model), version, inputs, outputs, rows, status)


def _about(call: Call) -> dict[str, str]:
    return {f"call:{call.id}": call_digest(call.id)}


def _outcome(call: Call, intent: Mapping[str, JSON], status: str) -> dict[str, JSON]:
    replaced = [{"field": each.field, "stage": each.stage.name.lower()} for each in call.replacements]
    ending = {"phase": "outcome", "status": status, "finished": now(), "software": software()}
    return {**intent, **ending, "stages": dict(call.statements), "replacements": replaced}


def _status(error: BaseException) -> str:
    if isinstance(error, Refused):
        return "refused"
    return "failed" if isinstance(error, Exception) else "interrupted"


def _inputs(call: Call) -> dict[str, str]:
    """Digests of what went in, or none where the call failed because they cannot be read."""
    try:
        return call.inputs()
    except Exception:
        return {}


def _noting(error: BaseException | None, write: Any) -> None:
    """Run `write`; where it fails too, the error that came first stays the one that is raised, with a note."""
    try:
        write()
    except Exception as second:
        if error is None:
            raise
        error.add_note(f"The audit could not record how this call ended ({type(second).__name__}); the next open of the workspace will.")
