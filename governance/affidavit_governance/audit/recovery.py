"""Finishing what a dead process left: calls without an outcome, and journal lines that were not sealed."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from affidavit.errors import IntegrityError
from affidavit.interfaces.governance import Evidence, Keyring
from affidavit.store import Store
from affidavit_governance.audit.evidence import now
from affidavit_governance.audit.journal import Segment, left_behind
from affidavit_governance.audit.session import dead_session, sessions
from affidavit_governance.audit.story import call_digest
from affidavit_governance.audit.tables import journals, open_calls

if TYPE_CHECKING:
    from affidavit_governance.audit.ledger import SqlLedger

SEGMENTS = "journal/"


def open_call(connection: sa.Connection, call: str, index: int, session: str) -> None:
    """Note that the call with an intent at `index` is under way."""
    connection.execute(open_calls.insert().values(call=call, idx=index, session=session))


def close_call(connection: sa.Connection, call: str) -> None:
    """Note the end of a call. Raises IntegrityError where it has ended before: each call has one outcome."""
    if connection.execute(open_calls.delete().where(open_calls.c.call == call)).rowcount != 1:
        raise IntegrityError(f"Call {call} has an outcome already, or was never announced.")


def commit_segment(ledger: SqlLedger, store: Store, keyring: Keyring, segment: Segment) -> Evidence:
    """Store a journal segment sealed, and its evidence in the ledger.

    The lines stand outside the ledger, under their digest, so that they can be deleted when their retention ends and the ledger stays whole.
    """
    digest = hashlib.sha256(segment.data).hexdigest()
    name = f"{SEGMENTS}{digest}"
    store.files.write(name, keyring.seal(segment.data, purpose="journal", name=digest))
    record = segment.record()
    state = {"segments": segment.number + 1, "last": record["last"], "chain": segment.chain_end}

    def also(connection: sa.Connection, index: int) -> None:
        changed = connection.execute(journals.update().where(journals.c.journal == segment.journal).values(**state))
        if changed.rowcount == 0:
            connection.execute(journals.insert().values(journal=segment.journal, **state))

    predicate = {"workspace": store.workspace_id, "recorded": now(), "journal": record}
    return ledger.commit("predict", {f"journal:{segment.journal}/{segment.number}": digest}, predicate, also)


def finish_dead_sessions(ledger: SqlLedger, store: Store) -> None:
    """Give interrupted calls their outcome and seal orphaned journals, of every session here whose process is gone."""
    for session in sessions(store.spool):
        with dead_session(store.spool, session) as dead:
            if dead:
                _finish(ledger, store, session)


def _finish(ledger: SqlLedger, store: Store, session: str) -> None:
    for path in left_behind(store.spool, session):
        torn = not path.read_bytes().rstrip(b"\0").endswith(b"\n")
        ledger.seal_segment(path)
        cut = "; its last line was cut short by the crash and is left out" if torn else ""
        ledger.recovered.append(f"Sealed the prediction journal of a process that died{cut}.")
    with store.read() as connection:
        calls = connection.execute(sa.select(open_calls.c.call, open_calls.c.idx).where(open_calls.c.session == session)).all()
    for call, index in calls:
        intent = ledger.entry(index)
        predicate = {**intent.predicate, "phase": "outcome", "status": "interrupted", "finished": now()}
        ledger.commit(intent.kind, {f"call:{call}": call_digest(call)}, predicate, partial(_close, call))
        ledger.recovered.append(f"Recorded that a {intent.kind} call was interrupted: its process died in the middle.")


def _close(call: str, connection: sa.Connection, _index: int) -> None:
    close_call(connection, call)


def read_stored_segment(store: Store, keyring: Keyring, digest: str) -> bytes | None:
    """The lines of a sealed segment, or None where they were deleted after their retention."""
    try:
        sealed: bytes = store.files.read(f"{SEGMENTS}{digest}")
    except KeyError:
        return None
    data: bytes = keyring.open(sealed, purpose="journal", name=digest)
    return data
