"""What the page on trees and linear models says is so: its examples run, its tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.docs.pages import run_page

import affidavit as af
from affidavit.plugins import bundled_registry
from affidavit_governance.explain.estimators.gaussian import MOST_COALITIONS
from affidavit_governance.explain.methods.linear import _GAMES
from affidavit_governance.explain.methods.tree import _CHOICES, TREE_TOLERANCE

PAGE = (Path(__file__).parents[2] / "docs/explaining-trees.md").read_text()


def people(answer):
    generator = np.random.default_rng(4)
    age, amount, idle = generator.integers(19, 75, 240), generator.normal(size=240), generator.normal(size=240)
    job = np.array(["clerk", "driver", "nurse"])[generator.integers(0, 3, 240)]
    score = (age - 45) / 10 + amount * (job == "nurse") - 0.5 * (job == "clerk")
    return af.Dataset.from_arrow({"age": age.astype(float), "amount": amount, "job": job, "idle": idle, "y": answer(score)}, target="y")


@pytest.fixture
def names(tmp_path):
    with af.Workspace(tmp_path / "ws", actor="tester") as ws:
        data = ws.load(people(lambda score: np.where(score > 0, "yes", "no")).table, target="y", name="people")
        train, rows = data.take(np.arange(200)), data.take(np.arange(200, 206))
        yield {"ws": ws, "rows": rows, "forest": ws.train("tabular.forest", train, trees=20), "logistic": ws.train("tabular.logistic", train)}


def test_the_examples_on_the_page_give_what_they_show(names):
    run_page("explaining-trees", names)


def test_the_figures_and_options_on_the_page_are_those_of_the_code():
    assert MOST_COALITIONS == 2**13 and "Up to 13 players are enumerated" in PAGE
    assert TREE_TOLERANCE == 1e-6 and "more than 1e-6" in re.sub(r"\s+", " ", PAGE)
    named = set(re.findall(r"game=\"([a-z-]+)\"", PAGE)) | {"interventional"}
    assert named == {*_CHOICES["game"], *_GAMES}
    assert set(re.findall(r"engine=\"([a-z]+)\"", PAGE)) == {"shap"}


NUMBERS, TWO, SEVERAL = 0, 2, 3
ROWS = [
    *[(kind, NUMBERS, "any of them, numbers") for kind in ("tabular.tree", "tabular.forest", "tabular.boosting", "tabular.linear")],
    *[(kind, classes, "`tabular.tree`, `tabular.forest`, classes") for kind in ("tabular.tree", "tabular.forest") for classes in (TWO, SEVERAL)],
    *[(kind, TWO, "`tabular.boosting`, `tabular.logistic`, two classes") for kind in ("tabular.boosting", "tabular.logistic")],
    *[(kind, SEVERAL, "`tabular.boosting`, `tabular.logistic`, several classes") for kind in ("tabular.boosting", "tabular.logistic")],
]


@pytest.mark.parametrize(("kind", "classes", "row"), ROWS)
def test_the_table_of_outputs_is_what_explanations_say(kind, classes, row):
    answers = {
        NUMBERS: lambda score: score,
        TWO: lambda score: np.where(score > 0, "b", "a"),
        SEVERAL: lambda score: np.array(["a", "b", "c"])[np.digitize(score, [-1, 1])],
    }
    data, registry = people(answers[classes]), bundled_registry()
    model = registry.get("model", kind)().fit(data)
    method = registry.get("explainer", "linear" if model.capabilities.linear else "tree")()
    output = method.explain(model, data.head(2), data.head(50)).output
    (shown,) = re.findall(rf"^\| {re.escape(row)} \| `([^`]+)` \|$", PAGE, re.M)
    assert output == shown.replace("<class>", "c" if classes == SEVERAL else "b")
