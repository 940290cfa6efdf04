"""Frames in memory and SQL databases."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit_plugins.sources import sql
from affidavit_plugins.sources.memory import MemorySource
from affidavit_plugins.sources.plugin import affidavit_register
from affidavit_plugins.sources.sql import SqlSource

SECRET = "jane.doe@example.org"
PASSWORD = "hunter2secret"
COLUMNS = {"n": [1, 2, 3], "s": ["a", None, "c"]}


def refused(kind: type[Exception], source: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        made = SqlSource().read(source, **options)
        if callable(made):
            list(made())
    for secret in (SECRET, PASSWORD):
        assert secret not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


# -- memory ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [COLUMNS, pd.DataFrame(COLUMNS), pl.DataFrame(COLUMNS), pa.table(COLUMNS), pa.table(COLUMNS).to_reader()])
def test_frames_are_read(frame: Any) -> None:
    source = MemorySource()
    assert source.accepts(frame)
    assert Dataset.from_arrow(source.read(frame)).fingerprint == Dataset.from_arrow(COLUMNS).fingerprint


def test_what_is_no_frame_is_not_accepted() -> None:
    assert not any(MemorySource().accepts(value) for value in ("a.csv", Path("a.csv"), 5, [1], None))


def test_a_data_set_is_not_loaded_again_for_it_would_forget_its_roots() -> None:
    with pytest.raises(UsageError, match="data set already"):
        MemorySource().read(Dataset.from_arrow(COLUMNS))
    with pytest.raises(UsageError, match="It takes no options"):
        MemorySource().read(COLUMNS, delimiter=",")


def test_each_source_is_registered_by_its_type_and_can_be_imported() -> None:
    from importlib import import_module

    added: dict[str, str] = {}

    class Registry:
        def add(self, kind: str, name: str, path: str, **_: Any) -> None:
            assert kind == "source"
            added[name] = path

    affidavit_register(Registry())
    for name, path in added.items():
        module, _, attribute = path.partition(":")
        assert getattr(import_module(module), attribute).type == name
    assert set(added) == {"arrow", "csv", "jsonlines", "memory", "parquet", "sql"}


# -- SQLite ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "a bank#1.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table people (id integer, name text, income real)")
        connection.executemany("insert into people values (?, ?, ?)", [(n, None if n == 5 else f"p{n}", n / 2) for n in range(100)])
        connection.execute("create view rich as select * from people where income > 40")
    connection.close()
    return f"sqlite:///{path}"


@pytest.mark.parametrize("stream", [False, True])
def test_the_rows_of_a_query_are_read(database: str, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "DEFAULT_BATCH_ROWS", 7)
    assert SqlSource().accepts(database)
    data = Dataset.from_arrow(SqlSource().read(database, query="select id, name, income from people order by id", stream=stream))
    assert data.streamed is stream
    expected = {"id": list(range(100)), "name": [None if n == 5 else f"p{n}" for n in range(100)], "income": [n / 2 for n in range(100)]}
    assert data.fingerprint == Dataset.from_arrow(expected).fingerprint
    assert data.table.to_pydict() == expected


def test_columns_that_start_with_missing_values_get_their_type_later(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "DEFAULT_BATCH_ROWS", 7)
    query = "select case when id < 20 then null when id < 50 then id else id + 0.5 end as x from people order by id"
    values = SqlSource().read(database, query=query).column("x").to_pylist()
    assert values == [None] * 20 + [float(n) for n in range(20, 50)] + [n + 0.5 for n in range(50, 100)]
    assert "changes its type" in refused(InvalidInput, database, query=query, stream=True)


def test_mixed_columns_are_refused_without_quoting(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query = f"select case when id = 90 then '{SECRET}' else id end as x from people order by id"
    assert "'x' of the query mixes types" in refused(InvalidInput, database, query=query)
    monkeypatch.setattr(sql, "DEFAULT_BATCH_ROWS", 7)
    refused(InvalidInput, database, query=query)


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        (None, UsageError, "Tables: people, rich"),
        ("select * from poeple", InvalidInput, "no such table: poeple"),
        ("select nam from people", InvalidInput, "no such column: nam"),
        (f"selec '{SECRET}'", InvalidInput, "syntax error"),
        (f"select '{SECRET}", InvalidInput, "OperationalError"),
        ("select * from people where id < 0", InvalidInput, "gives no rows"),
    ],
)
def test_bad_queries_are_refused(database: str, query: str | None, kind: type[Exception], message: str) -> None:
    assert message in refused(kind, database, query=query)


@pytest.mark.parametrize("statement", ["delete from people", "drop table people", "insert into people values (1, 'x', 2)", "create table t (a)"])
def test_the_database_cannot_be_changed(database: str, statement: str) -> None:
    refused(InvalidInput, database, query=statement)
    assert SqlSource().read(database, query="select count(*) as n from people").to_pydict() == {"n": [100]}


def test_a_damaged_name_in_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with sqlite3.connect(path) as connection:
        connection.execute('create table people ("name")')
    connection.close()
    path.write_bytes(path.read_bytes().replace(b'"name")', b'"name\xdd)'))
    with pytest.raises(InvalidInput, match="text that is no UTF-8") as caught:
        SqlSource().read(f"sqlite:///{path}", query="select * from people")
    assert caught.value.__suppress_context__


def test_a_missing_database_is_refused_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    assert "There is no file" in refused(InvalidInput, f"sqlite:///{path}", query="select 1")
    assert not path.exists()
    (tmp_path / "text.db").write_text(SECRET * 100)
    assert "DatabaseError" in refused(InvalidInput, f"sqlite:///{tmp_path / 'text.db'}", query="select * from t")


def test_colons_and_percent_signs_in_a_query_are_no_parameters(database: str) -> None:
    assert SqlSource().read(database, query="select ':a %s 100%' as s from people limit 1").to_pydict() == {"s": [":a %s 100%"]}


def test_wrong_urls_and_options_are_usage_errors(database: str) -> None:
    assert "must name a file" in refused(UsageError, "sqlite://", query="select 1")
    assert "must name a file" in refused(UsageError, "sqlite:///:memory:", query="select 1")
    assert "Did you mean 'query'" in refused(UsageError, database, qery="select 1")
    assert "dialect" in refused(UsageError, f"postgresql+nodriver://me:{PASSWORD}@host/db", query="select 1")
    assert "cannot be read" in refused(UsageError, f"postgresql://me:{PASSWORD}@host:notaport/db", query="select 1")
    assert not any(SqlSource().accepts(value) for value in ("a.db", "http://host/x", "s3://bucket/x", Path("sqlite:///a"), 5))


def test_a_server_that_does_not_answer_is_named_without_user_or_password() -> None:
    message = refused(InvalidInput, f"postgresql://me_the_user:{PASSWORD}@127.0.0.1:1/bank?connect_timeout=2", query="select 1")
    assert "postgresql database 'bank' at 127.0.0.1" in message
    assert "me_the_user" not in message


# -- PostgreSQL ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(postgres_server: sa.URL) -> Any:
    engine = sa.create_engine(postgres_server)
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table if exists source_test")
        connection.exec_driver_sql(
            "create table source_test as select n as id, n::numeric(12,2) / 4 as amount, timestamp '2020-01-01' + n * interval '1 day' as at, "
            "mod(n, 2) = 0 as even, case when n = 3 then null else 'p' || n end as name, md5(n::text)::uuid as key, time '12:30' as noon "
            "from generate_series(0, 99) n"
        )
    yield postgres_server.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table source_test")
    engine.dispose()


@pytest.mark.parametrize("stream", [False, True])
def test_postgresql_rows_come_through_a_cursor(postgres: str, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "DEFAULT_BATCH_ROWS", 30)
    data = Dataset.from_arrow(SqlSource().read(postgres, query="select * from source_test order by id", stream=stream))
    assert len(data) == 100
    assert data.streamed is stream
    assert data.to_list("amount")[:3] == [0.0, 0.25, 0.5]
    assert {str(field.type) for field in data.table.schema if field.name in ("key", "noon")} == {"string"}
    assert str(data.schema["at"].type) == "datetime"
    assert data.to_list("name")[3] is None


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select * from no_such", 'relation "no_such" does not exist'),
        ("select nam from source_test", 'column "nam" does not exist'),
        (f"select '{SECRET}'::int", "InvalidTextRepresentation"),
        (f"select cast(name as int) from (select '{SECRET}' as name) t", "InvalidTextRepresentation"),
    ],
)
def test_postgresql_errors_quote_no_value(postgres: str, query: str, message: str) -> None:
    assert message in refused(InvalidInput, postgres, query=query)


@pytest.mark.parametrize(
    "statement", ["delete from source_test", "drop table source_test", "with d as (delete from source_test returning *) select * from d"]
)
def test_postgresql_cannot_be_changed(postgres: str, statement: str) -> None:
    refused(InvalidInput, postgres, query=statement)
    assert SqlSource().read(postgres, query="select count(*) as n from source_test").to_pydict() == {"n": [100]}


def test_a_query_cannot_move_a_sequence_which_no_rollback_would_undo(postgres: str) -> None:
    engine = sa.create_engine(postgres)
    with engine.begin() as connection:
        connection.exec_driver_sql("create sequence if not exists source_sequence")
    assert "ReadOnlySqlTransaction" in refused(InvalidInput, postgres, query="select nextval('source_sequence') as n")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("select is_called from source_sequence").scalar() is False
        connection.exec_driver_sql("drop sequence source_sequence")
    engine.dispose()


def test_per_cents_and_casts_reach_postgresql_as_they_are(postgres: str) -> None:
    assert SqlSource().read(postgres, query="select '%s :a'::text as s, 7 % 4 as n").to_pydict() == {"s": ["%s :a"], "n": [3]}


def test_decimals_uuids_and_times_have_plain_forms() -> None:
    import uuid
    from datetime import time, timedelta

    assert sql._array("x", [None, Decimal("1.25")]).to_pylist() == [None, 1.25]
    assert sql._array("x", [uuid.UUID(int=5), None]).to_pylist() == [str(uuid.UUID(int=5)), None]
    assert sql._array("x", [time(12, 30)]).to_pylist() == ["12:30:00"]
    assert sql._array("x", [timedelta(minutes=1)]).to_pylist() == [60.0]
