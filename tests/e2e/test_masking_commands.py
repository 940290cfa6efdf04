"""`affidavit mask` between files and databases, and `affidavit scan`: what people and machines get to see."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa

from affidavit.workspace import Workspace

CommandLine = Callable[..., subprocess.CompletedProcess[str]]
EMAIL, PHONE = "jane@example.com", "+4915112345678"
PEOPLE = "mail,note,amount\n" + "".join(f"{EMAIL},call {PHONE} or not number {n} at all,{n}\n" for n in range(30))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "policy.yaml").write_text("masking: {entities: {EMAIL_ADDRESS: pseudonym}, thresholds: {PHONE_NUMBER: 0.5}}\n")
    (tmp_path / "clean.txt").write_text("nothing here\n")
    return tmp_path


def test_a_scan_says_what_stands_where_and_shows_no_value(home: Path, affidavit: CommandLine) -> None:
    done = affidavit("scan", home / "people.csv")
    assert done.returncode == 0
    for word in ("EMAIL_ADDRESS", "PHONE_NUMBER", "mail", "note", "30", "100.0%"):
        assert word in done.stdout
    as_json = affidavit("scan", home / "people.csv", "--json")
    report = json.loads(as_json.stdout)
    assert report["rows"] == 30
    assert report["totals"] == {"EMAIL_ADDRESS": 30, "PHONE_NUMBER": 30}
    assert report["found"][0]["examples"] == ["j***@e******.com"]
    for text in (done.stdout, done.stderr, as_json.stdout, as_json.stderr):
        assert "jane" not in text and "15112345678" not in text


def test_a_scan_fails_only_where_it_is_told_to(home: Path, affidavit: CommandLine) -> None:
    assert affidavit("scan", home / "people.csv", "--fail-on-found").returncode == 1
    assert affidavit("scan", home / "clean.txt", "--fail-on-found").returncode == 0
    assert "nothing found in 13 characters" in affidavit("scan", home / "clean.txt").stdout
    assert affidavit("scan", home / "people.csv", "--threshold", "1", "--fail-on-found").returncode == 0
    wrong = affidavit("scan", home / "people.csv", "--threshold", "7")
    assert wrong.returncode == 2 and "between 0 and 1" in wrong.stderr


def test_a_database_is_scanned_and_masked_by_url(home: Path, affidavit: CommandLine) -> None:
    url = f"sqlite:///{home / 'a.db'}"
    with sa.create_engine(url).begin() as connection:
        connection.exec_driver_sql("create table people (mail text, n integer)")
        connection.exec_driver_sql(f"insert into people values ('{EMAIL}', 1), ('x', 2)")
    found = affidavit("scan", url, "--query", "select * from people", "--json")
    assert json.loads(found.stdout)["totals"] == {"EMAIL_ADDRESS": 1}
    done = affidavit("mask", url, url, "--query", "select * from people", "--table", "masked", "--json")
    assert done.returncode == 0, done.stderr
    with sa.create_engine(url).connect() as connection:
        assert connection.exec_driver_sql("select mail from masked order by n").scalars().all() == ["<EMAIL_ADDRESS>", "x"]
    again = affidavit("mask", url, url, "--query", "select * from people", "--table", "masked")
    assert again.returncode == 2 and "--replace" in again.stderr
    assert affidavit("mask", url, url, "--query", "select * from people", "--table", "masked", "--replace").returncode == 0
    assert affidavit("mask", url, home / "out.jsonl", "--query", "select * from people", "--table", "t").returncode == 2


def test_masking_with_a_workspace_takes_its_policy_and_its_key(home: Path, affidavit: CommandLine) -> None:
    with Workspace(home / "ws", actor="a", policy=home / "policy.yaml") as workspace:
        loaded = workspace.load(pa.table({"mail": [EMAIL] * 4, "n": [1, 2, 3, 4]})).to_list("mail")[0]
    for name in ("out.parquet", "again.parquet"):
        assert affidavit("mask", home / "people.csv", home / name, "--workspace", home / "ws").returncode == 0
    one, two = (pa.parquet.read_table(home / name)["mail"].to_pylist() for name in ("out.parquet", "again.parquet"))
    assert set(one) == set(two) == {loaded}
    (home / "in.txt").write_text(f"write to {EMAIL}\n")
    done = affidavit("mask", home / "in.txt", home / "out.txt", "--workspace", home / "ws")
    assert (home / "out.txt").read_text() == f"write to {loaded}\n"
    assert "1 lines written" in done.stdout


def test_a_vault_of_the_workspace_serves_the_command_line(home: Path, affidavit: CommandLine) -> None:
    policy = "masking: {fields: {mail: vault}}\n"
    (home / "vault.yaml").write_text(policy)
    with Workspace(home / "ws", actor="a", policy=home / "vault.yaml"):
        pass
    assert affidavit("mask", home / "people.csv", home / "out.parquet", "--workspace", home / "ws").returncode == 0
    tokens = set(pa.parquet.read_table(home / "out.parquet")["mail"].to_pylist())
    assert len(tokens) == 1 and EMAIL not in tokens
    outside = affidavit("mask", home / "people.csv", home / "none.parquet", "--policy", home / "vault.yaml")
    assert outside.returncode != 0 and "workspace" in outside.stderr
    assert not (home / "none.parquet").exists()


def test_progress_goes_to_a_terminals_standard_error_and_nowhere_else(home: Path) -> None:
    command = [sys.executable, "-m", "affidavit", "mask", str(home / "people.csv"), str(home / "out.csv"), "--json"]
    plain = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(plain.stdout)["rows"] == 30
    assert "\x1b" not in plain.stderr
    control, terminal = pty.openpty()
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "TERM": "xterm"}, text=True)
    os.close(terminal)
    drawn = b""
    while True:
        try:
            block = os.read(control, 4096)
        except OSError:  # the other side is gone
            break
        if not block:
            break
        drawn += block
    assert shown.stdout is not None
    assert json.loads(shown.stdout.read())["rows"] == 30
    assert shown.wait(60) == 0
    assert b"people.csv" in drawn
    assert EMAIL.encode() not in drawn
