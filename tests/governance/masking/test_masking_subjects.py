"""Operators that need to know whose a row is get the subject's value as it was, in tables, streams and predictions."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Signature, Task
from affidavit.interfaces.schema import Field, FieldType, Role, Schema
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking import mask_table
from affidavit_governance.masking.prediction import PredictionMasker
from affidavit_governance.masking.tools import LazyVault, Tools, workspace_tools

KEY = bytes(range(32))
DAYS = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(8)]
RULE = MaskingPolicy.model_validate({"fields": {"who": "pseudonym", "day": {"date_shift": {"subject": "who", "days": 100}}}})
SCHEMA = Schema((Field("who", FieldType.CATEGORICAL, Role.IDENTIFIER), Field("day", FieldType.DATETIME)))


def visits(names: str = "aabbaabb") -> Dataset:
    return Dataset(pa.table({"who": list(names), "day": DAYS}), SCHEMA, name="visits")


def moved(data: Dataset) -> list[int]:
    return [(after - before).days for before, after in zip(DAYS, data.to_list("day"), strict=True)]


def test_every_row_of_a_subject_moves_by_the_same_days_although_the_subject_is_masked_first() -> None:
    masked, _ = mask_table(visits(), RULE, KEY)
    shifts = moved(masked)
    assert shifts[0] == shifts[1] == shifts[4]
    assert shifts[2] == shifts[3] == shifts[6]
    assert shifts[0] != shifts[2]
    assert set(masked.to_list("who")).isdisjoint("ab")
    dropped, _ = mask_table(visits(), MaskingPolicy.model_validate({"fields": {**RULE.model_dump()["fields"], "who": "drop"}}), KEY)
    assert moved(dropped) == shifts


def test_streams_and_predictions_shift_as_the_whole_table_does() -> None:
    whole, _ = mask_table(visits(), RULE, KEY)
    streamed, _ = mask_table(Dataset(lambda: iter(visits().table.to_batches(max_chunksize=3)), SCHEMA, name="visits"), RULE, KEY)
    assert streamed.to_list("day") == whole.to_list("day")
    masker = PredictionMasker(Signature(whole.schema.select(("day",)), Task.BINARY, "y", ("a", "b")), RULE, KEY, Tools())
    assert masker.mask(visits())[0].to_list("day") == whole.to_list("day")
    assert masker.mask(whole)[0].to_list("day") == whole.to_list("day")


def test_a_missing_subject_column_is_named_with_its_policy_line() -> None:
    rule = MaskingPolicy.model_validate({"fields": {"day": {"date_shift": {"subject": "whom", "days": 9}}}})
    with pytest.raises(UsageError, match=r"'masking\.fields\.day'.*'whom', which data set 'visits' does not have. Did you mean 'who'"):
        mask_table(visits(), rule, KEY)
    whole, _ = mask_table(visits(), RULE, KEY)
    masker = PredictionMasker(Signature(whole.schema.select(("day",)), Task.BINARY, "y", ("a", "b")), RULE, KEY, Tools())
    with pytest.raises(UsageError, match="subject of column 'day'"):
        masker.mask(Dataset(pa.table({"day": DAYS}), SCHEMA.select(("day",))))


def test_a_token_with_its_own_column_as_subject_is_refused_because_nobody_could_turn_it_back() -> None:
    people = Dataset.from_arrow(pa.table({"who": ["ann@example.com", "bob@example.com"]}), name="people")
    for section, line in (
        ({"fields": {"who": {"token": {"subject": "who"}}}}, "masking.fields.who"),
        ({"entities": {"EMAIL_ADDRESS": {"token": {"subject": "who"}}}}, "masking.entities.EMAIL_ADDRESS"),
    ):
        with pytest.raises(UsageError, match=f"{line}'.* nobody could turn it back"):
            mask_table(people, MaskingPolicy.model_validate(section), bytes(32))


def test_vault_and_subject_keys_are_opened_when_an_operator_asks_and_not_before() -> None:
    opened: list[str] = []

    class Store:
        def tokens(self, values: Any, *, namespace: str, subjects: Any = None) -> list[bytes]:
            return [b"t" * 16 for _ in values]

        def values(self, tokens: Any, *, namespace: str) -> list[bytes]:
            return [b"v" for _ in tokens]

        def keys(self, subjects: Any, *, create: bool = True) -> list[bytes]:
            return [bytes(32) for _ in subjects]

    class Registry:
        def names(self, kind: str) -> tuple[str, ...]:
            return ("subject_keys", "vault") if kind == "service" else ()

        def get(self, kind: str, name: str) -> Any:
            return lambda store, keyring: opened.append(f"{name} {store} {keyring}") or Store()

    workspace = SimpleNamespace(registry=Registry(), store="store", keyring="keys", policy=SimpleNamespace(masking=MaskingPolicy()))
    tools = workspace_tools(workspace)
    context = tools.context(KEY)
    assert opened == []
    assert context.vault is not None and context.subject_keys is not None
    assert context.vault.tokens([b"a", b"b"], namespace="n") == [b"t" * 16] * 2
    assert context.vault.values([b"t"], namespace="n") == [b"v"]
    assert context.subject_keys.keys(["a"]) == [bytes(32)]
    assert opened == ["vault store keys", "subject_keys store keys"]
    assert isinstance(tools.vault, LazyVault)
    assert Tools().context(KEY).vault is None
