"""The prediction journal: lines before answers, sealing, crashes, and lines that somebody changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from affidavit.errors import AffidavitError, IntegrityError
from affidavit.interfaces.model import Predictions
from affidavit_governance.audit import journal as journal_module
from affidavit_governance.audit.journal import SEGMENT_BYTES, read_segment
from affidavit_governance.audit.ledger import open_ledger
from affidavit_governance.audit.recovery import read_stored_segment

Opener = Callable[[], SimpleNamespace]


def write(workspace: SimpleNamespace, count: int, rows: int = 1) -> None:
    for _ in range(count):
        workspace.ledger.journal.record("c" * 32, "m" * 64, "credit risk:3", "i" * 64, "o" * 64, rows)


def segments(workspace: SimpleNamespace) -> list[dict[str, object]]:
    return [dict(entry.predicate["journal"]) for entry in workspace.ledger.entries("predict")]


def die(workspace: SimpleNamespace) -> None:
    """Give back what the operating system gives back when a process dies, and nothing else."""
    os.close(workspace.ledger.session._descriptor)
    workspace.ledger._closed = True


def spooled(workspace: SimpleNamespace) -> Path:
    (path,) = workspace.store.spool.glob("*.journal")
    return Path(path)


def written(path: Path) -> bytes:
    """What a segment's file holds before the zeros of its free room."""
    return path.read_bytes().rstrip(b"\0")


def test_a_line_is_in_the_file_when_record_returns(opened: Opener) -> None:
    workspace = opened()
    write(workspace, 3)
    lines = written(spooled(workspace)).decode().splitlines()
    assert [line.split(" ")[0] for line in lines[1:]] == ["1", "2", "3"]
    assert lines[1].split(" ")[2:9] == ["c" * 32, "m" * 64, "credit%20risk:3", "done", "1", "i" * 64, "o" * 64]


def test_sealing_turns_lines_into_signed_evidence_and_keeps_the_lines_sealed(opened: Opener) -> None:
    workspace = opened()
    write(workspace, 3, rows=5)
    text = written(spooled(workspace))
    workspace.ledger.seal_journals()
    (entry,) = workspace.ledger.entries("predict")
    record = entry.predicate["journal"]
    assert (record["segment"], record["first"], record["last"], record["rows"]) == (0, 1, 3, 15)
    assert record["versions"] == {"credit risk:3": 3}
    digest = entry.statement["subject"][0]["digest"]["sha256"]
    assert read_stored_segment(workspace.store, workspace.keyring, digest) == text
    assert b"credit" not in workspace.store.files.read(f"journal/{digest}")
    assert list(workspace.store.spool.glob("*.journal")) == []


def test_a_thousand_lines_seal_themselves_and_the_next_segment_goes_on(opened: Opener) -> None:
    workspace = opened()
    write(workspace, 2001)
    workspace.ledger.seal_journals()
    found = segments(workspace)
    assert [(part["segment"], part["first"], part["last"]) for part in found] == [(0, 1, 1000), (1, 1001, 2000), (2, 2001, 2001)]
    assert [part["chain_start"] for part in found[1:]] == [part["chain_end"] for part in found[:-1]]


def test_a_line_older_than_a_minute_is_sealed_with_the_next_call(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened()
    now = 1000.0
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: now)
    write(workspace, 1)
    now = 1059.0
    write(workspace, 1)
    assert segments(workspace) == []
    now = 1061.0
    write(workspace, 1)
    assert [part["last"] for part in segments(workspace)] == [3]


def test_closing_seals(opened: Opener) -> None:
    workspace = opened()
    write(workspace, 2)
    workspace.ledger.close()
    again = open_ledger(workspace.store, workspace.keyring)
    assert [entry.predicate["journal"]["last"] for entry in again.entries("predict")] == [2]
    again.close()


def test_the_lines_of_a_dead_process_are_sealed_at_the_next_open(opened: Opener) -> None:
    dead = opened()
    write(dead, 3)
    dead.ledger.seal_journals()
    write(dead, 4)
    die(dead)
    alive = opened()
    assert alive.ledger.recovered == ["Sealed the prediction journal of a process that died."]
    assert [(part["first"], part["last"]) for part in segments(alive)] == [(1, 3), (4, 7)]
    assert opened().ledger.recovered == []


