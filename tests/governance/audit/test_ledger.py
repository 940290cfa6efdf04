"""The ledger: appends, concurrency, recovery, and everything that must not be changed behind its back."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from audit_workspace import add_plugins, announce, finish, open_small, predicate_of

from affidavit.errors import AffidavitError, IntegrityError, PluginError, UsageError
from affidavit_governance.audit.ledger import open_ledger
from affidavit_governance.audit.merkle import Tree, leaf_hash
from affidavit_governance.audit.story import call_digest
from affidavit_governance.audit.tables import checkpoints, leaves
from affidavit_governance.audit.verify import verify_bundle

Opener = Callable[[], SimpleNamespace]


def shut(workspace: SimpleNamespace) -> None:
    workspace.ledger.close()
    workspace.store.close()


def test_entries_come_back_in_order_with_their_leaf_hashes(opened: Opener) -> None:
    workspace = opened()
    add_plugins(workspace, 3)
    announce(workspace, "a" * 32)
    finish(workspace, "a" * 32)
    entries = list(workspace.ledger.entries())
    assert [entry.index for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry.kind for entry in workspace.ledger.entries("register")] == ["register", "register"]
    assert [entry.predicate["plugins"][0]["number"] for entry in entries[:3]] == [0, 1, 2]
    with workspace.store.read() as connection:
        stored = [leaf_hash(bytes(leaf)).hex() for leaf in connection.execute(sa.select(leaves.c.leaf).order_by(leaves.c.idx)).scalars()]
    assert [entry.leaf_hash for entry in entries] == stored


def test_a_ledger_reopens_with_everything_and_nothing_to_mend(opened: Opener) -> None:
    first = opened()
    add_plugins(first, 5)
    shut(first)
    second = opened()
    assert len(second.ledger) == 5
    assert second.ledger.recovered == []


def test_the_published_ledger_verifies_with_the_key_alone(opened: Opener, tmp_path: Path) -> None:
    workspace = opened()
    for size in (0, 1, 2, 255, 256, 257):
        workspace.ledger._publish, publish = (lambda: None), workspace.ledger._publish  # one publication a size keeps the test quick
        add_plugins(workspace, size - len(workspace.ledger))
        workspace.ledger._publish = publish
        publish()
        report = verify_bundle(tmp_path / "ws", workspace.keyring.verifier_key)
        assert report.ok
        assert report.counts["size"] == size


def test_publishing_at_every_step_leaves_exactly_the_tiles_of_the_tree(opened: Opener) -> None:
    from affidavit_governance.audit import tiles

    workspace = opened()
    workspace.ledger._publish, publish = (lambda: None), workspace.ledger._publish
    add_plugins(workspace, 250)
    workspace.ledger._publish = publish
    for _ in range(10):
        add_plugins(workspace)
        expected = {f"ledger/{tile.path}" for tile in tiles.tiles_of(len(workspace.ledger))} | {"ledger/checkpoint"}
        assert set(workspace.store.files.list("ledger/")) == expected


def test_another_key_does_not_verify_the_published_ledger(opened: Opener, tmp_path: Path) -> None:
    workspace = opened()
    add_plugins(workspace)
    other = open_small(tmp_path / "other")
    with pytest.raises(IntegrityError, match="no signature of the key"):
        verify_bundle(tmp_path / "ws", other.keyring.verifier_key)
    shut(other)


def test_a_predicate_that_does_not_fit_its_schema_is_refused_and_leaves_nothing(opened: Opener) -> None:
    workspace = opened()
    subject = {"x": "ab" * 32}
    with pytest.raises(UsageError, match="Did you mean 'plugin'"):
        workspace.ledger.append("plugins", subject=subject, predicate={})
    with pytest.raises(PluginError, match="plugins"):
        workspace.ledger.append("plugin", subject=subject, predicate={"refused": []})
    with pytest.raises(PluginError, match=r"plugin\.refused\[0\]"):
        workspace.ledger.append("plugin", subject=subject, predicate={"plugins": [], "refused": [object()]})
    with pytest.raises(PluginError, match="details"):
        workspace.ledger.commit("promote", subject, predicate_of(workspace, "a" * 32, "outcome", "done", details={"version": "m:1"}))
    assert len(workspace.ledger) == 0


def test_numbers_that_json_lacks_are_written_as_text(opened: Opener) -> None:
    import numpy as np

    workspace = opened()
    row = {"nan": float("nan"), "inf": np.float64("-inf"), "count": np.int64(3), "yes": np.bool_(True)}
    workspace.ledger.append("plugin", subject={"x": "ab" * 32}, predicate={"plugins": [row], "refused": []})
    (entry,) = workspace.ledger.entries()
    assert entry.predicate["plugins"] == [{"nan": "NaN", "inf": "-Infinity", "count": 3, "yes": True}]


def test_a_call_has_one_outcome(opened: Opener) -> None:
    workspace = opened()
    announce(workspace, "a" * 32)
    finish(workspace, "a" * 32)
    for call in ("a" * 32, "b" * 32):
        with pytest.raises(IntegrityError, match="has an outcome already, or was never announced"):
            finish(workspace, call)
    assert len(workspace.ledger) == 2
    add_plugins(workspace)  # the failed transactions left the tree in memory as it was


def test_threads_and_processes_append_without_losing_or_doubling_an_entry(opened: Opener, tmp_path: Path) -> None:
    workspace = opened()
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from audit_workspace import open_small, add_plugins; "
        "w = open_small(sys.argv[1]); add_plugins(w, 8); w.ledger.close(); w.store.close()"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "ws"), str(Path(__file__).parent)]) for _ in range(2)]
    threads = [threading.Thread(target=add_plugins, args=(workspace, 8)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait(60) for child in children] == [0, 0]
    assert [entry.index for entry in workspace.ledger.entries()] == list(range(40))
    assert verify_bundle(tmp_path / "ws", workspace.keyring.verifier_key).counts["size"] == 40


def test_a_ledger_opened_before_a_fork_is_refused_in_the_child(opened: Opener) -> None:
    workspace = opened()

    def child(pipe: multiprocessing.connection.Connection) -> None:
        try:
            workspace.ledger.journal.record("a" * 32, "m", None, "i", "o", 1)
            pipe.send("written")
        except AffidavitError as error:
            pipe.send(str(error))
        workspace.ledger.close()
        os._exit(0)

    parent_end, child_end = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(child_end,))
    process.start()
    assert "before a fork" in parent_end.recv()
    process.join()
    assert workspace.ledger.session._path.exists(), "the child must not close its parent's session"


# -- changed behind its back ---------------------------------------------------------------------------------------------------------


def change_leaf(workspace: SimpleNamespace, index: int, position: int) -> None:
    with workspace.store.write() as connection:
        leaf = bytearray(connection.execute(sa.select(leaves.c.leaf).where(leaves.c.idx == index)).scalar_one())
        leaf[position] ^= 1
        connection.execute(leaves.update().where(leaves.c.idx == index).values(leaf=bytes(leaf)))


@pytest.mark.parametrize("index", [0, 3, 6])
def test_a_changed_byte_of_an_entry_is_refused_naming_the_entry(opened: Opener, index: int) -> None:
    workspace = opened()
    add_plugins(workspace, 7)
    workspace.ledger.close()
    for position in range(0, 100, 9):
        change_leaf(workspace, index, position)
        with pytest.raises(IntegrityError, match=f"entry {index} was changed"):
            open_ledger(workspace.store, workspace.keyring)
        change_leaf(workspace, index, position)
    assert len(open_ledger(workspace.store, workspace.keyring)) == 7


def test_a_changed_entry_is_noticed_while_the_ledger_is_open(opened: Opener) -> None:
    workspace = opened()
    add_plugins(workspace, 3)
    change_leaf(workspace, 1, 20)
    with pytest.raises(IntegrityError, match="entry 1 was changed"):
        list(workspace.ledger.entries())
    change_leaf(workspace, 2, 20)
    with pytest.raises(IntegrityError, match="entry 2 was changed"):
        add_plugins(workspace)


def test_changed_evidence_is_refused_naming_its_entry(opened: Opener) -> None:
    workspace = opened()
    add_plugins(workspace, 3)
    with workspace.store.read() as connection:
        sealed = bytes(connection.execute(sa.select(leaves.c.sealed).where(leaves.c.idx == 1)).scalar_one())
    for position in range(0, len(sealed), 17):
        changed = bytearray(sealed)
        changed[position] ^= 0x10
        with workspace.store.write() as connection:
            connection.execute(leaves.update().where(leaves.c.idx == 1).values(sealed=bytes(changed)))
        with pytest.raises(IntegrityError, match="entry 1 was changed"):
            list(workspace.ledger.entries())


def test_evidence_is_sealed_and_the_rest_holds_nothing_of_it(opened: Opener, tmp_path: Path) -> None:
    workspace = opened()
    workspace.ledger.append("plugin", subject={"x": "ab" * 32}, predicate={"plugins": [{"name": "MARK-7431"}], "refused": []})
    shut(workspace)
    for path in (tmp_path / "ws").rglob("*"):
        assert not path.is_file() or b"MARK-7431" not in path.read_bytes(), path


def test_swapped_evidence_is_refused(opened: Opener) -> None:
    workspace = opened()
    add_plugins(workspace, 2)
    with workspace.store.write() as connection:
        sealed = connection.execute(sa.select(leaves.c.sealed).order_by(leaves.c.idx)).scalars().all()
        for index in (0, 1):
            connection.execute(leaves.update().where(leaves.c.idx == index).values(sealed=bytes(sealed[1 - index])))
    with pytest.raises(IntegrityError, match="entry 0 was changed"):
        list(workspace.ledger.entries())


def rows_of(workspace: SimpleNamespace) -> list[dict[str, object]]:
    with workspace.store.read() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(leaves).order_by(leaves.c.idx))]


@pytest.mark.parametrize("attack", ["cut the last", "cut the first", "cut the middle", "reorder", "cut all", "add one"])
def test_cut_or_reordered_entries_are_refused(opened: Opener, attack: str) -> None:
    workspace = opened()
    add_plugins(workspace, 5)
    workspace.ledger.close()
    with workspace.store.write() as connection:
        rows = [dict(row._mapping) for row in connection.execute(sa.select(leaves).order_by(leaves.c.idx))]
        connection.execute(leaves.delete())
        kept = {
            "cut the last": rows[:-1], "cut the first": rows[1:], "cut the middle": rows[:2] + rows[3:], "cut all": [],
            "reorder": [{**row, "idx": 4 - int(row["idx"])} for row in rows], "add one": [*rows, {**rows[0], "idx": 5}],
        }[attack]  # fmt: skip
        if kept:
            connection.execute(leaves.insert(), kept)
    with pytest.raises(IntegrityError, match="entr"):
        open_ledger(workspace.store, workspace.keyring)


def test_a_table_put_back_to_an_earlier_state_with_its_own_checkpoint_is_refused(opened: Opener) -> None:
    workspace = opened()
    add_plugins(workspace, 3)
    with workspace.store.read() as connection:
        earlier_head = dict(connection.execute(sa.select(checkpoints)).one()._mapping)
    add_plugins(workspace, 2)
    workspace.ledger.close()
    with workspace.store.write() as connection:
        connection.execute(leaves.delete().where(leaves.c.idx >= 3))
        connection.execute(checkpoints.update().values(size=3, note=earlier_head["note"]))
    with pytest.raises(IntegrityError, match="has 3 entries, and 5 were published"):
        open_ledger(workspace.store, workspace.keyring)


def test_a_table_emptied_whole_is_refused(opened: Opener) -> None:
    workspace = opened()
    add_plugins(workspace, 3)
    workspace.ledger.close()
    with workspace.store.write() as connection:
        connection.execute(leaves.delete())
        connection.execute(checkpoints.delete())
    with pytest.raises(IntegrityError, match="table is empty"):
        open_ledger(workspace.store, workspace.keyring)


def test_each_published_file_that_is_changed_or_lost_is_refused_naming_it(opened: Opener) -> None:
    workspace = opened()
    workspace.ledger._publish, publish = (lambda: None), workspace.ledger._publish
    add_plugins(workspace, 260)
    publish()
    workspace.ledger.close()
    files = workspace.store.files
    names = files.list("ledger/")
    assert len(names) == 6
    for name in names:
        content = files.read(name)
        for position in {0, len(content) // 2, len(content) - 1}:
            changed = bytearray(content)
            changed[position] ^= 4
            files.write(name, bytes(changed))
            with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
                open_ledger(workspace.store, workspace.keyring)
        files.delete(name)
        with pytest.raises(IntegrityError, match="checkpoint" if name.endswith("checkpoint") else name.replace(".", r"\.")):
            open_ledger(workspace.store, workspace.keyring)
        files.write(name, content)
    assert len(open_ledger(workspace.store, workspace.keyring)) == 260


def test_published_entries_and_hashes_that_were_changed_together_do_not_fit_the_checkpoint(opened: Opener, tmp_path: Path) -> None:
    from affidavit_governance.audit.tiles import decode_entries, encode_entries

    workspace = opened()
    add_plugins(workspace, 3)
    files = workspace.store.files
    entries = decode_entries(files.read("ledger/tile/entries/000.p/3"), "it")
    entries[1] = entries[0]
    files.write("ledger/tile/entries/000.p/3", encode_entries(entries))
    files.write("ledger/tile/0/000.p/3", b"".join(map(leaf_hash, entries)))
    with pytest.raises(IntegrityError, match="ledger/checkpoint signs another root"):
        verify_bundle(tmp_path / "ws", workspace.keyring.verifier_key)


def test_an_entry_that_was_changed_before_it_was_published_is_refused(opened: Opener) -> None:
    workspace = opened()
    add_plugins(workspace, 2)
    workspace.ledger._publish = lambda: None
    add_plugins(workspace, 2)
    workspace.ledger.close()
    change_leaf(workspace, 3, 30)
    with pytest.raises(IntegrityError, match="do not lead to the signed root"):
        open_ledger(workspace.store, workspace.keyring)


def test_the_checkpoint_in_the_table_is_checked_too(opened: Opener) -> None:
    workspace = opened()
    add_plugins(workspace, 2)
    workspace.ledger.close()
    with workspace.store.write() as connection:
        note = bytearray(connection.execute(sa.select(checkpoints.c.note)).scalar_one())
        note[-10] ^= 1
        connection.execute(checkpoints.update().values(note=bytes(note)))
    with pytest.raises(IntegrityError, match="checkpoint in the ledger's table"):
        open_ledger(workspace.store, workspace.keyring)


# -- crashes -------------------------------------------------------------------------------------------------------------------------


def test_entries_that_were_committed_and_not_published_are_published_at_the_next_open(opened: Opener, tmp_path: Path) -> None:
    workspace = opened()
    add_plugins(workspace, 2)
    workspace.ledger._publish = lambda: None
    add_plugins(workspace, 3)
    workspace.ledger.close()
    again = open_ledger(workspace.store, workspace.keyring)
    assert any("Published 3 ledger entries" in line for line in again.recovered)
    assert verify_bundle(tmp_path / "ws", workspace.keyring.verifier_key).counts["size"] == 5
    again.close()


def test_a_failed_publication_is_an_error_and_the_entry_is_kept(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened()
    add_plugins(workspace)

    def full(name: str, data: bytes) -> None:
        raise AffidavitError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(workspace.store.files, "write", full)
        with pytest.raises(AffidavitError, match="disk full"):
            add_plugins(workspace)
    assert len(workspace.ledger) == 2
    add_plugins(workspace)
    workspace.ledger.close()
    assert open_ledger(workspace.store, workspace.keyring).recovered == []


def test_calls_of_a_living_process_are_left_alone_and_of_a_dead_one_are_ended(opened: Opener) -> None:
    living = opened()
    announce(living, "a" * 32)
    other = opened()
    assert other.ledger.recovered == []
    announce(other, "b" * 32, "promote")
    os.close(other.ledger.session._descriptor)  # what the operating system does when a process dies
    other.ledger._closed = True
    third = opened()
    assert third.ledger.recovered == ["Recorded that a promote call was interrupted: its process died in the middle."]
    (outcome,) = [entry for entry in third.ledger.entries() if entry.predicate["phase"] == "outcome"]
    assert (outcome.kind, outcome.predicate["status"], outcome.predicate["call"]) == ("promote", "interrupted", "b" * 32)
    finish(living, "a" * 32)
    assert opened().ledger.recovered == []


def test_a_clean_close_leaves_no_lock_and_an_open_call_is_ended_by_the_next_open(opened: Opener) -> None:
    first = opened()
    announce(first, "a" * 32)
    shut(first)
    second = opened()
    assert len(second.ledger.recovered) == 1
    shut(second)
    assert list((second.store.spool).glob("*")) == []


def write_until_killed(location: Path, pipe: multiprocessing.connection.Connection) -> None:
    """What a busy process does: calls, predictions and events, saying after each step what is durable."""
    workspace = open_small(location)
    pipe.send("open")
    while True:
        call = uuid.uuid4().hex
        announce(workspace, call)
        pipe.send("intent")
        workspace.ledger.journal.record(call, "m" * 64, "tiny:1", "i" * 64, "o" * 64, 1)
        pipe.send("line")
        finish(workspace, call)
        pipe.send("outcome")
        add_plugins(workspace)
        pipe.send("event")


def test_killing_the_writer_at_any_moment_leaves_a_ledger_that_opens_and_verifies(tmp_path: Path) -> None:
    source = random.Random(11)
    said: Counter[str] = Counter()
    for _ in range(12):
        parent_end, child_end = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=write_until_killed, args=(tmp_path / "ws", child_end))
        child.start()
        child_end.close()
        heard = [parent_end.recv() for _ in range(source.randint(1, 8))]
        time.sleep(source.random() * 0.01)
        child.kill()
        child.join()
        with contextlib.suppress(EOFError):
            while True:
                heard.append(parent_end.recv())
        said.update(heard)
        workspace = open_small(tmp_path / "ws")
        entries = list(workspace.ledger.entries())
        phases = [(entry.predicate["call"], entry.predicate["phase"]) for entry in entries if "phase" in entry.predicate]
        intents, outcomes = ({call for call, phase in phases if phase == wanted} for wanted in ("intent", "outcome"))
        assert intents == outcomes
        assert len(phases) == 2 * len(intents)
        found = {
            "line": sum(entry.predicate["journal"]["rows"] for entry in entries if entry.kind == "predict"),
            "event": sum(entry.kind == "plugin" for entry in entries),
            "intent": len(intents),
        }
        for what, count in found.items():
            assert said[what] <= count <= said[what] + 1, what  # it may have died between a step and saying so
            said[what] = count
        assert verify_bundle(tmp_path / "ws", workspace.keyring.verifier_key).counts["size"] == len(entries)
        shut(workspace)
    assert said["line"] > 5, "the children must have been killed while they worked"
    assert said["intent"] > said["outcome"], "some call must have been cut off"


def test_an_append_neither_rehashes_nor_rewrites_the_ledger(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    from affidavit_governance.audit import merkle

    workspace = opened()
    workspace.ledger._publish, publish = (lambda: None), workspace.ledger._publish
    add_plugins(workspace, 130)
    workspace.ledger._publish = publish
    add_plugins(workspace)
    hashed, written = [], []
    node_hash, write = merkle.node_hash, workspace.store.files.write
    monkeypatch.setattr(merkle, "node_hash", lambda *pair: hashed.append(pair) or node_hash(*pair))
    monkeypatch.setattr(workspace.store.files, "write", lambda name, data: written.append(name) or write(name, data))
    add_plugins(workspace)
    assert len(hashed) < 32
    assert written == ["ledger/tile/entries/000.p/132", "ledger/tile/0/000.p/132", "ledger/checkpoint"]
    publish()
    assert len(written) == 3, "there was nothing new to publish"


def test_the_tree_in_memory_is_the_tree_of_the_table(opened: Opener) -> None:
    workspace = opened()
    for _ in range(3):
        call = uuid.uuid4().hex
        announce(workspace, call)
        finish(workspace, call)
    assert workspace.ledger._tree.root() == Tree(leaf_hash(bytes(row["leaf"])) for row in rows_of(workspace)).root()
    assert call_digest("x") != call_digest("y")


def test_on_each_database_appends_reopen_and_verify(store_location: str) -> None:
    workspace = open_small(store_location)
    add_plugins(workspace, 3)
    announce(workspace, "a" * 32)
    workspace.ledger.journal.record("c" * 32, "m" * 64, None, "i" * 64, "o" * 64, 2)
    shut(workspace)
    again = open_small(store_location)
    assert [entry.kind for entry in again.ledger.entries()] == ["plugin"] * 3 + ["register", "predict", "register"]
    change_leaf(again, 1, 20)
    again.ledger.close()
    with pytest.raises(IntegrityError, match="entry 1 was changed"):
        open_ledger(again.store, again.keyring)
    again.store.close()
