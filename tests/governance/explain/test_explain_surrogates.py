"""Surrogate trees and rule lists: they find planted rules, say how far they may be taken, and tell nothing that is masked."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.governance.explain.explain_models import Formula, make_table

from affidavit import Dataset, Task
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit_governance.explain.overall.features import Column, threshold_between
from affidavit_governance.explain.overall.grids import category_names
from affidavit_governance.explain.overall.rules import Condition, Rule, fidelity, first_rule, in_words, wilson
from affidavit_governance.explain.overall.surrogates import RuleList, SurrogateTree

BOTH = pytest.mark.parametrize("explainer", [SurrogateTree, RuleList])


def tell(explainer, function, data, task=Task.BINARY, **options):
    model = function if isinstance(function, Formula) else Formula(function, data, task)
    return explainer().explain(model, data, data, **options)


def planted(data):
    return np.where(data.to_numpy("x0") > 0.5, 0.9, np.where(data.to_numpy("flag") > 0, 0.6, 0.2))


@BOTH
def test_planted_rules_are_found_in_words(explainer):
    data = make_table(600)
    found = tell(explainer, planted, data)
    assert found.fidelity["r2"].value == pytest.approx(1.0, abs=0.03) and found.fidelity["accuracy"].value > 0.98
    assert any("x0 > 0." in rule and "is 0.9 " in rule for rule in found.rules)
    assert any("flag is not true" in rule and "is 0.2 " in rule for rule in found.rules)
    assert found.details["training_rows"] + found.details["held_out_rows"] == 600 == found.details["model_rows"]


def test_a_list_is_read_from_the_top_and_a_trees_leaves_share_out_the_rows():
    data = make_table(600)
    tree, ordered = tell(SurrogateTree, planted, data), tell(RuleList, planted, data)
    assert ordered.rules[0].startswith("if ") and ordered.rules[1].startswith("else if ") and ordered.rules[-1].startswith("otherwise: ")
    assert all(rule.startswith("if ") for rule in tree.rules)
    for found in (tree, ordered):
        assert sum(int(rule.split("(")[-1].split(" %")[0]) for rule in found.rules) == pytest.approx(100, abs=3)


@BOTH
def test_fidelity_is_low_where_rules_cannot_follow(explainer):
    found = tell(explainer, lambda d: 0.5 + 0.5 * np.sin(50 * d.to_numpy("x0")), make_table(300))
    assert found.fidelity["r2"].low < found.fidelity["r2"].value < 0.3


@BOTH
def test_a_constant_model_has_one_rule_and_no_r2(explainer):
    found = tell(explainer, lambda d: np.full(len(d), 0.7), make_table(100))
    assert found.rules == ("always: probability of yes is 0.7 (100 % of the rows)",)
    assert "r2" not in found.fidelity and found.fidelity["accuracy"].value == 1.0


@BOTH
def test_regression_has_no_accuracy(explainer):
    found = tell(explainer, lambda d: 10.0 * (d.to_numpy("x1") > 0), make_table(200), Task.REGRESSION)
    assert set(found.fidelity) == {"r2"} and found.output == "value"


@BOTH
def test_masked_fields_stand_in_no_rule(explainer):
    table = make_table(300)
    schema = Schema(tuple(table.schema.fields)).change("x0", masked="noise").change("colour", masked="pseudonym")
    data = Dataset(table.table, schema)
    found = tell(explainer, planted, data, groups={"with": ["x0", "x1"]})
    assert not any(name in rule for rule in found.rules for name in ("x0", "x1", "colour"))
    assert set(found.details["left_out"]) == {"x0", "x1", "colour"}
    for name in ("x1", "flag"):
        schema = schema.change(name, masked="noise")
    with pytest.raises(InvalidInput, match="No field"):
        tell(explainer, planted, Dataset(table.table, schema))


@BOTH
def test_records_hold_no_number_of_a_row_and_name_what_many_rows_share(explainer):
    data = make_table(300)
    found = tell(explainer, lambda d: 0.2 + 0.6 * pa_red(d) - 0.2 * (d.to_numpy("x0") > 0.11), data)
    written = json.dumps(found.to_json(), ensure_ascii=False)
    assert "x0 ≤ " in written and not any(f" {value:.12g}" in written for value in data.to_list("x0"))
    assert any("colour is red" in rule or "colour is not red" in rule for rule in found.rules)


def test_a_category_of_few_rows_is_named_by_its_place_unless_the_trained_schema_names_it():
    field = Field("town", FieldType.CATEGORICAL)
    assert category_names(field, ["Ulm", "Bern"], [10, 9]) == ["Ulm", "category 2"]
    assert category_names(replace(field, categories=("Bern",)), ["Ulm", "Bern"], [9, 1]) == ["category 1", "Bern"]


def pa_red(data):
    return np.array([value == "red" for value in data.to_list("colour")])


@BOTH
def test_gaps_are_asked_for_by_name_and_days_are_days(explainer):
    generator = np.random.default_rng(0)
    x = generator.normal(size=400)
    gap = generator.random(400) < 0.3
    days = np.datetime64("2020-01-01") + generator.integers(0, 1000, 400)
    data = Dataset.from_arrow({"x": pa.array(np.where(gap, None, x).tolist(), pa.float64()), "since": pa.array(days)})
    found = tell(explainer, lambda d: 5.0 * np.isnan(d.to_numpy("x")) + 1.0 * (d.to_numpy("since") > 1.62e9), data, Task.REGRESSION)
    assert found.fidelity["r2"].value > 0.9
    assert any("x is missing" in rule for rule in found.rules) and any("since > 2021-05" in rule for rule in found.rules)


def test_a_threshold_that_the_filled_in_value_meets_says_so():
    column = Column("x", "number", fill=2.0)
    assert column.words(3.0, above=False) == "x ≤ 3 or missing" and column.words(3.0, above=True) == "x > 3"


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6))
def test_a_threshold_stands_between_two_values(low, width):
    threshold = threshold_between(low, low + width, Column("x", "number"))
    assert low < threshold < low + width or not low < (low + low + width) / 2 < low + width


def test_thresholds_are_round():
    assert threshold_between(17.03, 29.4, Column("x", "number")) == 20.0
    assert threshold_between(0.1234, 0.1267, Column("x", "number")) in (0.124, 0.125, 0.126)
    assert threshold_between(3, 4, Column("x", "number", whole=True)) == 3
    assert threshold_between(86400.0 * 3, 86400.0 * 9, Column("x", "day")) % 86400 == 0


def test_fidelity_is_r2_and_agreement_on_the_rows_given():
    values = np.array([[0.0], [1.0], [2.0], [3.0]])
    rules = [Rule((Condition(0, 1.5, True),), 0.8, 0.6, 2), Rule((), 0.1, 0.4, 2)]
    answers = np.array([0.0, 0.2, 0.7, 1.0])
    found = fidelity(rules, values, answers, np.array([False, True, True, True]))
    assert found["r2"].value == pytest.approx(1 - (0.01 + 0.01 + 0.01 + 0.04) / ((answers - answers.mean()) ** 2).sum())
    assert found["accuracy"].value == 0.75
    assert first_rule(rules, values).tolist() == [1, 1, 0, 0]


def test_implied_conditions_are_left_out_of_the_words():
    columns = (Column("x", "number"), Column("c", "category", "red"), Column("c", "category", "blue"))
    conditions = (Condition(0, 5.0, False), Condition(0, 3.0, False), Condition(1, 0.5, False), Condition(2, 0.5, True))
    assert in_words([Rule(conditions, 1.0, 0.0, 7)], columns, "value", 10, ordered=False) == (
        "if x ≤ 3 and c is blue: value is 1 (70 % of the rows)",
    )


def test_wilsons_interval():
    assert wilson(8, 10).to_json() == pytest.approx({"value": 0.8, "low": 0.4902, "high": 0.9433}, abs=1e-4)  # Brown, Cai, DasGupta 2001
    assert wilson(10, 10).low < 1 and wilson(10, 10).high == pytest.approx(1.0)


@BOTH
def test_no_rule_speaks_of_a_handful(explainer):
    data = make_table(60)
    found = tell(explainer, lambda d: np.where(d.to_numpy("x0") == d.to_numpy("x0").max(), 1.0, 0.1), data)
    assert found.details["least_rows"] >= 5 and all(int(rule.split("(")[-1].split(" %")[0]) >= 11 for rule in found.rules)


@BOTH
def test_seeds_options_and_bad_input(explainer):
    data = make_table(200)
    first, again, other = (tell(explainer, lambda d: 1 / (1 + np.exp(-d.to_numpy("x0"))), data, seed=seed) for seed in (1, 1, 2))
    assert first.rules == again.rules and first.fidelity == again.fidelity and first.fidelity != other.fidelity
    with pytest.raises(UsageError, match="whole number from 1 to 20"):
        tell(explainer, planted, data, **{next(iter(explainer.own)): 0})
    with pytest.raises(UsageError, match="takes no option 'budget'"):
        tell(explainer, planted, data, budget=100)
    with pytest.raises(InvalidInput, match="given 19 rows"):
        tell(explainer, planted, data.head(19))
    with pytest.raises(InvalidInput, match="not finite"):
        tell(explainer, lambda d: np.full(len(d), np.nan), data)
