"""A small workspace for audit tests: real store, keys, ledger, policy and versions, without the other stages."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from affidavit.interfaces.governance import Actor
from affidavit.policy import Policy
from affidavit.store import Store
from affidavit_governance.audit.evidence import now
from affidavit_governance.audit.ledger import open_ledger
from affidavit_governance.audit.recovery import close_call, open_call
from affidavit_governance.audit.story import call_digest
from affidavit_governance.encryption import open_keyring


def open_small(location: str | Path) -> SimpleNamespace:
    """What AUDIT needs of a workspace."""
    store = Store.open(location)
    if store.engine.dialect.name == "sqlite":
        # These tests kill processes, not machines: what a process wrote is safe from that without a sync, and the tests are quicker.
        sa.event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        store.engine.dispose()
    keyring = open_keyring(store)
    return SimpleNamespace(
        store=store,
        keyring=keyring,
        ledger=open_ledger(store, keyring),
        policy=Policy(),
        actor=Actor("tester", ("risk",)),
        model_digest=lambda model: hashlib.sha256(model.type.encode()).hexdigest(),
    )


def add_plugins(workspace: SimpleNamespace, number: int = 1) -> None:
    """Append `number` entries that stand alone."""
    for _ in range(number):
        predicate = {"plugins": [{"number": len(workspace.ledger)}], "refused": []}
        workspace.ledger.append("plugin", subject={"plugins": hashlib.sha256(b"plugins").hexdigest()}, predicate=predicate)


def predicate_of(workspace: SimpleNamespace, call: str, phase: str, status: str | None, **changes: Any) -> dict[str, Any]:
    """A lifecycle predicate as the AUDIT stage writes it."""
    finished = now() if phase == "outcome" else None
    return {
        "call": call, "phase": phase, "status": status, "actor": {"name": "tester", "roles": [], "key": None},
        "workspace": workspace.store.workspace_id, "policy": workspace.policy.digest, "started": now(), "finished": finished,
        "software": {}, "inputs": {}, "stages": {}, "replacements": [], "details": {}, "refusal": None, "error": None, **changes,
    }  # fmt: skip


def announce(workspace: SimpleNamespace, call: str, kind: str = "register") -> None:
    """Append the intent of a call."""
    ledger = workspace.ledger
    ledger.commit(
        kind,
        {f"call:{call}": call_digest(call)},
        predicate_of(workspace, call, "intent", None),
        lambda connection, index: open_call(connection, call, index, ledger.session.id),
    )


def finish(workspace: SimpleNamespace, call: str, kind: str = "register", **changes: Any) -> None:
    """Append the outcome of a call."""
    predicate = predicate_of(workspace, call, "outcome", "done", **changes)
    workspace.ledger.commit(kind, {"thing:1": "ab" * 32}, predicate, lambda connection, _: close_call(connection, call))
