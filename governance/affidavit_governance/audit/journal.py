"""The prediction journal: one line a call, written before the answer is given out, sealed into signed evidence in batches.

A segment is a file of fixed size, mapped into memory: a line is in the system's page cache as soon as it is copied, without a system call.
It survives the death of the process (kill −9) as soon as `Journal.record` returns. It is not synced to disk for each call, so the last lines
can be lost with power. Digests and the running chain are keyed BLAKE2b (RFC 7693), because small inputs could be guessed from a
plain digest. The chain shows changed, reordered and inserted lines; that the last unsealed lines were cut off before they were sealed
nobody can show.

A segment's file begins with ``affidavit-journal 1 <journal> <segment> <first counter> <chain>``; each line is ``counter time call model
version status rows input output chain``, the time in nanoseconds since 1970.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from affidavit.errors import AffidavitError, IntegrityError
from affidavit.interfaces.model import Predictions
from affidavit_governance.audit.evidence import rfc3339
from affidavit_governance.audit.session import Session

FORMAT = 1
SEAL_LINES = 1000
SEGMENT_BYTES = 1 << 20
"""About twice what 1000 lines take."""
SECTOR = 512
MAX_LINE = 4096
"""More than a line can have; a segment with less room left is full."""
SEAL_SECONDS = 60.0
ABSENT = "-"
_SUFFIX = ".journal"
_FIELDS = 10
_NEWLINE = 0x0A


@dataclass(frozen=True, slots=True)
class Segment:
    """The content of a segment's file.

    Attributes
    ----------
    data
        Its bytes, without a torn last line.
    lines
        The fields of each line.
    torn
        Whether the last line was cut short by a crash and left out.
    """

    journal: str
    number: int
    first: int
    chain_start: str
    chain_end: str
    data: bytes
    lines: list[list[str]]
    torn: bool

    def record(self) -> dict[str, Any]:
        """What the evidence says about it (`affidavit_governance.audit.evidence.SegmentRecord`)."""
        return {
            "id": self.journal,
            "segment": self.number,
            "first": self.first,
            "last": self.first + len(self.lines) - 1,
            "rows": sum(int(line[6]) for line in self.lines),
            "chain_start": self.chain_start,
            "chain_end": self.chain_end,
            "started": _moment(self.lines[0][1]),
            "finished": _moment(self.lines[-1][1]),
            "outcomes": dict(Counter(line[5] for line in self.lines)),
            "versions": dict(Counter(urllib.parse.unquote(line[4]) for line in self.lines)),
        }


@dataclass(frozen=True, slots=True)
class _SeenSchema:
    """The latest schema, so that the rows of one model after another need not write it out again.

    `keyed` is the digest's state after the schema; `dictionaries` says whether a column is dictionary-encoded.
    """

    schema: pa.Schema
    keyed: hashlib.blake2b
    dictionaries: bool


class Journal:
    """The journal of one process. Safe for threads.

    Parameters
    ----------
    folder
        Where segments stand until they are sealed.
    session
        Names the journal and says whether its process lives.
    key
        32 bytes for digests and chain.
    seal
        Turns a segment's file into evidence and removes it.
    """

    def __init__(self, folder: Path, session: Session, key: bytes, seal: Callable[[Path], None]) -> None:
        self._folder = folder
        self._session = session
        self._keyed = hashlib.blake2b(key=key, digest_size=32)
        self._seal_file = seal
        self._lock = threading.Lock()
        self._sealing = threading.Lock()
        self._descriptor = -1
        self._map: mmap.mmap | None = None
        self._path = folder
        self._waiting: list[Path] = []
        self._segment = self._counter = self._lines = self._bytes = 0
        self._since = 0.0
        self._chain = genesis(key, session.id)
        self._schema: _SeenSchema | None = None

    def record(
        self, call_id: str, model_digest: str, version: str | None, input_digest: str, output_digest: str, rows: int, status: str = "done"
    ) -> None:
        """Write the line of one call; seals what is due (1000 lines, or a line older than 60 s).

        Raises
        ------
        AffidavitError
            The line could not be written. The prediction must then not be given out.
        """
        with self._lock:
            if self._map is None:
                self._begin()
            counter = self._counter + 1
            body = f"{counter} {time.time_ns()} {call_id} {model_digest} {_quote(version)} {status} {rows} {input_digest} {output_digest}"
            chain = self._next(self._chain, body)
            self._write(f"{body} {chain}\n".encode("ascii"))
            self._counter, self._chain = counter, chain
            self._lines += 1
            full = self._bytes + MAX_LINE > SEGMENT_BYTES
            due = full or self._lines >= SEAL_LINES or time.monotonic() - self._since >= SEAL_SECONDS
            if due:
                self._end()
        if due:
            self._seal_waiting()

    def seal(self) -> None:
        """Seal all lines written so far."""
        self._session.check()
        with self._lock:
            self._end()
        self._seal_waiting()

    def input_digest(self, data: pa.Table, cells: Sequence[tuple[Any, ...]] | None = None) -> str:
        """Keyed digest of rows: column names and types, and the values, as `cells` where there are such and else in their Arrow IPC form.

        It is quick rather than canonical: the same values in other chunks' leftovers, or under other types, can give another digest.
        """
        seen = self._schema
        if seen is None or not data.schema.equals(seen.schema):
            seen = self._schema = self._of_schema(data.schema)
        digest = seen.keyed.copy()
        if cells is not None:
            digest.update(repr(cells).encode("utf-8", "surrogatepass"))
            return digest.hexdigest()
        if seen.dictionaries:
            # A record batch holds only the indices of dictionary columns; the stream carries the values too.
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, seen.schema) as writer:
                writer.write_table(data.replace_schema_metadata(None).combine_chunks())
            digest.update(sink.getvalue())
            return digest.hexdigest()
        batches = data.to_batches()
        for batch in batches if len(batches) < 2 else data.combine_chunks().to_batches():
            digest.update(batch.serialize())
        return digest.hexdigest()

    def output_digest(self, predictions: Predictions) -> str:
        """Keyed digest of a batch's answers: values, classes and probabilities."""
        digest = self._keyed.copy()
        values, probabilities = predictions.values, predictions.probabilities
        text = values.dtype.kind in "OUT"  # object and text arrays hold pointers or padding, so their values are written out
        labels = [*map(str, values.tolist())] if text else None
        digest.update(f"{values.dtype.str} {values.shape} {predictions.classes} {labels}".encode())
        if not text:
            digest.update(values.tobytes())
        if probabilities is not None:
            digest.update(f"{probabilities.dtype.str}{probabilities.shape}".encode())
            digest.update(probabilities.tobytes())
        return digest.hexdigest()

    def _of_schema(self, schema: pa.Schema) -> _SeenSchema:
        plain = schema.remove_metadata()
        keyed = self._keyed.copy()
        keyed.update(plain.serialize())
        return _SeenSchema(plain, keyed, any("dictionary<" in str(field.type) for field in plain))

    # -- the file -------------------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._session.check()
        path = self._folder / f"{self._session.id}-{self._segment:08d}{_SUFFIX}"
        header = f"affidavit-journal {FORMAT} {self._session.id} {self._segment} {self._counter + 1} {self._chain}\n"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                # Reserved, not only sized: writing to a mapped hole on a full disk would kill the process.
                os.posix_fallocate(descriptor, 0, SEGMENT_BYTES)
                self._map = mmap.mmap(descriptor, SEGMENT_BYTES)
            except OSError:
                os.close(descriptor)
                path.unlink()
                raise
        except OSError as error:
            message = f"The prediction journal cannot be written: {error.strerror}."
            raise AffidavitError(message, hint="The prediction was not given out. Check free space and permissions.") from error
        self._descriptor, self._path, self._bytes, self._lines, self._since = descriptor, path, 0, 0, time.monotonic()
        self._write(header.encode("ascii"))

    def _write(self, line: bytes) -> None:
        self._session.check()
        assert self._map is not None
        end = self._bytes + len(line) - 1
        self._map[self._bytes : end] = line[:-1]
        self._map[end] = _NEWLINE  # last, so that a line that ends is a whole line
        self._bytes = end + 1

    def _end(self) -> None:
        """Close the current segment and put it in the queue; the next line begins another."""
        if self._map is None:
            return
        self._map.close()
        self._map = None
        os.ftruncate(self._descriptor, self._bytes)
        os.close(self._descriptor)
        if self._lines:
            self._waiting.append(self._path)
            self._segment += 1
            self._lines = 0
        else:
            self._path.unlink()

    def _seal_waiting(self) -> None:
        with self._sealing:  # one after the other, so that segments reach the ledger in their order
            while self._waiting:
                self._seal_file(self._waiting[0])
                del self._waiting[0]

    def _next(self, chain: str, body: str) -> str:
        digest = self._keyed.copy()
        digest.update(f"{chain} {body}".encode("ascii"))
        return digest.hexdigest()


