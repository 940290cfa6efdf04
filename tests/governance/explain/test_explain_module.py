"""EXPLAIN inside a workspace: the choice in evidence, the check of every row, and explanations with predictions."""

from __future__ import annotations

import datetime
import sys

import numpy as np
import pyarrow as pa
import pytest

import affidavit as af
from affidavit.errors import MissingExtra, PluginError, Refused, UsageError
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.governance import Stage
from affidavit_governance.explain.module import Module


def rows(count=160):
    generator = np.random.default_rng(0)
    income = generator.normal(size=count)
    return {
        "income": income,
        "colour": np.array(["red", "blue"])[generator.integers(0, 2, count)],
        "y": np.where(income + generator.normal(size=count) > 0, "good", "bad"),
    }


def opened(folder, **explain):
    return af.Workspace(folder / "ws", policy={"explain": explain}, actor="tester")


def trained(workspace):
    data = workspace.load(af.Dataset.from_arrow(rows()).table, target="y", name="toy")
    return workspace.train("tabular.logistic", data), data


def outcome(workspace, kind="explain"):
    return [e.predicate for e in workspace.ledger.entries(kind) if e.predicate["phase"] == "outcome"][-1]


def test_the_choice_and_the_residual_stand_in_the_evidence(tmp_path):
    with opened(tmp_path) as workspace:
        model, data = trained(workspace)
        explanation = workspace.explain(model, data.head(5), seed=9)
        said = outcome(workspace)
    assert explanation.method == "linear" and "closed form" in explanation.details["reason"]
    assert said["stages"]["explain"]["method"] == "linear" and said["stages"]["explain"]["reason"] == explanation.details["reason"]
    assert said["stages"]["explain"]["max_residual"] == explanation.residual.max() < 1e-9
    assert said["stages"]["explain"]["seed"] == 9 and said["stages"]["explain"]["background"] == explanation.details["background"]
    assert {"field": "explainer", "stage": "explain"} in said["replacements"]
    assert "red" not in str(said) and "blue" not in str(said), "the record holds attributions, not cells"


@pytest.mark.parametrize("method", ["exact", "kernel", "permutation", "lime"])
def test_a_method_can_be_asked_for_by_name(tmp_path, method):
    # one coefficient for the own quartile bin says little of a line through all of them: the surrogate's local R² is 0.11 here
    with opened(tmp_path, min_local_r2=0.05) as workspace:
        model, data = trained(workspace)
        options = {} if method == "exact" else {"budget": 4000}
        explanation = workspace.explain(model, data.head(2), method=method, **options)
    assert explanation.method == method and explanation.details["reason"] == "asked for by name"


def test_an_explanation_of_no_rows_is_refused_and_no_evidence_for_promotion(tmp_path):
    with af.Workspace(tmp_path / "ws", policy={"approvals": {}}, actor="tester") as workspace:
        model, data = trained(workspace)
        with pytest.raises(UsageError, match="no rows to explain"):
            workspace.explain(model, data.head(0))
        workspace.evaluate(model, data)
        version = workspace.register(model, "toy")
        with pytest.raises(Refused, match="explan"):
            workspace.promote(version, "production")


def test_unknown_and_unfit_methods_are_refused_with_what_there_is(tmp_path):
    with opened(tmp_path) as workspace:
        model, data = trained(workspace)
        with pytest.raises(UsageError, match=r"no explainer 'linaer'.* 'linear'"):
            workspace.explain(model, data.head(2), method="linaer")
        with pytest.raises(UsageError, match=r"'tree' does not fit this tabular\.logistic"):
            workspace.explain(model, data.head(2), method="tree")
        assert outcome(workspace)["status"] == "failed"


class Liar(Explainer):
    """A third party's explainer that changes an honest explanation."""

    type = "test.liar"

    def explain(self, model, data, background, **options):
        from dataclasses import replace

        from affidavit_governance.explain.methods.linear import Linear

        honest = Linear().explain(model, data, background)
        return replace(honest, **self.lie(honest))


LIES = [
    (lambda e: {"values": e.values * 1.001}, Refused, "max_residual"),
    (lambda e: {"values": e.values * 1.001, "predicted": e.base + (e.values * 1.001).sum(axis=1)}, PluginError, "does not give"),
    (lambda e: {"values": e.values[:1]}, PluginError, "values of shape"),
    (lambda e: {"base": e.base * np.nan}, PluginError, "not finite"),
    (lambda e: {"output": "probability of wealth"}, PluginError, "does not answer"),
    (lambda e: {"output": "value"}, PluginError, "does not answer"),
]


