"""Models without gradient steps on the whole road: private, charged, explained, reported, and recomputed by the verifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from affidavit.errors import Refused
from affidavit.interfaces.dataset import Dataset
from affidavit.workspace import Workspace
from affidavit_governance.privacy.budget import Budget
from affidavit_governance.privacy.mechanisms.reports import PrivateStatistics

POLICY = {"masking": {"detect": False}, "privacy": {"epsilon": 1.0, "delta": 1e-4, "dataset_budget": 2.2}}


def loans(workspace: Workspace) -> Dataset:
    rng = np.random.default_rng(0)
    income, job = rng.normal(40, 9, 800), rng.choice(["a", "b"], 800)
    table = pa.table({"income": income, "job": job, "good": np.where(income + 9 * (job == "a") > 44, "yes", "no")})
    return workspace.load(table, target="good")


def test_private_models_without_steps_share_a_budget_with_figures_and_stand_in_the_report_and_the_bundle(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", policy=POLICY, actor="test") as workspace:
        data = loans(workspace)
        (root,) = data.roots
        for kind in ("tabular.logistic", "tabular.additive"):
            model = workspace.train(kind, data)
            assert workspace.evaluate(model, data)["accuracy"] > 0.75
            explanation = workspace.explain(model, data.head(3))
            assert np.abs(explanation.residual).max() < 1e-9
            workspace.register(model, kind.replace(".", "-"))
        budget = Budget(workspace.store)
        spent = budget.spent(root, 1e-4)
        assert 1.2 < spent < 2.0
        policy = workspace.policy.privacy
        assert policy is not None
        with PrivateStatistics(budget, data, epsilon=0.3, policy=policy) as statistics:
            figure = statistics.count(epsilon=0.3)
        assert abs(figure.value - 800) < 100
        assert spent < budget.spent(root, 1e-4) <= 2.2
        with pytest.raises(Refused, match="has spent"):
            workspace.train("tabular.logistic", data)
        workspace.report(tmp_path / "report.html")
        assert "noisy sums over all rows" in (tmp_path / "report.html").read_text()
        workspace.bundle(tmp_path / "audit.zip")
        outcome = workspace.service("verify")(tmp_path / "audit.zip", workspace.verifier_key)
        assert outcome.ok
        assert "stated epsilons are not below what their own events cost, computed again" in str(outcome)


def test_what_cannot_be_private_is_refused_before_it_costs_anything(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", policy=POLICY, actor="test") as workspace:
        data = loans(workspace)
        (root,) = data.roots
        with pytest.raises(Refused, match="count the classes"):
            workspace.train("tabular.logistic", data, class_weight="balanced")
        with pytest.raises(Refused, match=r"Use a type that can:.*tabular\.additive.*tabular\.logistic"):
            workspace.train("tabular.boosting", data)
        assert Budget(workspace.store).spent(root, 1e-4) == 0
