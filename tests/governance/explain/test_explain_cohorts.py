"""Cohorts: means by group with intervals, and a test that does not find differences where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from affidavit import Dataset, Explanation
from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.explain.methods.linear import Linear
from affidavit_governance.explain.overall.cohorts import cohorts, compare

CREDIT = Path(__file__).parents[3] / "examples/credit/german_credit.csv"


def explanation(values, **changes):
    values = np.asarray(values, dtype=float)
    players = tuple(f"p{place}" for place in range(values.shape[1]))
    return Explanation("exact", "value", players, values, np.zeros(len(values)), values.sum(axis=1), **changes)


def grouped(rows=200, seed=0):
    generator = np.random.default_rng(seed)
    return Dataset.from_arrow({"group": np.array(["a", "b", "c"])[generator.integers(0, 3, rows)], "n": generator.integers(0, 100, rows)})


def test_means_and_intervals_are_those_of_students_t():
    data = Dataset.from_arrow({"g": ["a"] * 4 + ["b"] * 6})
    values = np.array([[1.0], [2], [4], [5], *[[-1.0]] * 6])
    found = cohorts(explanation(values), data, "g")
    assert found["a"].mean["p0"].value == 3 and found["a"].rows == 4
    assert found["a"].mean["p0"].low == pytest.approx(3 - 3.182446 * np.sqrt(10 / 3 / 4), rel=1e-3), "t of 3 degrees of freedom, sd² = 10/3"
    assert found["b"].mean["p0"].value == -1 and found["b"].mean_absolute["p0"].value == 1 == found["b"].mean_absolute["p0"].high
    single = cohorts(explanation(values), data, np.arange(10) == 0)
    assert single["in"].mean["p0"].low is None and single["in"].p is None and single["out"].p is None
    assert single.most_different is None and single.tests == 0


def test_the_cohort_that_differs_is_found_with_its_player():
    data = grouped()
    generator = np.random.default_rng(1)
    values = generator.normal(size=(200, 5))
    values[np.array(data.to_list("group")) == "b", 3] += 0.9
    found = cohorts(explanation(values), data, "group")
    assert found.most_different == "b" and found["b"].player == "p3" and found["b"].p <= 0.005
    assert found.tests == 3 * 5 * 2 and not found["b"].small
    assert found.to_json()["cohorts"][1]["p"] == found["b"].p and found.to_json()["most_different"] == "b"


def test_a_difference_in_size_alone_is_found():
    data = grouped()
    values = np.random.default_rng(1).normal(size=(200, 3))
    values[np.array(data.to_list("group")) == "c", 0] *= 3
    found = cohorts(explanation(values), data, "group")
    assert found.most_different == "c" and found["c"].player == "p0" and found["c"].p < 0.02


def test_looking_at_many_cohorts_finds_nothing_more_often_than_said():
    """120 questions about 20 random cohorts each, heavy tails and small cohorts included: a p below 0.1 for any cohort in about a tenth."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(120):
        values = generator.standard_t(2, size=(90, 4))
        masks = generator.random((20, 90)) < generator.uniform(0.04, 0.5, size=(20, 1))
        _, _, p = compare(values, masks, seed=int(generator.integers(1e9)), resamples=99)
        hits += np.nanmin(p) <= 0.1
    assert 2 <= hits <= 24, "expected 12, four standard deviations"


def test_p_values_are_those_of_all_reassignments():
    """Against every choice of 3 rows out of 8."""
    import itertools

    values = np.array([[3.0], [2.5], [2.9], [0.1], [-0.4], [1.0], [2.6], [-2.0]])
    mask = np.arange(8) < 3
    both = np.concatenate([values, abs(values)], axis=1)
    standard = (both - both.mean(axis=0)) / both.std(axis=0, ddof=1) / np.sqrt(1 / 3 - 1 / 8)
    all_of_them = np.array([abs(standard[list(chosen)].mean(axis=0)).max() for chosen in itertools.combinations(range(8), 3)])
    statistics, _, p = compare(values, mask[None], seed=0, resamples=20_000)
    assert statistics[0] == pytest.approx(all_of_them[0])
    assert p[0] == pytest.approx(np.mean(all_of_them >= all_of_them[0] - 1e-12), abs=0.01)


