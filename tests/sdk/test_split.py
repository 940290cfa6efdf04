"""Splits: seeded, stratified, by group, by time."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.rows import random_order


def numbered(rows: int, **columns: Any) -> Dataset:
    return Dataset.from_arrow({"row": pa.array(range(rows), pa.int64()), **columns}, fields={"row": {"role": "identifier"}})


def rows_of(data: Dataset) -> list[int]:
    return [int(row) for row in data.to_list("row")]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_every_row_stands_on_exactly_one_side_in_its_order(rows: int, share: float, seed: int) -> None:
    wanted = int(np.floor(share * rows + 0.5))
    assume(0 < wanted < rows)
    train, test = numbered(rows).split(share, seed=seed)
    assert len(test) == wanted
    assert sorted(rows_of(train) + rows_of(test)) == list(range(rows))
    assert rows_of(test) == sorted(rows_of(test))


def test_a_seed_gives_the_same_split_for_ever() -> None:
    """Fixed values: they must not change with numpy, platform or version of this library."""
    assert random_order(10, 7).tolist() == [6, 3, 4, 9, 0, 2, 8, 7, 5, 1]
    assert rows_of(numbered(20).split(0.25, seed=7)[1]) == rows_of(numbered(20).split(0.25, seed=7)[1])
    assert rows_of(numbered(200).split(0.25, seed=7)[1]) != rows_of(numbered(200).split(0.25, seed=8)[1])


def test_random_order_is_uniform_over_permutations() -> None:
    seen = Counter(tuple(random_order(3, seed)) for seed in range(6000))
    assert len(seen) == 6
    assert max(abs(count - 1000) for count in seen.values()) < 5 * np.sqrt(1000)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.floats(0.1, 0.9), st.integers(0, 10))
def test_stratified_parts_hold_each_class_in_its_share(counts: list[int], share: float, seed: int) -> None:
    labels = [f"c{number}" for number, count in enumerate(counts) for _ in range(count)]
    wanted = int(np.floor(share * len(labels) + 0.5))
    assume(len(counts) <= wanted <= len(labels) - len(counts))
    data = Dataset.from_arrow({"row": list(range(len(labels))), "y": labels}, target="y")
    train, test = data.split(share, seed=seed, stratify=True)
    assert len(test) == wanted
    got, left = Counter(test.to_list("y")), Counter(train.to_list("y"))
    exact = {f"c{number}": count * wanted / len(labels) for number, count in enumerate(counts)}
    for name, quota in exact.items():
        assert got[name] >= 1
        assert left[name] >= 1
        if min(exact.values()) >= 1 and all(quota <= count - 1 for quota, count in zip(exact.values(), counts, strict=True)):
            assert abs(got[name] - quota) < 1


def test_stratified_quotas_follow_the_largest_remainder() -> None:
    """Hamilton's method on a small table: 53, 24 and 23 of 100 rows, 10 seats: 5.3, 2.4, 2.3; the one left over goes to the second."""
    labels = ["a"] * 53 + ["b"] * 24 + ["c"] * 23
    _, test = Dataset.from_arrow({"y": labels}, target="y").split(0.1, stratify=True)
    assert Counter(test.to_list("y")) == {"a": 5, "b": 3, "c": 2}


def test_a_stratified_split_chooses_within_a_class_at_random() -> None:
    data = Dataset.from_arrow({"row": list(range(40)), "y": ["a", "b"] * 20}, target="y")
    parts = {tuple(data.split(0.5, seed=seed, stratify=True)[1].to_list("row")) for seed in range(5)}
    assert len(parts) == 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([None, "a", "b", "c", "d", "e"]), min_size=3, max_size=60), st.floats(0.2, 0.8), st.integers(0, 5))
