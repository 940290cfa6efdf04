"""Units of privacy on the whole road: users named by pseudonyms, shuffled batches, labels; gated, reported and recomputed by the verifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from affidavit.errors import Refused
from affidavit.interfaces.dataset import Dataset
from affidavit.workspace import Workspace

LOOSE = {"explain": {"required": False}, "approvals": {"production": {"count": 0}}}


def policy(**privacy: Any) -> dict[str, Any]:
    masking = {"detect": False, "fields": {"customer": "pseudonym"}}
    return {**LOOSE, "masking": masking, "privacy": {"epsilon": 4.0, "delta": 1e-3, "dataset_budget": 60.0, **privacy}}


def visits(workspace: Workspace) -> Dataset:
    source = np.random.default_rng(4)
    amount = source.normal(size=300)
    table = pa.table(
        {
            "customer": [f"person-{row % 60}" for row in range(300)],
            "amount": amount,
            "good": np.where(amount + source.normal(size=300) > 0, "yes", "no"),
        }
    )
    return workspace.load(table, target="good", name="visits", fields={"customer": {"role": "identifier"}})


def test_users_behind_pseudonyms_with_shuffled_batches_are_gated_reported_and_recomputed(tmp_path: Path) -> None:
    asked = policy(unit="user", user="customer", unit_records=2, sampler="shuffle")
    asked["quality"] = {"gates": [{"metric": "accuracy", "min": 0.0}]}
    with Workspace(tmp_path / "ws", policy=asked, actor="dora") as workspace:
        data = visits(workspace)
        assert not any(value.startswith("person-") for value in data.to_list("customer"))
        model = workspace.train("tabular.mlp", data, epochs=2, hidden=[4], batch_size=30)
        workspace.register(model, "shop")
        # All rows, of which those that were trained on were chosen, are training rows.
        workspace.evaluate(model, data)
        with pytest.raises(Refused, match="very rows that it was trained on"):
            workspace.promote("shop:1", "production")
        workspace.evaluate(model, data.head(40))
        workspace.promote("shop:1", "production")
        workspace.report(tmp_path / "report.html")
        assert "one user with at most 2 records" in (tmp_path / "report.html").read_text()
        workspace.bundle(tmp_path / "audit.zip")
        outcome = workspace.service("verify")(tmp_path / "audit.zip", workspace.verifier_key)
        (said,) = outcome.privacy
        low, high = said["bracket"]
        assert low <= said["epsilon"] <= high + 1e-2
        assert (said["unit"], said["sampler"], said["steps"]) == ("user", "shuffle", 8)
        assert {event["group_size"] for event in said["events"]} == {2}


def test_the_privacy_of_a_label_passes_its_own_gate(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", policy=policy(unit="label"), actor="dora") as workspace:
        model = workspace.train("tabular.mlp", visits(workspace), epochs=1, hidden=[4])
        workspace.register(model, "shop")
        workspace.promote("shop:1", "production")


def test_a_version_that_protects_the_users_of_another_column_is_refused(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", policy=policy(unit="user", user="customer", unit_records=2), actor="dora") as workspace:
        model = workspace.train("tabular.mlp", visits(workspace), epochs=1, hidden=[4])
        workspace.register(model, "shop")
    other = policy(unit="user", user="household", unit_records=2)
    with Workspace(tmp_path / "ws", policy=other, actor="dora") as workspace, pytest.raises(Refused) as refused:
        workspace.promote("shop:1", "production")
    assert refused.value.line == "privacy.user"
