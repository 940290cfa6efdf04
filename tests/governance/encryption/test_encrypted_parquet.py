"""Encrypted Parquet: nothing readable in the file, nothing readable with other keys, and no change that goes unseen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from affidavit.errors import IntegrityError, InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit_governance.encryption import envelope
from affidavit_governance.encryption.keyring import LocalKeyring
from affidavit_governance.encryption.parquet import read_parquet, write_parquet

KEYS = LocalKeyring(b"m" * 32, "a" * 32)
ROWS = 3000
TABLE = pa.table(
    {
        "full_name": [f"Ada Lovelace {i}" for i in range(ROWS)],
        "salary": [70_000 + i for i in range(ROWS)],
        "town": pa.array(["Marlborough", "Trowbridge", None] * (ROWS // 3)).dictionary_encode(),
        "visits": [[i, i + 1] for i in range(ROWS)],
        "home": [{"street": f"Secret Lane {i}", "zip": str(i)} for i in range(ROWS)],
    }
)
SECRETS = [b"Lovelace", b"Marlborough", b"Secret Lane", b"full_name", b"salary", (70_000).to_bytes(8, "little")]
OWN = ["full_name", "home", "visits"]


def read(path: Path, keys: LocalKeyring = KEYS, **options: Any) -> pa.Table:
    return pa.Table.from_batches(read_parquet(path, keys, **options)())


@pytest.fixture(params=[(), OWN], ids=["one key", "keys of their own"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    assert write_parquet(TABLE.to_batches(max_chunksize=1000), TABLE.schema, tmp_path / "people.parquet", KEYS, columns=request.param) == ROWS
    return tmp_path / "people.parquet"


def test_what_was_written_comes_back_as_a_stream_that_can_start_again(path: Path) -> None:
    stream = read_parquet(path, KEYS)
    assert pa.Table.from_batches(stream()).equals(TABLE) and pa.Table.from_batches(stream()).equals(TABLE)
    data = Dataset.from_arrow(read_parquet(path, KEYS, columns=["salary", "full_name"]))
    assert len(data) == ROWS and data.streamed


def test_the_file_holds_no_value_and_no_name_where_an_unencrypted_one_holds_all(path: Path, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "plain.parquet")
    plain, hidden = (tmp_path / "plain.parquet").read_bytes(), path.read_bytes()
    for secret in SECRETS:
        assert secret in plain and secret not in hidden
    assert (hidden[:4], hidden[-4:]) == (b"PARE", b"PARE")


@pytest.mark.parametrize("keys", [LocalKeyring(b"n" * 32, "a" * 32), LocalKeyring(b"m" * 32, "b" * 32)], ids=["secret", "workspace"])
def test_another_workspaces_keys_are_refused(path: Path, keys: LocalKeyring) -> None:
    with pytest.raises(IntegrityError, match=r"'people\.parquet' does not open with this workspace's keys"):
        read(path, keys)


def test_without_keys_arrow_reads_nothing(path: Path) -> None:
    with pytest.raises(OSError, match="encrypted"):
        pq.read_table(path)


def test_no_change_alters_what_is_read_and_nearly_all_are_refused(path: Path) -> None:
    """A few bytes of Parquet's own framing, such as lengths of indexes that nobody reads, are not authenticated; no value depends on them."""
    original = path.read_bytes()
    positions = range(0, len(original), max(1, len(original) // 150))
    refused = 0
    for position in positions:
        changed = bytearray(original)
        changed[position] ^= 0x40
        path.write_bytes(changed)
        try:
            assert read(path).equals(TABLE)
        except (IntegrityError, InvalidInput) as error:
            assert "'people.parquet'" in str(error) and "Lovelace" not in str(error)
            refused += 1
    assert refused > 0.95 * len(positions)


def test_a_file_cut_short_or_extended_is_refused(path: Path) -> None:
    original = path.read_bytes()
    for data in [original[:length] for length in (4, 100, len(original) // 2, len(original) - 1)] + [original + b"x"]:
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match="changed or cut short"):
            read(path)


def test_a_part_of_another_file_under_the_same_keys_is_refused(path: Path, tmp_path: Path) -> None:
    write_parquet(TABLE.to_batches(max_chunksize=1000), TABLE.schema, tmp_path / "other.parquet", KEYS)
    write_parquet(TABLE.to_batches(max_chunksize=1000), TABLE.schema, tmp_path / "one.parquet", KEYS)
    one, other = (tmp_path / "one.parquet").read_bytes(), (tmp_path / "other.parquet").read_bytes()
    assert len(one) == len(other) and one != other
    (tmp_path / "mixed.parquet").write_bytes(one[: len(one) // 3] + other[len(one) // 3 :])
    with pytest.raises(IntegrityError):
        read(tmp_path / "mixed.parquet")


def test_only_the_keys_of_the_columns_read_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(TABLE.to_batches(), TABLE.schema, tmp_path / "people.parquet", KEYS, columns=OWN)
    opened: set[str] = set()
    opening = envelope.open_sealed

    def watched(key: bytes, key_id: bytes, sealed: bytes, context: envelope.Context) -> bytes:
        opened.add(context.name)
        data_key = opening(key, key_id, sealed, context)
        assert len(data_key) == 32
        return data_key

    monkeypatch.setattr(envelope, "open_sealed", watched)
    read(tmp_path / "people.parquet", columns=["home"])
    assert opened == {"footer", "column-4"}
    read(tmp_path / "people.parquet", columns=["salary", "town"])
    assert opened == {"footer", "column-4", "columns"}


def test_two_files_share_no_data_key(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_parquet(TABLE.to_batches(), TABLE.schema, tmp_path / name, KEYS)
    assert (tmp_path / "a").read_bytes()[4:2000] != (tmp_path / "b").read_bytes()[4:2000]


def test_an_unencrypted_file_another_file_and_a_missing_one_are_told_apart(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "plain.parquet")
    (tmp_path / "text.parquet").write_text("name\nAda")
    for name, error, message in (
        ("plain.parquet", InvalidInput, "is a Parquet file that is not encrypted"),
        ("text.parquet", InvalidInput, "is no encrypted Parquet file"),
        ("absent.parquet", UsageError, "cannot be read"),
    ):
        with pytest.raises(error, match=message):
            read_parquet(tmp_path / name, KEYS)


def test_unknown_columns_and_names_that_cannot_be_listed_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'salry'.*'salary'"):
        read_parquet(path, KEYS, columns=["salry"])
    with pytest.raises(UsageError, match="no column 'salry'.*'salary'"):
        write_parquet([], TABLE.schema, tmp_path / "x", KEYS, columns=["salry"])
    odd = pa.table({"a": [1], "income: yearly; gross, net ": [2]})
    with pytest.raises(UsageError, match="cannot have a key of its own"):
        write_parquet(odd.to_batches(), odd.schema, tmp_path / "x", KEYS, columns=["a"])
    for twice in (pa.table([[1], [2]], names=["a", "a"]), pa.table({"a": [{"b": 1}], "a.b": [5]})):
        with pytest.raises(UsageError, match="Two columns are called 'a"):
            write_parquet(twice.to_batches(), twice.schema, tmp_path / "x", KEYS, columns=["a"])
    assert not (tmp_path / "x").exists()
    write_parquet(odd.to_batches(), odd.schema, tmp_path / "x", KEYS)
    assert read(tmp_path / "x").equals(odd)


def test_a_batch_of_another_schema_leaves_the_old_file_and_no_partial_one(path: Path) -> None:
    before = path.read_bytes()

    def batches() -> Iterator[pa.RecordBatch]:
        yield from TABLE.to_batches()
        yield pa.record_batch({"full_name": ["Ada Lovelace"]})

    with pytest.raises(InvalidInput, match="another schema") as error:
        write_parquet(batches(), TABLE.schema, path, KEYS)
    assert "Lovelace" not in str(error.value)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_long_files_are_written_and_read_in_flat_memory(tmp_path: Path) -> None:
    schema = pa.schema({"text": pa.string()})

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(40):
            yield pa.record_batch({"text": [f"{number} {row} of a longer text" for row in range(20_000)]}, schema)

    write_parquet(batches(), schema, tmp_path / "long.parquet", KEYS)
    most = before = pa.total_allocated_bytes()  # tests before this one may have left something
    rows = 0
    for batch in read_parquet(tmp_path / "long.parquet", KEYS)():
        rows += batch.num_rows
        most = max(most, pa.total_allocated_bytes())
    assert rows == 800_000
    assert most - before < 16 << 20