def test_a_living_process_keeps_its_journal(opened: Opener) -> None:
    first = opened()
    write(first, 2)
    second = opened()
    assert second.ledger.recovered == []
    write(first, 1)
    first.ledger.seal_journals()
    assert [part["last"] for part in segments(second)] == [3]


@pytest.mark.parametrize("tail", [b"4 1700000000 cccc", b"\0" * 4096, b"4 17\0\0\0"])
def test_a_torn_last_line_is_left_out_and_said(opened: Opener, tail: bytes) -> None:
    dead = opened()
    write(dead, 3)
    path = spooled(dead)
    path.write_bytes(written(path) + tail)
    die(dead)
    alive = opened()
    assert [part["last"] for part in segments(alive)] == [3]
    assert ("cut short" in alive.ledger.recovered[0]) is (tail.strip(b"\0") != b"")


def test_a_crash_before_the_first_line_leaves_nothing(opened: Opener) -> None:
    dead = opened()
    write(dead, 1)
    path = spooled(dead)
    path.write_bytes(path.read_bytes().split(b"\n")[0][:20])
    die(dead)
    assert segments(opened()) == []


def test_a_segment_that_was_sealed_before_the_crash_is_not_sealed_twice(opened: Opener) -> None:
    dead = opened()
    write(dead, 3)
    path = spooled(dead)
    content = path.read_bytes()
    dead.ledger.seal_journals()
    path.write_bytes(content)  # the crash came between the commit and the removal of the file
    die(dead)
    alive = opened()
    assert [part["last"] for part in segments(alive)] == [3]
    assert not path.exists()


