"""Everything in a workspace that is sealed under a version of its key, found by its first bytes.

No table and no plugin has to register: every binary column of every table, and every file, that begins as an envelope does is counted, and
is re-wrapped by exchanging its head. What is sealed inside something else would not be found, which is why the keyring's protocol asks
for envelopes to be stored as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from affidavit.errors import IntegrityError
from affidavit.store import FolderFiles, Store
from affidavit_governance.encryption.envelope import HEAD_BYTES, MAGIC, PREFIX_BYTES, VERSION

Prefix = tuple[int, str]
"""Envelope version and key id (hex)."""


@dataclass(frozen=True, slots=True)
class Column:
    """A binary column, with what names its rows: the primary key, or the column itself where there is none."""

    table: sa.Table
    column: sa.Column[bytes]
    keys: Sequence[sa.Column[Any]]


def columns(store: Store) -> list[Column]:
    """Every binary column of the workspace's tables."""
    metadata = sa.MetaData()
    with store.read() as connection:
        metadata.reflect(connection)
    found = []
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, sa.LargeBinary):
                found.append(Column(table, column, list(table.primary_key.columns) or [column]))
    return found


def count(store: Store) -> Counter[Prefix]:
    """How many envelopes and wrapped keys there are under each key."""
    found: Counter[Prefix] = Counter()
    for place in columns(store):
        head = sa.func.substr(place.column, 1, PREFIX_BYTES)
        query = sa.select(head, sa.func.count()).where(sa.func.substr(place.column, 1, len(MAGIC)) == MAGIC).group_by(head)
        with store.read() as connection:
            for prefix, number in connection.execute(query):
                found[bytes(prefix)[4], bytes(prefix)[5:].hex()] += number
    for _, prefix in _sealed_files(store):
        found[prefix[4], prefix[5:].hex()] += 1
    return found


def rewrap(store: Store, active: bytes, exchange: Callable[[bytes], bytes], *, batch: int, report: Callable[[int], None]) -> Counter[str]:
    """Bring everything under the key with id `active`; gives what could not be moved, by place.

    Each batch of rows is one transaction, each file is replaced as a whole: whoever is stopped anywhere leaves every envelope under the old key
    or the new one. A second call goes on with what is left.

    Parameters
    ----------
    exchange
        From an old head to the new one; raises IntegrityError where that is not possible.
    report
        Told after each batch how much was moved since the last.
    """
    failed: Counter[str] = Counter()
    for place in columns(store):
        for names in _batches(_outdated(store, place, active), batch):
            with store.write() as connection:
                moved, left = _rewrap_rows(connection, place, names, active, exchange)
            # Rows are not named: a key of theirs may be personal data.
            failed += Counter({f"table '{place.table.name}'": left})
            report(moved)
    for name, prefix in _sealed_files(store):
        if _is_outdated(prefix, active):
            try:
                report(_rewrap_file(store, name, active, exchange))
            except IntegrityError:
                failed[f"file '{name}'"] += 1
    return failed


def _outdated(store: Store, place: Column, active: bytes) -> list[tuple[Any, ...]]:
    """Names of the rows to move. Envelopes of version 1 stay: their head is bound."""
    head = sa.func.substr(place.column, 1, PREFIX_BYTES)
    version = sa.func.substr(place.column, 1, 5) == MAGIC + bytes([VERSION])
    query = sa.select(*place.keys).where(version, head != MAGIC + bytes([VERSION]) + active)
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


def _rewrap_rows(
    connection: sa.Connection, place: Column, names: Sequence[tuple[Any, ...]], active: bytes, exchange: Callable[[bytes], bytes]
) -> tuple[int, int]:
    """Move some rows; gives how many were moved and how many could not be."""
    wanted = sa.tuple_(*place.keys).in_(names) if len(place.keys) > 1 else place.keys[0].in_([name[0] for name in names])
    changes, failed = [], 0
    for row in connection.execute(sa.select(*place.keys, place.column.label("_sealed")).where(wanted)).all():
        sealed = bytes(row[-1])
        if not _is_outdated(sealed[:PREFIX_BYTES], active):  # another process was here
            continue
        try:
            new = exchange(sealed[:HEAD_BYTES]) + sealed[HEAD_BYTES:]
        except IntegrityError:
            failed += 1
            continue
        changes.append({"_new": new, "_old": sealed, **{f"_key{number}": value for number, value in enumerate(row[:-1])}})
    if changes:
        # Only while the row is what was read: in a database files are written outside the write lock.
        same = [column == sa.bindparam(f"_key{number}") for number, column in enumerate(place.keys)]
        change = place.table.update().where(*same, place.column == sa.bindparam("_old")).values({place.column: sa.bindparam("_new")})
        connection.execute(change, changes)
    return len(changes), failed


def _rewrap_file(store: Store, name: str, active: bytes, exchange: Callable[[bytes], bytes]) -> int:
    # Under the write lock, as deleting is, so that nothing deleted meanwhile comes back.
    with store.write():
        try:
            sealed = store.files.read(name)
        except KeyError:
            return 0
        if not _is_outdated(sealed[:PREFIX_BYTES], active):
            return 0
        store.files.write(name, exchange(sealed[:HEAD_BYTES]) + sealed[HEAD_BYTES:])
    return 1


def _sealed_files(store: Store) -> Iterator[tuple[str, bytes]]:
    """Name and prefix of each file that is an envelope. In a database files are rows of a table, and found as such."""
    if not isinstance(store.files, FolderFiles):
        return
    for name in store.files.list():
        try:
            prefix = store.files.head(name, PREFIX_BYTES)
        except KeyError:  # deleted meanwhile
            continue
        if len(prefix) == PREFIX_BYTES and prefix.startswith(MAGIC):
            yield name, prefix


def _is_outdated(prefix: bytes, active: bytes) -> bool:
    return prefix[:5] == MAGIC + bytes([VERSION]) and prefix[5:] != active


def _batches(names: list[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
