"""Small atomic files: one contract for a folder and for a SQL table, and what happens when the disk fails."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affidavit.errors import AffidavitError, UsageError
from affidavit.store import FolderFiles, SqlFiles, Store, files, write_atomic

PARTS = st.text("abcXYZ019._=@+-", min_size=1, max_size=6).filter(lambda part: part[0] != ".")


def test_the_folder_and_the_table_are_used_where_they_should_be(store: Store, store_location: str) -> None:
    assert isinstance(store.files, SqlFiles if store_location.startswith("postgresql") else FolderFiles)


def test_what_is_written_can_be_read_listed_replaced_and_deleted(store: Store) -> None:
    store.files.write("ledger/tile/0/000", b"one")
    store.files.write("ledger/checkpoint", b"")
    store.files.write("policy.json", b"two")
    store.files.write("policy.json", bytes(range(256)))
    assert store.files.read("policy.json") == bytes(range(256))
    assert store.files.read("ledger/checkpoint") == b""
    assert store.files.list() == ["ledger/checkpoint", "ledger/tile/0/000", "policy.json"]
    assert store.files.list("ledger/") == store.files.list("ledger") == ["ledger/checkpoint", "ledger/tile/0/000"]
    assert store.files.list("ledger/t") == ["ledger/tile/0/000"]
    assert store.files.list("nothing/") == []
    assert store.files.exists("policy.json")
    store.files.delete("policy.json")
    store.files.delete("policy.json")
    assert not store.files.exists("policy.json")
    with pytest.raises(KeyError, match=r"policy\.json"):
        store.files.read("policy.json")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(PARTS, st.binary(max_size=30), max_size=6), PARTS)
def test_listing_by_prefix_agrees_with_a_dictionary(store: Store, contents: dict[str, bytes], prefix: str) -> None:
    for name in store.files.list():
        store.files.delete(name)
    for name, data in contents.items():
        store.files.write(name, data)
    assert {name: store.files.read(name) for name in store.files.list()} == contents
    assert store.files.list(prefix) == sorted(name for name in contents if name.startswith(prefix))


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", ".", "..", ".hidden", "a/.tmp/b", "a\\b", "a\0b", "a b", "é", "x" * 300, "a/", "a\n"]
)
def test_names_that_could_leave_the_folder_are_refused(store: Store, name: str) -> None:
    for action in (store.files.read, store.files.exists, store.files.delete, lambda name: store.files.write(name, b"")):
        with pytest.raises(UsageError, match="is no name for a stored file"):
            action(name)
    assert store.files.list() == []


def test_a_folder_in_the_place_of_a_file_is_absent_and_cannot_be_written_over(tmp_path: Path) -> None:
    folder = FolderFiles(tmp_path)
    folder.write("a/b", b"1")
    with pytest.raises(KeyError):
        folder.read("a")
    with pytest.raises(KeyError):
        folder.read("a/b/c")
    assert not folder.exists("a")
    for name in ("a", "a/b/c"):
        with pytest.raises(AffidavitError, match="could not be written"):
            folder.write(name, b"2")
    assert folder.list() == ["a/b"]


def test_files_and_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store:
        store.files.write("a/b", b"1")
        paths = [tmp_path / "ws", tmp_path / "ws/files/a", tmp_path / "ws/files/a/b", store.spool]
        assert [oct(stat.S_IMODE(path.stat().st_mode) & 0o077) for path in paths] == ["0o0"] * 4


def test_readers_see_the_old_or_the_new_content_while_it_is_replaced(store: Store) -> None:
    contents = {bytes([value]) * 200_000 for value in range(4)}
    store.files.write("value", next(iter(contents)))
    stop = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(store.files.read("value"))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1000):
        for content in contents:
            store.files.write("value", content)
        if number >= 10 and len(seen) > 1:  # on a busy machine the reader may get no turn for a while
            break
    stop.set()
    reader.join()
    assert seen <= contents
    assert len(seen) > 1


# -- failing disks ---------------------------------------------------------------------------------------------------------------------


def full(*_: Any, **__: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half(write: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
    """Write a little, then find the disk full."""
    state = {"left": 1}

    def limited(descriptor: int, data: Any) -> int:
        if not state["left"]:
            return full()
        state["left"] -= 1
        return write(descriptor, data[:10])

    return limited


def test_content_and_folder_entry_are_synced_before_a_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill does not show this, only a loss of power would: so look at the calls."""
    folder = FolderFiles(tmp_path)
    calls: list[tuple[str, str]] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (calls.append(("sync", os.readlink(f"/proc/self/fd/{fd}"))), sync(fd)))  # noqa: PTH115  # a descriptor's name
    monkeypatch.setattr(Path, "replace", lambda path, target: (calls.append(("replace", str(target))), replace(path, target)))
    folder.write("a/b", b"1")
    parent = str(tmp_path)
    assert calls[0] == ("sync", parent)  # the new folder 'a'
    assert calls[1][0] == "sync"
    assert calls[1][1].startswith(f"{parent}/.tmp/")
    assert calls[2:] == [("replace", f"{parent}/a/b"), ("sync", f"{parent}/a")]


