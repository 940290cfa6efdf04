"""What the pages on LIME and on models as a whole say is so: their code runs, their options and methods exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.docs.pages import run_page

from affidavit.workspace import Workspace
from affidavit_governance.explain.overall.losses import METRICS
from affidavit_governance.explain.plugin import _EXPLAINERS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PEOPLE = {name: {"role": "identifier"} for name in ("full_name", "email", "phone", "iban", "national_id")}


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The names after the code of each page has run."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFIDAVIT_HOME", str(folder / "home"))
        with Workspace(folder / "ws") as ws:
            train, test = ws.load(ROOT / "examples/credit/german_credit.csv", target="credit_risk", fields=PEOPLE).split(test=0.25, seed=7)
            model = ws.train("tabular.forest", train, trees=20)
            given = {"ws": ws, "model": model, "train": train, "test": test}
            yield {
                "explaining-models": run_page("explaining-models", dict(given)),
                "explaining-lime": run_page("explaining-lime", dict(given)),
            }


def test_the_code_on_the_models_page_does_what_it_says(spaces: Any) -> None:
    names = spaces["explaining-models"]
    assert names["found"].method == "permutation-importance" and names["found"].details["metric"] == "log_loss"
    assert names["by_auc"].details["metric"] == "roc_auc" and names["by_auc"].importance["checking_status"].low > 0
    assert "money" in names["together"].importance and "credit_amount" not in names["together"].importance
    assert names["moved"].details["explainer"] == "tree" and len(names["moved"]) == 30
    assert set(names["shown"].curves["age"]) == {"value", "mean", "low", "high", "ice"} and len(names["shown"].curves["age"]["ice"]) == 20
    assert 0 <= names["pairs"].importance["age × duration_months"].value <= 1
    assert len(names["tree"].rules) <= 2**3 and len(names["rules"].rules) <= 5 + 1
    assert {"r2", "accuracy"} == set(names["tree"].fidelity)


def test_the_code_on_the_lime_page_does_what_it_says(spaces: Any) -> None:
    names = spaces["explaining-lime"]
    assert names["found"].errors.shape == names["found"].values.shape and len(names["found"].details["local_r2"]) == 3
    assert names["found"].details["rows_spent"] == [5000] * 3
    assert 2 * names["careful"].errors.max() <= 0.1
    assert names["library"].errors is None and names["library"].details["engine"] == "lime"


def test_every_record_is_signed(spaces: Any) -> None:
    records = [value for names in spaces.values() for value in names.values() if hasattr(value, "to_json") and hasattr(value, "signed")]
    assert len(records) >= 9 and all(record.signed for record in records)


def test_the_methods_and_metrics_on_the_page_exist() -> None:
    page = (DOCS / "explaining-models.md").read_text()
    methods = re.findall(r"^\| `([a-z-]+)` \|", page, re.M)
    registered = {name: extra for name, _, extra in _EXPLAINERS}
    assert len(methods) == 5 and set(methods) <= set(registered)
    rows = dict(zip(methods, re.findall(r"^\| `[a-z-]+` \|(.*)$", page, re.M), strict=True))
    assert all((registered[method] == "explain") == ("extra `explain`" in rows[method]) for method in methods)
    assert all(f"`{name}`" in page for name in METRICS)


def test_the_least_budget_is_the_one_on_the_page() -> None:
    from affidavit_governance.explain.surrogates.local import least_rows

    assert "four for each player and four more" in (DOCS / "explaining-lime.md").read_text().replace("\n", " ")
    assert [least_rows(players) for players in (1, 10)] == [8, 44]


def test_no_category_is_named_that_few_rows_share(spaces: Any) -> None:
    names = spaces["explaining-models"]
    told = " ".join([*names["tree"].rules, *names["rules"].rules])
    for field in ("checking_status", "purpose", "savings"):
        values, counts = np.unique(names["test"].to_text(field), return_counts=True)
        for value in values[counts < 10]:
            assert f"{field} is {value} " not in told and f"{field} is not {value} " not in told
    assert "checking_status is no checking account" in told or "checking_status is not no checking account" in told
