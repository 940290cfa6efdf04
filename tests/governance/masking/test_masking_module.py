"""The MASKING stage around the lifecycle: what the core and the model get to see, and what the evidence says."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import numpy as np
import pluggy
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit import hookspecs
from affidavit.calls import EvaluateCall, ExplainCall, LoadCall, PredictCall, TrainCall
from affidavit.errors import InvalidInput, Refused, UsageError
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import Actor
from affidavit.interfaces.model import Model, Predictions, Signature, Task
from affidavit.interfaces.schema import Role, Schema
from affidavit.interfaces.training import Training
from affidavit.plugins import PluginManager
from affidavit.policy import MaskingPolicy, Policy
from affidavit_governance.masking.module import Module
from affidavit_governance.masking.prediction import PredictionMasker
from affidavit_governance.masking.recognizers.catalogue import patterns
from affidavit_governance.masking.suspects import CleanCells
from affidavit_governance.masking.tools import Tools

EMAIL, CARD = "ann.lee@example.com", 4111111111111111
(PLUGIN,) = metadata.entry_points(group="affidavit.plugins.v1", name="masking")


class Majority(Model):
    """Answers the commonest class: enough to be trained, asked and looked into."""

    type = "test.majority"

    def fit(self, data: Dataset, training: Training | None = None) -> Majority:
        self.seen = data
        self.answer = max(sorted(set(data.to_list("y"))), key=data.to_list("y").count)
        self.signature = Signature(Schema(data.schema.features), Task.BINARY, "y", tuple(sorted(set(data.to_list("y")))))
        return self

    def predict(self, data: Dataset) -> Predictions:
        self.seen = data
        return Predictions(np.array([self.answer] * len(data)), self.fitted.classes)

    def save(self, files: Any) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, files: Any) -> Majority:
        raise NotImplementedError


class Core:
    """The innermost implementations, with the data that they were given."""

    def __init__(self) -> None:
        self.background: Dataset | None = None
        self.validation: Dataset | None = None

    @hookimpl
    def affidavit_load(self, call: LoadCall) -> Dataset:
        return Dataset.from_arrow(call.source, name=call.name, target=call.target, fields=call.fields)

    @hookimpl
    def affidavit_train(self, call: TrainCall) -> Model:
        self.validation = call.training.validation
        return call.model.fit(call.data, call.training)

    @hookimpl
    def affidavit_predict(self, call: PredictCall) -> Predictions:
        return call.model.predict(call.data)

    @hookimpl
    def affidavit_evaluate(self, call: EvaluateCall) -> Any:
        return call.model.predict(call.data)

    @hookimpl
    def affidavit_explain(self, call: ExplainCall) -> Any:
        self.background = call.background
        return call.model.predict(call.data)


class House:
    """A workspace's worth of what the module uses: the real registry and policy, and a keyring of one key."""

    def __init__(self, **masking: Any) -> None:
        plugins = PluginManager()
        plugins.load_plugins([PLUGIN])
        assert plugins.failures == []
        keyring = SimpleNamespace(derive=lambda purpose, length=32: hashlib.blake2b(purpose.encode(), digest_size=length).digest())
        self.workspace: Any = SimpleNamespace(policy=Policy.model_validate({"masking": masking}), registry=plugins.registry, keyring=keyring)
        self.core = Core()
        self.manager = pluggy.PluginManager("affidavit")
        self.manager.add_hookspecs(hookspecs)
        self.manager.register(self.core)
        self.manager.register(Module(self.workspace))
        self.statement: dict[str, Any] = {}
        self.replaced: list[str] = []

    def run(self, hook: str, kind: Any, **values: Any) -> Any:
        call = kind(self.workspace, Actor("tester"), **values)
        result = getattr(self.manager.hook, hook)(call=call)
        self.statement = call.statements.get("masking", {})
        self.replaced = [replacement.field for replacement in call.replacements]
        return result

    def load(self, table: Any, **fields: Any) -> Dataset:
        return self.run("affidavit_load", LoadCall, reader=None, source=table, name="loans", target="y", fields=fields, options={})  # type: ignore[no-any-return]  # pluggy is untyped

    def train(self, data: Dataset, validation: Dataset | None = None) -> Majority:
        return self.run("affidavit_train", TrainCall, model=Majority(), data=data, training=Training(validation=validation))  # type: ignore[no-any-return]  # see above

    def predict(self, model: Model, data: Any) -> Predictions:
        rows = data if isinstance(data, Dataset) else Dataset.from_arrow(data)
        return self.run("affidavit_predict", PredictCall, model=model, data=rows, version=None)  # type: ignore[no-any-return]  # see above


