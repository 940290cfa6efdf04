"""The commands around privacy on a small project: sweep, budget, settling after a kill, and the calculators."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest

from affidavit.errors import Refused, UsageError
from affidavit.interfaces.model import Predictions, Task
from affidavit.metrics import evaluate
from affidavit.project import Job
from affidavit.workspace import Workspace
from affidavit_governance.privacy import Event, joint_epsilon
from affidavit_governance.privacy.budget import Budget
from affidavit_governance.privacy.sweep import MEASURED

CommandLine = Callable[..., subprocess.CompletedProcess[str]]
POLICY = """
privacy: {epsilon: 2.0, delta: 1.0e-3, dataset_budget: 3.0}
explain: {required: false}
"""
PROJECT = """
name: tiny
dataset: {source: data.csv, target: y}
split: {test: 0.4, seed: 1}
policy: policy.yaml
model: {type: tabular.mlp, params: {hidden: [4], epochs: 3, batch_size: 60}}
explain: null
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(300, 2))
    pc.write_csv(pa.table({"a": columns[:, 0], "b": columns[:, 1], "y": np.where(columns[:, 0] > 0, "p", "n")}), tmp_path / "data.csv")
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "project.yaml").write_text(PROJECT)
    return tmp_path / "project.yaml"


def data_of(workspace: Workspace, project: Path) -> Any:
    return workspace.load(project.with_name("data.csv"), target="y")


def test_a_sweep_measures_each_epsilon_and_every_run_is_charged(project: Path, affidavit: CommandLine) -> None:
    done = affidavit("privacy", "sweep", project, "--epsilon", "1,0.5", "--repeats", 2, "--plot", project.with_name("curve.png"), "--json")
    assert done.returncode == 0, done.stderr
    curve = json.loads(done.stdout)
    assert curve["metric"] == "roc_auc"
    assert [point["epsilon"] for point in curve["points"]] == [0.5, 1.0]
    for point in curve["points"]:
        assert len(point["values"]) == len(point["spent"]) == 2
        assert all(0.98 * point["epsilon"] < spent <= point["epsilon"] for spent in point["spent"])
        assert point["low"] < point["value"] < point["high"]
        assert point["value"] == pytest.approx(sum(point["values"]) / 2)
    assert project.with_name("curve.png").read_bytes().startswith(b"\x89PNG")
    workspace = project.with_name("out") / "workspace"
    with Workspace(workspace) as opened:
        trained = [evidence.predicate["stages"]["privacy"] for evidence in opened.ledger.entries("train") if evidence.predicate["phase"] == "outcome"]
        (row,) = opened.budget()
        assert opened.policy.privacy.epsilon == 2.0  # the sweep changed no policy
        assert len(list(opened.ledger.entries("policy"))) == 1
    assert [said["epsilon_allowed"] for said in trained] == [0.5, 0.5, 1.0, 1.0]
    total = joint_epsilon([Event.from_json(event) for said in trained for event in said["events"]], 1e-3)
    assert (row["runs"], row["spent"]) == (4, pytest.approx(total, abs=2e-6))
    assert curve["joint"] == {row["root"]: pytest.approx(total)}
    table = affidavit("budget", "-w", workspace)
    assert row["root"][:12] in table.stdout and f"{row['left']:.4g}" in table.stdout


def test_a_sweep_that_does_not_fit_trains_nothing_and_says_which_part_would(project: Path, affidavit: CommandLine) -> None:
    refused = affidavit("privacy", "sweep", project, "--epsilon", "0.5,1,2", "--repeats", 2, "--json")
    assert refused.returncode == 1
    said = json.loads(refused.stdout)
    assert (said["by"], said["line"], said["bound"]) == ("budget", "privacy.dataset_budget", 3.0)
    assert said["measured"] > 3.0
    with Workspace(project.with_name("out") / "workspace") as opened:
        assert opened.budget() == []
        assert list(opened.ledger.entries("train")) == []
    part = said["hint"].removeprefix("This part would: ").rstrip(".").split()
    assert part == ["--epsilon", "0.5,1", "--repeats", "2"]
    done = affidavit("privacy", "sweep", project, *part)
    assert done.returncode == 0, done.stderr
    assert "not private" in done.stdout


