"""A small workspace for the tests of keys: real store, keyring, ledger and objects, without the other stages."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from affidavit.interfaces.governance import Actor
from affidavit.plugins import bundled_registry
from affidavit.store import Objects, Store
from affidavit_governance.audit.ledger import open_ledger
from affidavit_governance.encryption import open_keyring
from affidavit_governance.encryption.rotation import Keys

METADATA = sa.MetaData()
ROWS = sa.Table(
    "sealed_rows",
    METADATA,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sealed", sa.LargeBinary),
)
"""A table of some plugin, which never heard of rotation."""


def open_workspace(location: str, **options: Any) -> SimpleNamespace:
    """What `Keys` needs of a workspace."""
    store = Store.open(location)
    if store.engine.dialect.name == "sqlite":
        # These tests kill processes, not machines: what a process wrote is safe from that without a sync, and the tests are quicker.
        sa.event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        store.engine.dispose()
    keyring = open_keyring(store, **options)
    store.ensure(METADATA, "sealed_rows", 1)
    workspace = SimpleNamespace(
        store=store, keyring=keyring, objects=Objects(store, keyring), actor=Actor("keeper"), registry=options.get("registry") or bundled_registry()
    )
    workspace.ledger = open_ledger(store, keyring)
    workspace.keys = Keys(workspace)
    return workspace


def close(workspace: SimpleNamespace) -> None:
    """Release everything."""
    workspace.ledger.close()
    workspace.store.close()


def fill(workspace: SimpleNamespace, number: int) -> None:
    """Seal `number` things in each kind of place: objects, rows of a table, small files."""
    for each in range(number):
        workspace.objects.put(b"object %d" % each, purpose="artifact")
        name = f"journal/{each:04d}"
        workspace.store.files.write(name, workspace.keyring.seal(b"file %d" % each, purpose="journal", name=name))
    rows = [
        {"owner": f"o{each % 3}", "number": each, "sealed": workspace.keyring.seal(b"row %d" % each, purpose="row", name=str(each))}
        for each in range(number)
    ]
    with workspace.store.write() as connection:
        connection.execute(ROWS.insert(), rows)


def read_all(workspace: SimpleNamespace, number: int) -> None:
    """Every thing that `fill` sealed opens to what it was; so does all evidence."""
    for each in range(number):
        digest = hashlib.sha256(b"object %d" % each).hexdigest()
        assert workspace.objects.get(digest, purpose="artifact") == b"object %d" % each
        name = f"journal/{each:04d}"
        assert workspace.keyring.open(workspace.store.files.read(name), purpose="journal", name=name) == b"file %d" % each
    with workspace.store.read() as connection:
        rows = connection.execute(sa.select(ROWS).order_by(ROWS.c.number)).all()
    assert len(rows) == number
    for row in rows:
        assert workspace.keyring.open(bytes(row.sealed), purpose="row", name=str(row.number)) == b"row %d" % row.number
    assert len(list(workspace.ledger.entries())) == len(workspace.ledger)


def open_and_identify(location: str) -> str:
    """Open or make a workspace's keys; gives the verifier key. Here, where a process that a test spawns can import it."""
    with Store.open(location) as store:
        return open_keyring(store).verifier_key
