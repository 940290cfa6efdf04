"""The vault and subject keys: one token a value whoever asks, nothing readable in the files, and what was changed or destroyed is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affidavit.errors import IntegrityError, Refused, UsageError
from affidavit.store import Store
from affidavit_governance.encryption import open_keyring
from affidavit_governance.masking.reveal.subjects import SqlSubjectKeys
from affidavit_governance.masking.reveal.tables import CHUNK, subject_keys, vault
from affidavit_governance.masking.reveal.vault import SqlVault

NOW = "2026-11-22T12:00:00.000000Z"


@pytest.fixture
def kept(store: Store) -> SqlVault:
    return SqlVault(store, open_keyring(store))


@pytest.fixture
def keys(store: Store) -> SqlSubjectKeys:
    return SqlSubjectKeys(store, open_keyring(store))


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "local")


def nothing(connection: sa.Connection, name: bytes) -> None:
    """No more to do when a key is destroyed."""


# -- the vault ------------------------------------------------------------------------------------------------------------------------------


def test_a_value_keeps_its_token_and_the_token_gives_it_back(kept: SqlVault, store: Store) -> None:
    values = [b"jana@example.org", b"", b"x" * 100_000, b"jana@example.org", bytes(range(256))]
    tokens = kept.tokens(values, namespace="email")
    assert [len(token) for token in tokens] == [16] * 5
    assert tokens[0] == tokens[3]
    assert len(set(tokens)) == 4
    again = SqlVault(store, open_keyring(store))
    assert again.tokens(values, namespace="email") == tokens
    assert again.values(tokens, namespace="email") == values


def test_more_values_than_one_query_takes(kept: SqlVault) -> None:
    values = [str(number).encode() for number in range(2 * CHUNK + 7)]
    tokens = kept.tokens(values, namespace="n")
    assert len(set(tokens)) == len(values)
    assert kept.values(tokens[::-1], namespace="n") == values[::-1]
    assert kept.tokens([], namespace="n") == []
    assert kept.values([], namespace="n") == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.binary(max_size=40), st.none() | st.text(min_size=1, max_size=5)), max_size=20))
def test_whatever_the_values_and_subjects_they_come_back(local: Store, rows: list[tuple[bytes, str | None]]) -> None:
    kept = SqlVault(local, open_keyring(local))
    values, subjects = [value for value, _ in rows], [subject for _, subject in rows]
    tokens = kept.tokens(values, namespace="any", subjects=subjects)
    assert kept.values(tokens, namespace="any") == values
    assert len(set(tokens)) == len(set(rows))


def test_equal_values_have_other_tokens_in_another_namespace_and_for_another_subject(kept: SqlVault) -> None:
    plain = kept.tokens([b"v"], namespace="a") + kept.tokens([b"v"], namespace="b")
    owned = kept.tokens([b"v", b"v", b"v"], namespace="a", subjects=["s1", "s2", "s1"])
    assert owned[0] == owned[2]
    assert len({*plain, *owned}) == 4


def test_a_token_of_another_namespace_is_refused(kept: SqlVault) -> None:
    tokens = kept.tokens([b"078-05-1120"], namespace="ssn")
    with pytest.raises(IntegrityError, match="namespace than 'email'"):
        kept.values(tokens, namespace="email")


def test_a_token_of_another_workspace_is_refused_also_where_its_row_was_copied(kept: SqlVault, store: Store, tmp_path: Path) -> None:
    with Store.open(tmp_path / "other") as other:
        theirs = SqlVault(other, open_keyring(other))
        token = theirs.tokens([b"v"], namespace="n")
        with pytest.raises(IntegrityError, match="1 of 1 tokens have no row"):
            kept.values(token, namespace="n")
        with other.read() as connection:
            row = connection.execute(sa.select(vault)).one()._asdict()
        with store.write() as connection:
            connection.execute(vault.insert().values(**row))
        with pytest.raises(IntegrityError, match="was changed"):
            kept.values(token, namespace="n")


@pytest.mark.parametrize("column", ["sealed", "token", "subject"])
def test_a_changed_row_is_refused(kept: SqlVault, store: Store, column: str) -> None:
    tokens = kept.tokens([b"first", b"second"], namespace="n", subjects=["s1", "s2"])
    with store.write() as connection:
        rows = {bytes(row.token): row._asdict() for row in connection.execute(sa.select(vault))}
        one, two = rows[tokens[0]], rows[tokens[1]]
        if column == "token":  # two rows change places
            connection.execute(vault.update().where(vault.c.token == tokens[0]).values(sealed=two["sealed"], subject=two["subject"]))
        else:
            changed = two["subject"] if column == "subject" else bytes([one["sealed"][0] ^ 1]) + bytes(one["sealed"][1:])
            connection.execute(vault.update().where(vault.c.token == tokens[0]).values(**{column: changed}))
    with pytest.raises(IntegrityError, match="row of a token was changed"):
        kept.values(tokens[:1], namespace="n")
    assert kept.values(tokens[1:], namespace="n") == [b"second"]


def test_a_missing_row_is_said_with_its_number(kept: SqlVault, store: Store) -> None:
    tokens = kept.tokens([b"a", b"b", b"c"], namespace="n")
    with store.write() as connection:
        connection.execute(vault.delete().where(vault.c.token == tokens[1]))
    with pytest.raises(IntegrityError, match="1 of 3 tokens have no row"):
        kept.values(tokens, namespace="n")


def test_a_token_cannot_be_guessed_from_its_value_or_from_another_workspaces(kept: SqlVault, tmp_path: Path) -> None:
    with Store.open(tmp_path / "other") as other:
        assert SqlVault(other, open_keyring(other)).tokens([b"v"], namespace="n") != kept.tokens([b"v"], namespace="n")


def test_values_and_subjects_must_be_as_many(kept: SqlVault) -> None:
    with pytest.raises(UsageError, match="2 values and 1 subjects"):
        kept.tokens([b"a", b"b"], namespace="n", subjects=["s"])
    with pytest.raises(UsageError, match="id is empty"):
        kept.tokens([b"a"], namespace="n", subjects=[""])


# -- subject keys ---------------------------------------------------------------------------------------------------------------------------


def test_each_subject_has_one_key_that_stays(keys: SqlSubjectKeys, store: Store) -> None:
    made = keys.keys(["s1", "s2", "s1"])
    assert made[0] == made[2] != made[1]
    assert {len(key) for key in made} == {32}
    assert SqlSubjectKeys(store, open_keyring(store)).keys(["s2", "s1"], create=False) == [made[1], made[0]]
    assert keys.keys([]) == []


def test_no_key_is_made_where_none_is_to_be(keys: SqlSubjectKeys, store: Store) -> None:
    keys.keys(["s1"])
    with pytest.raises(IntegrityError, match="1 of 2 subjects have no key"):
        keys.keys(["s1", "s2"], create=False)
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(subject_keys)).scalar_one() == 1


def test_a_changed_or_exchanged_key_is_refused(keys: SqlSubjectKeys, store: Store) -> None:
    keys.keys(["s1", "s2"])
    with store.write() as connection:
        theirs = connection.execute(sa.select(subject_keys.c.sealed).where(subject_keys.c.name == keys.name("s2"))).scalar_one()
        connection.execute(subject_keys.update().where(subject_keys.c.name == keys.name("s1")).values(sealed=theirs))
    with pytest.raises(IntegrityError, match="key of a subject was changed"):
        keys.keys(["s1"])


def test_a_destroyed_key_is_never_made_again(keys: SqlSubjectKeys, kept: SqlVault) -> None:
    tokens = kept.tokens([b"hers", b"his"], namespace="n", subjects=["s1", "s2"])
    keys.destroy("s1", when=NOW, also=nothing)
    assert keys.destroyed("s1") == NOW
    assert keys.destroyed("s2") is None
    for attempt in (
        lambda: keys.keys(["s1"]),
        lambda: keys.keys(["s1"], create=False),
        lambda: kept.values(tokens[:1], namespace="n"),
        lambda: kept.tokens([b"hers"], namespace="n", subjects=["s1"]),
        lambda: kept.tokens([b"new"], namespace="n", subjects=["s1"]),
    ):
        with pytest.raises(Refused, match="key of a subject was destroyed|subject behind a token was destroyed"):
            attempt()
    assert kept.values(tokens[1:], namespace="n") == [b"his"]
    keys.destroy("s1", when="2027-01-01T00:00:00.000000Z", also=nothing)
    assert keys.destroyed("s1") == NOW, "the first time stays"


def test_an_unknown_subject_is_said_without_the_id_or_others(keys: SqlSubjectKeys) -> None:
    keys.keys(["known-subject"])
    with pytest.raises(UsageError, match="has no key") as caught:
        keys.destroyed("jana.planted")
    assert "jana" not in str(caught.value)
    assert "known" not in str(caught.value)


def test_after_shredding_the_workspaces_keys_do_not_test_a_guess(kept: SqlVault, keys: SqlSubjectKeys, store: Store) -> None:
    kept.tokens([b"guessable"], namespace="n", subjects=["s1"])
    keys.destroy("s1", when=NOW, also=lambda connection, name: None if kept.empty(connection, name) == 1 else pytest.fail("one row"))
    with store.read() as connection:
        row = connection.execute(sa.select(vault)).one()
    assert (row.sealed, row.lookup) == (None, None)


# -- the files ------------------------------------------------------------------------------------------------------------------------------


def test_neither_values_nor_ids_stand_in_the_databases_files(tmp_path: Path) -> None:
    secrets = [f"jana.planted{number}@example.org".encode() for number in range(300)]
    ids = [f"planted-subject-{number}" for number in range(300)]
    with Store.open(tmp_path / "ws") as opened:
        kept = SqlVault(opened, open_keyring(opened))
        tokens = kept.tokens(secrets, namespace="email", subjects=ids)
        assert kept.values(tokens, namespace="email") == secrets
        files = [path for path in (tmp_path / "ws").rglob("*") if path.is_file()]
        assert any(path.name.endswith("-wal") for path in files), "the log is not looked at: this test would miss it"
        for path in files:
            content = path.read_bytes()
            assert b"planted" not in content, path.name


def test_the_sealed_bytes_of_destroyed_keys_leave_the_database_file(tmp_path: Path) -> None:
    """Keys are made in many small transactions, so that pages split and rows move; each place where a row once stood must be clean."""
    from affidavit_governance.masking.reveal.shredding import erase

    with Store.open(tmp_path / "ws") as opened:
        with opened.write() as connection:
            assert connection.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 1
        keys = SqlSubjectKeys(opened, open_keyring(opened))
        ids = [f"s{number}" for number in range(3000)]
        for start in range(0, len(ids), 150):
            keys.keys(ids[start : start + 150])
        with opened.read() as connection:
            sealed = {bytes(row.name): bytes(row.sealed) for row in connection.execute(sa.select(subject_keys))}
        gone = ids[::50]
        for subject in gone:
            keys.destroy(subject, when=NOW, also=nothing)
        assert erase(opened) == "overwritten"
        content = b"".join(path.read_bytes() for path in (tmp_path / "ws").rglob("*") if path.is_file())
        for subject in gone:
            assert sealed[keys.name(subject)] not in content
        assert sealed[keys.name("s1")] in content, "the keys that stay are not found: this test would pass for the wrong reason"


def test_a_reader_that_keeps_old_pages_alive_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import affidavit.store.database as database
    from affidavit_governance.masking.reveal.shredding import erase

    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with Store.open(tmp_path / "ws") as opened, Store.open(tmp_path / "ws") as reader:
        keys = SqlSubjectKeys(opened, open_keyring(opened))
        keys.keys(["s1"])
        with reader.read() as connection:
            connection.execute(sa.select(subject_keys)).all()
            keys.destroy("s1", when=NOW, also=nothing)
            assert erase(opened) == "pending"
        assert erase(opened) == "overwritten"


# -- many at once ---------------------------------------------------------------------------------------------------------------------------


WORKER = """
import sys
from affidavit.store import Store
from affidavit_governance.encryption import open_keyring
from affidavit_governance.masking.reveal.subjects import SqlSubjectKeys
from affidavit_governance.masking.reveal.vault import SqlVault

with Store.open(sys.argv[1]) as opened:
    keyring = open_keyring(opened)
    kept, keys = SqlVault(opened, keyring), SqlSubjectKeys(opened, keyring)
    print("ready", flush=True)
    sys.stdin.readline()
    values = [f"value {number}".encode() for number in range(200)]
    for start in range(0, 200, 20):
        print(kept.tokens(values[start : start + 20], namespace="n", subjects=["one", *["two"] * 19]))
    print(keys.keys(["one", "two"]))
"""


def test_processes_that_ask_at_once_agree_on_every_token_and_key(store_location: str) -> None:
    with Store.open(store_location) as opened:
        open_keyring(opened)
    command = [sys.executable, "-c", WORKER, store_location]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [worker.communicate(timeout=60)[0] for worker in workers]
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) > 1000


def test_known_values_are_found_without_waiting_for_writers(kept: SqlVault, calls_in: Callable[[Callable[[], object]], int], store: Store) -> None:
    tokens = kept.tokens([b"v"], namespace="n")
    with store.write():  # a nested write of this thread would be refused
        assert kept.tokens([b"v"], namespace="n") == tokens
        assert kept.values(tokens, namespace="n") == [b"v"]
