"""The ledger of a workspace: a SQL table as the source of truth, published as signed checkpoints and tiles.

An append is one SQL transaction that holds the entry, its sealed evidence and the signed checkpoint of the tree with it; writers of all
processes go one after the other, and the transaction assigns the index. After the commit the tiles and the checkpoint are published as
files. Files that lag behind (a crash between the two) are published at the next open. Files that are ahead show that the table was put
back to an earlier state, which is refused. That table, files and keys were all put back together nobody can see from inside: compare with
a checkpoint or bundle that was handed out.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa

from affidavit.calls import Call
from affidavit.errors import AffidavitError, IntegrityError
from affidavit.interfaces.governance import JSON, Evidence, Keyring
from affidavit.store import Store
from affidavit_governance.audit import recovery, tiles
from affidavit_governance.audit.dsse import seal_statement, statement
from affidavit_governance.audit.evidence import checked, is_event, now
from affidavit_governance.audit.journal import Journal, genesis, read_segment
from affidavit_governance.audit.merkle import Tree, leaf_hash
from affidavit_governance.audit.note import Checkpoint, VerifierKey, open_checkpoint, signed_note
from affidavit_governance.audit.published import read_published
from affidavit_governance.audit.records import Entry, check_evidence, predicate_type
from affidavit_governance.audit.session import Session
from affidavit_governance.audit.tables import HEAD, VERSION, checkpoints, journals, leaves, metadata, open_calls

FOLDER = "ledger/"
_REMEMBERED_OUTCOMES = 65_536
_CHUNK = 256

Also = Callable[[sa.Connection, int], None]
"""What else one append does in its transaction; gets the connection and the new entry's index."""


