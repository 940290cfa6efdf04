"""`affidavit mask`: one file in, one masked file out, whole or not at all."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from affidavit.workspace import Workspace

PEOPLE = "mail,note,amount\n" + "".join(f"person{n}@example.org,call +49 30 2312500{n % 10} about it,{n}\n" for n in range(50))
Mask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mask(affidavit: Callable[..., subprocess.CompletedProcess[str]]) -> Mask:
    return lambda *arguments: affidavit("mask", *arguments)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(PEOPLE)
    return path


def test_personal_data_are_gone_and_the_rest_stays(source: Path, tmp_path: Path, mask: Mask) -> None:
    target = tmp_path / "masked.parquet"
    done = mask(source, target, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 50
    table = pa.parquet.read_table(target)
    assert table["amount"].to_pylist() == list(range(50))
    assert not [value for value in map(str, table.to_pydict().values()) if "@example.org" in value or "23125" in value]
    assert "call" in table["note"][0].as_py()


def test_pseudonyms_of_one_workspace_join_across_files(source: Path, tmp_path: Path, mask: Mask) -> None:
    with Workspace(tmp_path / "ws", actor="a"):
        pass
    (tmp_path / "policy.yaml").write_text("masking: {fields: {mail: pseudonym}}\n")
    for name in ("one.csv", "two.csv"):
        assert mask(source, tmp_path / name, "--policy", tmp_path / "policy.yaml", "--workspace", tmp_path / "ws").returncode == 0
    one, two = (pa.csv.read_csv(tmp_path / name)["mail"].to_pylist() for name in ("one.csv", "two.csv"))
    assert one == two
    assert len(set(one)) == 50


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["nowhere.csv", "out.parquet"], "nowhere.csv"), (["people.csv", "out.xlsx"], ".parquet"), (["people.csv", "people.csv"], "replace its source")],
)
def test_bad_input_gets_one_error_and_writes_nothing(source: Path, tmp_path: Path, arguments: list[str], word: str, mask: Mask) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    done = mask(*[tmp_path / argument for argument in arguments])
    assert done.returncode in (1, 2)
    assert word in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert source.read_text() == PEOPLE


def test_what_anonymising_reached_and_cost_is_shown(tmp_path: Path, mask: Mask) -> None:
    (tmp_path / "in.csv").write_text("age,town\n" + "".join(f"{20 + n % 40},{'Bonn' if n % 3 else 'Kiel'}\n" for n in range(60)))
    (tmp_path / "policy.yaml").write_text("masking: {quasi_identifiers: [age, town], release: {k: 5}}\n")
    refused = mask(tmp_path / "in.csv", tmp_path / "out.csv", "--policy", tmp_path / "policy.yaml")
    assert refused.returncode == 1
    assert not (tmp_path / "out.csv").exists()
    done = mask(tmp_path / "in.csv", tmp_path / "out.csv", "--policy", tmp_path / "policy.yaml", "--anonymise")
    assert done.returncode == 0, done.stderr
    assert "no personal data were found" in done.stdout
    assert "loss of" in done.stdout
    classes = Counter((tmp_path / "out.csv").read_text().splitlines()[1:])
    assert min(classes.values()) >= 5