def test_every_changed_byte_of_an_unsealed_journal_is_refused_naming_it(opened: Opener) -> None:
    dead = opened()
    write(dead, 2)
    path = spooled(dead)
    content = written(path)
    die(dead)
    key = dead.keyring.derive("journal")
    for position in range(len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 7
        path.write_bytes(bytes(changed))
        with pytest.raises(IntegrityError, match=path.name):
            journal_module.read_segment(path, key)
    path.write_bytes(content)
    dead.ledger.seal_segment(path)
    assert [part["last"] for part in segments(dead)] == [2]


@pytest.mark.parametrize("attack", ["remove the first", "remove the middle", "swap", "repeat"])
def test_removed_swapped_or_repeated_lines_are_refused(opened: Opener, attack: str) -> None:
    dead = opened()
    write(dead, 4)
    path = spooled(dead)
    head, *lines = written(path).splitlines(keepends=True)
    changed = {
        "remove the first": lines[1:], "remove the middle": lines[:1] + lines[2:],
        "swap": [lines[1], lines[0], *lines[2:]], "repeat": [*lines, lines[-1]],
    }[attack]  # fmt: skip
    path.write_bytes(head + b"".join(changed))
    die(dead)
    with pytest.raises(IntegrityError, match=r"line [0-9]+, was changed"):
        opened()


def test_a_lost_segment_is_refused(opened: Opener) -> None:
    dead = opened()
    write(dead, 1000 - 1)
    dead.ledger.journal._seal_waiting = lambda: None
    write(dead, 2)
    first, second = sorted(dead.store.spool.glob("*.journal"))
    assert second.name.endswith("00000001.journal")
    first.unlink()
    die(dead)
    with pytest.raises(IntegrityError, match="lines are missing"):
        opened()


def test_threads_share_one_journal_without_a_gap(opened: Opener) -> None:
    workspace = opened()
    threads = [threading.Thread(target=write, args=(workspace, 600)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    workspace.ledger.seal_journals()
    found = segments(workspace)
    assert [part["segment"] for part in found] == list(range(len(found)))
    assert sum(int(str(part["rows"])) for part in found) == 2400


def test_a_full_disk_withholds_the_prediction_and_keeps_the_journal_whole(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened()
    write(workspace, 1)
    workspace.ledger.seal_journals()
    with monkeypatch.context() as patch:

        def refuse(descriptor: int, offset: int, size: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(AffidavitError, match="No space left"):
            write(workspace, 1)
    assert list(workspace.store.spool.glob("*.journal")) == []
    write(workspace, 1)
    workspace.ledger.seal_journals()
    assert [part["last"] for part in segments(workspace)] == [1, 2]


def test_a_segments_room_is_reserved_on_the_disk_when_it_begins(opened: Opener) -> None:
    workspace = opened()
    write(workspace, 1)
    (path,) = workspace.store.spool.glob("*.journal")
    assert path.stat().st_blocks * 512 >= SEGMENT_BYTES


def test_a_segment_without_room_for_another_line_is_sealed(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affidavit_governance.audit.journal.SEGMENT_BYTES", 3 * 4096)
    workspace = opened()
    write(workspace, 60)
    workspace.ledger.seal_journals()
    found = segments(workspace)
    assert len(found) > 1
    assert [part["first"] for part in found[1:]] == [int(str(part["last"])) + 1 for part in found[:-1]]
    assert found[-1]["last"] == 60


@pytest.mark.parametrize("damage", ["half a line", "a sector of zeros"])
def test_what_a_crash_left_half_written_is_not_read(opened: Opener, damage: str) -> None:
    workspace = opened()
    write(workspace, 6)
    path = spooled(workspace)
    content = bytearray(path.read_bytes())
    used = len(written(path))
    if damage == "half a line":  # the copy of the last line was cut short: its newline is not there
        content[used - 100 : used] = bytes(100)
    else:  # power went before a sector reached the disk
        content[1024:1536] = bytes(512)
    path.write_bytes(bytes(content))
    segment = read_segment(path, workspace.keyring.derive("journal"))
    assert segment is not None
    assert segment.torn
    assert 0 < len(segment.lines) < 6
    assert segment.data == written(path)[: len(segment.data)]


def test_a_failed_sealing_is_made_up_for_by_the_next(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened()
    write(workspace, 2)

    def full(name: str, data: bytes) -> None:
        raise AffidavitError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(workspace.store.files, "write", full)
        with pytest.raises(AffidavitError, match="disk full"):
            workspace.ledger.seal_journals()
    write(workspace, 1)
    workspace.ledger.seal_journals()
    assert [(part["first"], part["last"]) for part in segments(workspace)] == [(1, 2), (3, 3)]


def test_input_digests_tell_values_names_types_and_nulls_apart_and_are_keyed(opened: Opener, tmp_path: Path) -> None:
    journal = opened().ledger.journal
    base = pa.table({"a": pa.array([1, 2]), "b": pa.array(["x", "y"])})
    other_tables = [
        pa.table({"a": pa.array([1, 3]), "b": pa.array(["x", "y"])}),
        pa.table({"a": pa.array([1, None]), "b": pa.array(["x", "y"])}),
        pa.table({"c": pa.array([1, 2]), "b": pa.array(["x", "y"])}),
        pa.table({"a": pa.array([1, 2], pa.int32()), "b": pa.array(["x", "y"])}),
        pa.table({"a": pa.array([1, 2]), "b": pa.array(["x", "y"]).dictionary_encode()}),
        pa.table({"a": pa.array([1, 2]), "b": pa.array(["x", "z"]).dictionary_encode()}),
        base.slice(0, 1),
        base.slice(0, 0),
    ]
    digests = [journal.input_digest(table) for table in [base, *other_tables]]
    assert len(set(digests)) == len(digests)
    assert journal.input_digest(pa.concat_tables([base.slice(0, 1), base.slice(1, 1)])) == digests[0]
    from audit_workspace import open_small

    other = open_small(tmp_path / "other")
    assert other.ledger.journal.input_digest(base) != digests[0]
    other.ledger.close()
    other.store.close()


def test_output_digests_tell_answers_apart(opened: Opener) -> None:
    journal = opened().ledger.journal
    answers = [
        Predictions(np.array([0.5, 1.0])),
        Predictions(np.array([0.5, 1.5])),
        Predictions(np.array(["a", "b"], dtype=object), ("a", "b")),
        Predictions(np.array(["a", "a"], dtype=object), ("a", "b")),
        Predictions(np.array(["a", "b"]), ("a", "b")),
        Predictions(np.array(["a", "b"], dtype=object), ("a", "b"), np.array([[0.5, 0.5], [0.4, 0.6]])),
        Predictions(np.array(["a", "b"], dtype=object), ("a", "b"), np.array([[0.5, 0.5], [0.6, 0.4]])),
        Predictions(np.array([], dtype=object), ("a", "b")),
    ]
    digests = [journal.output_digest(each) for each in answers]
    assert len(set(digests)) == len(digests)
    assert [journal.output_digest(each) for each in answers] == digests