def loans(rows: int = 40) -> dict[str, Any]:
    return {
        "name": [f"Person {i}" for i in range(rows)],
        "email": [f"p{i}@example.com" for i in range(rows)],
        "purpose": ["car", "tv", "car", f"ask {EMAIL}"] + ["car"] * (rows - 4),
        "branch": [f"b{i % 5}" for i in range(rows)],
        "age": [20 + i for i in range(rows)],
        "amount": [100 + i for i in range(rows - 1)] + [CARD],
        "y": ["good", "bad"] * (rows // 2),
    }


RULES: dict[str, Any] = {"fields": {"age": {"generalise": {"width": 5}}, "branch": "pseudonym"}}
NAME = {"name": {"role": "identifier"}}


def text_of(data: Dataset) -> str:
    return json.dumps(data.table.to_pydict(), default=str)


def test_loading_masks_before_anybody_sees_the_data_and_says_so_without_values() -> None:
    house = House(**RULES)
    data = house.load(loans(), **NAME)
    shown = text_of(data)
    assert "@" not in shown.replace("<EMAIL_ADDRESS>", "")
    assert "Person" not in shown
    assert str(CARD) not in shown
    assert data.to_list("age")[:6] == [20, 20, 20, 20, 20, 25]
    assert data.to_list("purpose")[3] == "ask <EMAIL_ADDRESS>"
    assert data.schema["email"].role is Role.IDENTIFIER
    columns = house.statement["data"]["columns"]
    assert {name: column["operator"] for name, column in columns.items()} == {
        "name": "redact",
        "email": "redact",
        "purpose": "spans",
        "branch": "pseudonym",
        "age": "generalise",
        "amount": "spans",
    }
    assert columns["purpose"]["findings"] == {"EMAIL_ADDRESS": 1}
    evidence = json.dumps(house.statement)
    assert "Person" not in evidence
    assert EMAIL not in evidence
    assert "p1@" not in evidence


def test_training_on_data_from_elsewhere_is_masked_as_loading_would_and_validation_rows_too() -> None:
    house = House(**RULES)
    raw = Dataset.from_arrow(loans(), target="y", fields=NAME)
    before = raw.fingerprint
    model = house.train(raw, raw.head(8))
    assert house.replaced == ["data"]
    assert model.seen.table.equals(house.load(loans(), **NAME).table)
    assert raw.fingerprint == before
    assert "Person" in text_of(raw)
    assert model.seen.roots == {before}
    assert house.core.validation is not None
    assert "@" not in text_of(house.core.validation).replace("<EMAIL_ADDRESS>", "")
    assert house.core.validation.to_list("branch") == model.seen.to_list("branch")[:8]


def test_data_masked_at_loading_pass_through_training_unchanged() -> None:
    house = House(**RULES)
    data = house.load(loans(), **NAME)
    train, _ = data.split(test=0.25, seed=1)
    model = house.train(train)
    assert model.seen.table.equals(train.table)
    assert model.seen.schema == train.schema


def test_rows_to_predict_get_what_the_training_data_got_and_no_identifier_reaches_the_model() -> None:
    house = House(**RULES)
    data = house.load(loans(), **NAME)
    model = house.train(data)
    raw = pa.table(loans()).slice(3, 1)
    house.predict(model, raw)
    assert model.seen.table.column_names == ["purpose", "branch", "age", "amount"]
    for name in ("purpose", "branch", "age", "amount"):
        assert model.seen.to_list(name) == data.to_list(name)[3:4], name
    assert {name: column["operator"] for name, column in house.statement["columns"].items()} == {
        "purpose": "spans",
        "branch": "pseudonym",
        "age": "generalise",
    }
    house.predict(model, data.head(1))
    assert model.seen.to_list("branch") == data.to_list("branch")[:1]
    house.predict(model, pa.table(loans()).slice(39, 1))
    assert model.seen.to_list("amount") == [None]
    house.predict(model, pa.table(loans(200)))
    assert "@" not in text_of(model.seen).replace("<EMAIL_ADDRESS>", "")
    assert str(CARD) not in text_of(model.seen)


def test_a_clean_batch_is_handed_on_as_it_is_and_leaves_no_statement() -> None:
    house = House()
    model = house.train(Dataset.from_arrow({"purpose": ["car", "tv"] * 4, "n": [1, 2] * 4, "y": ["a", "b"] * 4}, target="y"))
    rows = Dataset.from_arrow({"purpose": ["boat"], "n": [7]})
    house.predict(model, rows)
    assert model.seen is rows
    assert house.statement == {}
    assert house.replaced == []


def test_evaluating_and_explaining_mask_as_training_did_and_the_background_too() -> None:
    house = House(**RULES)
    data = house.load(loans(), **NAME)
    model = house.train(data)
    few = Dataset.from_arrow(pa.table(loans()).slice(2, 2), target="y", fields=NAME)
    house.run("affidavit_evaluate", EvaluateCall, model=model, data=few, seed=0)
    assert model.seen.to_list("purpose") == ["car", "ask <EMAIL_ADDRESS>"]
    assert model.seen.to_list("branch") == data.to_list("branch")[2:4]
    assert "Person" not in text_of(model.seen)
    house.run("affidavit_explain", ExplainCall, model=model, data=few, background=few, method=None, options={})
    assert house.core.background is not None
    assert house.core.background.to_list("purpose") == ["car", "ask <EMAIL_ADDRESS>"]
    assert set(house.replaced) == {"data", "background"}
    kept = Dataset(data.table, data.schema, name="background")
    house.run("affidavit_explain", ExplainCall, model=model, data=data, background=kept, method=None, options={})
    assert house.core.background.table.equals(data.table)


def test_a_policy_that_changed_since_training_refuses_the_model() -> None:
    data = House(**RULES).load(loans(), **NAME)
    model = House(**RULES).train(data)
    for section in ({}, {"fields": {**RULES["fields"], "purpose": "redact"}}, {"fields": {**RULES["fields"], "branch": "redact"}}):
        house = House(**section)
        with pytest.raises(Refused, match="Train again"):
            house.predict(model, pa.table(loans()).slice(0, 1))


def test_an_unknown_column_in_the_policy_is_refused_at_loading_and_forgotten_columns_are_not() -> None:
    with pytest.raises(UsageError, match=r"'masking\.fields\.agee': unknown column in the policy"):
        House(fields={"agee": "redact"}).load(loans(), **NAME)
    house = House(fields={"name": "drop"})
    data = house.load(loans(), **NAME)
    assert "name" not in data.schema
    house.train(data)


def test_a_header_that_is_personal_data_stops_the_load_without_being_repeated() -> None:
    with pytest.raises(InvalidInput) as caught:
        House().load({EMAIL: [1, 2], "y": ["a", "b"]})
    assert EMAIL not in str(caught.value)


PLANTED = [EMAIL, "２０２-５５５-０１２３ tel", "2001:db8::1:2", "GB29NWBK60161331926819", "MT84 MALT 0110 0001 2345 MTLC AST0 01S", "192.0.2.1"]
VALUES = st.one_of(st.none(), st.text(max_size=30), st.sampled_from(PLANTED))


@given(st.lists(VALUES, min_size=1, max_size=4), st.one_of(st.none(), st.integers(-(2**62), 2**62), st.just(CARD)))
@settings(max_examples=300, deadline=None)
def test_the_quick_look_at_a_batch_never_misses_what_a_full_search_finds(values: list[str | None], number: int | None) -> None:
    table = pa.table({**{f"c{i}": pa.array([v], pa.string()) for i, v in enumerate(values)}, "n": pa.array([number], pa.int64())})
    frame = Dataset.from_arrow(table)
    signature = Signature(frame.schema, Task.BINARY, "y", ("a", "b"))
    masker = PredictionMasker(signature, MaskingPolicy(), bytes(32), Tools())
    quick, _ = masker.mask(frame)
    masker._slow = True
    thorough, _ = masker.mask(frame)
    assert quick.table.equals(thorough.table)


def test_ordinary_rows_do_not_look_suspicious_so_that_they_take_the_short_way() -> None:
    words = ["critical account/ other credits existing (not at this bank)", "... < 0 DM", "own", "male : single", "... >= 7 years", "x" * 64]
    cells = CleanCells(recognizers=patterns())
    assert not cells.suspect(words)
    assert cells.suspect([*words, EMAIL])