def test_numbers_are_cut_and_gaps_are_a_cohort_of_their_own():
    numbers = pa.array([1, 2, 3, 4, None, 6, 7, 8, 9, None], pa.float64())
    data = Dataset.from_arrow({"n": numbers, "b": [True, False] * 5})
    whole = explanation(np.random.default_rng(0).normal(size=(10, 2)))
    named = {cohort.name: cohort.rows for cohort in cohorts(whole, data, "n", bins=[3, 7]).cohorts}
    assert named == {"below 3": 2, "3 to 7": 3, "from 7": 3, "missing": 2}
    assert {cohort.name for cohort in cohorts(whole, data, "b").cohorts} == {"true", "false"}
    assert sum(cohort.rows for cohort in cohorts(whole, data, "n").cohorts) == 10 and all(
        cohort.small for cohort in cohorts(whole, data, "n").cohorts
    )


def test_masks_may_have_names_and_overlap():
    data = grouped(60)
    values = np.random.default_rng(0).normal(size=(60, 2))
    masks = {"first": np.arange(60) < 40, "last": np.arange(60) >= 20}
    found = cohorts(explanation(values), data, masks)
    assert [cohort.rows for cohort in found.cohorts] == [40, 40] and found.by == "masks"
    plain = cohorts(explanation(values), data, [row < 40 for row in range(60)])
    assert [cohort.name for cohort in plain.cohorts] == ["in", "out"] and plain["in"].mean == found["first"].mean
    assert plain["in"].p == plain["out"].p


def test_players_that_never_matter_differ_nowhere():
    values = np.random.default_rng(0).normal(size=(60, 2))
    values[:, 1] = 0.1 + 0.2
    found = cohorts(explanation(values), grouped(60), "group")
    assert all(cohort.player == "p0" for cohort in found.cohorts)
    nothing = cohorts(explanation(np.zeros((60, 2))), grouped(60), "group")
    assert all(cohort.statistic == 0 and cohort.p == 1 for cohort in nothing.cohorts)


def test_bad_input_is_refused():
    data = grouped(60)
    whole = explanation(np.zeros((60, 2)))
    for by, options, words in (
        ("groop", {}, "no column 'groop'"),
        ("group", {"bins": [1]}, "no numbers"),
        ("n", {"bins": [3, 2]}, "ascending"),
        ("n", {"bins": []}, "ascending"),
        ([True] * 59, {}, "one boolean for each"),
        ([1] * 60, {}, "one boolean for each"),
        ({"none": [False] * 60}, {}, "'none' has no rows"),
        ({}, {}, "no cohorts"),
        ([True] * 60, {}, "'out' has no rows"),
    ):
        with pytest.raises(UsageError, match=words):
            cohorts(whole, data, by, **options)
    with pytest.raises(UsageError, match="60 rows were explained, and 59"):
        cohorts(whole, data.head(59), "group")
    names = Dataset.from_arrow({"name": [f"person {row}" for row in range(60)]})
    with pytest.raises(UsageError, match=r"more than 50"):
        cohorts(whole, names.with_schema(names.schema.change("name", type="categorical")), "name")
    with pytest.raises(InvalidInput, match="withheld"):
        cohorts(explanation(np.full((60, 2), np.nan)), data, "group")


def test_german_credit_by_a_protected_field_that_is_no_input():
    from affidavit_plugins.tabular.linear import Logistic

    people = {name: {"role": "identifier"} for name in ("full_name", "email", "phone", "iban", "national_id")}
    protected = {name: {"role": "protected"} for name in ("age", "personal_status_sex")}
    data = Dataset.from_arrow(pyarrow.csv.read_csv(CREDIT), target="credit_risk", fields={**people, **protected})
    train, test = data.split(test=0.25, stratify=True, seed=7)
    model = Logistic().fit(train)
    explained = Linear().explain(model, test, train)
    assert "age" not in explained.players
    by_age = explained.cohorts(test, "age", bins=[26])
    assert by_age["below 26"].player == "housing" and by_age["below 26"].p < 0.05, "the young rent"
    assert by_age["below 26"].mean["housing"].high < 0 < by_age["from 26"].mean["housing"].value, "which counts against them"
    finer = explained.cohorts(test, "age", bins=[26, 60])
    assert [cohort.small for cohort in finer.cohorts] == [False, False, True] and sum(cohort.rows for cohort in finer.cohorts) == 250
