"""Mondrian: what it promises of every result, its loss computed again by hand, and that nothing else moves."""

from __future__ import annotations

import datetime as dt
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit_governance.masking.anonymity.measures import k_anonymity, l_diversity, t_closeness
from affidavit_governance.masking.anonymity.mondrian import anonymise

ROOT = Path(__file__).resolve().parents[3]
CREDIT = ["age", "personal_status_sex", "job", "housing", "credit_amount"]

ROWS = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 9)), st.one_of(st.none(), st.sampled_from("abcd")), st.sampled_from("xyz"), st.integers(0, 5)),
    min_size=4,
    max_size=40,
)


def columns(rows: list[tuple[Any, ...]]) -> pa.Table:
    types = {"n": pa.int64(), "c": pa.string(), "s": pa.string(), "w": pa.int64()}
    return pa.table({name: pa.array([row[place] for row in rows], kind) for place, (name, kind) in enumerate(types.items())})


def holds(label: str | None, value: Any) -> bool:
    """Whether a label says the truth of a value."""
    if label is None or value is None:
        return value is None and label in (None, "*")
    if label == "*":
        return True
    if found := re.fullmatch(r"\[(\d+), (\d+)\]", label):
        return int(found[1]) <= value <= int(found[2])
    return str(value) in (label[1:-1].split(", ") if label.startswith("{") else [label])


@settings(deadline=None)
@given(ROWS, st.integers(1, 6))
def test_every_class_has_k_rows_and_every_label_is_true(rows: list[tuple[Any, ...]], k: int) -> None:
    table = columns(rows)
    if len(rows) < k:
        with pytest.raises(InvalidInput, match="so no class can have"):
            anonymise(table, ["n", "c"], k)
        return
    made = anonymise(table, ["n", "c"], k)
    measured = k_anonymity(made.data, ["n", "c"])
    assert made.k == measured.value >= k
    assert made.classes == len(measured.classes)
    for name in ("n", "c"):
        assert all(map(holds, made.data[name].to_pylist(), table[name].to_pylist()))
    assert made.data.select(["s", "w"]).equals(table.select(["s", "w"])) and table.equals(columns(rows))


@settings(deadline=None)
@given(ROWS, st.integers(1, 4))
def test_no_class_could_be_cut_once_more(rows: list[tuple[Any, ...]], k: int) -> None:
    table = columns(rows)
    if len(rows) < k:
        return
    made = anonymise(table, ["n", "c"], k).data
    classes = pd.DataFrame(
        {"label": list(zip(made["n"].to_pylist(), made["c"].to_pylist(), strict=True)), "n": table["n"].to_pylist(), "c": table["c"].to_pylist()}
    )
    for _, members in classes.groupby("label"):
        for name in ("n", "c"):
            values = sorted(members[name].tolist(), key=lambda value: (not pd.isna(value), 0 if pd.isna(value) else value))
            for place in range(k, len(values) - k + 1):
                before, after = values[place - 1], values[place]
                assert before == after or (pd.isna(before) and pd.isna(after))


@settings(deadline=None)
@given(ROWS, st.integers(1, 3), st.integers(1, 3), st.floats(0.1, 0.9))
def test_l_and_t_hold_where_they_are_asked_for(rows: list[tuple[Any, ...]], k: int, l: int, t: float) -> None:  # noqa: E741
    table = columns(rows)
    if min(len(set(table["s"].to_pylist())), len(set(table["w"].to_pylist()))) < l:
        with pytest.raises(InvalidInput, match="fewer than"):
            anonymise(table, ["n", "c"], k, sensitive=["s", "w"], l=l)
        return
    made = anonymise(table, ["n", "c"], k, sensitive=["s", "w"], l=l, t=t).data
    assert k_anonymity(made, ["n", "c"]).value >= k
    assert l_diversity(made, ["n", "c"], ["s", "w"]).value >= l
    assert t_closeness(made, ["n", "c"], ["s", "w"]).value <= t + 1e-9


def penalty(label: str | None, column: list[Any]) -> float:
    known = [value for value in column if value is not None]
    if label == "*":
        return 1.0
    if label is not None and label.startswith("["):
        low, high = map(int, label[1:-1].split(", "))
        return (high - low) / (max(known) - min(known))
    return (label.count(", ") + 1) / len(set(column)) if label is not None and label.startswith("{") else 0.0


@settings(deadline=None)
@given(ROWS, st.integers(1, 5))
def test_the_loss_is_the_certainty_penalty_computed_from_the_labels(rows: list[tuple[Any, ...]], k: int) -> None:
    table = columns(rows)
    if len(rows) < k:
        return
    made = anonymise(table, ["n", "c"], k)
    for name in ("n", "c"):
        penalties = [penalty(label, table[name].to_pylist()) for label in made.data[name].to_pylist()]
        assert made.loss_of[name] == pytest.approx(sum(penalties) / len(penalties), abs=1e-12)
    assert made.loss == pytest.approx((made.loss_of["n"] + made.loss_of["c"]) / 2)


def test_real_loans_become_anonymous_at_a_loss_that_grows_with_k() -> None:
    frame = pd.read_csv(ROOT / "examples/credit/german_credit.csv")
    results = [anonymise(frame, CREDIT, k) for k in (2, 5, 20, 100, 1000)]
    assert [made.k >= k for made, k in zip(results, (2, 5, 20, 100, 1000), strict=True)] == [True] * 5
    losses = [made.loss for made in results]
    assert losses == sorted(losses) and losses[0] < 0.1 and losses[-1] == 1.0
    assert k_anonymity(frame, CREDIT).value == 1
    strict = anonymise(frame, CREDIT, 5, sensitive=["credit_risk"], l=2, t=0.3)
    assert l_diversity(strict.data, CREDIT, "credit_risk").value == 2
    assert t_closeness(strict.data, CREDIT, "credit_risk").value <= 0.3
    assert strict.loss > results[1].loss


