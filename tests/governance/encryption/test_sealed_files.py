"""Sealed files: whole or absent, bound to their workspace, and never plaintext left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from affidavit.errors import AffidavitError, IntegrityError, UsageError
from affidavit.workspace import Workspace
from affidavit_governance.encryption import files, rotation
from affidavit_governance.encryption.files import open_sealed_file, seal_file, unseal_file
from affidavit_governance.encryption.keyring import LocalKeyring
from affidavit_governance.encryption.parquet import read_parquet, write_parquet

KEYS = LocalKeyring(b"m" * 32, "a" * 32)
CONTENT = os.urandom(2_500_000)
HEADER = 23 + 113 + 32


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    (tmp_path / "letters.bin").write_bytes(CONTENT)
    assert seal_file(tmp_path / "letters.bin", tmp_path / "letters.sealed", KEYS, associated_data=b"2026") == len(CONTENT)
    return tmp_path / "letters.sealed"


def test_a_sealed_file_comes_back_readable_by_its_owner_alone(sealed: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    assert unseal_file(sealed, tmp_path / "out", KEYS, associated_data=b"2026", progress=seen.append) == seen[-1] == len(CONTENT)
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_the_sealed_file_holds_no_plaintext_and_no_two_are_alike(sealed: Path, tmp_path: Path) -> None:
    assert CONTENT[:16] not in sealed.read_bytes() and CONTENT[-16:] not in sealed.read_bytes()
    seal_file(tmp_path / "letters.bin", tmp_path / "again.sealed", KEYS, associated_data=b"2026")
    assert (tmp_path / "again.sealed").read_bytes()[5:] != sealed.read_bytes()[5:]


@pytest.mark.parametrize("position", [0, 4, 10, 21, 60, HEADER, HEADER + 39, HEADER + 500_000, HEADER + 2_000_000, -1])
def test_a_changed_file_is_refused_and_leaves_no_file(sealed: Path, tmp_path: Path, position: int) -> None:
    data = bytearray(sealed.read_bytes())
    data[position] ^= 1
    sealed.write_bytes(data)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(IntegrityError, match=r"'letters\.sealed'"):
        unseal_file(sealed, tmp_path / "out", KEYS, associated_data=b"2026")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("length", [0, 10, 100, HEADER, HEADER + 40, HEADER + (1 << 20), HEADER + (2 << 20), -1])
def test_a_file_cut_short_is_refused_and_what_was_there_stays(sealed: Path, tmp_path: Path, length: int) -> None:
    sealed.write_bytes(sealed.read_bytes()[:length])
    (tmp_path / "out").write_text("earlier")
    with pytest.raises(IntegrityError, match=r"'letters\.sealed'"):
        unseal_file(sealed, tmp_path / "out", KEYS, associated_data=b"2026")
    assert (tmp_path / "out").read_text() == "earlier"


@pytest.mark.parametrize("keys", [LocalKeyring(b"n" * 32, "a" * 32), LocalKeyring(b"m" * 32, "b" * 32)], ids=["secret", "workspace"])
def test_another_workspaces_keys_are_refused(sealed: Path, tmp_path: Path, keys: LocalKeyring) -> None:
    with pytest.raises(IntegrityError, match="does not open with this workspace's keys"):
        unseal_file(sealed, tmp_path / "out", keys, associated_data=b"2026")


def test_other_associated_data_and_an_exchanged_data_key_are_refused(sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="other associated data"):
        unseal_file(sealed, tmp_path / "out", KEYS)
    seal_file(tmp_path / "letters.bin", tmp_path / "again.sealed", KEYS, associated_data=b"2026")
    again = (tmp_path / "again.sealed").read_bytes()
    sealed.write_bytes(again[:HEADER] + sealed.read_bytes()[HEADER:])
    with pytest.raises(IntegrityError, match="Chunk 0"):
        unseal_file(sealed, tmp_path / "out", KEYS, associated_data=b"2026")


def test_a_file_of_a_later_version_is_refused_with_the_next_step(sealed: Path, tmp_path: Path) -> None:
    sealed.write_bytes(b"AFDF\x09" + sealed.read_bytes()[5:])
    with pytest.raises(IntegrityError, match="version 9.*Upgrade"):
        unseal_file(sealed, tmp_path / "out", KEYS, associated_data=b"2026")


def test_a_sealed_parquet_file_is_read_in_parts_without_being_written_out(tmp_path: Path) -> None:
    table = pa.table({"a": range(300_000), "b": [f"row {i}" for i in range(300_000)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=50_000)
    seal_file(tmp_path / "t.parquet", tmp_path / "t.sealed", KEYS)
    with open_sealed_file(tmp_path / "t.sealed", KEYS) as file:
        assert pq.ParquetFile(file).read_row_group(3).equals(table.slice(150_000, 50_000))


def test_a_missing_source_a_folder_and_the_source_itself_are_refused(sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        seal_file(tmp_path / "absent", tmp_path / "out", KEYS)
    with pytest.raises(UsageError, match="is a folder"):
        seal_file(sealed, tmp_path, KEYS)
    with pytest.raises(UsageError, match="is a folder"):
        seal_file(sealed, Path(), KEYS)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is no regular file"):
        unseal_file(sealed, tmp_path / "pipe", KEYS)
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(UsageError, match="replace its source"):
        seal_file(sealed, tmp_path / "x" / ".." / "letters.sealed" if (tmp_path / "x").mkdir() is None else sealed, KEYS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "letters.bin").write_bytes(CONTENT)
    monkeypatch.setattr(files, "_new_file", lambda path, mode: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(AffidavitError, match="No space left"):
        seal_file(tmp_path / "letters.bin", tmp_path / "out", KEYS)
    assert not (tmp_path / "out").exists()


def test_where_files_need_a_name_from_the_start_all_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_WRONLY | os.O_EXCL | os.O_CREAT, raising=False)  # opening a folder so fails, as where it is unknown
    (tmp_path / "letters.bin").write_bytes(CONTENT)
    seal_file(tmp_path / "letters.bin", tmp_path / "sealed", KEYS)
    assert unseal_file(tmp_path / "sealed", tmp_path / "out", KEYS) == len(CONTENT)
    (tmp_path / "sealed").write_bytes((tmp_path / "sealed").read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        unseal_file(tmp_path / "sealed", tmp_path / "out", KEYS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters.bin", "out", "sealed"]


def test_a_process_killed_while_unsealing_leaves_the_old_file_and_no_plaintext(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("earlier")
    before = sorted(tmp_path.iterdir())
    code = f"""
