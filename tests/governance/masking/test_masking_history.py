"""What cannot tell its own values is masked once: the data's own steps say so, sealed by key, and nothing else counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from affidavit.interfaces.dataset import Dataset, Lineage
from affidavit.interfaces.masking import MaskContext, Operator
from affidavit.interfaces.model import Signature, Task
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking import mask_table, plan_for
from affidavit_governance.masking.applying import apply
from affidavit_governance.masking.history import masked_before
from affidavit_governance.masking.prediction import PredictionMasker
from affidavit_governance.masking.tools import Tools

KEY = bytes(range(32))


class Again(Operator):
    """Adds an exclamation mark, each time it is asked."""

    name = "again"
    idempotent: ClassVar[bool] = False
    spans: ClassVar[bool] = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array([None if value is None else f"{value}!" for value in column.to_pylist()], pa.string())])


TOOLS = Tools(operators={**Tools().operators, "again": Again})
RULE = MaskingPolicy.model_validate({"fields": {"x": "again"}})


def raw(rows: int = 8) -> Dataset:
    return Dataset(
        pa.table({"x": [f"v{i}" for i in range(rows)], "n": list(range(rows)), "y": ["a", "b"] * (rows // 2)}),
        Schema((Field("x", FieldType.CATEGORICAL), Field("n", FieldType.NUMERIC), Field("y", FieldType.CATEGORICAL))),
        name="things",
    )


def run(data: Dataset, rule: MaskingPolicy = RULE, key: bytes = KEY, trained: Schema | None = None) -> Dataset:
    return apply(plan_for(data, rule, tools=TOOLS, key=key, trained=trained), data, key, tools=TOOLS)[0]


MASKED = run(raw())
NEW = raw().table.set_column(0, "x", pa.chunked_array([[f"w{i}" for i in range(8)]]))
"""Other raw rows: those that the step was made of are known by their fingerprint."""


def test_it_is_masked_once_and_left_alone_from_then_on() -> None:
    assert MASKED.to_list("x")[:2] == ["v0!", "v1!"]
    again = run(run(MASKED))
    assert again.table.equals(MASKED.table)
    assert again.schema == MASKED.schema


@pytest.mark.parametrize(
    "step",
    [
        lambda d: d.split(test=0.5, seed=1)[0],
        lambda d: d.head(4),
        lambda d: d.take([1, 2]),
        lambda d: d.filter([True, False] * 4),
        lambda d: d.select(["x", "y"]),
        lambda d: d.clean(),
        lambda d: d.declare(["0" * 64]),
        lambda d: d.with_schema(d.schema.change("y", role="target")),
        lambda d: Dataset.from_arrow(d, target="y"),
        lambda d: d.replace_column("n", pa.chunked_array([list(range(8, 16))])),
        lambda d: run(d.head(6)).split(test=0.5, seed=2)[1],
    ],
)
def test_choosing_rows_and_columns_keeps_that(step: Callable[[Dataset], Dataset]) -> None:
    data = step(MASKED)
    assert run(data).to_list("x") == data.to_list("x")


def copied(data: Dataset, like: Dataset) -> Dataset:
    return Dataset(data.table, like.schema, name=data.name, lineage=like.lineage, roots=like.roots)


def forged(**changes: Any) -> Dataset:
    """Raw rows with a hand-written step."""
    step = MASKED.lineage[-1]
    written = {**step.parameters, **changes}
    return Dataset(raw().table, MASKED.schema, name="things", lineage=(Lineage("mask", ("0" * 64,), written),))


@pytest.mark.parametrize(
    "attack",
    [
        lambda: Dataset(raw().table, MASKED.schema, name="things"),
        lambda: copied(raw(), MASKED),
        lambda: MASKED.replace_column("x", NEW.column("x")),
        lambda: MASKED.derive(NEW, MASKED.schema, "import"),
        lambda: MASKED.derive(NEW, MASKED.schema, "reveal", columns=["x"], purpose="test"),
        lambda: Dataset.from_arrow(pa.concat_tables([MASKED.table.select(["x"]), raw().table.select(["x"])])),
        lambda: forged(),
        lambda: forged(seal=None),
        lambda: forged(columns={"x": {"operator": "again", "settings": {}}}),
        lambda: forged(columns="x"),
        lambda: run(raw(), key=bytes(32)),
        lambda: run(raw(), MaskingPolicy.model_validate({"fields": {"x": "keep"}})),
    ],
)
def test_a_schema_a_copied_or_forged_step_another_key_or_new_values_do_not_count(attack: Callable[[], Dataset]) -> None:
    data = attack()
    before = data.to_list("x")
    assert run(data).to_list("x") == [f"{value}!" for value in before]


def test_a_step_with_other_settings_or_for_another_column_does_not_count() -> None:
    other = Dataset(
        raw().table.append_column("z", pa.chunked_array([raw().to_list("x")])), Schema((*raw().schema, Field("z", FieldType.CATEGORICAL)))
    )
    masked = run(other)
    rule = MaskingPolicy.model_validate({"fields": {"x": "again", "z": "again"}})
    assert run(masked, rule).to_list("x") == masked.to_list("x")
    assert run(masked, rule).to_list("z") == [f"{value}!" for value in masked.to_list("z")]


def test_a_seal_is_bound_to_the_data_that_it_was_made_of() -> None:
    step = MASKED.lineage[-1]
    moved = Dataset(MASKED.table, MASKED.schema, lineage=(replace(step, parents=("1" * 64,)),))
    assert masked_before(MASKED, MaskContext(KEY)).columns["x"]["operator"] == "again"
    assert masked_before(moved, MaskContext(KEY)).columns == {}
    assert masked_before(MASKED, MaskContext(bytes(32))).columns == {}


def test_streamed_data_are_masked_once_too() -> None:
    table = raw().table
    streamed = run(Dataset(lambda: iter(table.to_batches(max_chunksize=3)), raw().schema, name="things"))
    assert streamed.streamed
    assert run(streamed).to_list("x") == MASKED.to_list("x")


def test_tokens_inside_texts_that_look_like_personal_data_are_not_masked_again() -> None:
    rule = MaskingPolicy.model_validate({"entities": {"EMAIL_ADDRESS": "synthetic", "CREDIT_CARD": "ff1"}})
    notes = [f"write to ann{i}@example.com or pay with 4111111111111111 now" for i in range(6)]
    source = Dataset(pa.table({"note": notes}), Schema((Field("note", FieldType.TEXT),)), name="t")
    once, _ = mask_table(source, rule, KEY)
    assert "@" in once.to_list("note")[0]
    assert "ann0@" not in once.to_list("note")[0]
    again, _ = mask_table(once.head(3), rule, KEY)
    assert again.to_list("note") == once.to_list("note")[:3]
    fresh, _ = mask_table(Dataset(once.table, once.schema, name="t"), rule, KEY)
    assert fresh.to_list("note") != once.to_list("note"), "without the step they are values like any other"


def predictor(rule: MaskingPolicy = RULE, data: Dataset = MASKED) -> PredictionMasker:
    inputs = Schema(tuple(f for f in data.schema if f.name in ("x", "note")))
    return PredictionMasker(Signature(inputs, Task.BINARY, "y", ("a", "b")), rule, KEY, TOOLS)


def test_rows_to_predict_are_masked_as_in_training_unless_they_come_from_masked_data() -> None:
    masker = predictor()
    rows = Dataset.from_rows([{"x": "v3"}], masker.signature.inputs)
    assert masker.mask(rows)[0].to_list("x") == ["v3!"]
    assert masker.mask(raw().head(2))[0].to_list("x") == ["v0!", "v1!"]
    assert masker.mask(MASKED.head(2))[0].to_list("x") == ["v0!", "v1!"]
    assert masker.mask(Dataset(raw().table, MASKED.schema))[0].to_list("x")[0] == "v0!"
    assert masker.mask(copied(raw(), MASKED))[0].to_list("x")[0] == "v0!"


def test_tokens_are_bound_to_the_training_table_also_where_rows_to_predict_are_called_otherwise() -> None:
    rule = MaskingPolicy.model_validate({"fields": {"x": "ff1"}})
    values = [f"{i:08d}" for i in range(4)]
    source = Dataset(pa.table({"x": values}), Schema((Field("x", FieldType.CATEGORICAL),)), name="cards")
    trained, _ = mask_table(source, rule, KEY)
    masker = predictor(rule, trained)
    rows = Dataset.from_rows([{"x": value} for value in values], masker.signature.inputs)
    assert rows.name != source.name
    assert masker.mask(rows)[0].to_list("x") == trained.to_list("x")
    elsewhere = Dataset(source.table, source.schema, name="other")
    plan = plan_for(elsewhere, rule, key=KEY, trained=trained.schema)
    assert apply(plan, elsewhere, KEY)[0].to_list("x") == trained.to_list("x")


def test_rows_to_predict_get_the_stand_ins_of_training_also_where_the_entity_was_found_and_not_declared() -> None:
    rule = MaskingPolicy.model_validate({"fields": {"x": {"synthetic": {}}}})
    values = [f"{number:03d}-45-6789" for number in range(101, 131)]
    source = Dataset(pa.table({"x": values}), Schema((Field("x", FieldType.CATEGORICAL),)), name="people")
    trained, report = mask_table(source, rule, KEY)
    assert report.columns["x"]["entity"] == "US_SSN"
    assert all(value.startswith("9") for value in trained.to_list("x"))  # numbers that were never given out, as for the entity
    masker = predictor(rule, trained)
    assert masker.mask(Dataset.from_rows([{"x": value} for value in values], masker.signature.inputs))[0].to_list("x") == trained.to_list("x")


def test_a_file_has_no_lineage_so_what_is_loaded_from_one_is_masked_again() -> None:
    written = Dataset(MASKED.table, raw().schema, name="things")
    assert run(written).to_list("x")[0] == "v0!!"


def test_tokens_that_a_search_put_into_a_half_hidden_value_are_not_hidden_the_second_time() -> None:
    rule = MaskingPolicy.model_validate({"fields": {"x": {"partial": {"last": 14}}}, "entities": {"EMAIL_ADDRESS": "token"}})
    values = ["xxxxxxxxxxxxxxxxxxx ab@example.com", "hello there and good morning to you"]
    source = Dataset(pa.table({"x": values}), Schema((Field("x", FieldType.TEXT),)), name="notes")
    once, _ = mask_table(source, rule, KEY)
    assert "tok1_" in once.to_list("x")[0]
    assert mask_table(once, rule, KEY)[0].to_list("x") == once.to_list("x")
    masker = predictor(rule, once)
    assert masker.mask(once)[0].to_list("x") == once.to_list("x")
    assert masker.mask(source)[0].to_list("x") == once.to_list("x")
    # Another policy would search for other things.
    other = MaskingPolicy.model_validate({"fields": {"x": {"partial": {"last": 14}}}, "entities": {"EMAIL_ADDRESS": "pseudonym"}})
    assert mask_table(once, other, KEY)[0].to_list("x") != once.to_list("x")