@pytest.mark.parametrize("broken", ["write", "fsync", "open"])
def test_a_full_disk_is_one_clear_error_and_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    folder = FolderFiles(tmp_path)
    folder.write("value", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, broken, half(os.write) if broken == "write" else full)
        with pytest.raises(AffidavitError, match="No space left on device") as caught:
            folder.write("value", b"new" * 100)
    assert "unchanged" in str(caught.value)
    assert caught.value.hint
    assert folder.read("value") == b"old"
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "report.html", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", half(os.write))
        with pytest.raises(AffidavitError, match="No space left"):
            write_atomic(tmp_path / "report.html", b"new" * 100)
    assert (tmp_path / "report.html").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    write_atomic(tmp_path / "report.html", b"new")
    assert (tmp_path / "report.html").read_bytes() == b"new"


@pytest.mark.parametrize("target", ["folder", "file/report.html"])
def test_a_report_that_cannot_be_there_is_refused_in_one_message(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(AffidavitError, match=r"is a folder|could not be written"):
        write_atomic(tmp_path / target, b"report")
    assert (tmp_path / "file").read_bytes() == b"kept"
    write_atomic(tmp_path / "new" / "deep" / "report.html", b"report")
    assert (tmp_path / "new" / "deep" / "report.html").read_bytes() == b"report"


def test_a_report_at_the_current_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="'.' is a folder"):
        write_atomic(Path(), b"report")


BLOBS = sa.MetaData()
BLOB = sa.Table("blobs", BLOBS, sa.Column("data", sa.LargeBinary))


def overflow(folder: Path) -> list[str]:
    """Write until something does not fit; give the errors' messages."""
    messages = []
    with Store.open(folder) as store:
        try:
            store.files.write("value", b"n" * 4_000_000)
        except AffidavitError as error:
            messages.append(str(error))
        try:
            with store.write() as connection:
                connection.execute(BLOB.delete())
                connection.execute(BLOB.insert().values(data=b"n" * 4_000_000))
        except AffidavitError as error:
            messages.append(str(error))
    return messages


def prepare(folder: Path) -> None:
    with Store.open(folder) as store:
        store.files.write("value", b"old")
        store.ensure(BLOBS, "blobs", 1)
        with store.write() as connection:
            connection.execute(BLOB.insert().values(data=b"old"))


def state(folder: Path) -> list[bytes]:
    with Store.open(folder) as store, store.read() as connection:
        return [store.files.read("value"), *connection.execute(sa.select(BLOB.c.data)).scalars()]


def _limited(folder: Path, sender: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    sender.send(overflow(folder))


def test_the_system_s_limit_on_file_size_loses_nothing(tmp_path: Path) -> None:
    prepare(tmp_path / "ws")
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_limited, args=(tmp_path / "ws", sender))
    child.start()
    sender.close()
    first, second = receiver.recv()
    child.join()
    assert "File too large" in first
    assert "the disk" in second
    assert state(tmp_path / "ws") == [b"old", b"old"]


def test_a_file_system_that_is_really_full_loses_nothing(tmp_path: Path) -> None:
    """On a tmpfs of 2 MB in a mount namespace of its own, where the system lets us have one."""
    (tmp_path / "disk").mkdir()
    script = f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
        from pathlib import Path
        from test_store_files import overflow, prepare, state
        folder = Path({str(tmp_path / "disk" / "ws")!r})
        prepare(folder)
        for message in overflow(folder): print(message)
        print(state(folder))
    """
    mount = 'mount -t tmpfs -o size=2m tmpfs "$1" || exit 77; exec "$2" -c "$3"'
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    command = [*namespace, "sh", "-c", mount, "sh", tmp_path / "disk", sys.executable, textwrap.dedent(script)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("there is no 'unshare' here to mount a small file system")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting a small file system is not permitted here")
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert "No space left on device" in lines[0]
    assert "the disk is full" in lines[1]
    assert lines[2] == "[b'old', b'old']"


# -- recovery --------------------------------------------------------------------------------------------------------------------------


def test_leftovers_of_a_crash_are_removed_and_reported(tmp_path: Path) -> None:
    prepare(tmp_path / "ws")
    (tmp_path / "ws/files/.tmp/0123").write_bytes(b"half")
    with Store.open(tmp_path / "ws") as store:
        assert store.recovered == ["Removed an unfinished write; the earlier content stands."]
        assert store.files.list() == ["value"]
    with Store.open(tmp_path / "ws") as store:
        assert store.recovered == []


def test_opening_leaves_the_unfinished_write_of_a_living_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FolderFiles(tmp_path)
    recovered: list[str] = ["never ran"]
    sync = os.fsync

    def sync_after_another_opens(descriptor: int) -> None:
        if recovered == ["never ran"]:
            recovered[:] = FolderFiles(tmp_path).recover()
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", sync_after_another_opens)
    folder.write("value", b"new")
    assert recovered == []
    assert folder.read("value") == b"new"
