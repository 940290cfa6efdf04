"""Training in two real processes: the noise once, batches that do not depend on the number of processes, the same weights bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import two_processes
from two_processes import KEY, POLICY, Counting, alone

from affidavit.errors import UsageError
from affidavit_governance.privacy.budget import Budget
from affidavit_governance.privacy.gaussian import lattice_step
from affidavit_governance.privacy.training.checkpoints import Checkpoint
from affidavit_governance.privacy.training.distributed import Ranks
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_governance.privacy.training.resume import Keeper


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    two_processes.open_workspace(folder).close()
    started = [
        subprocess.Popen([sys.executable, two_processes.__file__, str(rank), str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"})
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    results = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    with two_processes.open_workspace(folder) as workspace:
        results[0]["budget"] = Budget(workspace.store).status()
        stages = [entry.predicate.get("stages", {}) for entry in workspace.ledger.entries("train")]
        results[0]["evidence"] = [said["privacy"] for said in stages if "privacy" in said]
    return results


def flat(result: dict[str, Any]) -> np.ndarray:
    assert "error" not in result, result
    return np.concatenate([np.array(part) for part in result["weights"]])


@pytest.mark.parametrize("scenario", ["silent", "tiny", "noisy", "non_finite", "other_weights"])
def test_all_processes_end_with_the_same_weights_and_the_same_epsilon(found: list[dict[str, Any]], scenario: str) -> None:
    one, two = (each[scenario] for each in found)
    assert flat(one).tolist() == flat(two).tolist()
    assert one["statement"] == two["statement"]
    assert one["statement"]["processes"] == 2
    assert 0 < one["statement"]["epsilon"] <= POLICY.epsilon


@pytest.mark.parametrize(("scenario", "batch_size"), [("silent", 20), ("tiny", 1)])
def test_without_noise_they_end_where_one_process_does(found: list[dict[str, Any]], scenario: str, batch_size: int) -> None:
    reference = two_processes.train(alone(silent=True), None, batch_size=batch_size)
    np.testing.assert_allclose(flat(found[0][scenario]), flat(reference), atol=1e-6)
    assert {**found[0][scenario]["statement"], "processes": 1} == reference["statement"]


def test_with_noise_they_end_where_one_process_does_but_for_rounding_to_the_lattice(found: list[dict[str, Any]]) -> None:
    reference = two_processes.train(alone(silent=False), None, statistics=True)
    ours, statement = flat(found[0]["noisy"]), found[0]["noisy"]["statement"]
    # A sum that is one rounding error away may fall on the next lattice point; momentum makes at most ten of it.
    step = lattice_step(statement["noise_multiplier"]) / statement["expected_batch_size"] * 0.5 * 10 * statement["steps"]
    assert np.abs(ours - flat(reference)).max() < step
    assert np.median(np.abs(ours - flat(reference))) < 1e-5
    assert np.abs(flat(reference) - flat(found[0]["silent"])).max() > 20 * step


def test_noise_is_made_in_the_first_process_alone_and_once_a_step(found: list[dict[str, Any]]) -> None:
    steps = [f"GRADIENT_NOISE {step}" for step in range(1, found[0]["noisy"]["statement"]["steps"] + 1)]
    assert found[0]["noisy"]["releases"] == ["STATISTICS_NOISE 1", "STATISTICS_NOISE 2", *steps]
    assert found[1]["noisy"]["releases"] == []
    assert found[0]["reserved"] == [2, 3]
    assert found[1]["reserved"] == []


def test_statistics_are_the_same_in_all_processes(found: list[dict[str, Any]]) -> None:
    assert len({number for part in found[0]["noisy"]["statistics"] for number in part}) == 8  # noisy ones, no zeros and ones
    assert found[0]["noisy"]["statistics"] == found[1]["noisy"]["statistics"]


def test_each_process_computes_its_share_and_empty_shares_count(found: list[dict[str, Any]]) -> None:
    tiny = [each["tiny"] for each in found]
    assert tiny[0]["statement"]["steps"] == 2 * two_processes.ROWS
    assert 0 < tiny[0]["statement"]["empty_batches"] < 2 * two_processes.ROWS
    # Most batches of one row on average leave the second process without any.
    assert len(tiny[1]["shares"]) < len(tiny[0]["shares"]) < tiny[0]["statement"]["steps"]
    whole = two_processes.train(alone(silent=True), None)
    shares = [sum(each["silent"]["shares"]) for each in found]
    assert abs(shares[0] - shares[1]) < 0.2 * sum(whole["shares"])


def test_a_non_finite_example_is_counted_once_and_in_all(found: list[dict[str, Any]]) -> None:
    reference = two_processes.train(alone(silent=False), None, bad=3)
    assert reference["statement"]["non_finite_examples"] > 0
    assert [each["non_finite"]["statement"]["non_finite_examples"] for each in found] == [reference["statement"]["non_finite_examples"]] * 2


def test_processes_that_train_something_else_are_refused_in_all(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["other_rows"]["error"] == "PluginError"
        assert "do not agree on what they train: process 1 and process 0 differ" in each["other_rows"]["message"]


def test_weights_that_differ_at_the_end_are_refused_in_all(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert "do not agree on the parameters that they trained" in each["changed"]["message"]


def test_a_refused_budget_ends_all_processes(found: list[dict[str, Any]]) -> None:
    assert found[0]["refused"]["error"] == "Refused"
    assert found[1]["refused"]["error"] == "PluginError"
    assert "The first process of this training refused" in found[1]["refused"]["message"]


def test_a_process_that_fails_ends_all(found: list[dict[str, Any]]) -> None:
    assert "Another process" not in found[1]["fails"]["message"]
    assert "Another process of this training failed" in found[0]["fails"]["message"]


def test_a_workspace_charges_its_budget_once_for_all_processes(found: list[dict[str, Any]]) -> None:
    assert found[0]["workspace"]["digest"] == found[1]["workspace"]["digest"]
    (budget,) = found[0]["budget"]
    assert (budget["runs"], budget["unsettled"]) == (1, 0)
    charged = [said for said in found[0]["evidence"] if "budget" in said]
    others = [said for said in found[0]["evidence"] if "charged_by_process" in said]
    assert len(charged) == len(others) == 1
    assert charged[0]["events"] == others[0]["events"]
    assert charged[0]["processes"] == others[0]["processes"] == 2
    assert budget["spent"] == pytest.approx(charged[0]["epsilon"], abs=1e-5)


@pytest.mark.parametrize(
    ("scenario", "message"), [("other_seed", "do not agree on workspace, model, data and seed"), ("checkpoint", "keeps no checkpoint")]
)
def test_calls_that_cannot_train_together_are_refused_in_all(found: list[dict[str, Any]], scenario: str, message: str) -> None:
    for each in found:
        assert message in each[scenario]["message"]


def test_without_a_process_group_it_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a process group"):
        Ranks()


def test_checkpoints_are_for_one_process(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    with pytest.raises(UsageError, match="in several processes keeps no checkpoint"):
        PrivateEngine(POLICY, reserve=lambda events: None, source=Counting(KEY), keeper=Keeper(checkpoint, "call"), ranks=object())  # type: ignore[arg-type]
    checkpoint.close()