class SqlLedger:
    """Implements `affidavit.interfaces.governance.Ledger`. Use `open_ledger`.

    Attributes
    ----------
    recovered
        What opening had to mend, in words.
    journal
        The prediction journal of this process.
    """

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self.recovered: list[str] = []
        self._store = store
        self._keyring = keyring
        self._key = VerifierKey.parse(keyring.verifier_key)
        self._lock = threading.RLock()
        self._tree = Tree()
        self._outcomes: OrderedDict[str, None] = OrderedDict()
        self._closed = False
        store.ensure(metadata, "ledger", VERSION)
        self._check_everything()
        self.session = Session(store.spool)
        self.journal = Journal(store.spool, self.session, keyring.derive("journal"), self.seal_segment)

    # -- what the core asks for -----------------------------------------------------------------------------------------------------

    def append(self, kind: str, *, subject: Mapping[str, str], predicate: Mapping[str, JSON], also: Also | None = None) -> Evidence:
        """Sign a statement about `subject` (name to hex SHA-256) and append it durably; `also` joins its transaction.

        Evidence that is no lifecycle call gets ``workspace`` and ``recorded`` (the time) from here.

        Raises
        ------
        UsageError
            The kind is unknown.
        PluginError
            The predicate does not fit the kind's schema.
        IntegrityError
            The ledger was changed behind this process's back.
        """
        extra = {"workspace": self._store.workspace_id, "recorded": now()} if is_event(kind) else {}
        return self.commit(kind, subject, {**predicate, **extra}, also)

    def entries(self, kind: str | None = None) -> Iterator[Evidence]:
        """All evidence in order (of one kind), each checked against its leaf hash and signature on the way out."""
        with self._lock, self._store.read() as connection:
            self._catch_up(connection)
            rows = connection.execute(sa.select(leaves.c.idx, leaves.c.leaf).order_by(leaves.c.idx)).all()
        wanted = []
        for row in rows:
            entry = self._entry(row.idx, bytes(row.leaf))
            if kind is None or entry.kind == kind:
                wanted.append((row.idx, entry))
        for start in range(0, len(wanted), _CHUNK):
            part = dict(wanted[start : start + _CHUNK])
            query = sa.select(leaves.c.idx, leaves.c.sealed).where(leaves.c.idx.in_(part)).order_by(leaves.c.idx)
            with self._store.read() as connection:
                sealed = connection.execute(query).all()
            for row in sealed:
                yield self._evidence(row.idx, part[row.idx], bytes(row.sealed))

    def __len__(self) -> int:
        with self._lock, self._store.read() as connection:
            self._catch_up(connection)
            return len(self._tree)

    def has_outcome(self, call: Call) -> bool:
        """Whether the outcome of `call` was durably recorded by this process (among the latest 65,536 calls)."""
        return call.id in self._outcomes

    def seal_journals(self) -> None:
        """Turn this process's journal lines into signed evidence now."""
        self.journal.seal()

    def close(self) -> None:
        """Seal the journal and release files; calling it twice is harmless."""
        if self._closed:
            return
        self._closed = True
        try:
            self.session.check()
        except AffidavitError:
            return  # a forked child: the parent's session is not this process's to close
        unfinished = True
        try:
            self.journal.seal()
            with self._store.read() as connection:
                query = sa.select(sa.func.count()).select_from(open_calls).where(open_calls.c.session == self.session.id)
                unfinished = connection.execute(query).scalar_one() > 0
        finally:
            self.session.close(keep=unfinished)

    # -- what the audit module and the journal ask for --------------------------------------------------------------------------------

    def commit(self, kind: str, subject: Mapping[str, str], predicate: Mapping[str, JSON], also: Also | None = None) -> Evidence:
        """Append one statement; `also` joins its transaction."""
        content = statement(subject, predicate_type(kind), checked(kind, predicate))
        envelope = seal_statement(content, key_id=self._key.key_id.hex(), sign=self._keyring.sign)
        entry = Entry.of(kind, envelope)
        leaf = entry.encode()
        with self._lock:
            size = len(self._tree)
            try:
                with self._store.write() as connection:
                    self._catch_up(connection)
                    size = index = len(self._tree)
                    self._tree.append(leaf_hash(leaf))
                    sealed = self._keyring.seal(envelope, purpose="evidence", name=str(index))
                    connection.execute(leaves.insert().values(idx=index, leaf=leaf, sealed=sealed))
                    self._set_head(connection)
                    if also is not None:
                        also(connection, index)
            except BaseException:
                self._tree.truncate(min(size, len(self._tree)))
                raise
            hashed = self._tree.node(0, index)
            if kind != "predict" and predicate.get("phase") == "outcome":
                self.confirm(str(predicate["call"]))
            self._publish()
        return Evidence(index, hashed.hex(), kind, content)

    def entry(self, index: int) -> Evidence:
        """The evidence at `index`, checked."""
        with self._lock, self._store.read() as connection:
            self._catch_up(connection)
            row = connection.execute(sa.select(leaves).where(leaves.c.idx == index)).one_or_none()
        if row is None:
            raise IntegrityError(f"Ledger entry {index} is missing from the table.")
        return self._evidence(index, self._entry(index, bytes(row.leaf)), bytes(row.sealed))

    def confirm(self, call_id: str) -> None:
        """Note that the outcome of a call is durable."""
        self._outcomes[call_id] = None
        if len(self._outcomes) > _REMEMBERED_OUTCOMES:
            self._outcomes.popitem(last=False)

    def seal_segment(self, path: Path) -> None:
        """Turn a journal segment's file into evidence, and remove it. A segment that is sealed already is only removed."""
        key = self._keyring.derive("journal")
        segment = read_segment(path, key)
        if segment is not None:
            with self._store.read() as connection:
                row = connection.execute(sa.select(journals).where(journals.c.journal == segment.journal)).one_or_none()
            expected = (row.segments, row.last + 1, row.chain) if row else (0, 1, genesis(key, segment.journal))
            if row is None or segment.number >= row.segments:
                if (segment.number, segment.first, segment.chain_start) != expected:
                    raise IntegrityError(f"Prediction journal {path.name} does not follow what was sealed before: lines are missing.")
                recovery.commit_segment(self, self._store, self._keyring, segment)
        path.unlink(missing_ok=True)

    def snapshot(self) -> tuple[bytes, list[tuple[bytes, bytes]], Tree]:
        """The signed checkpoint, each entry's leaf and envelope (checked), and the tree, all of one moment."""
        with self._lock, self._store.read() as connection:
            self._catch_up(connection)
            note = bytes(connection.execute(sa.select(checkpoints.c.note).where(checkpoints.c.name == HEAD)).scalar_one())
            rows = connection.execute(sa.select(leaves).order_by(leaves.c.idx)).all()
            pairs = []
            for row in rows:
                entry, envelope = self._entry(row.idx, bytes(row.leaf)), self._envelope(row.idx, bytes(row.sealed))
                check_evidence(entry, envelope, f"The evidence of ledger entry {row.idx}", self._key)
                pairs.append((bytes(row.leaf), envelope))
            return note, pairs, self._tree

    # -- state ----------------------------------------------------------------------------------------------------------------------

    def _entry(self, index: int, leaf: bytes) -> Entry:
        if index >= len(self._tree) or leaf_hash(leaf) != self._tree.node(0, index):
            raise IntegrityError(f"Ledger entry {index} was changed in the table.")
        return Entry.decode(leaf, f"Ledger entry {index}")

    def _evidence(self, index: int, entry: Entry, sealed: bytes) -> Evidence:
        content = check_evidence(entry, self._envelope(index, sealed), f"The evidence of ledger entry {index}", self._key)
        return Evidence(index, self._tree.node(0, index).hex(), entry.kind, content)

    def _envelope(self, index: int, sealed: bytes) -> bytes:
        try:
            return self._keyring.open(sealed, purpose="evidence", name=str(index))
        except IntegrityError as error:
            raise IntegrityError(f"The sealed evidence of ledger entry {index} was changed.") from error

    def _set_head(self, connection: sa.Connection) -> None:
        """Sign the tree's state into the table."""
        text = Checkpoint(self._key.name, len(self._tree), self._tree.root()).text()
        note = signed_note(text, self._key, self._keyring.sign(text.encode()))
        connection.execute(checkpoints.update().where(checkpoints.c.name == HEAD).values(size=len(self._tree), note=note))

    def _head(self, connection: sa.Connection) -> tuple[Checkpoint, bytes]:
        note = connection.execute(sa.select(checkpoints.c.note).where(checkpoints.c.name == HEAD)).scalar_one_or_none()
        if note is None:
            raise IntegrityError("The ledger's table has lost its checkpoint.", hint="Restore the workspace from a backup.")
        try:
            return open_checkpoint(bytes(note), self._key), bytes(note)
        except IntegrityError as error:
            raise IntegrityError(f"The checkpoint in the ledger's table: {error.message}") from error

    def _catch_up(self, connection: sa.Connection) -> None:
        """Take in what other processes appended. The signed checkpoint vouches for it."""
        known = len(self._tree)
        query = sa.select(leaves.c.idx, leaves.c.leaf).where(leaves.c.idx >= known - 1).order_by(leaves.c.idx)
        rows = connection.execute(query).all()
        if known and (not rows or rows[0].idx != known - 1 or leaf_hash(bytes(rows[0].leaf)) != self._tree.node(0, known - 1)):
            raise IntegrityError(f"Ledger entry {known - 1} was changed or removed while the workspace was open.")
        fresh = rows[1:] if known else rows
        if not fresh:
            return
        try:
            self._extend([(row.idx, bytes(row.leaf)) for row in fresh], self._head(connection)[0])
        except IntegrityError:
            self._tree.truncate(known)
            raise

    def _extend(self, rows: list[tuple[int, bytes]], head: Checkpoint) -> None:
        before = len(self._tree)
        for index, leaf in rows:
            if index != len(self._tree):
                raise IntegrityError(f"Ledger entry {len(self._tree)} is missing from the table.")
            self._tree.append(leaf_hash(leaf))
        if head.size != len(self._tree):
            raise IntegrityError(
                f"The ledger's table has {len(self._tree)} entries, and its signed checkpoint {head.size}: entries were cut off or added."
            )
        if head.root != self._tree.root():
            raise IntegrityError(
                f"One of the ledger entries {before} to {head.size - 1} was changed in the table: they do not lead to the signed root."
            )

    def _check_everything(self) -> None:
        """Compare the table, its signed checkpoint and the published files; make them where the ledger is new."""
        with self._lock:
            with self._store.write() as connection:
                if self._is_new(connection):
                    connection.execute(checkpoints.insert().values(name=HEAD, size=0, note=b""))
                    self._set_head(connection)
                head = self._head(connection)[0]
                rows = [(row.idx, bytes(row.leaf)) for row in connection.execute(sa.select(leaves.c.idx, leaves.c.leaf).order_by(leaves.c.idx))]
                lag = self._check_published(head, rows)
                self._extend(rows, head)
                self._check_handed_out(connection)
            if lag is not None:
                self._publish()
                if lag:
                    self.recovered.append(f"Published {lag} ledger entries that a crash had kept from being published.")

    def _is_new(self, connection: sa.Connection) -> bool:
        empty = all(connection.execute(sa.select(table).limit(1)).first() is None for table in (leaves, checkpoints))
        if empty and self._store.files.exists(FOLDER + tiles.CHECKPOINT):
            raise IntegrityError("The ledger's table is empty, but a checkpoint was published: the table was lost.", hint="Restore a backup.")
        return empty

    def _check_published(self, head: Checkpoint, rows: list[tuple[int, bytes]]) -> int | None:
        """Compare the files with the table: None where they are level, else by how many entries the files lag."""
        if head.size == 0 and not rows and not self._store.files.exists(FOLDER + tiles.CHECKPOINT):
            return 0
        published, found = read_published(lambda name: self._store.files.read(FOLDER + name), self._key)
        size = min(head.size, len(rows))
        if published.size > size:
            raise IntegrityError(
                f"The ledger's table has {size} entries, and {published.size} were published: it was cut or put back to an earlier state.",
                hint="Restore the table from a newer backup.",
            )
        for (index, leaf), known in zip(rows, found, strict=False):
            if leaf != known:
                raise IntegrityError(f"Ledger entry {index} was changed in the table: it is not the one that was published.")
        return None if published.size == head.size else head.size - published.size

    def _check_handed_out(self, connection: sa.Connection) -> None:
        for row in connection.execute(sa.select(checkpoints).where(checkpoints.c.name != HEAD)):
            try:
                earlier = open_checkpoint(bytes(row.note), self._key)
            except IntegrityError as error:
                raise IntegrityError(f"The recorded checkpoint '{row.name}': {error.message}") from error
            if earlier.size > len(self._tree) or self._tree.root(earlier.size) != earlier.root:
                raise IntegrityError(f"The recorded checkpoint '{row.name}' is of another ledger than this one.")

    def _publish(self) -> None:
        """Write the tiles and the checkpoint that the files lack. Publishers go one after the other, under the write lock."""
        files = self._store.files
        with self._store.write() as connection:
            self._catch_up(connection)
            head, note = self._head(connection)
            before = 0
            if files.exists(FOLDER + tiles.CHECKPOINT):
                before = open_checkpoint(files.read(FOLDER + tiles.CHECKPOINT), self._key).size
                if before >= head.size:
                    return
            wanted = list(tiles.tiles_of(head.size, before))
            for tile in wanted:
                files.write(FOLDER + tile.path, self._tile(connection, tile))
            files.write(FOLDER + tiles.CHECKPOINT, note)
            # The incomplete tiles that these replace; nothing refers to them any more.
            for tile in tiles.tiles_of(before):
                if tile.width < tiles.WIDTH and any((tile.level, tile.index) == (new.level, new.index) for new in wanted):
                    files.delete(FOLDER + tile.path)

    def _tile(self, connection: sa.Connection, tile: tiles.Tile) -> bytes:
        if tile.level is not None:
            return tiles.tile_bytes(self._tree, tile)
        first = tile.index * tiles.WIDTH
        query = sa.select(leaves.c.leaf).where(leaves.c.idx >= first, leaves.c.idx < first + tile.width).order_by(leaves.c.idx)
        return tiles.encode_entries([bytes(leaf) for leaf in connection.execute(query).scalars()])


def open_ledger(store: Store, keyring: Keyring) -> SqlLedger:
    """Open the ledger of a workspace, check it whole, and finish what a crash left behind.

    Calls whose process died get an outcome with the status ``interrupted``; its journal lines are sealed. What another living process, or
    a process on another machine, has under way is left alone.

    Raises
    ------
    IntegrityError
        An entry, a tile, a checkpoint or a journal line was changed, removed or put back; the message names it.
    """
    ledger = SqlLedger(store, keyring)
    try:
        recovery.finish_dead_sessions(ledger, store)
    except BaseException:
        ledger.session.close(keep=False)
        raise
    return ledger
