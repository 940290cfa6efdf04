"""The PRIVACY stage around a real training call: what it puts on the call, what it charges, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pluggy
import pyarrow as pa
import pytest
import torch

from affidavit import hookspecs
from affidavit.calls import TrainCall
from affidavit.errors import MissingExtra, PluginError, Refused
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import Actor
from affidavit.interfaces.model import Capabilities, Model, Predictions, Signature, Task
from affidavit.interfaces.training import Training
from affidavit.policy import Policy, PrivacyPolicy
from affidavit.store import Store
from affidavit_governance.privacy import Event, joint_epsilon
from affidavit_governance.privacy import module as module_file
from affidavit_governance.privacy.budget import Budget
from affidavit_governance.privacy.module import Module

PRIVACY = PrivacyPolicy(epsilon=0.5, delta=1e-3, dataset_budget=0.6)


class Linear(Model):
    """A linear model with an honest loop, and the ways of cheating that the tests ask for."""

    type = "test.linear"
    capabilities = Capabilities(private_training=True)
    fault: str | None = None

    def fit(self, data: Dataset, training: Training | None = None) -> Linear:
        assert training is not None
        columns = np.column_stack([data.to_numpy(field.name) for field in data.schema.features])
        labels = torch.tensor(data.to_numpy("y"))
        self.training = training
        if self.fault != "ignore":
            assert training.engine is not None
            center, scale = training.engine.center_and_scale(columns)
            self._train(torch.tensor((columns - center) / scale).float(), labels.long(), training.engine)
        self.signature = Signature(data.features().schema, Task.BINARY, "y", ("0", "1"))
        return self

    def _train(self, inputs: Any, labels: Any, engine: Any) -> None:
        layer = torch.nn.Linear(inputs.shape[1], 2)

        def losses(indices: np.ndarray) -> Any:
            chosen = torch.from_numpy(indices)
            if self.fault == "crash" and len(indices):
                raise RuntimeError("boom")
            return torch.nn.functional.cross_entropy(layer(inputs[chosen]), labels[chosen], reduction="none")

        loop = engine.begin(layer, torch.optim.SGD(layer.parameters(), lr=0.1), rows=len(inputs), batch_size=50, epochs=2, seed=0)
        for epoch in range(2):
            for indices in loop.epoch():
                loop.step(indices, losses)
            if self.fault == "early" and epoch == 0:
                return

    def predict(self, data: Dataset) -> Predictions:
        return Predictions(np.array(["0"] * len(data)))

    def save(self, files: Any) -> None: ...

    @classmethod
    def load(cls, files: Any) -> Linear:
        return cls()


class Core:
    @hookspecs.hookimpl
    def affidavit_train(self, call: TrainCall) -> Model:
        return call.model.fit(call.data, call.training)


@pytest.fixture
def data() -> Dataset:
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(200, 3))
    return Dataset.from_arrow({"a": columns[:, 0], "b": columns[:, 1], "c": columns[:, 2], "y": (columns[:, 0] > 0).astype(int)}, target="y")


@pytest.fixture
def train(tmp_path: Path, data: Dataset):  # type: ignore[no-untyped-def]  # a factory
    store = Store.open(tmp_path / "ws")

    def run(
        privacy: PrivacyPolicy | None = PRIVACY, *, fault: str | None = None, model: Model | None = None, rows: Dataset | None = None
    ) -> tuple[TrainCall, Callable[[], Model]]:
        registry = SimpleNamespace(names=lambda kind, capability: ("tabular.mlp", "vision.cnn"))
        workspace: Any = SimpleNamespace(store=store, policy=Policy(privacy=privacy), registry=registry)
        manager = pluggy.PluginManager("affidavit")
        manager.add_hookspecs(hookspecs)
        manager.register(Core())
        manager.register(Module(workspace))
        chosen = model or Linear()
        if isinstance(chosen, Linear):
            chosen.fault = fault
        training = Training(validation=data, seed=5)
        call = TrainCall(workspace, Actor("tester"), model=chosen, data=rows if rows is not None else data, training=training)
        return call, lambda: manager.hook.affidavit_train(call=call)

    run.store = store  # type: ignore[attr-defined]  # what the tests look into
    yield run
    store.close()


def test_training_is_private_charged_and_stated(train: Any, data: Dataset) -> None:
    call, run = train()
    model = run()
    statement = call.statements["privacy"]
    events = [Event.from_json(event) for event in statement["events"]]
    (root,) = data.roots
    assert 0.499 < statement["epsilon"] <= 0.5
    assert statement["epsilon"] == joint_epsilon(events, 1e-3)
    assert statement["steps"] == statement["steps_planned"] == 8
    assert statement["private"] and statement["sampler"] == "poisson" and statement["relation"] == "add-or-remove-one"
    assert statement["accountant"]["name"] == "PLD"
    assert statement["budget"] == {root: {"before": 0.0, "after": pytest.approx(statement["epsilon"], abs=1e-6), "limit": 0.6}}
    assert model.training.validation is None and model.training.seed == 5
    assert [(change.field, change.stage.name) for change in call.replacements] == [("training", "PRIVACY")]
    (row,) = Budget(train.store).status()
    assert (row["runs"], row["unsettled"]) == (1, 0)
    assert row["spent"] == pytest.approx(statement["epsilon"], abs=2e-6)


def test_without_a_privacy_policy_nothing_changes_and_the_evidence_says_so(train: Any) -> None:
    call, run = train(None, fault="ignore")
    run()
    assert call.statements["privacy"] == {"private": False}
    assert call.replacements == []
    assert Budget(train.store).status() == []


def test_a_split_and_a_changed_copy_spend_their_root(train: Any, data: Dataset) -> None:
    part, _ = data.split(seed=1)
    copy = part.replace_column("a", pa.array(np.zeros(len(part))))
    train(rows=copy)[1]()
    with pytest.raises(Refused, match="has spent epsilon"):
        train(rows=data)[1]()


def test_a_model_type_that_cannot_be_private_is_refused_with_those_that_can(train: Any) -> None:
    class Plain(Linear):
        type = "test.plain"
        capabilities = Capabilities()

    with pytest.raises(Refused, match=r"tabular\.mlp, vision\.cnn") as refused:
        train(model=Plain())[1]()
    assert (refused.value.by, refused.value.line) == ("privacy", "privacy.epsilon")
    assert Budget(train.store).status() == []


def test_a_model_that_ignores_the_engine_is_not_returned_and_costs_nothing(train: Any) -> None:
    call, run = train(fault="ignore")
    with pytest.raises(PluginError, match="did not train through the engine"):
        run()
    assert Budget(train.store).status() == []
    assert call.statements["privacy"]["epsilon"] == 0.0


def test_a_model_that_takes_fewer_steps_is_not_returned_and_pays_for_those_it_took(train: Any) -> None:
    call, run = train(fault="early")
    with pytest.raises(PluginError, match="took 4 of the 8"):
        run()
    (row,) = Budget(train.store).status()
    assert 0 < row["spent"] < 0.5
    assert row["spent"] == pytest.approx(call.statements["privacy"]["epsilon"], abs=2e-6)
    assert row["runs"] == 1


def test_a_crash_in_training_pays_for_the_statistics_that_were_released(train: Any) -> None:
    call, run = train(fault="crash")
    with pytest.raises(RuntimeError, match="boom"):
        run()
    statement = call.statements["privacy"]
    assert statement["steps"] == 0 and len(statement["statistics"]) == 2
    assert 0 < statement["epsilon"] < 0.2
    (row,) = Budget(train.store).status()
    assert row["spent"] == pytest.approx(statement["epsilon"], abs=2e-6)


def test_an_exhausted_budget_refuses_before_anything_is_read(train: Any) -> None:
    train()[1]()
    call, run = train()
    with pytest.raises(Refused) as refused:
        run()
    assert (refused.value.by, refused.value.line) == ("budget", "privacy.dataset_budget")
    assert not hasattr(call.model, "training")
    assert Budget(train.store).status()[0]["runs"] == 1


def test_a_delta_that_lets_a_record_out_is_warned_of(train: Any) -> None:
    call, run = train(PRIVACY.model_copy(update={"delta": 0.01}))
    with pytest.warns(UserWarning, match="not below 1/records"):
        run()
    assert len(call.statements["privacy"]["warnings"]) == 1
    assert train()[0] is not call


def test_at_most_k_rows_of_each_user_take_part_and_the_statement_says_user(train: Any, data: Dataset) -> None:
    table = data.table.append_column("customer", pa.array([f"c{row % 20}" for row in range(len(data))]))
    rows = Dataset.from_arrow(table, target="y", fields={"customer": {"role": "identifier"}})
    call, run = train(PRIVACY.model_copy(update={"unit": "user", "user": "customer", "unit_records": 3}), rows=rows)
    run()
    statement = call.statements["privacy"]
    assert len(call.data) == 60
    assert {call.data.to_list("customer").count(f"c{user}") for user in range(20)} == {3}
    assert call.data.roots == rows.roots
    assert ("data", "PRIVACY") in [(change.field, change.stage.name) for change in call.replacements]
    assert (statement["unit"], statement["unit_records"], statement["user"]) == ("user", 3, "customer")
    assert {event["group_size"] for event in statement["events"]} == {3}
    assert statement["chosen_from"] == rows.fingerprint != call.data.fingerprint
    assert 0.49 < statement["epsilon"] <= 0.5


def test_a_unit_for_which_the_data_set_has_no_key_is_refused_before_anything_is_charged(train: Any) -> None:
    call, run = train(PRIVACY.model_copy(update={"unit": "user", "user": "customer", "unit_records": 3}))
    with pytest.raises(Refused, match="no column 'customer'") as refused:
        run()
    assert refused.value.line == "privacy.user"
    assert not hasattr(call.model, "training")
    assert Budget(train.store).status() == []


def test_training_without_noise_charges_statistics_only_and_claims_no_privacy(train: Any) -> None:
    call, run = train(PRIVACY.model_copy(update={"noise_multiplier": 0.0, "without_noise": True}))
    run()
    statement = call.statements["privacy"]
    assert (statement["private"], statement["epsilon"], statement["steps"], len(statement["events"])) == (False, None, 8, 2)
    assert Budget(train.store).status()[0]["spent"] < 0.2


def test_a_missing_library_names_the_extra(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_file, "find_spec", lambda name: None if name == "dp_accounting" else object())
    with pytest.raises(MissingExtra, match=r"affidavit\[privacy\]"):
        train()[1]()


def test_the_stage_is_light_to_load() -> None:
    import subprocess
    import sys

    code = "import sys, affidavit_governance.privacy.module; print([m for m in ('torch', 'opacus', 'dp_accounting', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
