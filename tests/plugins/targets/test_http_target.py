"""The target `http`: a real server, a real client, the shapes of the Open Inference Protocol, and what it refuses."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affidavit.errors import AffidavitError, InvalidInput, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Predictions, Signature, Task
from affidavit.interfaces.schema import Field, FieldType, Role, Schema
from affidavit_plugins.tabular.linear import Linear, Logistic
from affidavit_plugins.targets.http.target import Http, HttpEndpoint

KEY = "k3y-for-tests"


class Direct:
    """A predictor without governance around it: what the server sees of a model."""

    def __init__(self, model: Any, name: str = "credit risk") -> None:
        self.name, self.version, self.model_type, self.signature = name, 3, model.type, model.fitted
        self._model = model

    def predict(self, data: Dataset) -> Predictions:
        return self._model.predict(data)  # type: ignore[no-any-return]  # any model


class Scripted:
    """A predictor whose answers a test writes."""

    name, version, model_type = "m", 1, "test.scripted"

    def __init__(self, answer: Any, fields: tuple[Field, ...] = (Field("x", FieldType.NUMERIC),), task: Task = Task.REGRESSION) -> None:
        self.signature = Signature(Schema(fields), task, "y", () if task is Task.REGRESSION else ("a", "b"))
        self.answer = answer
        self.seen: list[Dataset] = []

    def predict(self, data: Dataset) -> Predictions:
        self.seen.append(data)
        return self.answer(data)  # type: ignore[no-any-return]  # a test's function


def training_rows(rows: int = 80) -> Dataset:
    rng = np.random.default_rng(0)
    amount = rng.lognormal(5, 1, rows)
    day = np.datetime64("2024-01-01") + rng.integers(0, 300, rows).astype("timedelta64[D]")
    table = pa.table(
        {
            "amount": pa.array(amount, mask=rng.random(rows) < 0.1),
            "owner": pa.array(rng.random(rows) < 0.5, mask=rng.random(rows) < 0.1),
            "place": pa.array(rng.choice(["north", "süd", "west"], rows), mask=rng.random(rows) < 0.1),
            "day": pa.array(day).cast(pa.timestamp("us")),
            "risk": np.where(amount > 150, "bad", "good"),
        }
    )
    return Dataset.from_arrow(table, target="risk")


ROWS = training_rows()
MODEL = Logistic().fit(ROWS)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[HttpEndpoint]:
    with Http().deploy(Direct(MODEL), port=0) as running:
        assert isinstance(running, HttpEndpoint)
        yield running


@pytest.fixture(scope="module")
def client(endpoint: HttpEndpoint) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=endpoint.url or "", trust_env=False, timeout=30) as made:
        yield made


INFER = "/v2/models/credit%20risk/infer"


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}


def valid() -> dict[str, Any]:
    return {
        "inputs": [
            tensor("amount", "FP64", [100.5, None]),
            tensor("owner", "BOOL", [True, None]),
            tensor("place", "BYTES", ["süd", None]),
            tensor("day", "BYTES", ["2024-05-06T00:00:00", None]),
        ]
    }


def changed(position: int, **changes: Any) -> dict[str, Any]:
    request = valid()
    request["inputs"][position] = {key: value for key, value in {**request["inputs"][position], **changes}.items() if value is not ...}
    return request


def error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    message: str = response.json()["error"]
    return message


# -- shapes of the specification ---------------------------------------------------------------------------------------------------------


def test_server_and_health_answer_as_the_specification_prints(client: httpx.Client) -> None:
    about = client.get("/v2").json()
    assert set(about) == {"name", "version", "extensions"}
    assert about["extensions"] == []
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}


@pytest.mark.parametrize("path", ["/v2/models/credit%20risk", "/v2/models/credit%20risk/versions/3"])
def test_model_metadata_and_readiness_work_with_and_without_version(client: httpx.Client, path: str) -> None:
    assert client.get(f"{path}/ready").json() == {"name": "credit risk", "ready": True}
    assert client.get(path).json() == {
        "name": "credit risk",
        "versions": ["3"],
        "platform": "affidavit_tabular.logistic",
        "inputs": [
            {"name": "amount", "datatype": "FP64", "shape": [-1]},
            {"name": "owner", "datatype": "BOOL", "shape": [-1]},
            {"name": "place", "datatype": "BYTES", "shape": [-1]},
            {"name": "day", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}, {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]}],
    }


@pytest.mark.parametrize("path", [INFER, "/v2/models/credit%20risk/versions/3/infer"])
def test_inference_gives_the_models_own_answers(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={"id": "42", "parameters": {"anything": 1}, **valid()}).json()
    rows = {"amount": [100.5, None], "owner": [True, None], "place": ["süd", None], "day": ["2024-05-06", None]}
    expected = MODEL.predict(Dataset.from_rows(rows, MODEL.fitted.inputs))
    assert expected.probabilities is not None
    assert answer == {
        "model_name": "credit risk",
        "model_version": "3",
        "id": "42",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": expected.values.tolist()},
            {
                "name": "probabilities",
                "datatype": "FP64",
                "shape": [2, 2],
                "parameters": {"classes": '["bad", "good"]'},
                "data": expected.probabilities.ravel().tolist(),
            },
        ],
    }


def test_column_vectors_nested_data_and_other_number_types_mean_the_same(client: httpx.Client) -> None:
    plain = client.post(INFER, json=changed(0, data=[100, None])).json()
    for changes in (
        {"shape": [2, 1]},
        {"shape": [2, 1], "data": [[100], [None]]},
        {"datatype": "INT64"},
        {"datatype": "UINT8"},
        {"datatype": "FP32", "data": [100.0, None]},
    ):
        assert client.post(INFER, json=changed(0, **{"data": [100, None], **changes})).json() == plain


def test_only_the_outputs_asked_for_come_back(client: httpx.Client) -> None:
    answer = client.post(INFER, json={**valid(), "outputs": [{"name": "probabilities"}]}).json()
    assert [output["name"] for output in answer["outputs"]] == ["probabilities"]
    assert "id" not in answer
    assert "Did you mean 'label'?" in error(client.post(INFER, json={**valid(), "outputs": [{"name": "lable"}]}), 400)


def test_an_empty_batch_gets_an_empty_answer(client: httpx.Client) -> None:
    inputs = [{**item, "shape": [0], "data": []} for item in valid()["inputs"]]
    answer = client.post(INFER, json={"inputs": inputs}).json()
    assert [(output["shape"], output["data"]) for output in answer["outputs"]] == [([0], []), ([0, 2], [])]


def test_a_model_of_numbers_gives_the_output_value() -> None:
    data = Dataset.from_arrow(pa.table({"x": [1.0, 2.0, 3.0], "y": [10.5, 21.0, 29.0]}), target="y")
    model = Linear(l2=0.0).fit(data)
    with Http().deploy(Direct(model, "line"), port=0) as running:
        answer = httpx.post(f"{running.url}/v2/models/line/infer", json={"inputs": [tensor("x", "FP64", [4.0])]}, trust_env=False).json()
        expected = model.predict(Dataset.from_rows({"x": [4.0]}, model.fitted.inputs)).values.tolist()
        assert answer["outputs"] == [{"name": "value", "datatype": "FP64", "shape": [1], "data": expected}]
        assert np.array_equal(running.predict(data).values, model.predict(data).values)


def test_tensors_travel_flat_and_nested() -> None:
    field = Field("image", FieldType.TENSOR, shape=(2, 3))
    predictor = Scripted(lambda data: Predictions(data.to_numpy("image").sum(axis=(1, 2))), (field,))
    images = np.arange(12.0).reshape(2, 2, 3)
    with Http().deploy(predictor, port=0) as running:
        url = f"{running.url}/v2/models/m/infer"
        for data in (images.ravel().tolist(), images.tolist()):
            answer = httpx.post(url, json={"inputs": [tensor("image", "FP32", data, [2, 2, 3])]}, trust_env=False)
            assert answer.json()["outputs"][0]["data"] == [15.0, 51.0]
        for data, shape in ((images.tolist(), [2, 3, 2]), (images.tolist()[0], [2, 2, 3]), ([[1, [2, 3]]], [1, 2, 3]), ([None] * 6, [1, 2, 3])):
            assert httpx.post(url, json={"inputs": [tensor("image", "FP32", data, shape)]}, trust_env=False).status_code == 400
        rows = Dataset.from_rows({"image": images}, Schema((field,)))
        assert running.predict(rows).values.tolist() == [15.0, 51.0]


# -- the endpoint's own road -------------------------------------------------------------------------------------------------------------


def test_the_endpoint_predicts_over_the_wire_bit_for_bit(endpoint: HttpEndpoint) -> None:
    over, direct = endpoint.predict(ROWS), MODEL.predict(ROWS)
    assert over.values.tolist() == direct.values.tolist()
    assert over.probabilities is not None
    assert np.array_equal(over.probabilities, direct.probabilities)
    assert over.classes == direct.classes
    assert endpoint.healthy()


def test_an_explanation_that_governance_attached_arrives() -> None:
    explanation = Explanation("linear", "value", ("x",), np.array([[0.5]]), np.array([1.0]), np.array([1.5]), [[2.0]], details={"seed": 1})
    predictor = Scripted(lambda data: Predictions(np.array([1.5]), explanations=explanation))
    with Http().deploy(predictor, port=0) as running:
        got = running.predict(Dataset.from_rows({"x": [2.0]}, predictor.signature.inputs)).explanations
    assert got is not None
    assert got.to_json() == explanation.to_json()
    assert got.inputs == []


def test_columns_that_governance_takes_away_may_be_sent_and_are_not_required() -> None:
    predictor: Any = Scripted(lambda data: Predictions(np.zeros(len(data))))
    predictor.accepts = Schema((Field("email", FieldType.CATEGORICAL, Role.IDENTIFIER), *predictor.signature.inputs))
    with Http().deploy(predictor, port=0) as running:
        url = f"{running.url}/v2/models/m/infer"
        both = {"inputs": [tensor("x", "FP64", [1.0]), tensor("email", "BYTES", ["a@b.example"])]}
        assert httpx.post(url, json=both, trust_env=False).status_code == 200
        assert httpx.post(url, json={"inputs": both["inputs"][:1]}, trust_env=False).status_code == 200
    assert [data.schema.names for data in predictor.seen] == [("email", "x"), ("x",)]


def test_a_stopped_endpoint_says_so_and_stopping_twice_is_harmless() -> None:
    before = [thread.name for thread in threading.enumerate()].count("affidavit-http")
    running = Http().deploy(Direct(MODEL), port=0)
    port = int((running.url or "").rpartition(":")[2])
    assert [thread.name for thread in threading.enumerate()].count("affidavit-http") == before + 1
    running.stop()
    assert [thread.name for thread in threading.enumerate()].count("affidavit-http") == before
    running.stop()
    assert not running.healthy()
    with pytest.raises(AffidavitError, match="does not answer"):
        running.predict(ROWS)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_rows_that_the_server_refuses_are_invalid_input(endpoint: HttpEndpoint) -> None:
    with pytest.raises(InvalidInput, match="'amount' is missing"):
        endpoint.predict(ROWS.select(["owner", "place", "day"]))
    infinite = ROWS.replace_column("amount", pa.array([np.inf] * len(ROWS)))
    with pytest.raises(InvalidInput, match="infinite"):
        endpoint.predict(infinite)


def test_concurrent_requests_get_their_own_answers(endpoint: HttpEndpoint) -> None:
    direct = MODEL.predict(ROWS).probabilities
    assert direct is not None

    def ask(row: int) -> bool:
        answer = endpoint.predict(ROWS.take([row])).probabilities
        return answer is not None and np.array_equal(answer, direct[row : row + 1])

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, list(range(len(ROWS))) * 2))


def test_a_slow_prediction_does_not_hold_up_the_health_probe() -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(data: Dataset) -> Predictions:
        begun.set()
        release.wait(20)
        return Predictions(np.zeros(len(data)))

    with Http().deploy(Scripted(slow), port=0) as running, concurrent.futures.ThreadPoolExecutor(1) as pool:
        body = {"inputs": [tensor("x", "FP64", [1.0])]}
        waiting = pool.submit(httpx.post, f"{running.url}/v2/models/m/infer", json=body, trust_env=False, timeout=30)
        assert begun.wait(20)
        assert httpx.get(f"{running.url}/v2/health/live", trust_env=False, timeout=5).status_code == 200
        release.set()
        assert waiting.result().status_code == 200


# -- refusals ----------------------------------------------------------------------------------------------------------------------------


def test_unknown_addresses_models_and_versions_are_404_and_methods_405(client: httpx.Client) -> None:
    for path in ("/", "/v1", "/v2/models", "/v2/models/other", "/v2/models/credit%20risk/versions/4", "/v2/models/credit%20risk/nothing", "/docs"):
        error(client.get(path), 404)
    error(client.post("/v2/models/other/infer", json=valid()), 404)
    error(client.post("/v2/models/credit%20risk/versions/9/infer", json=valid()), 404)
    response = client.get(INFER)
    error(response, 405)
    assert response.headers["allow"] == "POST"
    error(client.delete("/v2"), 405)


BAD_REQUESTS: list[tuple[Any, str]] = [
    (b"", "not valid JSON"),
    (b"{", "not valid JSON"),
    (b'{"inputs": "\xff"}', "not UTF-8"),
    ("{}".encode("utf-16"), "not UTF-8"),
    (b'{"inputs": [NaN]}', "NaN and infinity"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a":' * 100_000, "nested too deeply"),
    (b'{"inputs": [' + b"9" * 5000 + b"]}", "not valid JSON"),
    (b'{"inputs": [], "inputs": []}', "key twice"),
    ([], "must be an object"),
    ({}, "'inputs' must be a list"),
    ({"inputs": []}, "at least one"),
    ({"inputs": [3]}, "Input 0 must be an object"),
    ({"inputs": [{}]}, "Input 0 needs a 'name'"),
    ({**valid(), "id": 7}, "'id' must be a string"),
    ({**valid(), "id": "\ud800"}, "'id' must be a string"),
    ({**valid(), "parameters": []}, "'parameters' must be an object"),
    ({**valid(), "parameters": {"binary_data_output": True}}, "binary tensor extension"),
    (changed(0, parameters={"binary_data_size": 8}), "binary tensor extension"),
    ({**valid(), "outputs": [{"name": "label", "parameters": {"binary_data": True}}]}, "binary tensor extension"),
    ({**valid(), "outputs": {}}, "'outputs' must be a list"),
    ({**valid(), "outputs": [{}]}, "Output 0 needs a 'name'"),
    ({**valid(), "outputs": [{"name": "label"}] * 2}, "'label' stands twice"),
    (changed(0, name="amuont"), "Input 0 is no column of this model. Did you mean 'amount'?"),
    (changed(0, name="x" * 1_000_000), "Input 0 is no column"),
    (changed(0, name="owner"), "'owner'"),
    ({"inputs": valid()["inputs"] + valid()["inputs"][:1]}, "'amount' stands twice"),
    ({"inputs": valid()["inputs"][1:]}, "'amount' is missing"),
    (changed(0, datatype="BYTES"), "'amount' takes the datatype FP64"),
    (changed(0, datatype=["FP64"]), "'amount' takes the datatype FP64"),
    (changed(2, datatype="FP64"), "'place' takes the datatype BYTES"),
    (changed(0, shape=...), "needs the shape [n]"),
    (changed(0, shape=[2, 2]), "needs the shape [n]"),
    (changed(0, shape=[-2]), "needs the shape [n]"),
    (changed(0, shape=[2.0]), "needs the shape [n]"),
    (changed(0, shape=[True]), "needs the shape [n]"),
    (changed(0, shape=[3]), "'data' holds 2 values"),
    (changed(0, data=...), "needs 'data'"),
    (changed(0, data={"0": 1}), "needs 'data'"),
    (changed(0, data=[[1], 2]), "does not have the shape"),
    (changed(0, data=[[1, 2]]), "does not have the shape"),
    (changed(0, data=["1", 2]), "FP64 data must be finite numbers"),
    (changed(0, data=[True, 2]), "FP64 data must be finite numbers"),
    (changed(0, data=[10**400, 2]), "FP64 data must be finite numbers"),
    (b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [1], "data": [1e999]}]}', "FP64 data must be finite numbers"),
    (changed(0, datatype="INT8", data=[128, 0]), "INT8 data must be whole numbers from -128 to 127"),
    (changed(0, datatype="UINT8", data=[-1, 0]), "UINT8 data must be whole numbers from 0 to 255"),
    (changed(0, datatype="INT64", data=[1.5, 0]), "INT64 data must be whole numbers"),
    (changed(1, data=[1, 0]), "BOOL data must be true, false or null"),
    (changed(2, data=[1, 0]), "BYTES data must be strings"),
    (changed(2, data=["\ud800", ""]), "surrogate"),
    (changed(3, data=["yesterday", None]), "'day'"),
    (changed(0, shape=[1], data=[1.0]), "different batch sizes"),
]


@pytest.mark.parametrize(("request_body", "message"), BAD_REQUESTS, ids=range(len(BAD_REQUESTS)))
def test_a_wrong_request_gets_one_clear_error(client: httpx.Client, request_body: Any, message: str) -> None:
    content = request_body if isinstance(request_body, bytes) else json.dumps(request_body).encode()
    assert message in error(client.post(INFER, content=content, headers={"Content-Type": "application/json"}), 400)


def test_errors_quote_nothing_from_the_request(client: httpx.Client) -> None:
    secret = "Maria Schneider"
    for request in (
        changed(0, data=[secret, 1]),
        changed(3, data=[secret, None]),
        changed(0, name=secret),
        changed(0, datatype=secret),
        {**valid(), "outputs": [{"name": secret}]},
        {**valid(), secret: 1, "id": 3},
        changed(0, shape=[secret]),
    ):
        assert secret not in error(client.post(INFER, json=request), 400)
    assert secret not in error(client.get(f"/v2/models/{secret}"), 404)


def test_other_content_types_and_the_binary_extension_are_refused(client: httpx.Client) -> None:
    body = json.dumps(valid())
    assert client.post(INFER, content=body).status_code == 200
    assert client.post(INFER, content=body, headers={"Content-Type": "application/json; charset=utf-8"}).status_code == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/octet-stream"):
        assert "application/json" in error(client.post(INFER, content=body, headers={"Content-Type": kind}), 400)
    assert "binary" in error(client.post(INFER, content=body, headers={"Inference-Header-Content-Length": "10"}), 400)


def test_requests_that_are_too_large_are_413_whether_or_not_they_say_so() -> None:
    small = Http().deploy(Direct(MODEL), port=0, max_bytes=2000, max_rows=2)
    with small as running, httpx.Client(base_url=running.url or "", trust_env=False) as client:
        headers = {"Content-Type": "application/json"}
        assert "2000 bytes" in error(client.post(INFER, content=b" " * 2001, headers=headers), 413)
        assert "2000 bytes" in error(client.post(INFER, content=(b" " * 500 for _ in range(5)), headers=headers), 413)
        assert "2000 bytes" in error(client.post(INFER, content=b" " * 3900, headers=headers), 413)
        assert "not valid JSON" in error(client.post(INFER, content=(b" " * 500 for _ in range(4)), headers=headers), 400)
        assert "2 rows" in error(client.post(INFER, json={"inputs": [tensor("amount", "FP64", [1.0] * 3)]}), 413)
        assert client.post(INFER, json=valid()).status_code == 200
        with pytest.raises(InvalidInput, match=r"2000 bytes|2 rows"):
            running.predict(ROWS)


def test_a_flood_without_end_is_cut_off() -> None:
    with Http().deploy(Direct(MODEL), port=0, max_bytes=10_000) as running:
        port = int((running.url or "").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            raw.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            sent = 0
            try:
                while sent < 100_000_000:
                    raw.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                    sent += 65536
            except OSError:
                pass  # the server hung up
            assert sent < 50_000_000
        assert running.healthy()


def test_a_refusal_by_governance_is_403_and_a_failure_inside_is_500_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(data: Dataset) -> Predictions:
        raise Refused("Not now.", by="policy", line="explain.each_prediction")

    def fail(data: Dataset) -> Predictions:
        raise RuntimeError("row of Maria Schneider")

    for answer, status, text in ((refuse, 403, "explain.each_prediction"), (fail, 500, "could not answer")):
        with Http().deploy(Scripted(answer), port=0) as running, caplog.at_level(logging.DEBUG):
            response = httpx.post(f"{running.url}/v2/models/m/infer", json={"inputs": [tensor("x", "FP64", [1.0])]}, trust_env=False)
            assert text in error(response, status)
            with pytest.raises(AffidavitError, match=text):
                running.predict(Dataset.from_rows({"x": [1.0]}, Schema((Field("x", FieldType.NUMERIC),))))
    assert "RuntimeError" in caplog.text
    assert "Schneider" not in caplog.text


# -- the key -----------------------------------------------------------------------------------------------------------------------------


def test_off_loopback_a_key_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFFIDAVIT_API_KEY", raising=False)
    with pytest.raises(UsageError, match="without an API key"):
        Http().deploy(Direct(MODEL), host="0.0.0.0", port=0)
    with pytest.raises(UsageError, match="option 'api_key'"):
        Http().deploy(Direct(MODEL), host="0.0.0.0", port=0, api_key="")
    for key in ("two words", "schlüssel"):
        with pytest.raises(UsageError, match="ASCII") as caught:
            Http().deploy(Direct(MODEL), port=0, api_key=key)
        assert key not in str(caught.value)


def test_the_key_opens_by_either_header_and_nothing_else_does() -> None:
    locked = Http().deploy(Direct(MODEL), host="0.0.0.0", port=0, api_key=KEY)
    with locked as running, httpx.Client(base_url=running.url or "", trust_env=False) as client:
        right = [{"X-Api-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer {KEY}"}]
        wrong = [{}, {"X-Api-Key": KEY[:-1]}, {"X-Api-Key": ""}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}, {"X-Api-Key": b"\xff"}]
        for headers in right:
            assert client.post(INFER, json=valid(), headers=headers).status_code == 200
        for headers in wrong:
            response = client.post(INFER, json=valid(), headers=headers)
            error(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"
            for path in ("/v2", "/v2/models/credit%20risk", "/nowhere"):
                error(client.get(path, headers=headers), 401)
        assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
        assert running.healthy()
        assert len(running.predict(ROWS)) == len(ROWS)


def test_the_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_API_KEY", KEY)
    with Http().deploy(Direct(MODEL), port=0) as running:
        assert httpx.get(f"{running.url}/v2", trust_env=False).status_code == 401
        assert httpx.get(f"{running.url}/v2", trust_env=False, headers={"X-Api-Key": KEY}).status_code == 200


# -- starting ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prot": 1}, "option 'prot'.*Did you mean 'port'"),
        ({"port": 70_000}, "option 'port'"),
        ({"max_rows": 0}, "option 'max_rows'"),
        ({"host": "no such host.invalid", "port": 0}, "cannot listen on"),
        ({"host": "203.0.113.7", "port": 0, "api_key": KEY}, "cannot listen on"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Http().deploy(Direct(MODEL), **options)


def test_a_port_that_is_taken_is_refused_and_says_what_to_do(endpoint: HttpEndpoint) -> None:
    port = int((endpoint.url or "").rpartition(":")[2])
    with pytest.raises(UsageError, match="port=0 for a free one"):
        Http().deploy(Direct(MODEL), port=port)


def test_ipv6_loopback_works_where_the_machine_has_it() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with Http().deploy(Direct(MODEL), host="::1", port=0) as running:
        assert (running.url or "").startswith("http://[::1]:")
        assert running.healthy()


# -- fuzzing -----------------------------------------------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True),
    st.text(max_size=8),
    st.sampled_from(["amount", "owner", "place", "day", "FP64", "BYTES", "BOOL", "INT64", "name", "data", "label", "2024-01-01", "\ud800", "\x00"]),
)
keys = st.sampled_from(["name", "shape", "datatype", "data", "inputs", "id"])
values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)), max_leaves=12)


def slots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in slots(item, (*path, key)))]


SLOTS = slots({"id": "1", "outputs": [{"name": "label"}], **valid()})[1:]


@given(st.lists(st.tuples(st.sampled_from(SLOTS), values), min_size=1, max_size=3))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_change_to_a_valid_request_brings_the_server_down(client: httpx.Client, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    request: Any = {"id": "1", "outputs": [{"name": "label"}], **valid()}
    for path, value in changes:
        target = request
        try:
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this place away
    check_answer(client.post(INFER, content=json.dumps(request).encode(), headers={"Content-Type": "application/json"}))


@given(st.one_of(st.binary(max_size=60), values.map(lambda value: json.dumps(value).encode())))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_bytes_bring_the_server_down(client: httpx.Client, body: bytes) -> None:
    check_answer(client.post(INFER, content=body, headers={"Content-Type": "application/json"}))


def check_answer(response: httpx.Response) -> None:
    assert response.status_code in (200, 400, 413), response.text
    answer = response.json()
    assert ("outputs" in answer) if response.status_code == 200 else (list(answer) == ["error"])


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]", "localhost.", "127.0.0.1@evil", ""])
def test_without_a_key_a_request_for_another_host_is_turned_away(client: httpx.Client, host: str) -> None:
    answer = client.post(INFER, json=valid(), headers={"Host": host})
    assert answer.status_code == 421
    assert client.get("/v2", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.0.0.5:80", "[::1]", "[::1]:8080"])
def test_without_a_key_loopback_is_answered_under_all_its_names(client: httpx.Client, host: str) -> None:
    assert client.post(INFER, json=valid(), headers={"Host": host}).status_code == 200


def test_with_a_key_the_host_may_be_any() -> None:
    with Http().deploy(Direct(MODEL), port=0, api_key=KEY) as running:
        answer = httpx.get(f"{running.url}/v2", headers={"Host": "models.example", "X-Api-Key": KEY}, trust_env=False)
        assert answer.status_code == 200
