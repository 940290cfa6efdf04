"""What sealing costs a small object, and rotation many: re-wrapping against opening and sealing everything anew, in one run."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from affidavit.interfaces.governance import Actor
from affidavit.plugins import bundled_registry
from affidavit.store import Objects, Store
from affidavit_governance.audit.ledger import open_ledger
from affidavit_governance.encryption import open_keyring
from affidavit_governance.encryption.rotation import Keys

ROWS = 20_000
OBJECTS = 50
OBJECT_BYTES = 4 << 20
REPEATS = 15

_metadata = sa.MetaData()
_rows = sa.Table("bench_rows", _metadata, sa.Column("number", sa.Integer, primary_key=True), sa.Column("sealed", sa.LargeBinary))


def microseconds(work: Callable[[], object], times: int = 2000) -> float:
    """CPU time of one call."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times * 1e6


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AFFIDAVIT_HOME"] = folder
        with Store.open(Path(folder) / "ws") as store:
            keyring = open_keyring(store)
            small(keyring)
            rotation(store, keyring)


def small(keyring: Any) -> None:
    """One KiB, the size of a piece of evidence."""
    plain = os.urandom(1024)
    sealed = keyring.seal(plain, purpose="evidence", name="1")
    work = {
        "seal": lambda: keyring.seal(plain, purpose="evidence", name="1"),
        "open": lambda: keyring.open(sealed, purpose="evidence", name="1"),
    }
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS):
        for name, each in work.items():
            found[name].append(microseconds(each))
    for name, values in found.items():
        print(f"{name} 1 KiB: {statistics.median(values):6.1f} µs")


def rotation(store: Store, keyring: Any) -> None:
    """Rows in a table and objects in files, moved under a new key version."""
    workspace = SimpleNamespace(store=store, keyring=keyring, ledger=open_ledger(store, keyring), actor=Actor("bench"), registry=bundled_registry())
    store.ensure(_metadata, "bench_rows", 1)
    plain = os.urandom(1024)
    with store.write() as connection:
        rows = [{"number": n, "sealed": keyring.seal(plain, purpose="row", name=str(n))} for n in range(ROWS)]
        connection.execute(_rows.insert(), rows)
    objects = Objects(store, keyring)
    digests = [objects.put(n.to_bytes(4, "big") * (OBJECT_BYTES // 4), purpose="artifact") for n in range(OBJECTS)]
    keys = Keys(workspace)
    keys.rotate()
    start = time.perf_counter()
    moved = keys.rewrap()
    wrapped = time.perf_counter() - start
    start = time.perf_counter()
    with store.write() as connection:
        changes = []
        for row in connection.execute(sa.select(_rows)).all():
            opened = keyring.open(bytes(row.sealed), purpose="row", name=str(row.number))
            changes.append({"at": row.number, "new": keyring.seal(opened, purpose="row", name=str(row.number))})
        connection.execute(_rows.update().where(_rows.c.number == sa.bindparam("at")).values(sealed=sa.bindparam("new")), changes)
    for digest in digests:
        data = objects.get(digest, purpose="artifact")
        store.files.write(f"anew/{digest}", keyring.seal(data, purpose="artifact", name=digest))
    anew = time.perf_counter() - start
    print(f"{moved} things ({ROWS} rows of 1 KiB, {OBJECTS} objects of {OBJECT_BYTES >> 20} MiB) under a new key:")
    print(f"re-wrapped {wrapped:6.2f} s   opened and sealed anew {anew:6.2f} s   {anew / wrapped:.1f} times as long")


if __name__ == "__main__":
    main()