def test_no_group_stands_on_both_sides(groups: list[str | None], share: float, seed: int) -> None:
    wanted = int(np.floor(share * len(groups) + 0.5))
    assume(len(set(groups)) > 1 and 0 < wanted < len(groups))
    data = numbered(len(groups), who=pa.array(groups, pa.string()).dictionary_encode())
    train, test = data.split(share, seed=seed, group="who")
    assert not set(train.to_list("who")) & set(test.to_list("who"))
    assert len(train) + len(test) == len(groups)
    assert abs(len(test) - wanted) <= max(Counter(groups).values())


def test_groups_of_one_row_give_the_exact_share() -> None:
    train, test = numbered(100, who=[f"g{n}" for n in range(100)]).split(0.3, group="who", seed=2)
    assert (len(train), len(test)) == (70, 30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=50), st.floats(0.1, 0.9))
def test_the_test_rows_are_the_latest_and_equal_times_stay_together(times: list[int], share: float) -> None:
    wanted = int(np.floor(share * len(times) + 0.5))
    assume(len(set(times)) > 1 and 0 < wanted < len(times))
    start = datetime(2024, 1, 1)
    data = numbered(len(times), when=[start + timedelta(microseconds=t) for t in times])
    train, test = data.split(share, time="when")
    assert max(train.to_list("when")) < min(test.to_list("when"))
    cuts = [sum(t >= edge for t in times) for edge in sorted(set(times))[1:]]
    assert abs(len(test) - wanted) == min(abs(cut - wanted) for cut in cuts)


def test_times_that_differ_by_nanoseconds_are_told_apart() -> None:
    data = numbered(4, when=pa.array([2**60 + n for n in range(4)], pa.timestamp("ns")))
    train, test = data.split(0.5, time="when")
    assert (rows_of(train), rows_of(test)) == ([0, 1], [2, 3])


def test_both_parts_keep_roots_and_say_how_they_were_made() -> None:
    data = numbered(10)
    train, test = data.split(0.3, seed=4)
    assert train.roots == test.roots == {data.fingerprint}
    assert test.lineage[-1].operation == "split"
    assert test.lineage[-1].parameters == {"part": "test", "test": 0.3, "seed": 4}
    again, _ = train.split(0.5, seed=1)
    assert again.roots == {data.fingerprint}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": 0}, "no share"),
        ({"test": 1.0}, "no share"),
        ({"test": 25}, "no share"),
        ({"test": "0.2"}, "no share"),
        ({"test": float("nan")}, "no share"),
        ({"seed": -1}, "no seed"),
        ({"seed": 0.5}, "no seed"),
        ({"group": "whom"}, "Did you mean 'who'"),
        ({"time": "wen"}, "Did you mean 'when'"),
        ({"time": "who"}, "is categorical"),
        ({"stratify": True}, "needs a target"),
        ({"group": "who", "time": "when"}, "not several at once"),
        ({"group": "who", "stratify": True}, "not several at once"),
    ],
)
def test_wrong_arguments_are_usage_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        numbered(8, who=["a", "b"] * 4, when=list(range(8))).split(**arguments)


def test_stratifying_by_a_number_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="only classes"):
        Dataset.from_arrow({"y": [n / 7 for n in range(50)]}, target="y").split(stratify=True)


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({"y": ["a", "b"] * 2}, {"test": 0.1}, "leaves the test part empty"),
        ({"y": ["a", "b"] * 2}, {"test": 0.9}, "leaves the training part empty"),
        ({"y": ["a"] * 9 + ["b"]}, {"stratify": True}, "1 of the 2 classes of 'y' have one row only"),
        ({"y": ["a", "b", "c"] * 3}, {"stratify": True, "test": 0.2}, "fewer rows than 'y' has classes"),
        ({"y": ["a", "b"] * 4, "g": ["x"] * 8}, {"group": "g"}, "one group only"),
        ({"y": ["a", "b"] * 4, "t": [1] * 8}, {"time": "t"}, "same value in every row"),
        ({"y": ["a", "b"] * 4, "t": [1, None] * 4}, {"time": "t"}, "missing in 4 of 8 rows"),
    ],
)
def test_parts_that_would_be_empty_are_refused(columns: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Dataset.from_arrow(columns, target="y").split(**arguments)
