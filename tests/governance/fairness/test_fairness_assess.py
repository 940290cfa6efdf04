"""The fairness service on data sets: which groups there are, what it refuses, and what it says in JSON."""

from __future__ import annotations

import datetime
import json
import math

import numpy as np
import pyarrow as pa
import pytest

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Predictions
from affidavit.policy import FairnessPolicy
from affidavit_governance.fairness import assess, bin_labels

SEX = ["f", "m", "f", None, "m", "f"]
AGE = [20, 33, 40, 50, 60, None]
TRUTH = np.array(["good", "bad", "good", "good", "bad", "good"])


def applicants(**columns: list[object]) -> Dataset:
    given = {"sex": SEX, "age": AGE, "risk": TRUTH.tolist(), **columns}
    return Dataset.from_arrow(pa.table(given), target="risk", fields={name: {"role": "protected"} for name in given if name != "risk"})


def answers(values: list[str]) -> Predictions:
    return Predictions(np.array(values), ("bad", "good"), None)


ALL_GOOD = answers(["good", "good", "good", "bad", "good", "good"])


def test_each_protected_column_gets_groups_and_gaps() -> None:
    result = assess(applicants(), ALL_GOOD, TRUTH, FairnessPolicy(protected=("sex",)))
    assert list(result) == ["sex", "age"]
    assert result["sex"]["favourable"] == "good"
    assert {name: group["count"] for name, group in result["sex"]["groups"].items()} == {"f": 3, "m": 2, "missing": 1}
    assert result["sex"]["groups"]["m"]["false_positive_rate"]["value"] == 1.0
    assert result["sex"]["groups"]["m"]["true_positive_rate"] == {"value": None, "low": None, "high": None}
    assert result["sex"]["gaps"]["selection_rate_gap"]["value"] == 1.0
    assert result["sex"]["gaps"]["impact_ratio"]["value"] == 0.0
    assert result["sex"]["small_groups"] == ["f", "m", "missing"]
    json.dumps(result, allow_nan=False)


def test_numbers_are_split_at_the_median_or_at_the_policys_edges() -> None:
    groups = assess(applicants(), ALL_GOOD, TRUTH, FairnessPolicy(protected=("age",)))["age"]["groups"]
    assert {name: group["count"] for name, group in groups.items()} == {"age ≤ 40": 3, "age > 40": 2, "missing": 1}
    policy = FairnessPolicy(protected=("age",), bins={"age": (26, 50)})
    groups = assess(applicants(), ALL_GOOD, TRUTH, policy)["age"]["groups"]
    assert {name: group["count"] for name, group in groups.items()} == {"age ≤ 26": 1, "26 < age ≤ 50": 3, "age > 50": 1, "missing": 1}


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1, 1, 1], ["x ≤ 0", "x > 0", "x > 0", "x > 0"]),
        ([0, 0, 0, 1], ["x ≤ 0", "x ≤ 0", "x ≤ 0", "x > 0"]),
        ([7, 7, math.nan], ["any x", "any x", "missing"]),
        ([math.nan], ["missing"]),
        ([1e6, 1e6 + 1, 1e6 + 2], ["x ≤ 1e+06", "x ≤ 1e+06", "x > 1e+06"]),
    ],
)
def test_the_middle_leaves_somebody_on_both_sides(values: list[float], labels: list[str]) -> None:
    assert bin_labels(np.array(values, dtype=float), "x") == labels


def test_edges_that_print_alike_are_written_in_full() -> None:
    assert bin_labels(np.array([1.0]), "x", (1_000_000.0, 1_000_001.0)) == ["x ≤ 1000000.0"]


@pytest.mark.parametrize("edges", [(2.0, 1.0), (1.0, 1.0), (math.nan,), (math.inf,)])
def test_edges_out_of_order_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="rising"):
        bin_labels(np.array([1.0]), "x", edges)


def test_dates_are_grouped_by_year() -> None:
    born = [datetime.date(year, 6, 1) for year in (1950, 1960, 1970, 1980, 1990, 2000)]
    groups = assess(applicants(born=born), ALL_GOOD, TRUTH, FairnessPolicy(protected=("born",)))["born"]["groups"]
    assert list(groups) == ["born > 1975", "born ≤ 1975"]


def test_booleans_are_groups_of_their_own() -> None:
    data = applicants(foreign=[True, False, True, True, None, False])
    groups = assess(data, ALL_GOOD, TRUTH, FairnessPolicy(protected=("foreign",)))["foreign"]["groups"]
    assert {name: group["count"] for name, group in groups.items()} == {"false": 2, "missing": 1, "true": 3}


def test_the_policy_may_name_another_favourable_class() -> None:
    result = assess(applicants(), ALL_GOOD, TRUTH, FairnessPolicy(protected=("sex",), favourable="bad"))
    assert result["sex"]["groups"]["missing"]["selection_rate"]["value"] == 1.0


def test_a_model_of_numbers_gets_a_mean_prediction_gap() -> None:
    result = assess(applicants(), Predictions(np.array([1.0, 2, 3, 4, 5, 6])), np.arange(6.0), FairnessPolicy(protected=("sex",)))
    assert result["sex"]["favourable"] is None
    assert result["sex"]["gaps"]["mean_prediction_gap"]["value"] == pytest.approx(4 - 10 / 3)
    assert set(result["sex"]["groups"]["f"]) == {"count", "small", "mean_prediction"}


def test_a_single_group_has_no_gap_rather_than_a_gap_of_zero() -> None:
    data = applicants(country=["x"] * 6)
    assert assess(data, ALL_GOOD, TRUTH, FairnessPolicy(protected=("country",)))["country"]["gaps"]["selection_rate_gap"]["value"] is None


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"protected": ("sexx",)}, "fairness.protected names the column 'sexx'.*Did you mean 'sex'"),
        ({"protected": ("sex",), "bins": {"agee": (3,)}}, "fairness.bins names the column 'agee'.*Did you mean 'age'"),
        ({"protected": ("sex",), "bins": {"risk": (3,)}}, "'risk', which is not protected"),
        ({"protected": ("sex",), "bins": {"sex": (3,)}}, "'sex', which holds no numbers"),
        ({"protected": ("sex",), "favourable": "goood"}, "class 'goood'.*Did you mean 'good'"),
    ],
)
def test_a_policy_that_does_not_fit_the_data_is_refused(policy: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        assess(applicants(), ALL_GOOD, TRUTH, FairnessPolicy.model_validate(policy))


def test_a_favourable_class_for_a_model_of_numbers_is_refused() -> None:
    with pytest.raises(UsageError, match="predicts numbers"):
        assess(applicants(), Predictions(np.arange(6.0)), np.arange(6.0), FairnessPolicy(favourable="good"))


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(UsageError, match="6 rows, 6 predictions and 2 right answers"):
        assess(applicants(), ALL_GOOD, TRUTH[:2], FairnessPolicy())


def test_a_column_that_tells_people_apart_makes_no_groups_and_is_not_quoted() -> None:
    count = 300
    table = pa.table({"name": [f"person {i}" for i in range(count)], "risk": ["good", "bad"] * (count // 2)})
    data = Dataset.from_arrow(table, target="risk", fields={"name": {"role": "protected", "type": "categorical"}})
    predictions = answers(["good"] * count)
    with pytest.raises(InvalidInput, match="300 different values") as caught:
        assess(data, predictions, np.array(table["risk"].to_pylist()), FairnessPolicy(protected=("name",)))
    assert "person" not in str(caught.value)
