"""Resuming a private run: what a checkpoint holds, that no step is forgotten however the process died, and whose run may go on with it."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import affidavit as af
from affidavit.errors import IntegrityError, Refused, UsageError
from affidavit.policy import PrivacyPolicy
from affidavit.project import Job
from affidavit_governance.privacy import Event, joint_epsilon
from affidavit_governance.privacy.budget import Budget, settle
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training import checkpoints
from affidavit_governance.privacy.training.checkpoints import Checkpoint
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_governance.privacy.training.resume import Keeper

KEY = bytes(range(32))
POLICY = PrivacyPolicy(epsilon=0.5, delta=1e-3, records=60)
ROWS, BATCH, EPOCHS = 60, 20, 4
STEPS = 12


class Silent(Randomness):
    """Replayable samples and no noise."""

    def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        """None."""


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Run:
    """One process's part of a run: what it used, and how far it came."""

    engine: PrivateEngine
    keeper: Keeper
    module: nn.Module
    reserved: list[list[Event]]
    batches: list[list[int]]


def mlp(frozen: bool = False) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 2))
    module[0].requires_grad_(not frozen)
    return module


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)


def run(
    folder: Path,
    *,
    kill_after: int | None = None,
    source: Randomness | None = None,
    policy: PrivacyPolicy = POLICY,
    make_optimizer: Callable[[Any], torch.optim.Optimizer] = lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    epochs: int = EPOCHS,
    frozen: bool = False,
    statistics: bool = False,
    identity: dict[str, Any] | None = None,
) -> Run:
    """Train, dying after `kill_after` steps of this process as a killed process does: nothing is closed, saved or settled."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(ROWS, 4, generator=generator)
    labels = (inputs.sum(1) > 0).long()
    module, reserved = mlp(frozen), list[list[Event]]()
    keeper = Keeper(Checkpoint(folder, identity or {"model": "mlp"}), f"call-{time.monotonic_ns()}")
    engine = PrivateEngine(policy, reserve=lambda events: reserved.append(list(events)), source=source or Silent(KEY), keeper=keeper)
    result = Run(engine, keeper, module, reserved, [])
    optimizer = make_optimizer([parameter for parameter in module.parameters() if parameter.requires_grad])

    def losses(indices: np.ndarray) -> torch.Tensor:
        chosen = torch.from_numpy(indices)
        return nn.functional.cross_entropy(module(inputs[chosen]), labels[chosen], reduction="none")

    try:
        if statistics:
            result.statistics = engine.center_and_scale(inputs.numpy().astype(float))  # type: ignore[attr-defined]
        loop = engine.begin(module, optimizer, rows=ROWS, batch_size=BATCH, epochs=epochs, seed=0)
        for _ in range(epochs):
            for indices in loop.epoch():
                if len(result.batches) == kill_after:
                    raise Killed
                result.batches.append(indices.tolist())
                loop.step(indices, losses)
                with torch.no_grad():  # as a training loop's own penalty does, after the step
                    module[3].weight.mul_(0.99)
        engine.check_finished("test")
    except Killed:
        pass
    finally:
        keeper.close()  # the system does so for a dead process
    return result


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in module.parameters()]


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.5, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.05),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.05),
}


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_run_killed_between_steps_ends_as_if_it_had_not_been(tmp_path: Path, optimizer: str) -> None:
    whole = run(tmp_path / "whole", make_optimizer=OPTIMIZERS[optimizer])
    for part in (5, 4, None):  # killed twice, in the middle of epochs
        last = run(tmp_path / "killed", kill_after=part, make_optimizer=OPTIMIZERS[optimizer])
    assert last.engine.statement()["steps"] == STEPS
    assert last.engine.statement()["steps_lost"] == 0
    assert len(last.batches) == STEPS - 9
    assert last.batches == whole.batches[9:]
    for ours, theirs in zip(weights(last.module), weights(whole.module), strict=True):
        assert torch.equal(ours, theirs)


def test_steps_after_the_last_checkpoint_stay_counted_and_are_not_taken_again(tmp_path: Path) -> None:
    first = run(tmp_path, kill_after=5)
    second = run(tmp_path, kill_after=3)
    third = run(tmp_path)
    assert [len(part.batches) for part in (first, second, third)] == [5, 3, STEPS - 8]
    statement = third.engine.statement()
    assert statement["steps"] == statement["steps_planned"] == STEPS
    assert statement["steps_lost"] == 8
    assert third.engine.events == tuple(first.reserved[-1]) == tuple(third.reserved[-1])
    assert statement["epsilon"] == joint_epsilon(first.reserved[-1], POLICY.delta) <= POLICY.epsilon
    assert statement["continues"] == third.keeper.earlier_calls
    assert len(third.keeper.earlier_calls) == 2


def test_a_step_counts_before_its_noise_is_drawn(tmp_path: Path) -> None:
    class Dies(Silent):
        """The process dies while it draws the noise of step 4."""

        def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
            if step == 4:
                raise Killed

    run(tmp_path, source=Dies(KEY))
    resumed = run(tmp_path, kill_after=0)
    assert resumed.keeper.taken == 4
    assert sum(event.steps for event in resumed.engine.events) == 4


def test_what_earlier_processes_took_is_spent_even_if_nothing_more_is_trained(tmp_path: Path) -> None:
    run(tmp_path, kill_after=5)
    keeper = Keeper(Checkpoint(tmp_path, {"model": "mlp"}), "another")
    engine = PrivateEngine(POLICY, reserve=lambda events: None, keeper=keeper)
    (event,) = engine.events
    assert event.steps == 5
    assert engine.statement()["epsilon"] == joint_epsilon([event], POLICY.delta)


def test_a_run_killed_after_its_last_step_gives_the_trained_model(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    run(tmp_path / "killed")  # ends, and its folder stays, as when the process dies before the budget is settled
    again = run(tmp_path / "killed")
    assert again.batches == []
    assert again.engine.statement()["steps_lost"] == 0
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(again.module), weights(whole.module), strict=True))


def test_statistics_are_released_once_and_their_answers_kept(tmp_path: Path) -> None:
    first = run(tmp_path, statistics=True, kill_after=3, source=Randomness(KEY))
    second = run(tmp_path, statistics=True, source=Randomness())
    for ours, theirs in zip(first.statistics, second.statistics, strict=True):  # type: ignore[attr-defined]
        assert ours.tolist() == theirs.tolist()
    assert second.engine.events == tuple(first.reserved[-1])
    assert len(second.engine.statement()["statistics"]) == 2


def test_statistics_whose_answer_was_lost_are_paid_for_twice(tmp_path: Path) -> None:
    class Dies(Randomness):
        """The process dies while it draws the noise of the second histogram."""

        def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
            if (purpose, step) == (Purpose.STATISTICS_NOISE, 2):
                raise Killed
            super().add_noise_(sums, deviation, purpose, step)

    run(tmp_path, statistics=True, source=Dies(KEY))
    second = run(tmp_path, statistics=True)
    assert [event.steps for event in second.engine.events] == [1, 1, 1, 1, STEPS]
    assert second.engine.statement()["epsilon"] <= POLICY.epsilon


@pytest.mark.usefixtures("often")
def test_shuffled_rows_go_on_with_the_next_epoch(tmp_path: Path) -> None:
    policy = POLICY.model_copy(update={"sampler": "shuffle"})
    first = run(tmp_path, policy=policy, kill_after=4, source=Randomness())
    second = run(tmp_path, policy=policy, source=Randomness())
    assert len(second.batches) == STEPS - 6  # an epoch has three steps: the second one was begun, with an order that nobody knows now
    for start in (0, 3):
        assert sorted(np.concatenate(second.batches[start : start + 3])) == list(range(ROWS))
    assert second.engine.events == tuple(first.reserved[-1])
    assert second.engine.statement()["steps_lost"] == 2


@pytest.mark.usefixtures("often")
def test_no_file_of_a_checkpoint_has_the_key_and_a_resumed_run_has_another(tmp_path: Path) -> None:
    source = Randomness()
    first = run(tmp_path, kill_after=3, source=source, statistics=True)
    key = source._key
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(content) > 500
    assert key not in content
    assert key.hex().encode() not in content
    resumed = PrivateEngine(POLICY, reserve=lambda events: None, keeper=first.keeper)
    assert resumed._source._key != key


def test_a_crash_of_the_machine_costs_the_steps_that_were_claimed_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "AHEAD", 4)
    run(tmp_path, kill_after=5)
    path = tmp_path / "steps"
    count, claimed, _ = struct.unpack("<QQ16s", path.read_bytes())
    assert (count, claimed) == (5, 8)
    # After another start of the system only what was synced is sure, and that is the claim.
    path.write_bytes(struct.pack("<QQ16s", 2, claimed, bytes([7]) * 16))
    assert run(tmp_path, kill_after=0).keeper.taken == 8


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "steps").write_bytes(b""), "lost its count of steps"),
        (lambda folder: (folder / "steps").unlink(), "lost its count of steps"),
        (lambda folder: change(folder, lambda state: state["loop"].update(taken=0)), "does not have its digest"),
        (lambda folder: change(folder, lambda state: state.update(format=2)), "has format 2; this version reads up to 1"),
        (lambda folder: (folder / "checkpoint.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "checkpoint.json").write_text("[]"), "cannot be read"),
        (lambda folder: flip(next(folder.glob("weights-*"))), "has other weights than it says"),
        (lambda folder: next(folder.glob("weights-*")).unlink(), "has other weights than it says"),
    ],
)
@pytest.mark.usefixtures("often")
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    run(tmp_path, kill_after=5)
    damage(tmp_path)
    with pytest.raises(IntegrityError, match=message):
        run(tmp_path)


@pytest.mark.usefixtures("often")
def test_a_count_below_the_weights_is_refused(tmp_path: Path) -> None:
    run(tmp_path, kill_after=5)
    count = (tmp_path / "steps").read_bytes()
    (tmp_path / "steps").write_bytes(struct.pack("<Q", 3) + count[8:])
    with pytest.raises(IntegrityError, match="counts fewer steps than its weights have"):
        run(tmp_path)


def test_a_checkpoint_of_format_1_is_read(tmp_path: Path) -> None:
    # Written by the first version that had checkpoints: killed in step 6 of 12, after a checkpoint of step 5.
    folder = shutil.copytree(Path(__file__).parent / "checkpoint-1", tmp_path / "kept")
    resumed = run(folder, statistics=True, make_optimizer=OPTIMIZERS["adam"])
    statement = resumed.engine.statement()
    assert (statement["steps"], statement["steps_lost"], len(resumed.batches)) == (12, 1, 6)
    assert [event.steps for event in resumed.engine.events] == [1, 1, 12]
    assert statement["epsilon"] <= POLICY.epsilon


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    state = json.loads((folder / "checkpoint.json").read_text())
    edit(state)
    (folder / "checkpoint.json").write_text(json.dumps(state))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_another_run_may_not_go_on_with_a_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, kill_after=5, identity={"model": "mlp", "seed": 1})
    with pytest.raises(Refused, match="belongs to another run: model, seed differ"):
        run(tmp_path, identity={"model": "cnn", "seed": 2})
    with pytest.raises(Refused, match="belongs to another run: policy differ"):
        run(tmp_path, identity={"model": "mlp", "seed": 1, "policy": {}})


def test_a_model_that_trains_in_another_way_may_not_go_on(tmp_path: Path) -> None:
    run(tmp_path, kill_after=5)
    with pytest.raises(Refused, match="does not go on as the checkpoint's run began: epochs differ"):
        run(tmp_path, epochs=5)
    with pytest.raises(Refused, match="frozen differ"):
        run(tmp_path, frozen=True)


def test_two_processes_may_not_train_with_one_folder(tmp_path: Path) -> None:
    held = Checkpoint(tmp_path, {})
    with pytest.raises(UsageError, match="Another process is training"):
        Checkpoint(tmp_path, {})
    held.close()
    Checkpoint(tmp_path, {}).close()


@pytest.mark.parametrize("call", range(1, 12))
def test_a_process_that_dies_while_it_writes_leaves_a_checkpoint_that_holds(tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    calls = 0
    replace = Path.replace

    def dying(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    run(tmp_path)
    monkeypatch.setattr(Path, "replace", replace)
    resumed = run(tmp_path)
    assert calls == call
    assert resumed.engine.statement()["steps"] == STEPS
    assert sum(event.steps for event in resumed.engine.events) == STEPS


# -- in a workspace ---------------------------------------------------------------------------------------------------------------------

KILLER = """
import os, random, signal, sys, time
from pathlib import Path

