"""Gates on the quality of explanations, on a real workspace: measured inside the governed call, held at promotion, refused with figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from affidavit.approver import Approver
from affidavit.errors import InvalidInput, Refused
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.policy import EXPLANATION_METRICS
from affidavit.registry import Version
from affidavit.workspace import Workspace
from affidavit_governance.explain.methods.linear import Linear
from affidavit_governance.explain.quality.metrics import METRICS

GOOD = {"metric": "deletion_gap", "min": 0.05, "bound": "lower"}


def people(rows: int = 300) -> pa.Table:
    source = np.random.default_rng(4)
    columns = {f"x{i}": source.normal(size=rows) for i in range(4)}
    score = 2 * columns["x0"] - columns["x1"] + source.normal(size=rows)
    return pa.table({**columns, "good": np.where(score > 0, "yes", "no")})


class Shop:
    """A workspace with one registered model and one enrolled approver."""

    def __init__(self, folder: Path, gates: list[dict[str, Any]], **explain: Any) -> None:
        self.workspace = Workspace(folder / "ws", policy={"explain": {"gates": gates, **explain}}, actor="dora")
        self.data = self.workspace.load(people(), target="good", name="people")
        self.model = self.workspace.train("tabular.logistic", self.data)
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

    def make(gates: list[dict[str, Any]], **explain: Any) -> Shop:
        opened.append(Shop(tmp_path / str(len(opened)), gates, **explain))
        return opened[-1]

    yield make
    for each in opened:
        each.workspace.close()


def test_a_gate_measures_every_explanation_and_lets_a_good_one_pass(shop: Any) -> None:
    made = shop([GOOD, {"metric": "infidelity_ratio", "max": 0.5, "bound": "upper"}, {"metric": "sensitivity_ratio", "max": 0.9}])
    explanation = made.workspace.explain(made.model, made.data.head(12))
    assert explanation.details["quality"]["metrics"]["deletion_gap"]["low"] > 0.05
    assert made.promote().number == 1
    promoted = [e.predicate for e in made.workspace.ledger.entries("promote") if e.predicate["phase"] == "outcome"][-1]
    (passed,) = [gate for gate in promoted["stages"]["policy"]["gates"] if gate["line"] == "explain.gates[0]"]
    assert passed["metric"] == "deletion_gap" and passed["measured"] == explanation.details["quality"]["metrics"]["deletion_gap"]["low"]


def test_a_gate_that_is_missed_refuses_with_its_line_the_figure_and_what_satisfies_it(shop: Any) -> None:
    made = shop([GOOD, {"metric": "insertion_gap", "min": 0.99, "bound": "lower"}])
    made.workspace.explain(made.model, made.data.head(12))
    refusal = made.refusal()
    assert refusal.line == "explain.gates[1]" and refusal.bound == 0.99
    assert isinstance(refusal.measured, float) and 0 < refusal.measured < 0.99
    assert "lower end of the 95 % interval of insertion_gap" in str(refusal) and "Workspace.explain" in str(refusal.satisfy)


def test_an_explanation_of_too_few_rows_does_not_pass_and_does_not_hide_an_earlier_one(shop: Any) -> None:
    made = shop([GOOD])
    made.workspace.explain(made.model, made.data.head(2))
    refusal = made.refusal()
    assert refusal.line == "explain.gates[0]" and "2 rows were explained" in str(refusal) and refusal.measured == "not measured"
    made.workspace.explain(made.model, made.data.head(12))
    made.workspace.explain(made.model, made.data.head(2))
    assert made.promote()


def test_with_gates_a_method_is_measured_once_and_again_when_asked(shop: Any) -> None:
    made = shop([GOOD])
    found = [made.workspace.explain(made.model, made.data.head(12), **options) for options in ({}, {}, {"quality": True}, {"method": "exact"})]
    assert ["quality" in each.details for each in found] == [True, False, True, True]
    assert made.promote()


def test_a_version_that_was_explained_before_the_gate_was_set_is_refused(shop: Any, tmp_path: Path) -> None:
    made = shop([])
    made.workspace.explain(made.model, made.data.head(12))
    made.workspace.close()
    with Workspace(tmp_path / "0" / "ws", policy={"explain": {"gates": [GOOD]}}, actor="dora") as workspace:
        with pytest.raises(Refused, match="was not measured"):
            workspace.promote("shop:1", "production", approver=made.approver)
        workspace.explain(workspace.model(workspace.versions.get("shop:1")), made.data.head(12))
        assert workspace.promote("shop:1", "production", approver=made.approver)


def test_a_metric_that_does_not_exist_is_an_error_of_the_policy_at_once_with_what_there_is(shop: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"explain\.gates.*Did you mean 'deletion_gap'\?.*infidelity_ratio"):
        shop([{"metric": "deletion_gab", "min": 0.1}])
    assert not (tmp_path / "0" / "ws").exists(), "the policy is read before anything is made"
    assert set(EXPLANATION_METRICS) == set(METRICS)


def test_a_description_of_the_model_as_a_whole_passes_no_gate(shop: Any) -> None:
    made = shop([GOOD])
    made.workspace.explain_model(made.model, made.data.head(40))
    assert made.refusal().line == "explain.required"
    made.workspace.explain(made.model, made.data.head(12))
    assert made.promote()


class Flatterer(Explainer):
    """A third party's explainer whose attributions are all equal, and which states its own quality."""

    type = "test.flatterer"

    def explain(self, model: Any, data: Any, background: Any, **options: Any) -> Explanation:
        found = Linear().explain(model, data, background)
        equal = np.repeat(found.values.mean(axis=1, keepdims=True), len(found.players), axis=1)
        metric = {"value": 1.0, "low": 1.0, "high": 1.0}
        quality = {"metrics": {"deletion_gap": metric}, "missing": {}, "rows": 12, "model_rows": 1}
        return replace(found, values=equal, details={**found.details, "quality": quality})


def test_equal_attributions_with_a_word_of_their_own_do_not_pass(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop([GOOD])
    registry = made.workspace.registry
    sample = registry.entries[("explainer", "linear")]
    monkeypatch.setitem(registry._entries, ("explainer", Flatterer.type), type(sample)("explainer", Flatterer.type, "x:y", frozenset(), None, "test"))
    monkeypatch.setitem(registry._loaded, ("explainer", Flatterer.type), Flatterer)
    made.workspace.explain(made.model, made.data.head(12), method=Flatterer.type)
    refusal = made.refusal()
    assert refusal.line == "explain.gates[0]" and refusal.measured == 0.0


def test_the_report_shows_what_was_measured_and_released(shop: Any, tmp_path: Path) -> None:
    made = shop([GOOD], release="top-k", top_k=2)
    made.workspace.explain(made.model, made.data.head(60), reconstruction=True)
    made.workspace.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for words in ("Deletion gap", "higher is better, 0 is no better than random", "Reconstruction of inputs", "top-k"):
        assert words in page


def test_a_signed_bundle_with_measured_explanations_verifies(shop: Any, tmp_path: Path) -> None:
    made = shop([GOOD], release="reason-codes")
    made.workspace.explain(made.model, made.data.head(60), reconstruction=True)
    made.promote()
    made.workspace.bundle(tmp_path / "audit.zip")
    from affidavit_governance.audit.verify import verify_bundle

    verify_bundle(tmp_path / "audit.zip", made.workspace.verifier_key)
