"""Destroying a subject's key, and leaving a receipt."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

import sqlalchemy as sa

from affidavit.errors import InvalidInput, Refused
from affidavit.reveal import Receipt, ShredCall
from affidavit.store import Store
from affidavit_governance.masking.reveal.subjects import SqlSubjectKeys
from affidavit_governance.masking.reveal.tables import subject_keys
from affidavit_governance.masking.reveal.tables import vault as vault_rows
from affidavit_governance.masking.reveal.vault import SqlVault
from affidavit_governance.masking.text import scan_text


def shred(call: ShredCall) -> Receipt:
    """The service ``shred``: destroy the key of `call.subject`, empty the vault's rows of that subject, and take both out of the files.

    Doing it again changes nothing but finishes what an interrupted or `pending` one left, and gives a receipt.

    Raises
    ------
    Refused
        The call did not come through ACCESS.
    UsageError
        The subject has and had no key here.
    InvalidInput
        The reason holds personal data.
    """
    if not call.people:
        raise Refused("No key is destroyed outside a governed call.", by="access", line="approvals.shred", satisfy="Use Workspace.shred.")
    if scan_text(call.reason):
        raise InvalidInput("The reason holds personal data, and it stands in evidence.", hint="Name the request by a number.")
    store, keyring = call.workspace.store, call.workspace.keyring
    keys, vault = SqlSubjectKeys(store, keyring), SqlVault(store, keyring)
    earlier = keys.destroyed(call.subject)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    emptied = [0]

    def also(connection: sa.Connection, name: bytes) -> None:
        emptied[0] = vault.empty(connection, name)

    keys.destroy(call.subject, when=now, also=also)
    return Receipt(
        subject=call.name,
        destroyed=keys.destroyed(call.subject) or now,
        already=earlier is not None,
        vault_rows=emptied[0],
        storage=erase(store),
        call=call.id,
        workspace=store.workspace_id,
    )


def erase(store: Store) -> str:
    """Take what was deleted out of the database's own files, as far as they can be reached; says how that went, as `Receipt.storage`."""
    try:
        return _rewrite(store) if store.engine.dialect.name == "postgresql" else _overwrite(store)
    except (sa.exc.DBAPIError, sqlite3.OperationalError):
        return "pending"  # somebody holds the tables; the key is destroyed all the same, and doing it again finishes this


def _rewrite(store: Store) -> str:
    """PostgreSQL: a plain VACUUM would leave the old rows' bytes in their pages; this writes the tables anew and removes the old files."""
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in (subject_keys, vault_rows):
            connection.exec_driver_sql(f"VACUUM (FULL) {table.name}")
    return "rewritten"


def _overwrite(store: Store) -> str:
    """SQLite: freed cells are overwritten with zeros (secure_delete, set by the store), but the write-ahead log still holds the pages as they
    were. A checkpoint runs outside any transaction, so it goes past SQLAlchemy, which would open one."""
    pooled = store.engine.raw_connection()
    try:
        busy = pooled.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        pooled.close()
    return "pending" if busy else "overwritten"
