"""At most k rows of each user take part, chosen by chance alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affidavit.errors import Refused
from affidavit.interfaces.dataset import Dataset
from affidavit_governance.privacy.contributions import bound_contributions, chosen
from affidavit_governance.privacy.randomness import Randomness


def table(users: list[str | None]) -> Dataset:
    return Dataset.from_arrow({"user": users, "x": list(range(len(users))), "y": [0, 1] * (len(users) // 2) + [0] * (len(users) % 2)}, target="y")


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 4))
def test_each_user_keeps_k_rows_or_all_that_there_are(users: list[int], most: int) -> None:
    kept = chosen(users, most, Randomness())
    for user in set(users):
        assert int(kept[np.array(users) == user].sum()) == min(most, users.count(user))


def test_which_rows_stay_is_drawn_and_each_is_equally_likely() -> None:
    counts = sum(chosen([0] * 5 + [1] * 2, 1, Randomness(bytes([number]) * 32)).astype(int) for number in range(250))
    assert counts[:5].sum() == counts[5:].sum() == 250
    assert counts[:5].min() > 25  # 50 expected
    assert counts[5:].min() > 90  # 125 expected


def test_a_user_more_changes_no_other_user_s_rows() -> None:
    key = bytes(range(32))
    users = [0, 1, 0, 1, 0, 1]
    before, after = chosen(users, 1, Randomness(key)), chosen([*users, 2, 2], 1, Randomness(key))
    assert (before == after[:6]).all()
    assert after[6:].sum() == 1


def test_values_play_no_part_and_rows_stay_in_their_order() -> None:
    key, data = bytes(range(32)), table(["a", "b", "a", "a", "b", "c"])
    other = data.replace_column("x", pa.array([9, 9, 0, 0, 5, 5]))
    kept, same = (bound_contributions(rows, "user", 2, Randomness(key)) for rows in (data, other))
    assert kept.to_list("user") == same.to_list("user")
    assert kept.to_list("x") == sorted(kept.to_list("x"))
    assert kept.roots == data.roots
    assert kept.lineage[-1].operation == "bound-contributions"


def test_rows_without_a_user_are_one_user() -> None:
    kept = bound_contributions(table(["a", None, None, None, "b"]), "user", 2, Randomness())
    assert kept.to_list("user").count(None) == 2


def test_missing_numbers_are_one_user_whatever_stands_for_them_and_so_are_both_zeros() -> None:
    strange = np.frombuffer((0x7FF8000000000123).to_bytes(8, "little"), dtype="<f8")[0]  # not a number, with other bits
    users = pa.array([1.0, None, float("nan"), -float("nan"), strange, -0.0, 0.0])
    kept = bound_contributions(Dataset.from_arrow(pa.table({"user": users, "x": list(range(7))})), "user", 1, Randomness())
    rows = kept.to_list("x")
    assert len(rows) == 3 and rows[0] == 0
    assert len({1, 2, 3, 4} & set(rows)) == len({5, 6} & set(rows)) == 1


@pytest.mark.parametrize(
    ("codes", "names"),
    [([0, 1, 2, 0], ["a", "b", "a"]), ([0, 1, None, 0], ["a", "b"]), ([0, 1, 2, 0], ["a", "b", None])],
    ids=["a name twice in the dictionary", "a missing code", "a missing name"],
)
def test_a_categorical_column_names_users_by_its_values(codes: list[int | None], names: list[str | None]) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([*codes, None]), pa.array(names))
    kept = bound_contributions(Dataset.from_arrow(pa.table({"user": column, "x": list(range(5))})), "user", 1, Randomness())
    users = kept.to_list("user")
    assert len(users) == len(set(users)) == len(set(column.to_pylist()))


@pytest.mark.parametrize("users", [[None] * 4, ["***"] * 4])
def test_a_column_that_masking_emptied_is_refused(users: list[str | None]) -> None:
    data = Dataset.from_arrow({"user": pa.array(users, pa.string()), "x": [1, 2, 3, 4], "y": [0, 1, 0, 1]}, target="y")
    with pytest.raises(Refused, match="tells no users apart") as refused:
        bound_contributions(data, "user", 1, Randomness())
    assert refused.value.line == "privacy.user"


def test_an_absent_column_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="no column 'customer'"):
        bound_contributions(table(["a", "b"]), "customer", 1, Randomness())