def test_the_same_table_gives_the_same_result_in_whatever_chunks_it_lies() -> None:
    frame = pd.read_csv(ROOT / "examples/credit/german_credit.csv")
    table = pa.Table.from_pandas(frame)
    chunked = pa.concat_tables([table.slice(0, 17), table.slice(17)])
    assert anonymise(table, CREDIT, 5).data.equals(anonymise(chunked, CREDIT, 5).data.combine_chunks())


def test_the_first_cut_is_in_the_widest_column_nearest_to_the_middle() -> None:
    made = anonymise({"wide": [0, 1, 2, 10, 11, 12], "narrow": [5, 5, 5, 5, 5, 5]}, ["narrow", "wide"], 3)
    assert made.data["wide"].to_pylist() == ["[0, 2]"] * 3 + ["[10, 12]"] * 3
    assert made.data["narrow"].to_pylist() == ["5"] * 6


def test_rows_with_the_same_value_stay_together() -> None:
    made = anonymise({"n": [1, 1, 1, 1, 1, 2, 3]}, ["n"], 2)
    assert made.data["n"].to_pylist() == ["1"] * 5 + ["[2, 3]"] * 2


def test_dates_floats_booleans_and_missing_values_have_their_labels() -> None:
    days = [dt.date(2020, 1, day) for day in (1, 2, 3, 4)]
    table = pa.table({"day": days, "x": [0.5, 1.5, math.nan, None], "b": [True, False, True, False]})
    assert anonymise(table, ["day"], 2).data["day"].to_pylist() == ["[2020-01-01, 2020-01-02]"] * 2 + ["[2020-01-03, 2020-01-04]"] * 2
    assert anonymise(table, ["x"], 2).data["x"].to_pylist() == ["[0.5, 1.5]", "[0.5, 1.5]", None, None]
    assert anonymise(table, ["x"], 3).data["x"].to_pylist() == ["*"] * 4
    assert anonymise(table, ["b"], 3).data["b"].to_pylist() == ["*"] * 4
    assert anonymise(table, ["b"], 2).data["b"].to_pylist() == ["true", "false", "true", "false"]


@pytest.mark.parametrize("extreme", [[-1.7e308, 1.7e308, 0.0, 1.0], [math.inf, -math.inf, 0.0, 1.0], [2**63 - 1, -(2**63), 0, 1]])
def test_numbers_at_the_ends_of_their_type_are_cut_too(extreme: list[float]) -> None:
    made = anonymise({"n": extreme}, ["n"], 2)
    assert made.classes == 2 and 0 <= made.loss <= 1


def test_large_whole_numbers_that_are_one_as_floats_are_cut_apart() -> None:
    numbers = [2**60 + step for step in range(4)] + [0] * 4
    assert anonymise({"n": numbers}, ["n"], 2).data["n"].to_pylist()[:4] == [f"[{2**60}, {2**60 + 1}]"] * 2 + [f"[{2**60 + 2}, {2**60 + 3}]"] * 2


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (pa.array([b"\xff", b"a", b"b", b"\xfe"]), ["{fe, ff}", "{61, 62}", "{61, 62}", "{fe, ff}"]),
        (pa.array([3, 4, 1, 2], pa.duration("s")), ["[3, 4]", "[3, 4]", "[1, 2]", "[1, 2]"]),
        (pa.array([3, 4, 1, 2]).dictionary_encode(), ["[3, 4]", "[3, 4]", "[1, 2]", "[1, 2]"]),
        (pa.array([b"a" * 16, b"b" * 16, b"a" * 16, b"b" * 16], pa.uuid()), ["61" * 16, "62" * 16] * 2),
        (pa.nulls(4), [None] * 4),
    ],
    ids=["binary", "duration", "dictionary", "uuid", "null"],
)
def test_columns_of_rarer_types_have_labels_too(values: pa.Array, labels: list[str | None]) -> None:
    assert anonymise(pa.table({"x": values}), ["x"], 2).data["x"].to_pylist() == labels


def test_a_data_set_stays_one_with_its_lineage_and_says_which_columns_were_made_coarser() -> None:
    data = Dataset.from_arrow({"age": list(range(20, 40)), "job": ["a", "b"] * 10, "y": ["n", "p"] * 10}, target="y")
    made = anonymise(data, ["age", "job"], 4).data
    assert isinstance(made, Dataset)
    assert made.roots == data.roots
    assert (made.lineage[-1].operation, dict(made.lineage[-1].parameters)) == ("anonymise", {"columns": ["age", "job"], "k": 4})
    assert made.schema["age"].masked == "mondrian" and made.schema["y"] == data.schema["y"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"k": 0}, "1 or more"),
        ({"k": 2, "t": 1.5, "sensitive": ["s"]}, "between 0 and 1"),
        ({"k": 2, "l": 2}, "name one or more"),
        ({"k": 2, "quasi_identifiers": ["m"]}, "no column 'm'"),
    ],
)
def test_bounds_without_sense_are_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        anonymise({"n": [1, 2], "s": ["x", "y"]}, **({"quasi_identifiers": ["n"]} | asked))


def test_a_hundred_thousand_rows_are_anonymised_at_once() -> None:
    generator = np.random.default_rng(0)
    table = pa.table({"age": generator.integers(18, 90, 100_000), "zip": generator.integers(0, 900, 100_000).astype(str)})
    assert anonymise(table, ["age", "zip"], 10).k >= 10
