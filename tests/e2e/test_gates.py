"""Gates of the policy, on a real workspace: each refuses by its own line, and says what was measured and what would satisfy it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from affidavit.approver import Approver
from affidavit.errors import PluginError, Refused, UngovernedCallWarning, UsageError
from affidavit.interfaces.governance import Actor, Stage
from affidavit.interfaces.model import Model
from affidavit.policy import PrivacyPolicy
from affidavit.registry import Version
from affidavit.workspace import Workspace
from affidavit_governance.compliance.gates import Module


def people(rows: int = 400) -> pa.Table:
    source = np.random.default_rng(4)
    amount = source.normal(size=rows)
    return pa.table(
        {
            "amount": amount,
            "sex": [["f", "m"][n % 2] for n in range(rows)],
            "good": ["yes" if value + noise > 0 else "no" for value, noise in zip(amount, source.normal(size=rows), strict=True)],
        }
    )


class Shop:
    """A workspace with one registered, evaluated model and one enrolled approver."""

    def __init__(self, folder: Path, policy: dict[str, Any], *, explain: bool = False, evaluate: bool = True) -> None:
        self.workspace = Workspace(folder / "ws", policy={"explain": {"required": False}, **policy}, actor="dora")
        data = self.workspace.load(people(), target="good", name="people")
        train, test = data.split(test=0.5, seed=1)
        self.model: Model = self.workspace.train("tabular.logistic", train)
        if evaluate:
            self.workspace.evaluate(self.model, test)
        if explain:
            self.workspace.explain(self.model, test.head(2))
        self.version: Version = self.workspace.register(self.model, "shop")
        self.approver = Approver.create("approver", folder / "key.pem")
        self.workspace.enrol(self.approver, roles=["risk"])

    def promote(self) -> Version:
        return self.workspace.promote(self.version, "production", approver=self.approver)

    def refusal(self) -> Refused:
        with pytest.raises(Refused) as caught:
            self.promote()
        assert self.workspace.versions.aliases("shop") == {}
        return caught.value


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Any]:
    opened: list[Shop] = []

    def make(policy: dict[str, Any], **options: bool) -> Shop:
        opened.append(Shop(tmp_path / str(len(opened)), policy, **options))
        return opened[-1]

    yield make
    for each in opened:
        each.workspace.close()


def test_a_floor_that_holds_lets_the_version_pass(shop: Any) -> None:
    assert shop({"quality": {"gates": [{"metric": "roc_auc", "min": 0.6, "bound": "lower"}]}}).promote().number == 1


def test_a_quality_floor_refuses_with_its_line_and_figures(shop: Any) -> None:
    refusal = shop({"quality": {"gates": [{"metric": "accuracy", "min": 0.1}, {"metric": "roc_auc", "min": 0.99, "bound": "lower"}]}}).refusal()
    assert refusal.line == "quality.gates[1]"
    assert refusal.bound == 0.99
    assert isinstance(refusal.measured, float)
    assert refusal.measured < 0.99


def test_an_interval_end_is_stricter_than_the_point(shop: Any) -> None:
    first = shop({})
    evaluation = next(e for e in first.workspace.ledger.entries("evaluate") if e.predicate["phase"] == "outcome").predicate["details"]["evaluation"]
    metric = evaluation["metrics"]["roc_auc"]
    between = (metric["low"] + metric["value"]) / 2
    assert shop({"quality": {"gates": [{"metric": "roc_auc", "min": between}]}}).promote()
    assert shop({"quality": {"gates": [{"metric": "roc_auc", "min": between, "bound": "lower"}]}}).refusal().line == "quality.gates[0]"


def test_a_version_that_was_never_evaluated_does_not_pass_a_gate(shop: Any) -> None:
    assert "no evaluation" in str(shop({"quality": {"gates": [{"metric": "roc_auc", "min": 0.1}]}}, evaluate=False).refusal())


def test_an_evaluation_on_the_training_rows_does_not_pass_a_gate(shop: Any) -> None:
    made = shop({"quality": {"gates": [{"metric": "roc_auc", "min": 0.1}]}})
    train, test = made.workspace.load(people(), target="good", name="people").split(test=0.5, seed=1)
    made.workspace.evaluate(made.model, train)
    assert "rows that it was trained on" in str(made.refusal())
    made.workspace.evaluate(made.model, test)
    assert made.promote()


def test_a_metric_that_does_not_exist_is_an_error_of_the_policy(shop: Any) -> None:
    with pytest.raises(UsageError, match="Did you mean 'roc_auc'"):
        shop({"quality": {"gates": [{"metric": "roc_auk", "min": 0.1}]}}).promote()


def test_a_group_gap_refuses_for_the_column_that_misses_it(shop: Any) -> None:
    refusal = shop({"fairness": {"protected": ["sex"], "gates": [{"metric": "impact_ratio", "min": 1.01}]}}).refusal()
    assert refusal.line == "fairness.gates[0] (sex)"


def test_a_missing_explanation_refuses_and_a_present_one_passes(shop: Any) -> None:
    assert shop({"explain": {"required": True}}).refusal().line == "explain.required"
    assert shop({"explain": {"required": True}}, explain=True).promote()


def test_a_stricter_privacy_policy_refuses_a_version_that_was_trained_before_it(shop: Any, tmp_path: Path) -> None:
    old = shop({})
    old.workspace.close()
    with Workspace(tmp_path / "0" / "ws", policy={"explain": {"required": False}, "privacy": {"epsilon": 1.0}}, actor="dora") as workspace:
        with pytest.raises(Refused) as caught:
            workspace.promote("shop:1", "production", approver=old.approver)
        assert caught.value.line == "privacy.epsilon"


@pytest.mark.parametrize("stated", [{"private": True, "epsilon": "Infinity"}, {"private": "yes", "epsilon": 0.1}, {"private": True, "epsilon": None}])
def test_a_privacy_statement_without_a_bound_is_refused_and_not_stumbled_over(stated: dict[str, Any]) -> None:
    evidence = SimpleNamespace(predicate={"stages": {"privacy": {**stated, "delta": 1e-5}}})
    gates = Module(SimpleNamespace(policy=SimpleNamespace(privacy=PrivacyPolicy(epsilon=1.0))))
    gates._evidence = lambda kind, digest: evidence  # type: ignore[assignment,method-assign,return-value]  # a stand-in
    with pytest.raises(Refused, match="not as private"):
        gates._check_privacy("digest", [])


def test_a_model_from_another_workspace_cannot_be_registered(shop: Any, tmp_path: Path) -> None:
    made = shop({})
    with Workspace(tmp_path / "elsewhere", actor="x") as elsewhere, pytest.raises(Refused, match="not trained in this workspace"):
        elsewhere.register(made.model, "smuggled")


def test_a_model_that_was_changed_after_training_cannot_be_registered(shop: Any) -> None:
    made = shop({})
    made.model._coefficients = made.model._coefficients * 2  # type: ignore[attr-defined]  # what a hand on the weights would do
    with pytest.raises(Refused, match="not trained in this workspace"):
        made.workspace.register(made.model, "shop")


def test_an_evaluation_of_another_model_does_not_count(shop: Any) -> None:
    made = shop({"quality": {"gates": [{"metric": "roc_auc", "min": 0.1}]}})
    data = made.workspace.load(people(200), target="good", name="people")
    stranger = made.workspace.register(made.workspace.train("tabular.logistic", data, l2=3.0), "shop")
    with pytest.raises(Refused, match="no evaluation"):
        made.workspace.promote(stranger, "production", approver=made.approver)


def test_only_versions_that_hold_a_guarded_alias_are_deployed(shop: Any) -> None:
    made = shop({})
    with pytest.raises(Refused, match="holds none of the aliases"):
        made.workspace.deploy(made.version)
    made.promote()
    assert made.workspace.deploy("shop@production").healthy()


def test_an_actor_without_a_name_is_refused_and_the_refusal_is_in_the_ledger(shop: Any) -> None:
    made = shop({})
    made.workspace.actor = Actor(" ")
    with pytest.raises(Refused, match="no actor"):
        made.workspace.evaluate(made.model, made.workspace.background(made.model))
    last = list(made.workspace.ledger.entries("evaluate"))[-1].predicate
    assert last["status"] == "refused"
    assert last["refusal"]["by"] == "access"


def test_calls_are_frozen_but_for_what_a_stage_may_replace(shop: Any) -> None:
    from affidavit.calls import PredictCall

    made = shop({})
    call = PredictCall(made.workspace, Actor("x"), model=made.model, data=made.workspace.background(made.model), version=None)
    with pytest.raises(PluginError, match="frozen"):
        call.data = None
    with pytest.raises(PluginError, match="POLICY may not replace 'data'"):
        call.replace("data", None, stage=Stage.POLICY)
    call.replace("data", call.data, stage=Stage.MASKING)
    assert [(r.field, r.stage) for r in call.replacements] == [("data", Stage.MASKING)]


def test_a_direct_call_on_a_governed_model_warns_and_a_governed_one_does_not(shop: Any) -> None:
    made = shop({})
    rows = made.workspace.background(made.model)
    with pytest.warns(UngovernedCallWarning, match="called directly"):
        made.model.predict(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.workspace.predict(made.model, rows)


def test_a_person_who_approves_by_a_forged_database_row_does_not_count(shop: Any) -> None:
    made = shop({})
    made.workspace.versions.approve(
        made.version, "production", key_fingerprint=made.approver.fingerprint, name="approver", roles=("risk",), signature=b"\x00" * 64
    )
    with pytest.raises(Refused, match="0 of 1"):
        made.workspace.promote(made.version, "production")


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"relation": "replace-one"}, "privacy.relation"),
        ({"unit": "label", "relation": "replace-one"}, "privacy.unit"),
        ({"unit": "group", "unit_records": 2}, "privacy.unit"),
    ],
)
def test_a_version_whose_training_protects_something_else_than_todays_policy_asks_is_refused(
    asked: dict[str, Any], line: str, tmp_path: Path
) -> None:
    loose = {"explain": {"required": False}, "approvals": {"production": {"count": 0}}}
    with Workspace(tmp_path / "ws", policy={**loose, "privacy": {"epsilon": 50.0, "dataset_budget": 60.0, "delta": 1e-3}}, actor="dora") as workspace:
        model = workspace.train("tabular.mlp", workspace.load(people(), target="good", name="people"), epochs=1, hidden=[4])
        workspace.register(model, "shop")
    strict = {**loose, "privacy": {"epsilon": 50.0, "dataset_budget": 60.0, "delta": 1e-3, **asked}}
    with Workspace(tmp_path / "ws", policy=strict, actor="dora") as workspace, pytest.raises(Refused) as caught:
        workspace.promote("shop:1", "production")
    assert caught.value.line == line