import time
from pathlib import Path
from affidavit_governance.encryption.files import unseal_file
from affidavit_governance.encryption.keyring import LocalKeyring
def slow(done):
    print(done, flush=True)
    time.sleep(60)
unseal_file(Path({str(sealed)!r}), Path({str(tmp_path / "out")!r}), LocalKeyring(b"m" * 32, "a" * 32), associated_data=b"2026", progress=slow)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.kill()
    assert (tmp_path / "out").read_text() == "earlier"
    if sys.platform == "linux":
        assert sorted(tmp_path.iterdir()) == before


def test_sealed_files_and_encrypted_parquet_open_after_their_key_versions_were_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(rotation, "GRACE", timedelta(0))
    (tmp_path / "letters.bin").write_bytes(CONTENT)
    table = pa.table({"a": [1, 2, 3]})
    with Workspace(tmp_path / "ws") as workspace:
        seal_file(tmp_path / "letters.bin", tmp_path / "sealed", workspace.keyring)
        write_parquet(table.to_batches(), table.schema, tmp_path / "a.parquet", workspace.keyring)
        keys = workspace.service("keys")(workspace)
        keys.rotate()
        keys.rewrap()
        keys.destroy(1)
    with Workspace(tmp_path / "ws") as workspace:
        assert unseal_file(tmp_path / "sealed", tmp_path / "out", workspace.keyring) == len(CONTENT)
        assert pa.Table.from_batches(read_parquet(tmp_path / "a.parquet", workspace.keyring)()).equals(table)


def test_a_sealed_file_in_the_place_of_another_shows_only_by_its_associated_data(tmp_path: Path) -> None:
    for name in ("march", "april"):
        (tmp_path / name).write_text(name)
        seal_file(tmp_path / name, tmp_path / f"{name}.plain", KEYS)
        seal_file(tmp_path / name, tmp_path / f"{name}.bound", KEYS, associated_data=name.encode())
    (tmp_path / "march.plain").replace(tmp_path / "april.plain")
    (tmp_path / "march.bound").replace(tmp_path / "april.bound")
    unseal_file(tmp_path / "april.plain", tmp_path / "out", KEYS)
    assert (tmp_path / "out").read_text() == "march"
    with pytest.raises(IntegrityError, match="other associated data"):
        unseal_file(tmp_path / "april.bound", tmp_path / "out", KEYS, associated_data=b"april")
