"""`affidavit explain` and `affidavit replay`, on a registered model and a file of rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from affidavit.workspace import Workspace

COLUMNS = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    generator = np.random.default_rng(0)
    income, age = generator.normal(size=200).round(3), generator.integers(20, 70, 200)
    table = pa.table(
        {
            "income": income,
            "age": age,
            "home": np.array(["own", "rent", "free"])[generator.integers(0, 3, 200)],
            "risk": np.where(income + (age - 45) / 20 + generator.normal(size=200) > 0, "good", "bad"),
        }
    )
    pacsv.write_csv(table, folder / "rows.csv")
    with Workspace(folder / "ws", actor="dora") as workspace:
        data = workspace.load(str(folder / "rows.csv"), target="risk")
        workspace.register(workspace.train("tabular.forest", data, trees=10), "risk")
    return folder


def test_explain_draws_bars_saves_a_signed_record_and_replay_finds_it_bit_equal(affidavit, home):
    done = affidavit(
        "explain", "risk:1", home / "rows.csv", "--rows", 5, "-w", home / "ws", "--save", home / "record.json", "--plot", home / "first.svg"
    )
    assert done.returncode == 0, done.stderr
    assert "income" in done.stdout and "age" in done.stdout and "2 more rows" in done.stdout
    assert (home / "first.svg").read_text().lstrip().startswith("<?xml")
    again = affidavit("replay", home / "record.json", home / "rows.csv", "--rows", 5, "-w", home / "ws")
    assert again.returncode == 0 and "5 rows by tree: bit-equal" in again.stdout


def test_explain_prints_the_record_as_json(affidavit, home):
    done = affidavit("explain", "risk:1", home / "rows.csv", "--rows", 2, "--start", 7, "--method", "exact", "-w", home / "ws", "--json")
    record = json.loads(done.stdout)
    assert record["method"] == "exact" and np.array(record["values"]).shape == (2, COLUMNS) and max(record["residual"]) < 1e-9


def test_replay_of_other_rows_is_refused_and_of_a_changed_file_too(affidavit, home):
    affidavit("explain", "risk:1", home / "rows.csv", "--rows", 2, "-w", home / "ws", "--save", home / "two.json")
    other = affidavit("replay", home / "two.json", home / "rows.csv", "--rows", 3, "-w", home / "ws")
    assert other.returncode == 1 and "of other rows" in other.stderr
    (home / "bent.json").write_text((home / "two.json").read_text().replace("a", "b", 1))
    assert affidavit("replay", home / "bent.json", home / "rows.csv", "--rows", 2, "-w", home / "ws").returncode == 1
    as_json = affidavit("replay", home / "two.json", home / "rows.csv", "--rows", 2, "-w", home / "ws", "--json")
    assert json.loads(as_json.stdout) == {"bit_equal": True, "largest_deviation": 0.0, "relative_deviation": 0.0, "rows": 2, "method": "tree"}


def test_explain_describes_a_model_as_a_whole_and_finds_changes(affidavit, home):
    rules = affidavit("explain", "risk:1", home / "rows.csv", "--rows", 200, "--method", "surrogate-tree", "-w", home / "ws")
    assert rules.returncode == 0, rules.stderr
    assert "1." in rules.stdout and "age" in rules.stdout
    weights = affidavit(
        "explain", "risk:1", home / "rows.csv", "--rows", 200, "--method", "permutation-importance", "--target", "risk", "-w", home / "ws"
    )
    assert weights.returncode == 0 and "income" in weights.stdout
    changes = affidavit("explain", "risk:1", home / "rows.csv", "--rows", 3, "--method", "counterfactual", "-w", home / "ws")
    assert changes.returncode == 0 and "Nearest changes" in changes.stdout


def test_what_a_method_alone_takes_is_given_as_an_option_and_the_picture_has_a_kind(affidavit, home):
    done = affidavit(
        *("explain", "risk:1", home / "rows.csv", "--rows", 2, "--option", "game=path-dependent", "--option", "interactions=true"),
        *("--plot", home / "bars.png", "--kind", "bar", "-w", home / "ws", "--json"),
    )
    record = json.loads(done.stdout)
    assert record["details"]["game"] == "path-dependent" and np.array(record["interactions"]).shape == (2, COLUMNS, COLUMNS)
    assert (home / "bars.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "exatc"], "exact"),
        (["--label", "maybe"], "no class"),
        (["--start", "5000"], "200 rows"),
        (["--method", "permutation", "--budget", "3"], "too small"),
        (["--plot", "picture.bmp"], ".png"),
        (["--option", "grid"], "is no option"),
        (["--option", "gmae=path-dependent"], "'game'"),
    ],
)
def test_wrong_use_is_one_sentence(affidavit, home, arguments, says):
    done = affidavit("explain", "risk:1", home / "rows.csv", "-w", home / "ws", *arguments)
    assert done.returncode in (1, 2) and says in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
