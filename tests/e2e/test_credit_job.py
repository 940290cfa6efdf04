"""The main job, as `make demo` runs it, and what it leaves behind."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from affidavit.approver import Approver
from affidavit.errors import Refused
from affidavit.project import Job, JobResult
from affidavit.workspace import Workspace

CREDIT = Path(__file__).parents[2] / "examples" / "credit"
CommandLine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("credit")
    for name in ("german_credit.csv", "policy.yaml", "project.yaml"):
        shutil.copy(CREDIT / name, folder)
    Approver.create("rita-risk", folder / "out/keys/rita-risk.pem")
    Approver.create("carl-compliance", folder / "out/keys/carl-compliance.pem")
    return folder


@pytest.fixture(scope="module")
def done(home: Path) -> JobResult:
    return Job(home / "project.yaml", actor="dora-data").run()


def test_the_job_takes_every_step(done: JobResult) -> None:
    assert [step.name for step in done.steps] == [
        "load and mask",
        "split",
        "train",
        "evaluate",
        "explain",
        "package and register",
        "approve",
        "promote",
        "deploy and predict",
        "report",
        "bundle",
        "verify",
    ]
    assert done.version == "credit-risk:1"


def test_the_private_model_is_worth_having(done: JobResult) -> None:
    assert done.metrics["roc_auc"] >= 0.65


def test_the_bundle_verifies_on_the_command_line_and_not_with_another_key(
    done: JobResult, home: Path, tmp_path: Path, affidavit: CommandLine
) -> None:
    good = affidavit("verify", done.bundle or "", "--key", done.verifier_key, "--json")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["ok"] is True
    with Workspace(tmp_path / "other") as other:
        bad = affidavit("verify", done.bundle or "", "--key", other.verifier_key)
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr


def test_a_changed_file_in_the_bundle_is_named(done: JobResult, tmp_path: Path, affidavit: CommandLine) -> None:
    assert done.bundle is not None
    content = bytearray(done.bundle.read_bytes())
    with zipfile.ZipFile(done.bundle) as archive:
        info = archive.getinfo("report.html")
    content[info.header_offset + 30 + len(info.filename) + 100] ^= 1
    changed = tmp_path / "changed.zip"
    changed.write_bytes(content)
    result = affidavit("verify", changed, "--key", done.verifier_key)
    assert result.returncode == 1
    assert "report.html" in result.stdout + result.stderr


def test_no_person_of_the_data_is_found_in_any_file_that_the_job_left(done: JobResult, home: Path) -> None:
    with (CREDIT / "german_credit.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    planted = {row[column].encode() for row in rows[::7] for column in ("email", "phone", "iban", "national_id")}
    planted |= {row["full_name"].encode() for row in rows[::7]}
    files = [path for path in (home / "out").rglob("*") if path.is_file() and "keys" not in path.parts]
    assert len(files) >= 10
    for path in files:
        content = path.read_bytes()
        assert not [value for value in planted if value in content], f"personal data in {path.name}"


def test_the_ledger_pairs_each_intent_with_one_outcome(done: JobResult, home: Path) -> None:
    with Workspace(home / "out" / "workspace") as workspace:
        phases: dict[str, list[str]] = {}
        for evidence in workspace.ledger.entries():
            if "call" in evidence.predicate and evidence.kind != "predict":
                phases.setdefault(evidence.predicate["call"], []).append(evidence.predicate["phase"])
    assert len(phases) >= 9
    assert set(map(tuple, phases.values())) == {("intent", "outcome")}


def test_the_budget_is_spent_and_then_refuses(done: JobResult, home: Path) -> None:
    with Workspace(home / "out" / "workspace") as workspace:
        before = workspace.budget()
        assert len(before) == 1
        data = workspace.load(home / "german_credit.csv", target="credit_risk", fields={"full_name": {"role": "identifier"}})
        with pytest.raises(Refused) as refusal:
            for _ in range(10):
                workspace.train("tabular.mlp", data.head(200), epochs=1, hidden=[4])
        assert refusal.value.by == "budget"
        assert refusal.value.line == "privacy.dataset_budget"


def test_a_model_type_without_private_training_is_refused_with_the_list_of_those_that_can(done: JobResult, home: Path) -> None:
    with Workspace(home / "out" / "workspace") as workspace:
        data = workspace.load(home / "german_credit.csv", target="credit_risk")
        with pytest.raises(Refused, match=r"tabular\.mlp"):
            workspace.train("tabular.forest", data)


def test_promotion_without_approvals_is_refused_and_says_what_is_missing(done: JobResult, home: Path) -> None:
    with Workspace(home / "out" / "workspace", actor="dora-data") as workspace:
        version = workspace.register(workspace.model("credit-risk:1"), "credit-risk")
        assert str(version) == "credit-risk:2"
        with pytest.raises(Refused, match=r"0 of 2 approvals.*risk, compliance"):
            workspace.promote(version, "production")
        rita = Approver.read("rita-risk", home / "out/keys/rita-risk.pem")
        with pytest.raises(Refused, match="1 of 2"):
            workspace.promote(version, "production", approver=[rita, rita])
        assert workspace.versions.aliases("credit-risk")["production"] == 1
        with pytest.raises(Refused, match="holds none of the aliases"):
            workspace.deploy(version)


def test_one_who_is_not_enrolled_and_the_submitter_cannot_approve(done: JobResult, home: Path, tmp_path: Path) -> None:
    stranger = Approver.create("stranger", tmp_path / "stranger.pem")
    with Workspace(home / "out" / "workspace", actor="dora-data") as workspace:
        with pytest.raises(Refused, match="not enrolled"):
            workspace.approve("credit-risk:1", "production", approver=stranger)
        dora = Approver.create("dora-data", tmp_path / "dora.pem")
        workspace.enrol(dora, roles=["risk"])
        with pytest.raises(Refused, match="submitted"):
            workspace.approve("credit-risk:1", "production", approver=dora)


def test_the_commands_show_the_workspace_as_tables_and_as_json(done: JobResult, home: Path, affidavit: CommandLine) -> None:
    workspace = home / "out" / "workspace"
    for command, word in (("log", "train"), ("models", "credit-risk:1"), ("budget", "spent"), ("plugins", "tabular")):
        table = affidavit(command, "--workspace", workspace)
        assert table.returncode == 0, table.stderr
        as_json = affidavit(command, "--workspace", workspace, "--json")
        assert as_json.returncode == 0, as_json.stderr
        assert word in json.dumps(json.loads(as_json.stdout))