@pytest.mark.parametrize("lie", range(len(LIES)))
def test_an_explainer_that_does_not_tell_the_truth_is_caught(tmp_path, monkeypatch, lie):
    change, error, words = LIES[lie]
    monkeypatch.setattr(Liar, "lie", lambda self, honest: change(honest), raising=False)
    with opened(tmp_path) as workspace:
        model, data = trained(workspace)
        registry = workspace.registry
        sample = registry.entries[("explainer", "linear")]
        monkeypatch.setitem(registry._entries, ("explainer", "test.liar"), type(sample)("explainer", "test.liar", "x:y", frozenset(), None, "test"))
        monkeypatch.setitem(registry._loaded, ("explainer", "test.liar"), Liar)
        with pytest.raises(error, match=words):
            workspace.explain(model, data.head(3), method="test.liar")
        assert outcome(workspace)["status"] == ("refused" if error is Refused else "failed")
        if error is Refused:
            assert outcome(workspace)["refusal"]["line"] == "explain.max_residual"


def test_each_prediction_carries_its_explanation_where_the_policy_says_so(tmp_path):
    with opened(tmp_path, each_prediction=True) as workspace:
        model, data = trained(workspace)
        predictions = workspace.predict(model, data.head(4))
        again = workspace.predict(model, data.take([2]))
        empty = workspace.predict(model, data.head(0))
    found = predictions.explanations
    assert found is not None and len(found) == 4 and found.method == "linear"
    np.testing.assert_allclose(found.predicted, np.log(predictions.score() / (1 - predictions.score())), atol=1e-9)
    np.testing.assert_allclose(again.explanations.values[0], found.values[2], atol=1e-13)
    assert len(empty.explanations) == 0


def test_rows_of_plain_values_are_explained_like_the_frame_they_come_from(tmp_path):
    """A request's Arrow types differ from training's: numbers with fractions for whole ones, timestamps for dates, text for dictionaries."""
    generator = np.random.default_rng(1)
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(day)) for day in generator.integers(0, 900, 160)]
    whole, code = generator.integers(0, 9, 160), generator.integers(0, 4, 160)
    columns = {
        "whole": whole,
        "day": pa.array(days),
        "colour": pa.array(np.array(["red", "blue"])[generator.integers(0, 2, 160)]).dictionary_encode(),
        "code": code,
        "y": np.where(whole + code > 6, "good", "bad"),
    }
    with af.Workspace(tmp_path / "ws", policy={"explain": {"each_prediction": True}}, actor="tester") as workspace:
        data = workspace.load(pa.table(columns), target="y", fields={"code": {"type": "categorical"}})
        model = workspace.train("tabular.mlp", data, epochs=3)
        frame = workspace.predict(model, data.head(1)).explanations
        row = {"whole": float(whole[0]), "day": days[0].isoformat(), "colour": data.to_list("colour")[0], "code": str(code[0])}
        plain = workspace.predict(model, [row]).explanations
        fraction = workspace.predict(model, [{**row, "whole": 2.5, "colour": None}]).explanations
    assert np.allclose(plain.values, frame.values, atol=1e-12) and abs(plain.values).max() > 1e-3
    assert fraction.inputs[0][0] == 2.5 and fraction.residual.max() < 1e-6


def test_each_prediction_without_background_is_refused_and_not_answered(tmp_path, monkeypatch):
    with opened(tmp_path, each_prediction=True) as workspace:
        model, data = trained(workspace)
        monkeypatch.setattr(type(workspace), "background", lambda self, model: None)
        with pytest.raises(Refused, match=r"explain\.each_prediction"):
            workspace.predict(model, data.head(1))


def test_without_each_prediction_there_is_no_wrapper_around_predict(tmp_path):
    with opened(tmp_path) as workspace:
        stages = [getattr(impl.plugin, "stage", None) for impl in workspace.plugins.hook.affidavit_predict.get_hookimpls()]
        assert Stage.EXPLAIN not in stages and Stage.AUDIT in stages
        model, data = trained(workspace)
        assert workspace.predict(model, data.head(1)).explanations is None
    with opened(tmp_path / "other", each_prediction=True) as workspace:
        stages = [getattr(impl.plugin, "stage", None) for impl in workspace.plugins.hook.affidavit_predict.get_hookimpls()]
        assert Stage.EXPLAIN in stages


def test_a_missing_library_is_named_with_the_line_that_installs_it(tmp_path, monkeypatch):
    with opened(tmp_path) as workspace:
        model, data = trained(workspace)
        monkeypatch.setitem(sys.modules, "shap", None)
        monkeypatch.delitem(sys.modules, "affidavit_governance.explain.methods.kernel", raising=False)
        workspace.registry._loaded.pop(("explainer", "kernel"), None)
        with pytest.raises(MissingExtra, match=r"'shap'.*affidavit\[explain\]"):
            workspace.explain(model, data.head(1), method="kernel")


def test_the_module_needs_neither_shap_nor_lime_until_it_is_used():
    import subprocess

    code = (
        "import sys, affidavit_governance.explain.module, affidavit_governance.explain.plugin;"
        "print(sorted({'shap', 'lime', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    assert Module.stage is Stage.EXPLAIN
