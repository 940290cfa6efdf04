"""Rotation: what changes and what does not, what destroying asks for, two processes at once, and the evidence of it all."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keys_workspace import ROWS, close, fill, open_workspace, read_all

from affidavit.errors import AffidavitError, IntegrityError, PluginError, UsageError
from affidavit.store import FolderFiles, Store
from affidavit_governance.audit.bundle import write_bundle
from affidavit_governance.audit.evidence import checked, now
from affidavit_governance.audit.story import read_story
from affidavit_governance.audit.verify import verify_bundle
from affidavit_governance.encryption import keyring as keyring_module
from affidavit_governance.encryption import open_keyring, rotation, sealed
from affidavit_governance.encryption.keyfile import FILE


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "GRACE", timedelta(0))


def under(workspace: SimpleNamespace) -> dict[int, int]:
    return {version["version"]: version["objects"] for version in workspace.keys.status()["versions"]}


def object_files(workspace: SimpleNamespace) -> dict[str, bytes]:
    return {name: workspace.store.files.read(name) for name in workspace.store.files.list("objects/")}


# -- rotating and re-wrapping -------------------------------------------------------------------------------------------------------------


def test_rotation_changes_no_identity_no_derived_key_and_nothing_that_is_sealed(keys_workspace: SimpleNamespace) -> None:
    fill(keys_workspace, 5)
    keyring = keys_workspace.keyring
    before = keyring.key_id, keyring.verifier_key, keyring.derive("pseudonym"), keyring.sign(b"x")
    version = keys_workspace.keys.rotate()
    assert (version.number, version.state) == (2, "active")
    assert (keyring.key_id, keyring.verifier_key, keyring.derive("pseudonym"), keyring.sign(b"x")) == before
    read_all(keys_workspace, 5)
    again = open_keyring(keys_workspace.store)
    assert (again.key_id, again.verifier_key, again.derive("pseudonym"), again.sign(b"x")) == before
    assert again.seal(b"x", purpose="p", name="n")[5:13].hex() == version.key_id


def test_rewrapping_moves_everything_and_rewrites_no_object_s_data(keys_workspace: SimpleNamespace) -> None:
    fill(keys_workspace, 30)
    before = object_files(keys_workspace)
    keys_workspace.keys.rotate()
    assert under(keys_workspace)[1] == 91  # with the evidence of the rotation
    seen = []
    assert keys_workspace.keys.rewrap(lambda done, total: seen.append((done, total))) == 91
    assert seen[-1] == (91, 91)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert under(keys_workspace)[1] == 0
    assert object_files(keys_workspace) == before
    read_all(keys_workspace, 30)
    assert keys_workspace.keys.rewrap() == 0


def test_rewrapping_exchanges_the_head_of_a_row_and_leaves_its_body(keys_workspace: SimpleNamespace) -> None:
    fill(keys_workspace, 3)
    query = sa.select(ROWS.c.sealed).order_by(ROWS.c.number)
    with keys_workspace.store.read() as connection:
        before = [bytes(each) for each in connection.execute(query).scalars()]
    keys_workspace.keys.rotate()
    keys_workspace.keys.rewrap()
    with keys_workspace.store.read() as connection:
        after = [bytes(each) for each in connection.execute(query).scalars()]
    assert [each[53:] for each in after] == [each[53:] for each in before]
    assert all(new[13:53] != old[13:53] for new, old in zip(after, before, strict=True))


def test_a_rewrap_that_was_interrupted_goes_on_where_it_stopped(keys_workspace: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "BATCH", 4)
    fill(keys_workspace, 10)
    keys_workspace.keys.rotate()

    class Stop(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done >= 9:
            raise Stop

    with pytest.raises(Stop):
        keys_workspace.keys.rewrap(stop)
    left = under(keys_workspace)[1]
    assert 0 < left <= 31 - 9
    read_all(keys_workspace, 10)
    assert keys_workspace.keys.rewrap() == left
    read_all(keys_workspace, 10)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["put", "rotate", "rewrap", "reopen", "destroy"]), max_size=6))
@pytest.mark.usefixtures("no_grace")
def test_whatever_is_done_in_whatever_order_everything_stays_readable(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    location = str(tmp_path_factory.mktemp("any") / "ws")
    workspace, number = open_workspace(location), 1
    fill(workspace, number)
    contents = []
    for step in steps:
        if step == "put":
            contents.append(workspace.objects.put(b"put %d" % len(contents), purpose="artifact"))
        elif step in ("rotate", "rewrap"):
            getattr(workspace.keys, step)()
        elif step == "destroy":
            for version in workspace.keys.status()["versions"]:
                if version["state"] == "retired" and version["objects"] == 0:
                    workspace.keys.destroy(version["version"])
        else:
            close(workspace)
            workspace = open_workspace(location)
        read_all(workspace, number)
        for position, digest in enumerate(contents):
            assert workspace.objects.get(digest, purpose="artifact") == b"put %d" % position
    close(workspace)


def test_a_column_without_a_primary_key_is_found_and_moved(keys_workspace: SimpleNamespace) -> None:
    metadata = sa.MetaData()
    table = sa.Table("keyless", metadata, sa.Column("note", sa.Text), sa.Column("sealed", sa.LargeBinary))
    keys_workspace.store.ensure(metadata, "keyless", 1)
    one = keys_workspace.keyring.seal(b"one", purpose="p", name="n")
    with keys_workspace.store.write() as connection:
        connection.execute(table.insert(), [{"note": "a", "sealed": one}, {"note": "b", "sealed": b"not sealed"}, {"note": "c", "sealed": None}])
    version = keys_workspace.keys.rotate()
    keys_workspace.keys.rewrap()
    with keys_workspace.store.read() as connection:
        rows = {row.note: row.sealed for row in connection.execute(sa.select(table))}
    assert bytes(rows["a"])[5:13].hex() == version.key_id
    assert keys_workspace.keyring.open(bytes(rows["a"]), purpose="p", name="n") == b"one"
    assert (bytes(rows["b"]), rows["c"]) == (b"not sealed", None)


@pytest.mark.usefixtures("no_grace")
def test_what_cannot_be_moved_keeps_nothing_else_from_it_and_is_named_by_place(keys_workspace: SimpleNamespace) -> None:
    fill(keys_workspace, 5)
    keys_workspace.keys.rotate()
    name = "journal/0002"
    damaged = bytearray(keys_workspace.store.files.read(name))
    damaged[20] ^= 1  # the wrapped key
    keys_workspace.store.files.write(name, bytes(damaged))
    with keys_workspace.store.write() as connection:
        row = connection.execute(sa.select(ROWS).where(ROWS.c.number == 3)).one()
        changed = bytearray(row.sealed)
        changed[20] ^= 1
        connection.execute(ROWS.update().where(ROWS.c.number == 3).values(sealed=bytes(changed)))
    in_a_table = keys_workspace.store.engine.dialect.name == "postgresql"
    file = r"table 'files' \(1\)" if in_a_table else rf"file '{name}' \(1\)"
    with pytest.raises(IntegrityError, match=rf"14 things were moved under key version 2, and 2 could not be: {file}, table 'sealed_rows' \(1\)"):
        keys_workspace.keys.rewrap()
    assert under(keys_workspace)[1] == 2
    with pytest.raises(AffidavitError, match="still has 2 things"):
        keys_workspace.keys.destroy(1)
    assert list(keys_workspace.ledger.entries("key"))[-1].predicate["moved"] == 14


def test_a_file_deleted_during_a_rewrap_does_not_come_back(tmp_path: Path) -> None:
    """As retention deletes: under the write lock."""
    workspace = open_workspace(str(tmp_path / "ws"))
    fill(workspace, 1)
    workspace.keys.rotate()
    name, exchange, threads = "journal/0000", workspace.keyring.rewrap, []
    old = workspace.store.files.read(name)

    def delete() -> None:
        with workspace.store.write():
            workspace.store.files.delete(name)

    def exchange_late(head: bytes) -> bytes:
        if head == old[: len(head)]:
            threads.append(threading.Thread(target=delete))
            threads[0].start()
            threads[0].join(0.2)
        return exchange(head)

    workspace.keys._keyring = SimpleNamespace(
        rewrap=exchange_late, refresh=workspace.keyring.refresh, secrets=workspace.keyring.secrets, key_id="0" * 16
    )
    workspace.keys.rewrap()
    threads[0].join()
    assert not workspace.store.files.exists(name)
    close(workspace)


def test_a_file_in_a_database_that_is_replaced_during_a_rewrap_keeps_its_new_content(_postgres_schema: str) -> None:
    workspace = open_workspace(_postgres_schema)
    fill(workspace, 1)
    workspace.keys.rotate()
    name, exchange = "journal/0000", workspace.keyring.rewrap
    newer = workspace.keyring.seal(b"newer", purpose="journal", name=name)

    old = workspace.store.files.read(name)

    def exchange_late(head: bytes) -> bytes:
        if head == old[: len(head)]:
            workspace.store.files.write(name, newer)
        return exchange(head)

    workspace.keys._keyring = SimpleNamespace(
        rewrap=exchange_late, refresh=workspace.keyring.refresh, secrets=workspace.keyring.secrets, key_id="0" * 16
    )
    workspace.keys.rewrap()
    assert workspace.store.files.read(name) == newer
    close(workspace)


# -- several processes --------------------------------------------------------------------------------------------------------------------


def test_of_two_that_rotate_at_once_one_wins_and_the_other_says_so(keys_workspace: SimpleNamespace, store_location: str) -> None:
    other = open_workspace(store_location)
    commit = other.keys._file.encode

    def encode(*arguments: object) -> str:
        keys_workspace.keys.rotate()  # in the moment between reading and writing
        return str(commit(*arguments))

    other.keys._file.encode = encode
    size = len(other.ledger)
    with pytest.raises(AffidavitError, match="Another process changed the keys .* at the same time; nothing was changed here"):
        other.keys.rotate()
    assert [version["version"] for version in keys_workspace.keys.status()["versions"]] == [1, 2]
    assert len(other.ledger) == size + 1  # the winner's evidence, and not the other's
    assert other.keys.status()["versions"] == keys_workspace.keys.status()["versions"]
    close(other)


def test_another_process_reads_what_is_under_a_version_that_it_has_not_seen(keys_workspace: SimpleNamespace, store_location: str) -> None:
    other = open_workspace(store_location)
    keys_workspace.keys.rotate()
    digest = keys_workspace.objects.put(b"new", purpose="artifact")
    assert other.objects.get(digest, purpose="artifact") == b"new"
    close(other)


def test_another_process_seals_under_the_old_version_for_the_length_of_the_lease_at_most(
    keys_workspace: SimpleNamespace, store_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_workspace(store_location)
    old = keys_workspace.keyring.secrets.active.key_id
    new = keys_workspace.keys.rotate().key_id
    assert other.keyring.seal(b"x", purpose="p", name="n")[5:13].hex() == old
    assert rotation.GRACE.total_seconds() >= 5 * keyring_module.LEASE_SECONDS
    monkeypatch.setattr(keyring_module, "LEASE_SECONDS", -1.0)
    assert other.keyring.seal(b"x", purpose="p", name="n")[5:13].hex() == new
    other.ledger.append("plugin", subject={"plugins": "0" * 64}, predicate={"plugins": [], "refused": []})  # looks inside a write transaction
    close(other)


def test_the_lease_ends_while_the_machine_sleeps(keys_workspace: SimpleNamespace, store_location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no clock that goes on while the machine sleeps")
    other = open_workspace(store_location)
    new = keys_workspace.keys.rotate().key_id
    wake = time.clock_gettime(time.CLOCK_BOOTTIME) + 3600
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: wake}.__getitem__)  # time.monotonic() stood still
    assert other.keyring.seal(b"x", purpose="p", name="n")[5:13].hex() == new
    close(other)


# -- destroying ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_grace")
def test_a_version_that_nothing_is_under_can_be_destroyed_and_old_copies_say_so(keys_workspace: SimpleNamespace, store_location: str) -> None:
    fill(keys_workspace, 4)
    old_copy = keys_workspace.keyring.seal(b"kept in a backup", purpose="p", name="from the backup")
    keys_workspace.keys.rotate()
    keys_workspace.keys.rewrap()
    gone = keys_workspace.keys.destroy(1)
    assert (gone.state, gone.key) == ("destroyed", None)
    read_all(keys_workspace, 4)
    again = open_workspace(store_location)
    read_all(again, 4)
    for keyring in (keys_workspace.keyring, again.keyring):
        with pytest.raises(
            IntegrityError, match=r"'from the backup' \(p\) is sealed under key version 1 \([0-9a-f]{16}\), which was destroyed on 20\d\d-"
        ):
            keyring.open(old_copy, purpose="p", name="from the backup")
    close(again)


@pytest.mark.usefixtures("no_grace")
def test_an_object_file_from_a_backup_stays_readable_after_its_version_was_destroyed(tmp_path: Path) -> None:
    """The wrapped key is a row, so the file is the same under every version."""
    workspace = open_workspace(str(tmp_path / "ws"))
    fill(workspace, 2)
    backup = object_files(workspace)
    workspace.keys.rotate()
    workspace.keys.rewrap()
    workspace.keys.destroy(1)
    for name, data in backup.items():
        workspace.store.files.write(name, data)
    read_all(workspace, 2)
    close(workspace)


@pytest.mark.usefixtures("no_grace")
def test_a_version_that_something_is_under_is_not_destroyed(keys_workspace: SimpleNamespace) -> None:
    fill(keys_workspace, 2)
    keys_workspace.keys.rotate()
    with pytest.raises(AffidavitError, match="still has 7 things under it") as caught:
        keys_workspace.keys.destroy(1)
    assert "affidavit keys rewrap" in str(caught.value)
    read_all(keys_workspace, 2)


@pytest.mark.usefixtures("no_grace")
def test_what_another_process_seals_at_the_last_moment_keeps_its_version(keys_workspace: SimpleNamespace, store_location: str) -> None:
    other = open_workspace(store_location)  # does not know of the rotation
    keys_workspace.keys.rotate()
    keys_workspace.keys.rewrap()
    encode = keys_workspace.keys._file.encode

    def encode_late(*arguments: object) -> str:
        fill(other, 1)  # between the first count and the transaction
        return str(encode(*arguments))

    keys_workspace.keys._file.encode = encode_late
    with pytest.raises(AffidavitError, match="still has 3 things under it"):
        keys_workspace.keys.destroy(1)
    read_all(keys_workspace, 1)
    close(other)


def test_active_new_unknown_and_destroyed_versions_are_not_destroyed(keys_workspace: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AffidavitError, match="it is active"):
        keys_workspace.keys.destroy(1)
    with pytest.raises(UsageError, match="no key version 7"):
        keys_workspace.keys.destroy(7)
    keys_workspace.keys.rotate()
    with pytest.raises(AffidavitError, match="retired less than 10 minutes ago, and another process may still seal under it"):
        keys_workspace.keys.destroy(1)
    monkeypatch.setattr(rotation, "GRACE", timedelta(0))
    keys_workspace.keys.rewrap()
    keys_workspace.keys.destroy(1)
    with pytest.raises(AffidavitError, match="was destroyed before"):
        keys_workspace.keys.destroy(1)


@pytest.mark.usefixtures("no_grace")
def test_the_destroyed_key_is_nowhere_in_the_workspace(tmp_path: Path, home: Path) -> None:
    """Not even for who has the key file: everything that opens with it is searched."""
    workspace = open_workspace(str(tmp_path / "ws"))
    key = workspace.keyring.secrets.active.key
    workspace.keys.rotate()
    workspace.keys.rewrap()
    workspace.keys.destroy(1)
    secrets = workspace.keyring.file.open()
    assert key not in secrets.encode()
    assert [version.key is None for version in secrets.versions] == [True, False]
    close(workspace)


# -- keyring.json -------------------------------------------------------------------------------------------------------------------------


def test_an_older_keyring_file_that_was_put_back_is_mended(keys_workspace: SimpleNamespace, store_location: str) -> None:
    older = keys_workspace.store.files.read(FILE)
    version = keys_workspace.keys.rotate()
    newer = keys_workspace.store.files.read(FILE)
    keys_workspace.store.files.write(FILE, older)
    with Store.open(store_location) as store:
        assert open_keyring(store).secrets.active.key_id == version.key_id
        assert store.files.read(FILE) == newer
        assert any("Wrote keyring.json again" in line for line in store.recovered)


def test_a_keyring_file_ahead_of_the_database_shows_that_that_was_put_back(keys_workspace: SimpleNamespace) -> None:
    keys_workspace.keys.rotate()
    with keys_workspace.store.write() as connection:
        connection.execute(sa.text("UPDATE keyring SET generation = 1"))
    with pytest.raises(IntegrityError, match="newer than its database"):
        open_keyring(keys_workspace.store)


def test_the_keyring_of_another_generation_does_not_pass_for_this_one(keys_workspace: SimpleNamespace) -> None:
    older = json.loads(keys_workspace.store.files.read(FILE))
    keys_workspace.keys.rotate()
    keys_workspace.store.files.write(FILE, json.dumps({**older, "generation": 2}).encode())
    with pytest.raises(AffidavitError, match="does not open workspace"):
        open_keyring(keys_workspace.store)


def test_each_change_makes_a_new_root_key(keys_workspace: SimpleNamespace) -> None:
    def wrapped() -> str:
        return str(json.loads(keys_workspace.store.files.read(FILE))["wrapped"])

    seen = {wrapped()}
    keys_workspace.keys.rotate()
    seen.add(wrapped())
    keys_workspace.keys.provide("file", {})
    seen.add(wrapped())
    assert len(seen) == 3


def test_a_provider_that_does_not_give_back_what_it_wrapped_changes_nothing(keys_workspace: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys_workspace.store.files.read(FILE)
    monkeypatch.setattr(type(keys_workspace.keyring.file.provider), "unwrap", lambda *_: bytes(32))
    with pytest.raises(AffidavitError, match="gave back another secret"):
        keys_workspace.keys.rotate()
    monkeypatch.undo()
    assert keys_workspace.store.files.read(FILE) == before


# -- evidence -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_grace")
def test_each_step_leaves_evidence_without_secrets(keys_workspace: SimpleNamespace) -> None:
    fill(keys_workspace, 2)
    first = keys_workspace.keyring.secrets.active
    second = keys_workspace.keys.rotate()
    keys_workspace.keys.rewrap()
    keys_workspace.keys.destroy(1)
    keys_workspace.keys.provide("file", {})
    said = [evidence.predicate for evidence in keys_workspace.ledger.entries("key")]
    assert [each["action"] for each in said] == ["rotate", "rewrap", "destroy", "provider"]
    assert said[0]["previous"] == {"version": 1, "key_id": first.key_id}
    assert (said[0]["version"], said[0]["key_id"], said[0]["provider"], said[0]["by"]) == (2, second.key_id, "file", "keeper")
    assert said[1]["moved"] == sum(said[1]["objects"][number] for number in ("1",)) == 7  # six things, and the evidence of the rotation
    assert {each["identity"] for each in said} == {keys_workspace.keyring.key_id}
    text = json.dumps(said)
    for secret in (first.key, second.key, keys_workspace.keyring.secrets.identity):
        assert secret.hex() not in text


def test_a_rotation_that_fails_leaves_no_evidence_and_evidence_that_fails_no_rotation(
    keys_workspace: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise AffidavitError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(AffidavitError, match="the disk is full"):
        patch.setattr(keys_workspace.keys._file, "advance", broken)
        keys_workspace.keys.rotate()
    with monkeypatch.context() as patch, pytest.raises(AffidavitError, match="the disk is full"):
        patch.setattr(keys_workspace.ledger, "_set_head", broken)
        keys_workspace.keys.rotate()
    assert len(keys_workspace.ledger) == 0
    assert open_keyring(keys_workspace.store).secrets.active.number == 1


def test_an_auditor_s_verification_reads_the_evidence(tmp_path: Path) -> None:
    from affidavit.policy import Policy

    workspace = open_workspace(str(tmp_path / "ws"))
    workspace.policy = Policy()
    workspace.store.files.write("policy.json", workspace.policy.model_dump_json().encode())
    workspace.keys.rotate()
    workspace.keys.rewrap()
    report = verify_bundle(write_bundle(workspace, tmp_path / "audit.zip", report_html=None), workspace.keyring.verifier_key)
    assert report.ok
    assert any(check.name == "keys" and "1 rewrap, 1 rotate" in check.detail for check in report.checks)
    close(workspace)


def told(*actions: tuple[str, int]) -> list[tuple[str, dict[str, object]]]:
    return [
        ("key", {"predicate": {"workspace": "w", "action": action, "version": version, "identity": "a" * 16}, "subject": []})
        for action, version in actions
    ]


def test_a_story_of_keys_that_cannot_be_is_refused() -> None:
    read_story(told(("rotate", 2), ("rewrap", 2), ("destroy", 1), ("rotate", 3), ("rewrap", 2), ("provider", 3), ("destroy", 2)), "w")
    for actions in (
        [("rotate", 3)],
        [("rotate", 2), ("rotate", 2)],
        [("destroy", 1)],
        [("rotate", 2), ("destroy", 1), ("destroy", 1)],
        [("rotate", 2), ("rewrap", 3)],
        [("provider", 2)],
        [("melt", 1)],
    ):
        with pytest.raises(IntegrityError, match="evidence/"):
            read_story(told(*actions), "w")


def test_key_evidence_that_does_not_fit_its_schema_is_refused() -> None:
    good = {
        "workspace": "w", "recorded": now(), "action": "rotate", "by": "x", "identity": "a" * 16, "provider": "file",
        "version": 2, "key_id": "b" * 16, "previous": None, "objects": {}, "moved": 0,
    }  # fmt: skip
    assert checked("key", good) == good
    for change in ({"action": "melt"}, {"version": 0}, {"key_id": "b"}, {"secret": "s"}, {"moved": "many"}):
        with pytest.raises(PluginError, match="does not fit its schema"):
            checked("key", {**good, **change})


# -- what is under what -------------------------------------------------------------------------------------------------------------------


def test_counting_reads_the_beginning_of_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = open_workspace(str(tmp_path / "ws"))
    fill(workspace, 3)
    monkeypatch.setattr(FolderFiles, "read", None)
    assert sum(sealed.count(workspace.store).values()) == 9
    monkeypatch.undo()
    close(workspace)


def test_an_object_whose_key_row_was_swapped_or_lost_is_refused_by_name(keys_workspace: SimpleNamespace) -> None:
    one, two = (keys_workspace.objects.put(data, purpose="artifact") for data in (b"one", b"two"))
    table = sa.table("object_keys", sa.column("name"), sa.column("wrapped", sa.LargeBinary))

    def name(digest: str) -> str:
        return f"objects/artifact/{digest[:2]}/{digest[2:]}"

    with keys_workspace.store.write() as connection:
        other = connection.execute(sa.select(table.c.wrapped).where(table.c.name == name(two))).scalar_one()
        connection.execute(table.update().where(table.c.name == name(one)).values(wrapped=other))
    with pytest.raises(IntegrityError, match=f"'{one}' .* has changed"):
        keys_workspace.objects.get(one, purpose="artifact")
    with keys_workspace.store.write() as connection:
        connection.execute(table.delete().where(table.c.name == name(two)))
    with pytest.raises(IntegrityError, match="has lost its key"):
        keys_workspace.objects.get(two, purpose="artifact")


def test_a_put_that_was_cut_short_before_its_file_is_finished_by_the_next(keys_workspace: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise AffidavitError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(AffidavitError):
        patch.setattr(keys_workspace.store.files, "write", full)
        keys_workspace.objects.put(b"late", purpose="artifact")
    assert not keys_workspace.objects.exists(hashlib.sha256(b"late").hexdigest(), purpose="artifact")
    keys_workspace.keys.rotate()
    digest = keys_workspace.objects.put(b"late", purpose="artifact")
    assert keys_workspace.objects.get(digest, purpose="artifact") == b"late"