def genesis(key: bytes, journal: str) -> str:
    """The chain's value before the first line of a journal."""
    return hashlib.blake2b(f"affidavit-journal {FORMAT} {journal}".encode("ascii"), key=key, digest_size=32).hexdigest()


def left_behind(folder: Path, session: str) -> list[Path]:
    """The segments that a session has not sealed, in order."""
    return sorted(folder.glob(f"{session}-*{_SUFFIX}"))


def read_segment(path: Path, key: bytes) -> Segment | None:
    """Read a segment's file and check its counters and chain. None where a crash came before its first whole line.

    Raises
    ------
    IntegrityError
        A line was changed, removed or inserted; the message names file and line.
    """
    # The rest of a mapped file is zeros. After a loss of power so can be a sector in the middle, and what follows it is lost with it.
    whole = path.read_bytes()
    raw = whole.split(b"\0", 1)[0]
    if len(raw) % SECTOR and whole[len(raw) :].strip(b"\0"):
        raise IntegrityError(f"Prediction journal {path.name}, line {len(raw.splitlines())}, was changed: it is cut off.")
    data = raw[: raw.rfind(b"\n") + 1]
    lines = data.decode("ascii", "replace").split("\n")[:-1]
    if len(lines) < 2:
        return None
    header = lines[0].split(" ")
    if len(header) != 6 or header[0] != "affidavit-journal" or not (header[3] + header[4]).isdecimal():
        raise IntegrityError(f"Prediction journal {path.name}, line 1, was changed: it is no journal header.")
    if path.name != f"{header[2]}-{int(header[3]):08d}{_SUFFIX}":
        raise IntegrityError(f"Prediction journal {path.name}, line 1, was changed: it is the header of another file.")
    if header[1] != str(FORMAT):
        message = f"Prediction journal {path.name} has format {header[1]}; this Affidavit reads {FORMAT}."
        raise IntegrityError(message, hint="pip install -U affidavit")
    first, chain = int(header[4]), header[5]
    fields = []
    for number, line in enumerate(lines[1:]):
        body, _, claimed = line.rpartition(" ")
        split = line.split(" ")
        expected = hashlib.blake2b(f"{chain} {body}".encode(), key=key, digest_size=32).hexdigest()
        if len(split) != _FIELDS or split[0] != str(first + number) or claimed != expected:
            raise IntegrityError(f"Prediction journal {path.name}, line {number + 2}, was changed, or one before it was removed.")
        chain = claimed
        fields.append(split)
    return Segment(header[2], int(header[3]), first, header[5], chain, data, fields, torn=len(whole.rstrip(b"\0")) != len(data))


@lru_cache(maxsize=1024)
def _quote(version: str | None) -> str:
    return ABSENT if version is None else urllib.parse.quote(version, safe="@/:")


def _moment(nanoseconds: str) -> str:
    return rfc3339(datetime.fromtimestamp(int(nanoseconds) // 1000 / 1_000_000, UTC))
