"""Explanations over HTTP: a real server over a real workspace, the shapes of the answer, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tests.plugins.targets.test_http_target import KEY, MODEL, ROWS, Direct, error, valid

import affidavit as af
from affidavit.errors import UsageError
from affidavit_plugins.targets.http.target import Http, HttpEndpoint


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, HttpEndpoint, httpx.Client]]:
    folder = tmp_path_factory.mktemp("explained")
    with af.Workspace(folder / "ws", policy={"approvals": {}}, actor="tester") as workspace:
        data = workspace.load(ROWS.table, target="risk", name="toy")
        model = workspace.train("tabular.logistic", data)
        workspace.evaluate(model, data)
        workspace.explain(model, data.head(2))
        version = workspace.register(model, "toy")
        workspace.promote(version, "production")
        with workspace.deploy(version, target="http", port=0, max_explain_rows=3, max_explain_budget=5000, max_explain_seconds=2) as running:
            assert isinstance(running, HttpEndpoint)
            with httpx.Client(base_url=running.url or "", trust_env=False, timeout=60) as made:
                yield workspace, data, running, made


EXPLAIN = "/v2/models/toy/explain"


def test_an_explanation_over_http_equals_the_workspace_s_own_and_leaves_evidence(governed: Any) -> None:
    workspace, data, running, _ = governed
    before = len(list(workspace.ledger.entries("explain")))
    rows = data.head(2).features()
    got = running.explain(rows, method="exact", seed=4)
    own = workspace.explain(workspace.model("toy:1"), data.head(2), method="exact", seed=4)
    assert len(list(workspace.ledger.entries("explain"))) == before + 4, "intent and outcome of both"
    np.testing.assert_allclose(got.values, own.values, rtol=0, atol=1e-12)
    assert got.method == "exact" and got.details["seed"] == 4 and got.residual.max() < 1e-9


def test_the_response_has_the_attributions_and_what_they_add_up_to_as_tensors(governed: Any) -> None:
    *_, client = governed
    answer = client.post(EXPLAIN, json={**valid(), "id": "7"}).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("toy", "1", "7")
    tensors = {tensor["name"]: tensor for tensor in answer["outputs"]}
    assert set(tensors) == {"attributions", "base", "predicted", "residual"}, "a closed form has no intervals"
    players = json.loads(tensors["attributions"]["parameters"]["players"])
    values = np.array(tensors["attributions"]["data"]).reshape(tensors["attributions"]["shape"])
    assert players == ["amount", "owner", "place", "day"] and values.shape == (2, 4)
    np.testing.assert_allclose(np.array(tensors["base"]["data"]) + values.sum(axis=1), tensors["predicted"]["data"], atol=1e-9)
    assert answer["parameters"]["method"] == "linear" and answer["parameters"]["output"].startswith("log-odds of ")
    assert json.loads(answer["parameters"]["explanation"])["version"] == 2


def test_a_sampled_explanation_has_half_widths(governed: Any) -> None:
    *_, client = governed
    answer = client.post(EXPLAIN, json={**valid(), "parameters": {"method": "permutation", "budget": 1200}}).json()
    assert "half_widths" in {tensor["name"] for tensor in answer["outputs"]}


@pytest.mark.parametrize(
    ("parameters", "status", "says"),
    [
        ({"methode": "exact"}, 400, "no such parameter.*'method'"),
        ({"groups": {"a": ["amount"]}}, 400, "no such parameter"),
        ({"method": 3}, 400, "'method' must be a string"),
        ({"seed": True}, 400, "'seed' must be a number"),
        ({"seed": 1.5}, 400, "'seed' must be a number"),
        ({"method": "exatc"}, 400, "exact"),
        ({"label": "maybe"}, 400, "no class"),
        ({"budget": 5001, "method": "permutation"}, 413, "'budget' is more than this server's 5000"),
        ({"seconds": 3, "method": "permutation"}, 413, "'seconds'"),
        ({"method": "partial-dependence"}, 400, "."),
        ([], 400, "must be an object"),
        (["x"], 400, "must be an object"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_in_one_sentence(governed: Any, parameters: Any, status: int, says: str) -> None:
    *_, client = governed
    response = client.post(EXPLAIN, json={**valid(), "parameters": parameters})
    assert re.search(says, error(response, status))


def test_more_rows_than_the_server_explains_are_refused(governed: Any) -> None:
    *_, client = governed
    many = {"inputs": [{**item, "data": item["data"] * 2, "shape": [4]} for item in valid()["inputs"]]}
    assert "more than 3 rows" in error(client.post(EXPLAIN, json=many), 413)


def test_a_width_that_cannot_be_reached_ends_at_the_server_s_budget(governed: Any) -> None:
    _, data, running, _ = governed
    got = running.explain(data.head(1).features(), method="permutation", width=1e-12)
    assert max(got.details["rows_spent"]) <= 5000


def test_explaining_needs_the_key_and_the_content_type_like_inferring(governed: Any) -> None:
    *_, client = governed
    assert client.post(EXPLAIN, content=b"{}", headers={"content-type": "text/plain"}).status_code == 400
    assert client.get(EXPLAIN).status_code == 405
    with Http().deploy(Direct(MODEL), port=0, api_key=KEY) as guarded, httpx.Client(base_url=guarded.url or "", trust_env=False) as other:
        assert other.post("/v2/models/credit%20risk/explain", json=valid()).status_code == 401


@pytest.mark.parametrize("name", ["label", "method"])
def test_a_name_that_is_none_is_not_sent_back_and_a_long_one_not_compared(governed: Any, name: str) -> None:
    *_, client = governed
    long = error(client.post(EXPLAIN, json={**valid(), "parameters": {name: "x" * 2_000_000}}), 400)
    assert long == f"The parameter '{name}' is longer than any name."
    if name == "label":
        said = error(client.post(EXPLAIN, json={**valid(), "parameters": {name: "a secret"}}), 400)
        assert "a secret" not in said and "no class of that name" in said


def test_an_option_that_json_lacks_is_an_error_of_the_caller(governed: Any) -> None:
    _, data, running, _ = governed
    with pytest.raises(UsageError, match="no JSON value"):
        running.explain(data.head(1).features(), method="permutation", budget=np.int64(3000))
