"""Databases: a query read masked, a table written masked, whole or as it was."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.surfaces.files import mask_file

KEY = bytes(range(32))
RULE = MaskingPolicy.model_validate({"entities": {"EMAIL_ADDRESS": "pseudonym"}})
ROWS = 300


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'a.db'}" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


def engine(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)


def fill(url: str) -> None:
    with engine(url).begin() as connection:
        connection.exec_driver_sql("create table people (id integer, mail varchar(80), note text, paid double precision)")
        table = sa.table("people", *(sa.column(name) for name in ("id", "mail", "note", "paid")))
        rows = [{"id": i, "mail": f"p{i}@example.org", "note": None if i % 3 else f"ask q{i}@example.org", "paid": i / 2} for i in range(ROWS)]
        connection.execute(table.insert(), rows)


def write(folder: Path) -> Path:
    pa.parquet.write_table(pa.table({"mail": ["a@example.org"] * 9}), folder / "nine.parquet")
    return folder / "nine.parquet"


def rows(url: str, table: str) -> list[Any]:
    with engine(url).connect() as connection:
        return list(connection.execute(sa.text(f"select * from {table} order by paid")))


def tables(url: str) -> list[str]:
    return sorted(sa.inspect(engine(url)).get_table_names())


QUERY = "select mail, note, paid from people order by id"


def test_a_query_is_read_masked_into_a_file_and_the_database_is_not_changed(url: str, tmp_path: Path) -> None:
    fill(url)
    before = rows(url, "people")
    report = mask_file(url, tmp_path / "out.parquet", policy=RULE, key=KEY, query=QUERY)
    table = pa.parquet.read_table(tmp_path / "out.parquet")
    assert report["rows"] == ROWS == table.num_rows
    assert "@" not in str(table.to_pydict())
    assert table["paid"].to_pylist() == [i / 2 for i in range(ROWS)]
    assert rows(url, "people") == before


def test_a_table_is_written_masked_into_the_same_and_into_another_database(url: str, tmp_path: Path) -> None:
    fill(url)
    other = f"sqlite:///{tmp_path / 'b.db'}"
    for place in (url, other):
        mask_file(url, place, policy=RULE, key=KEY, query=QUERY, table="masked people")
        written = rows(place, '"masked people"')
        assert len(written) == ROWS
        assert "@" not in str(written)
        assert [row.paid for row in written] == [i / 2 for i in range(ROWS)]
        assert len({row.mail for row in written}) == ROWS
    assert rows(url, '"masked people"') == rows(other, '"masked people"')
    assert tables(url) == ["masked people", "people"]


def test_more_rows_than_sqlite_keeps_in_memory_go_into_the_same_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    counted = "with recursive c(i) as (select 1 union all select i + 1 from c where i < 70000) select 'some text of some length ' || i, i from c"
    with engine(url).begin() as connection:
        connection.exec_driver_sql("create table t (k text, n integer)")
        connection.exec_driver_sql(f"insert into t {counted}")
    mask_file(url, url, policy=MaskingPolicy(), key=KEY, query="select * from t", table="u")
    with engine(url).connect() as connection:
        assert connection.exec_driver_sql("select count(*), sum(n) from u").one() == (70000, 70000 * 70001 // 2)


def test_a_table_that_is_there_stays_unless_it_is_to_be_replaced(url: str) -> None:
    fill(url)
    with pytest.raises(UsageError, match="has a table 'people'"):
        mask_file(url, url, policy=RULE, key=KEY, query=QUERY, table="people")
    assert len(rows(url, "people")[0]) == 4
    mask_file(url, url, policy=RULE, key=KEY, query=QUERY, table="people", replace=True)
    assert len(rows(url, "people")) == ROWS
    assert "@" not in str(rows(url, "people"))
    assert tables(url) == ["people"]


def test_a_failure_in_the_middle_leaves_the_old_table_and_no_other(url: str, tmp_path: Path) -> None:
    fill(url)
    before = rows(url, "people")

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mask_file(url, url, policy=RULE, key=KEY, query=QUERY, table="people", replace=True, progress=stop)
    assert rows(url, "people") == before
    assert tables(url) == ["people"]
    other = f"sqlite:///{tmp_path / 'b.db'}"
    for place in (other, url):
        with pytest.raises(KeyboardInterrupt):
            mask_file(write(tmp_path), place, policy=RULE, key=KEY, table="new", progress=stop)
    assert tables(other) == []
    assert tables(url) == ["people"]
    pa.parquet.write_table(pa.table({"a": [1], "deep": [["x"]]}), tmp_path / "deep.parquet")
    with pytest.raises(InvalidInput, match="Column 'deep'"):
        mask_file(tmp_path / "deep.parquet", url, policy=RULE, key=KEY, table="new")
    assert tables(url) == ["people"]


def test_values_of_every_plain_type_come_back_from_the_database(url: str, tmp_path: Path) -> None:
    moment = dt.datetime(2020, 2, 3, 4, 5, 6)
    columns = {
        "i": pa.array([2**40, None]),
        "u": pa.array([2**63 + 5, None], pa.uint64()),
        "f": pa.array([0.1, None]),
        "b": pa.array([True, None]),
        "s": pa.array(["é", None]),
        "c": pa.array(["x", None]).dictionary_encode(),
        "d": pa.array([dt.date(1999, 12, 31), None]),
        "t": pa.array([moment, None], pa.timestamp("us")),
        "m": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
        "x": pa.array([b"\x00\xff", None], pa.binary()),
        "none": pa.nulls(2),
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "types.parquet")
    mask_file(tmp_path / "types.parquet", url, policy=MaskingPolicy(), key=KEY, table="types")
    names = [name for name in columns if not (name in ("u", "x") and url.startswith("sqlite"))]
    column = {name: sa.column(name) for name in names}
    types = {"d": sa.Date(), "t": sa.DateTime(), "m": sa.Numeric(10, 2), "b": sa.Boolean()}
    chosen = [sa.type_coerce(column[name], types[name]).label(name) if name in types else column[name] for name in names]
    with engine(url).connect() as connection:
        read = connection.execute(sa.select(*chosen).select_from(sa.table("types"))).mappings().all()
    expected = {name: columns[name].to_pylist() for name in names}
    for name in names:
        assert [row[name] if name != "u" or row[name] is None else int(row[name]) for row in read] == expected[name], name


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda tmp: mask_file("sqlite:///nowhere.db", tmp / "o.csv", policy=RULE, key=KEY, query="select 1"), InvalidInput, "nowhere"),
        (lambda tmp: mask_file("mongo://x/y", tmp / "o.csv", policy=RULE, key=KEY), UsageError, "No source"),
        (lambda tmp: mask_file(tmp / "in.parquet", f"sqlite:///{tmp}/o.db", policy=RULE, key=KEY), UsageError, "none is named"),
        (lambda tmp: mask_file(tmp / "in.parquet", "sqlite://", policy=RULE, key=KEY, table="t"), UsageError, "must name a file"),
        (lambda tmp: mask_file(tmp / "in.parquet", "nosuch://u:secret@h/d", policy=RULE, key=KEY, table="t"), UsageError, "dialect 'nosuch'"),
        (lambda tmp: mask_file(tmp / "in.parquet", f"sqlite:///{tmp}/no/dir/o.db", policy=RULE, key=KEY, table="t"), InvalidInput, "refused"),
    ],
)
def test_what_cannot_be_reached_is_one_error_without_passwords(
    call: Callable[[Path], object], error: type[AffidavitError], message: str, tmp_path: Path
) -> None:
    pa.parquet.write_table(pa.table({"a": ["x"]}), tmp_path / "in.parquet")
    with pytest.raises(error, match=message) as caught:
        call(tmp_path)
    assert "secret" not in str(caught.value)


def test_a_source_without_its_query_names_the_tables(url: str, tmp_path: Path) -> None:
    fill(url)
    with pytest.raises(UsageError, match="people"):
        mask_file(url, tmp_path / "out.csv", policy=RULE, key=KEY)