def test_a_sweep_on_an_exhausted_budget_is_told_that_no_part_of_it_would_fit(project: Path, affidavit: CommandLine) -> None:
    with Job(project).open() as workspace:
        (root,) = Job(project).data(workspace)[0].roots
        Budget(workspace.store).reserve("0" * 32, [root], [Event("gaussian", 1.1)], delta=1e-3, limit=3.0)
    nothing = affidavit("privacy", "sweep", project, "--epsilon", "1.5,2", "--json")
    assert "No part of it would" in json.loads(nothing.stdout)["hint"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epsilon", "1,4"], "the policy allows 2"),
        (["--epsilon", "0,1"], "positive"),
        (["--epsilon", "much"], "no list of numbers"),
        (["--epsilon", "1", "--repeats", "0"], "train nothing"),
        (["--epsilon", "1", "--metric", "roc_auk"], "Did you mean 'roc_auc'"),
        (["--epsilon", "1", "--metric", "rmse"], "no metric 'rmse' for this target"),
        (["--epsilon", "1", "--plot", "curve.pdf"], "no image file"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(project: Path, affidavit: CommandLine, options: list[str], message: str) -> None:
    done = affidavit("privacy", "sweep", project, *options)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    if project.with_name("out").exists():
        with Job(project).open() as workspace:
            assert workspace.budget() == []  # and nothing was paid for


@pytest.mark.parametrize(("numbers", "classifies"), [(False, True), (True, False)])
def test_a_sweep_knows_the_names_of_all_metrics(numbers: bool, classifies: bool) -> None:
    truth = np.arange(40.0) if numbers else np.array(["a", "b"] * 20)
    odds = None if numbers else np.tile([[0.6, 0.4], [0.3, 0.7]], (20, 1))
    task = Task.REGRESSION if numbers else Task.BINARY
    measured = evaluate(Predictions(truth, () if numbers else ("a", "b"), odds), truth, task=task, classes=() if numbers else ("a", "b"), bootstrap=0)
    assert set(measured.metrics) == set(MEASURED[classifies])


@pytest.mark.parametrize(
    ("policy", "message"), [("explain: {required: false}", "asks for no privacy"), ("privacy: {noise_multiplier: 4.0}", "fixes the noise")]
)
def test_a_sweep_under_a_policy_that_leaves_nothing_to_vary_is_refused(project: Path, affidavit: CommandLine, policy: str, message: str) -> None:
    project.with_name("policy.yaml").write_text(policy)
    assert message in affidavit("privacy", "sweep", project, "--epsilon", "1").stderr


KILLED = """
import os, signal, sys
from affidavit.workspace import Workspace

def report(progress):
    if progress.done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

with Workspace(sys.argv[1], policy=sys.argv[2]) as workspace:
    data = workspace.load(sys.argv[3], target="y")
    checkpoint = sys.argv[4] if len(sys.argv) > 4 else None
    workspace.train("tabular.mlp", data, hidden=[4], epochs=3, batch_size=60, report=report, checkpoint=checkpoint)
"""


def test_what_a_killed_training_had_reserved_is_settled_by_name_and_reason(project: Path, affidavit: CommandLine, tmp_path: Path) -> None:
    where, policy = tmp_path / "ws", project.with_name("policy.yaml")
    killed = subprocess.run([sys.executable, "-c", KILLED, where, policy, project.with_name("data.csv")], check=False, timeout=120)
    assert killed.returncode == -9
    (row,) = json.loads(affidavit("budget", "-w", where, "--json").stdout)
    assert (row["spent"], row["unsettled"]) == (0.0, 1)
    assert 1.9 < row["reserved"] <= 2.0
    (call,) = row["unsettled_calls"]
    assert f"affidavit budget settle {call}" in affidavit("budget", "-w", where).stdout
    assert affidavit("budget", "settle", call, "-w", where).returncode == 2  # without a reason
    done = affidavit("budget", "settle", call, "--reason", "the machine was restarted", "--actor", "dora", "-w", where, "--json")
    (after,) = json.loads(done.stdout)
    assert (after["spent"], after["reserved"], after["unsettled"]) == (row["reserved"], 0.0, 0)
    again = affidavit("budget", "settle", call, "--reason", "twice", "-w", where)
    assert again.returncode == 2 and "no unsettled reservation" in again.stderr
    with Workspace(where) as opened:
        (evidence,) = opened.ledger.entries("budget")
        bundle, key = opened.bundle(tmp_path / "audit.zip"), opened.verifier_key
    assert (evidence.predicate["by"], evidence.predicate["reason"]) == ("dora", "the machine was restarted")
    assert affidavit("verify", bundle, "--key", key).returncode == 0


def test_a_killed_training_is_settled_by_the_steps_that_its_checkpoint_counts(project: Path, affidavit: CommandLine, tmp_path: Path) -> None:
    where, policy, folder = tmp_path / "ws", project.with_name("policy.yaml"), tmp_path / "checkpoint"
    subprocess.run([sys.executable, "-c", KILLED, where, policy, project.with_name("data.csv"), folder], check=False, timeout=120)
    (row,) = json.loads(affidavit("budget", "-w", where, "--json").stdout)
    (call,) = row["unsettled_calls"]
    settle = ("budget", "settle", call, "--reason", "nobody resumes it", "-w", where)
    assert "holds no checkpoint" in affidavit(*settle, "--checkpoint", tmp_path).stderr
    assert "took steps" in affidavit(*settle, "--checkpoint", folder, "--nothing-ran").stderr
    assert affidavit(*settle, "--checkpoint", folder).returncode == 0
    with Workspace(where) as opened:
        (evidence,) = opened.ledger.entries("budget")
        (after,) = opened.budget()
        stands = [Event.from_json(event) for event in evidence.predicate["stands"]]
        assert evidence.predicate["action"] == "as-checkpointed"
        assert sum(event.steps for event in stands) == 2 + 10  # two statistics, two epochs of five steps
        assert after["spent"] == pytest.approx(joint_epsilon(stands, 1e-3), abs=2e-6)
        assert 0 < after["spent"] < row["reserved"]
        with pytest.raises(Refused, match="settled"):
            opened.train("tabular.mlp", data_of(opened, project), hidden=[4], epochs=3, batch_size=60, checkpoint=folder)


def test_a_refused_training_fits_when_its_advice_is_followed(project: Path, tmp_path: Path) -> None:
    policy = {"privacy": {"epsilon": 2.0, "delta": 1e-3, "dataset_budget": 2.5}}
    with Workspace(tmp_path / "ws", policy=policy) as workspace:
        data = data_of(workspace, project)
        workspace.train("tabular.mlp", data, hidden=[4], epochs=2)
        with pytest.raises(Refused) as refused:
            workspace.train("tabular.mlp", data, hidden=[4], epochs=2)
        # 300 rows in batches of 256, the default
        assert "noise multiplier of" in (refused.value.satisfy or "") and "for its 4 steps" in (refused.value.satisfy or "")
        fits = float((refused.value.satisfy or "").partition("epsilon = ")[2].split()[0])
        assert 0.5 < fits < 2.0
        workspace.train("tabular.mlp", data, spend=fits, hidden=[4], epochs=2)
        (row,) = workspace.budget()
        assert row["spent"] <= 2.5 and row["left"] < 0.1


def test_a_training_may_spend_less_than_the_policy_allows_and_not_more(project: Path, tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", policy=project.with_name("policy.yaml")) as workspace:
        data = data_of(workspace, project)
        for spend, error, message in (
            (2.5, Refused, "the policy allows 2"),
            (0.0, UsageError, "not positive"),
            (float("nan"), UsageError, "not positive"),
        ):
            with pytest.raises(error, match=message):
                workspace.train("tabular.mlp", data, spend=spend, hidden=[4])
        assert workspace.budget() == []
        seen: list[str] = []
        workspace.train("tabular.mlp", data, spend=0.7, hidden=[4], epochs=2, report=lambda progress: seen.append(progress.message))
        assert 0.69 < workspace.budget()[0]["spent"] <= 0.7
        assert seen[-1] == "epoch 2/2, ε about 0.7 of 0.7"
    with Workspace(tmp_path / "plain") as workspace, pytest.raises(UsageError, match="asks for no privacy"):
        workspace.train("tabular.mlp", data_of(workspace, project), spend=1.0)


def test_rows_declared_to_come_from_a_data_set_spend_its_budget(project: Path, tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", policy=project.with_name("policy.yaml")) as workspace:
        data = data_of(workspace, project)
        changed = data.table.slice(0, 299)
        made = workspace.load(changed, target="y", derived_from=data)
        workspace.train("tabular.mlp", made, hidden=[4], epochs=1)
        assert {row["root"] for row in workspace.budget()} == made.roots > data.roots
        with pytest.raises(Refused, match="has spent epsilon"):
            workspace.train("tabular.mlp", data, hidden=[4], epochs=1)


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_spending_over_time_is_drawn(project: Path, affidavit: CommandLine, tmp_path: Path, ending: str) -> None:
    with Workspace(tmp_path / "ws", policy=project.with_name("policy.yaml")) as workspace:
        assert affidavit("budget", "-w", tmp_path / "ws", "--plot", tmp_path / f"no{ending}").returncode == 2  # nothing to draw
        data = data_of(workspace, project)
        workspace.train("tabular.mlp", data, spend=0.5, hidden=[4], epochs=1)
        (root,) = data.roots
    picture = tmp_path / f"budget{ending}"
    done = affidavit("budget", "-w", tmp_path / "ws", "--plot", picture)
    assert done.returncode == 0, done.stderr
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG" if ending == ".png" else b"<?xml")
    if ending == ".svg":
        text = content.decode()
        assert f"Data set {root[:12]}" in text and "limit 3" in text and "spent 0.5" in text


def test_the_calculators_say_what_the_functions_say(affidavit: CommandLine) -> None:
    from affidavit_governance.privacy import calibrate, epsilon

    found = json.loads(affidavit("privacy", "epsilon", "--rate", 0.01, "--sigma", 1.0, "--steps", 1000, "--json").stdout)
    assert found["epsilon"] == epsilon(0.01, 1.0, 1000, 1e-5)
    assert "ε = 1.828 at δ = 1e-05" in affidavit("privacy", "epsilon", "--rate", 0.01, "--sigma", 1.0, "--steps", 1000).stdout
    wide = json.loads(affidavit("privacy", "epsilon", "--rate", 0.01, "--sigma", 2.0, "--steps", 100, "--relation", "replace-one", "--json").stdout)
    assert wide["epsilon"] == epsilon(0.01, 2.0, 100, 1e-5, relation="replace-one") > epsilon(0.01, 2.0, 100, 1e-5)
    sigma = json.loads(affidavit("privacy", "calibrate", "--epsilon", 3, "--rate", 0.1, "--steps", 100, "--delta", 1e-6, "--json").stdout)
    assert sigma["sigma"] == calibrate(3.0, sampling_rate=0.1, steps=100, delta=1e-6)
    assert affidavit("privacy", "epsilon", "--rate", 1.5, "--sigma", 1.0, "--steps", 10).returncode == 2
