"""A whole life of data whose masks cannot tell their own values: loaded, trained on, evaluated and predicted, masked exactly once."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from affidavit.errors import UsageError
from affidavit.workspace import Workspace

ROWS = 60
TABLE = {
    "account": [f"{20000000 + i % 5}" for i in range(ROWS)],
    "note": [f"he wrote from ann{i % 3}@example.com about the account, twice" for i in range(ROWS)],
    "mail": [f"ann{i % 3}@example.com" for i in range(ROWS)],
    "who": ["a", "b", "c"] * (ROWS // 3),
    "x": [float(i % 7) for i in range(ROWS)],
    "y": ["n", "p"] * (ROWS // 2),
}
POLICY = {
    "masking": {
        "fields": {"account": "ff1", "mail": {"token": {"subject": "who"}}, "x": {"noise": {"scale": 2.0, "subject": "who"}}},
        "entities": {"EMAIL_ADDRESS": "synthetic"},
    },
    "explain": {"required": False},
}
FIELDS = {"mail": {"role": "identifier"}, "who": {"role": "identifier"}, "note": {"type": "categorical"}}


def test_load_train_evaluate_and_predict_see_the_same_values(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", actor="a", policy=POLICY) as workspace:
        data = workspace.load(pa.table(TABLE), target="y", fields=FIELDS, name="accounts")
        assert set(data.to_list("account")).isdisjoint(TABLE["account"])
        assert "@" in data.to_list("note")[0] and "ann0@" not in data.to_list("note")[0]
        train, test = data.split(test=0.25, seed=1)
        model = workspace.train("tabular.logistic", train)
        workspace.evaluate(model, test)
        masked = {(before, after) for before, after in zip(TABLE["account"], data.to_list("account"), strict=True)}
        assert len(masked) == 5
        module = next(plugin for plugin in workspace.plugins.get_plugins() if type(plugin).__module__.endswith("masking.module"))
        workspace.predict(model, data.head(3))
        masker = module._predictions[model]
        raw = pa.table(TABLE).slice(0, 3)
        from affidavit.interfaces.dataset import Dataset

        again, _ = masker.mask(Dataset.from_arrow(raw))
        for name in ("account", "x"):
            assert again.to_list(name) == data.to_list(name)[:3], name
        assert masker.mask(data.head(3))[0].to_list("account") == data.to_list("account")[:3]
        workspace.predict(model, raw)
        with pytest.raises(UsageError, match=r"'masking\.fields\.x': the subject of column 'x' is the column 'who'"):
            workspace.predict(model, [{name: values[0] for name, values in TABLE.items() if name not in ("mail", "who", "y")}])
        evidence = json.dumps([entry.predicate for entry in workspace.ledger.entries()])
    assert "ann0@" not in evidence
    assert "20000001" not in evidence
    kinds = [stages["masking"]["data"]["columns"] for stages in _stages(evidence)]
    assert kinds[0]["account"]["bound"] == {"table": "accounts", "field": "account"}
    assert kinds[0]["mail"]["operator"] == "token"
    assert len(kinds) >= 3
    assert not [name for later in kinds[1:] for name in ("account", "mail", "x") if name in later], "masked once"


def _stages(evidence: str) -> list[dict[str, dict[str, dict[str, dict[str, dict[str, object]]]]]]:
    found = [entry.get("stages", {}) for entry in json.loads(evidence)]
    return [stages for stages in found if "data" in stages.get("masking", {})]
