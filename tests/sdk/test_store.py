"""The store's contract, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from affidavit.errors import AffidavitError, IntegrityError, InvalidInput, UsageError
from affidavit.store import Store, database

METADATA = sa.MetaData()
COUNTERS = sa.Table("counters", METADATA, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Integer, nullable=False))


def count(store: Store, name: str = "a") -> int:
    with store.read() as connection:
        return connection.execute(sa.select(sa.func.coalesce(sa.func.sum(COUNTERS.c.value), 0)).where(COUNTERS.c.name == name)).scalar_one()


def increment(location: str, times: int) -> None:
    """Read, then write: loses updates wherever writers overlap."""
    with Store.open(location) as store:
        for _ in range(times):
            with store.write() as connection:
                value = connection.execute(sa.select(COUNTERS.c.value).where(COUNTERS.c.name == "a")).scalar_one()
                connection.execute(COUNTERS.update().where(COUNTERS.c.name == "a").values(value=value + 1))


# -- opening ---------------------------------------------------------------------------------------------------------------------------


def test_the_identity_is_made_once_and_kept(store_location: str) -> None:
    with Store.open(store_location) as first, Store.open(store_location) as second:
        assert first.workspace_id == second.workspace_id
        assert len(bytes.fromhex(first.workspace_id)) == 16
        assert first.recovered == []
        assert first.spool.is_dir()


def test_two_workspaces_have_different_identities(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a") as a, Store.open(tmp_path / "b") as b:
        assert a.workspace_id != b.workspace_id


def test_processes_that_make_one_workspace_at_once_agree_on_its_identity(store_location: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        identities = pool.map(open_and_identify, [store_location] * 6, chunksize=1)
    assert len(set(identities)) == 1


def open_and_identify(location: str) -> str:
    with Store.open(location) as store:
        return store.workspace_id


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="no workspace"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        Store.open(tmp_path / "x")


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(UsageError, match="'mysql' URL"):
        Store.open("mysql://host/database")


def test_a_database_with_other_tables_is_refused(store_location: str, tmp_path: Path) -> None:
    if store_location.startswith("postgresql"):
        engine = sa.create_engine(sa.make_url(store_location).set(drivername="postgresql+psycopg"))
    else:
        Path(store_location).mkdir()
        engine = sa.create_engine(f"sqlite:///{store_location}/workspace.db")
    METADATA.create_all(engine)
    engine.dispose()
    with pytest.raises(UsageError, match="other tables"):
        Store.open(store_location)


def test_a_database_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "workspace.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(IntegrityError, match="damaged or is no SQLite file"):
        Store.open(tmp_path)


@pytest.mark.parametrize("left", [[], ["workspace.db"]])
def test_a_workspace_whose_making_was_cut_short_can_be_made_again(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).touch()
    with Store.open(tmp_path) as store:
        assert store.workspace_id


def test_a_newer_format_is_refused(store_location: str) -> None:
    with Store.open(store_location) as store, store.write() as connection:
        connection.exec_driver_sql("UPDATE meta SET value = '2' WHERE key = 'format'")
    with pytest.raises(InvalidInput, match="format 2, and this Affidavit reads up to 1"):
        Store.open(store_location)


def test_an_older_format_is_brought_up_to_date_in_one_transaction(store_location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(store_location) as store:
        identity = store.workspace_id
    monkeypatch.setattr(database, "FORMAT", 2)
    with pytest.raises(InvalidInput, match="cannot bring to 2"):
        Store.open(store_location)
    monkeypatch.setitem(database.UPGRADES, 1, lambda connection: METADATA.create_all(connection))
    with Store.open(store_location) as store:
        assert store.workspace_id == identity
        assert count(store) == 0
    with Store.open(store_location) as store, store.read() as connection:
        assert connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'format'").scalar_one() == "2"


def test_a_password_in_a_url_is_never_shown() -> None:
    with pytest.raises(AffidavitError) as caught:
        Store.open("postgresql://user:sesame@127.0.0.1:1/database?connect_timeout=1")
    assert "cannot be reached" in str(caught.value)
    assert "sesame" not in str(caught.value)


# -- SQL -------------------------------------------------------------------------------------------------------------------------------


def test_an_exception_rolls_the_whole_transaction_back(store: Store) -> None:
    store.ensure(METADATA, "counters", 1)
    with pytest.raises(RuntimeError, match="stop"), store.write() as connection:
        connection.execute(COUNTERS.insert().values(name="a", value=1))
        raise RuntimeError("stop")
    assert count(store) == 0


def test_a_read_transaction_refuses_to_write(store: Store) -> None:
    store.ensure(METADATA, "counters", 1)
    with pytest.raises((AffidavitError, sa.exc.DBAPIError)), store.read() as connection:
        connection.execute(COUNTERS.insert().values(name="a", value=1))
    assert count(store) == 0
    with store.write() as connection:  # and the connection that goes back to the pool can write again
        connection.execute(COUNTERS.insert().values(name="a", value=1))
    assert count(store) == 1


def test_a_read_transaction_sees_one_moment(store: Store) -> None:
    store.ensure(METADATA, "counters", 1)
    with store.read() as connection:
        query = sa.select(sa.func.count()).select_from(COUNTERS)
        assert connection.execute(query).scalar_one() == 0
        writer = threading.Thread(target=_insert, args=(store,))
        writer.start()
        writer.join()
        assert connection.execute(query).scalar_one() == 0
    assert count(store) == 1


def _insert(store: Store) -> None:
    with store.write() as connection:
        connection.execute(COUNTERS.insert().values(name="a", value=1))


def test_write_transactions_do_not_nest(store: Store) -> None:
    with store.write(), pytest.raises(AffidavitError, match="does not nest"), store.write():
        pass
    with store.write():
        pass


def test_writers_in_several_processes_lose_no_update(store_location: str) -> None:
    with Store.open(store_location) as store:
        store.ensure(METADATA, "counters", 1)
        with store.write() as connection:
            connection.execute(COUNTERS.insert().values(name="a", value=0))
        workers = [multiprocessing.get_context("spawn").Process(target=increment, args=(store_location, 40)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert count(store) == 120


def test_a_component_s_tables_are_made_once_and_upgraded_by_its_own_functions(store: Store) -> None:
    store.ensure(METADATA, "counters", 1)
    store.ensure(METADATA, "counters", 1)
    with pytest.raises(InvalidInput, match=r"'counters' part .* cannot bring to 3"):
        store.ensure(METADATA, "counters", 3, {1: _insert_on})
    assert count(store) == 0  # the upgrade to 2 was undone with the rest
    store.ensure(METADATA, "counters", 2, {1: _insert_on})
    store.ensure(METADATA, "counters", 2, {1: _insert_on})
    assert count(store) == 1
    with pytest.raises(InvalidInput, match="format 2, and this Affidavit reads up to 1"):
        store.ensure(METADATA, "counters", 1)


def _insert_on(connection: sa.Connection) -> None:
    connection.execute(COUNTERS.insert().values(name="a", value=1))


def test_error_messages_of_the_database_hold_no_values(store: Store) -> None:
    store.ensure(METADATA, "counters", 1)
    _insert(store)
    with pytest.raises(sa.exc.IntegrityError) as caught, store.write() as connection:
        connection.execute(COUNTERS.insert().values(name="a", value=987654321))
    assert "987654321" not in str(caught.value)


def test_sqlite_syncs_every_commit_and_uses_the_write_ahead_log(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ws") as store:
        for opened in (store.read(), store.write()):
            with opened as connection:
                assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2


def test_a_locked_database_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    with Store.open(tmp_path / "ws") as store:
        other = sqlite3.connect(tmp_path / "ws" / "workspace.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AffidavitError, match="another process held it"), store.write():
            pass
        other.close()
        with store.write():
            pass


def test_schemas_of_one_postgresql_database_are_workspaces_of_their_own(postgres_url: str) -> None:
    url = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA one")
        connection.exec_driver_sql("CREATE SCHEMA two")
    engine.dispose()
    locations = [postgres_url + ("&" if "?" in postgres_url else "?") + f"options=-csearch_path%3D{name}" for name in ("one", "two", "absent")]
    with Store.open(locations[0]) as one, Store.open(locations[1]) as two:
        one.files.write("policy.json", b"1")
        one.ensure(METADATA, "counters", 1)
        assert one.workspace_id != two.workspace_id
        assert one.spool != two.spool
        assert two.files.list() == []
        two.ensure(METADATA, "counters", 1)
        _insert(two)
        assert (count(one), count(two)) == (0, 1)
    with pytest.raises(UsageError, match="does not exist"):
        Store.open(locations[2])


def test_a_role_that_may_not_make_tables_is_one_clear_error(postgres_url: str) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    url = sa.make_url(postgres_url)
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
    try:
        with pytest.raises(AffidavitError, match="role may not use"):
            Store.open(url.set(username=role).render_as_string(hide_password=False))
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP ROLE {role}")
        engine.dispose()
