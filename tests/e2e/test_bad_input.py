"""Bad input through the command line: one clear error, its exit code, no traceback, nothing lost."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.workspace import Workspace

CommandLine = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., None]

ROWS = "x,colour,y\n" + "".join(f"{n % 7},{'red' if n % 2 else 'blue'},{'yes' if n % 3 else 'no'}\n" for n in range(60))
PROJECT = {
    "name": "tiny",
    "dataset": {"source": "data.csv", "target": "y"},
    "policy": "policy.yaml",
    "model": {"type": "tabular.logistic"},
    "explain": None,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "data.csv").write_text(ROWS)
    (tmp_path / "policy.yaml").write_text("explain: {required: false}\n")
    write_project(tmp_path)
    return tmp_path


def write_project(home: Path, **changes: object) -> None:
    (home / "project.yaml").write_text(yaml.safe_dump({**PROJECT, **changes}))


@pytest.fixture
def refused(home: Path, affidavit: CommandLine) -> Callable[..., None]:
    """Runs the project and checks that it ends with one error that holds all the words and none of those that it must not `quote`."""

    def check(*words: str, quote: str | None = None) -> None:
        done = affidavit("run", home / "project.yaml")
        assert done.returncode in (1, 2), done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("Error:") + done.stderr.count("Refused:") == 1, done.stderr
        flat = " ".join(done.stderr.split())
        for word in words:
            assert word in flat, f"'{word}' is not in: {flat}"
        assert quote is None or quote not in done.stdout + done.stderr

    return check


def run(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "affidavit", "run", str(home / "project.yaml")], capture_output=True, text=True, check=False)


def test_the_tiny_project_itself_works(home: Path) -> None:
    done = run(home)
    assert done.returncode == 0, done.stderr


def test_the_auditors_command_can_be_copied_whatever_the_folder_is_called(home: Path, affidavit: CommandLine) -> None:
    done = affidavit("run", home / "project.yaml", "--out", home / "it's [b]old[/b]")
    (command,) = re.findall(r"^Verify:  (affidavit .*)$", done.stdout, re.M)
    assert affidavit(*shlex.split(command)[1:]).returncode == 0


def test_an_error_ends_the_process_with_its_exit_code_and_no_traceback(home: Path) -> None:
    write_project(home, model={"type": "tabular.forrest"})
    done = run(home)
    assert done.returncode == 2
    assert done.stderr.startswith("Error:")
    assert "Traceback" not in done.stderr


def test_missing_file(home: Path, refused: Refused) -> None:
    (home / "data.csv").unlink()
    refused("data.csv")


@pytest.mark.parametrize("content", ["", "x,colour,y\n"])
def test_empty_csv(home: Path, refused: Refused, content: str) -> None:
    (home / "data.csv").write_text(content)
    refused("data")


def test_ragged_row_is_named_by_its_number_and_not_quoted(home: Path, refused: Refused) -> None:
    (home / "data.csv").write_text(ROWS + "1,secret-cell\n")
    refused("62", quote="secret-cell")


def test_wrong_delimiter(home: Path, refused: Refused) -> None:
    (home / "data.csv").write_text(ROWS.replace(",", ";"))
    refused("delimiter", ";")


def test_wrong_encoding(home: Path, refused: Refused) -> None:
    (home / "data.csv").write_bytes(ROWS.replace("red", "röd").encode("latin-1"))
    refused("utf-8", "encoding")


def test_absent_target(home: Path, refused: Refused) -> None:
    write_project(home, dataset={"source": "data.csv", "target": "colours"})
    refused("colours", "Did you mean 'colour'?")


def test_constant_target(home: Path, refused: Refused) -> None:
    (home / "data.csv").write_text(ROWS.replace(",no", ",yes"))
    refused("target 'y'", "same value")


def test_infinite_number(home: Path, refused: Refused) -> None:
    (home / "data.csv").write_text(ROWS + "inf,red,yes\n")
    refused("'x'", "infin")


def test_unknown_column_in_the_policy(home: Path, refused: Refused) -> None:
    (home / "policy.yaml").write_text("masking: {fields: {colur: redact}}\n")
    refused("colur", "Did you mean 'colour'?")


def test_unknown_policy_key(home: Path, refused: Refused) -> None:
    (home / "policy.yaml").write_text("privcy: {epsilon: 1}\n")
    refused("privcy", "Did you mean 'privacy'?")


def test_unknown_model_type(home: Path, refused: Refused) -> None:
    write_project(home, model={"type": "tabular.forrest"})
    refused("tabular.forrest", "Did you mean 'tabular.forest'?", "tabular.mlp")


def test_unknown_model_parameter(home: Path, refused: Refused) -> None:
    write_project(home, model={"type": "tabular.forest", "params": {"treees": 3}})
    refused("treees", "trees")


def test_missing_extra_names_the_pip_line(home: Path) -> None:
    """A fresh interpreter in which scikit-learn cannot be found, as on a core install."""
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('sklearn', 'skops'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"sys.argv = ['affidavit', 'run', {str(home / 'project.yaml')!r}]\n"
        "from affidavit.cli import main\nmain()\n"
    )
    write_project(home, model={"type": "tabular.forest"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'affidavit[tabular]'" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_wrong_passphrase_changes_nothing(tmp_path: Path) -> None:
    Workspace(tmp_path / "ws", passphrase="right", actor="a").close()
    before = {
        path: path.read_bytes() for path in (tmp_path / "ws").rglob("*") if path.is_file() and "-wal" not in path.name and "-shm" not in path.name
    }
    with pytest.raises(AffidavitError, match="passphrase"):
        Workspace(tmp_path / "ws", passphrase="wrong", actor="a")
    assert {path: path.read_bytes() for path in before} == before
    Workspace(tmp_path / "ws", passphrase="right", actor="a").close()


def test_prediction_rows_that_do_not_fit_the_training_schema(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", actor="a") as workspace:
        data = workspace.load(pa.table({"x": [float(n % 7) for n in range(60)], "c": ["a", "b"] * 30, "y": ["n", "p", "p"] * 20}), target="y")
        model = workspace.train("tabular.logistic", data)
        with pytest.raises(InvalidInput, match="'c'"):
            workspace.predict(model, {"x": [1.0]})
        with pytest.raises(InvalidInput, match="'x'"):
            workspace.predict(model, {"x": ["a word"], "c": ["a"]})
        with pytest.raises(InvalidInput, match="'x'"):
            workspace.predict(model, pa.table({"x": ["a word"], "c": ["a"]}))


def test_a_folder_that_is_no_workspace_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("photos")
    with pytest.raises(UsageError):
        Workspace(tmp_path, actor="a")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


def test_one_changed_byte_of_an_artifact_is_refused_by_name(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", actor="a", policy={"explain": {"required": False}}) as workspace:
        data = workspace.load(pa.table({"x": [float(n % 7) for n in range(60)], "y": ["n", "p", "p"] * 20}), target="y")
        version = workspace.register(workspace.train("tabular.logistic", data), "tiny")
    largest = max((path for path in (tmp_path / "ws" / "files" / "objects").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    with Workspace(tmp_path / "ws", actor="a") as workspace, pytest.raises(AffidavitError, match=largest.name[:12]):
        workspace.model(version)


@pytest.mark.parametrize(
    "command",
    [
        ("report", "taken/report.html", "--workspace", "out/workspace"),
        ("bundle", ".", "--workspace", "out/workspace"),
        ("mask", "data.csv", "taken/masked.csv"),
        ("approver", "new", "rita", "--out", "taken/rita.pem"),
        ("run", "project.yaml", "--out", "taken"),
    ],
    ids=lambda command: command[0],
)
def test_a_place_that_cannot_be_written_ends_in_one_error(
    home: Path, affidavit: CommandLine, monkeypatch: pytest.MonkeyPatch, command: Sequence[str]
) -> None:
    with Workspace(home / "out" / "workspace"):
        (home / "taken").write_text("a file where a folder would have to be")
    monkeypatch.chdir(home)
    done = affidavit(*command)
    assert done.returncode in (1, 2) and done.stderr.count("Error:") == 1 and "Traceback" not in done.stderr, done.stderr


def test_the_log_shows_no_word_for_a_status_that_an_intent_does_not_have(home: Path, affidavit: CommandLine) -> None:
    with Workspace(home / "out" / "workspace") as workspace:
        workspace.load(home / "data.csv", target="y")
    done = affidavit("log", "--workspace", home / "out" / "workspace")
    assert "intent" in done.stdout and "None" not in done.stdout


def test_a_section_that_would_be_passed_over_is_refused(home: Path, refused: Refused) -> None:
    write_project(home, deploy={"target": "in-process"})
    refused("'deploy' needs 'promote'")
    write_project(home, promote={"alias": "production"})
    refused("'promote' needs 'register'")


def test_a_closed_workspace_answers_no_more_calls(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", actor="a") as workspace:
        data = workspace.load(pa.table({"x": [float(n % 7) for n in range(60)], "y": ["n", "p", "p"] * 20}), target="y")
        model = workspace.train("tabular.logistic", data)
    with pytest.raises(UsageError, match="closed"):
        workspace.predict(model, {"x": [1.0]})


def test_rows_that_were_not_loaded_are_refused_by_name(tmp_path: Path) -> None:
    table = pa.table({"x": [float(n % 7) for n in range(60)], "y": ["n", "p", "p"] * 20})
    with Workspace(tmp_path / "ws", actor="a") as workspace:
        model = workspace.train("tabular.logistic", workspace.load(table, target="y"))
        for attempt in (
            lambda: workspace.train("tabular.logistic", table),
            lambda: workspace.evaluate(model, table),
            lambda: workspace.explain(model, table),
        ):
            with pytest.raises(UsageError, match="Workspace.load"):
                attempt()