import dp_accounting
import torch._dynamo

sys.path.insert(0, {here!r})
from test_privacy_resume import checkpoints, open_workspace, steps_of, train

checkpoints.SECONDS = 0.1
taken = 0
for _ in range(2):
    # Forked before torch starts any thread, so that each process need not import all that again.
    child = os.fork()
    if not child:
        train(open_workspace({folder!r}), {folder!r})
        os._exit(0)
    target = taken + random.randint(1, 60)
    while steps_of(Path({folder!r})) < target and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    taken = steps_of(Path({folder!r}))
    assert target <= taken < 200
"""


def open_workspace(folder: str) -> af.Workspace:
    return af.Workspace(f"{folder}/ws", policy=af.Policy.model_validate({"privacy": {"epsilon": 1.0, "delta": 1e-3, "dataset_budget": 1.0}}))


def train(workspace: af.Workspace, folder: str, **changes: Any) -> Any:
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(400, 3))
    data = workspace.load({"a": columns[:, 0], "b": columns[:, 1], "y": np.where(columns[:, 0] > 0, "yes", "no")}, target="y", name="killed")
    given = {"hidden": [8], "epochs": 50, "batch_size": 100, "checkpoint": f"{folder}/checkpoint", **changes}
    return workspace.train("tabular.mlp", data, **given)


def privacy_of(workspace: af.Workspace) -> list[dict[str, Any]]:
    stages = [evidence.predicate.get("stages", {}) for evidence in workspace.ledger.entries("train")]
    return [said["privacy"] for said in stages if "privacy" in said]


def steps_of(folder: Path) -> int:
    path = folder / "checkpoint" / "steps"
    return struct.unpack("<Q", path.read_bytes()[:8])[0] if path.exists() and path.stat().st_size else 0


def test_a_killed_process_is_resumed_and_the_budget_pays_once_for_all_its_steps(tmp_path: Path) -> None:
    script = KILLER.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    taken = steps_of(tmp_path)
    workspace = open_workspace(str(tmp_path))
    (before,) = Budget(workspace.store).status()
    assert before["unsettled"] == 1  # of all calls, the last alone has something reserved
    last = next(event for event in Budget(workspace.store).unsettled()[0].events if event.steps > 1)
    assert last.steps == 200
    train(workspace, str(tmp_path))
    assert taken >= 2
    statement = privacy_of(workspace)[-1]
    assert statement["steps"] == statement["steps_planned"] == 200
    assert len(statement["continues"]) == 2
    assert statement["epsilon"] == pytest.approx(1.0, abs=1e-3)
    assert statement["epsilon"] <= 1.0
    (budget,) = Budget(workspace.store).status()
    assert (budget["runs"], budget["unsettled"]) == (1, 0)
    assert budget["spent"] == pytest.approx(statement["epsilon"], abs=1e-5)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir() if path.is_file()] == []


class Cancel(Exception):
    """The user cancels."""


def cancel_at(epoch: int) -> Callable[[Any], None]:
    def report(progress: Any) -> None:
        if progress.done == epoch:
            raise Cancel

    return report


def test_a_cancelled_run_keeps_its_reservation_and_can_go_on_or_be_settled(tmp_path: Path) -> None:
    workspace, folder = open_workspace(str(tmp_path)), str(tmp_path)
    with pytest.raises(Cancel):
        train(workspace, folder, epochs=8, report=cancel_at(3))
    interrupted = privacy_of(workspace)[-1]
    assert interrupted["resumable"] is True
    assert interrupted["steps"] == 12
    (status,) = Budget(workspace.store).status()
    assert (status["runs"], status["unsettled"]) == (0, 1)
    with pytest.raises(Refused, match="belongs to another run: parameters differ"):
        train(workspace, folder, epochs=9)
    with pytest.raises(Refused, match="belongs to another run: seed differ"):
        train(workspace, folder, epochs=8, seed=3)
    with pytest.raises(Cancel):
        train(workspace, folder, epochs=8, report=cancel_at(5))
    (held,) = Budget(workspace.store).unsettled()
    settle(workspace, held.call, reason="no longer wanted")
    with pytest.raises(Refused, match="what it had reserved of the privacy budget was settled"):
        train(workspace, folder, epochs=8)
    (status,) = Budget(workspace.store).status()
    assert (status["runs"], status["unsettled"]) == (1, 0)
    assert 0 < status["spent"] < 1.0  # as executed: 20 of 32 steps


def test_a_call_that_dies_just_after_it_took_the_reservation_over_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, folder = open_workspace(str(tmp_path)), str(tmp_path)
    with pytest.raises(Cancel):
        train(workspace, folder, epochs=8, report=cancel_at(3))
    adopt = Budget.adopt

    def dies(self: Budget, old: str, new: str) -> None:
        adopt(self, old, new)
        raise Cancel

    monkeypatch.setattr(Budget, "adopt", dies)
    with pytest.raises(Cancel):
        train(workspace, folder, epochs=8)
    monkeypatch.setattr(Budget, "adopt", adopt)
    train(workspace, folder, epochs=8)
    assert len(privacy_of(workspace)[-1]["continues"]) == 2
    (status,) = Budget(workspace.store).status()
    assert (status["runs"], status["unsettled"]) == (1, 0)


@pytest.mark.parametrize("given", [{}, {"checkpoint": None, "distributed": True}])
def test_checkpoints_and_several_processes_without_privacy_are_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    workspace = af.Workspace(tmp_path / "ws")
    with pytest.raises(UsageError, match=f"'{'distributed' if given else 'checkpoint'}' is for private training"):
        train(workspace, str(tmp_path), **given)


def test_a_project_goes_on_where_it_was_cancelled(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x,y\n" + "".join(f"{n % 7},{'yes' if n % 3 else 'no'}\n" for n in range(120)))
    project = {
        "name": "tiny",
        "dataset": {"source": "data.csv", "target": "y"},
        "policy": "policy.yaml",
        "model": {"type": "tabular.mlp", "params": {"hidden": [4], "epochs": 6, "batch_size": 30}, "checkpoint": "kept"},
        "explain": None,
        "report": [],
    }
    (tmp_path / "project.yaml").write_text(json.dumps(project))
    (tmp_path / "policy.yaml").write_text("privacy: {epsilon: 0.5, delta: 1.0e-3}\nexplain: {required: false}\n")
    with pytest.raises(Cancel):
        Job(tmp_path / "project.yaml", on_progress=cancel_at(2)).run()
    assert (tmp_path / "kept" / "checkpoint.json").exists()
    Job(tmp_path / "project.yaml").run()
    first, second = privacy_of(af.Workspace(tmp_path / "out" / "workspace"))
    assert (first["steps"], second["steps"]) == (6, 18)
    assert len(second["continues"]) == 1
