"""Reason codes: only rejected rows, only players that certainly pushed, in an order that says what it does not know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
from tests.governance.explain.explain_models import Formula

import affidavit as af
from affidavit import Dataset, Explanation, Task
from affidavit.errors import InvalidInput, Refused, UsageError
from affidavit.policy import ExplainPolicy, Policy, ReasonPolicy, parse_model
from affidavit_governance.explain.methods.linear import Linear
from affidavit_governance.explain.methods.sampled import Exact, Permutation
from affidavit_governance.explain.release.modes import released
from affidavit_governance.explain.release.reasons import reason_codes

CREDIT = Path(__file__).parents[3] / "examples/credit/german_credit.csv"


def policy(**reasons):
    return parse_model(ReasonPolicy, reasons, whose="test")


def explanation(values, errors=None, *, output="probability of good", base=0.0, inputs=True, players=None, **details):
    """One or more rows of attributions of P(good), every one of them rejected unless the sum says otherwise."""
    values = np.atleast_2d(np.asarray(values, dtype=float))
    players = players or tuple("abcdefgh"[: values.shape[1]])
    settled = {
        "background": "f" * 64,
        "background_rows": 100,
        "classes": ["bad", "good"],
        "decision": "argmax",
        "masked": [],
        "groups": {},
        "exact": errors is None,
        "additive": True,
    }
    errors = None if errors is None else np.atleast_2d(np.asarray(errors, dtype=float))
    filled = [[10 * row + place for place in range(len(players))] for row in range(len(values))] if inputs else []
    predicted = base + values.sum(axis=1)
    return Explanation("exact", output, players, values, np.full(len(values), base), predicted, filled, errors, details={**settled, **details})


def listed(row):
    return [(reason.feature, reason.rank, reason.tied) for reason in row.reasons]


# -- which rows, which players, which order -------------------------------------------------------------------------------------------------


def test_only_rejected_rows_get_reasons_and_only_players_that_pushed_that_way():
    found = reason_codes(explanation([[-0.3, 0.1, -0.1, 0.0], [0.2, 0.2, -0.1, 0.0]], base=0.5))
    assert [row.adverse for row in found] == [True, False] and found.adverse == "bad"
    assert listed(found[0]) == [("a", 1, False), ("c", 2, False)]
    assert found[1].reasons == () == found[1].notes


def test_the_sign_follows_the_class_that_was_explained():
    of_bad = explanation([[0.3, -0.1, 0.1, 0.0]], output="probability of bad", base=0.4)
    assert listed(reason_codes(of_bad)[0]) == [("a", 1, False), ("c", 2, False)]
    logit = explanation([[-3.0, 1.0]], output="log-odds of good")
    assert listed(reason_codes(logit)[0]) == [("a", 1, False)]
    turned = reason_codes(explanation([[0.3, -0.1]], base=0.5), policy(adverse="good"))
    assert turned[0].adverse and listed(turned[0]) == [("a", 1, False)]


def test_numbers_are_adverse_below_the_policys_line():
    values = explanation([[-3.0, 1.0], [-1.0, 4.0]], output="value", base=5.0, classes=[])
    found = reason_codes(values, policy(below=4.5))
    assert [row.adverse for row in found] == [True, False] and listed(found[0]) == [("a", 1, False)] and found.adverse == "below 4.5"
    with pytest.raises(UsageError, match="below"):
        reason_codes(values)


def test_at_most_four_reasons_strongest_first():
    values = -np.array([[0.05, 0.2, 0.1, 0.4, 0.3, 0.15]])
    found = reason_codes(explanation(values))
    assert [reason.feature for reason in found[0].reasons] == ["d", "e", "b", "f"] and [reason.rank for reason in found[0].reasons] == [1, 2, 3, 4]
    assert [reason.feature for reason in reason_codes(explanation(values), policy(at_most=2))[0].reasons] == ["d", "e"]
    with pytest.raises(InvalidInput, match="at_most"):
        policy(at_most=5)


def test_an_attribution_whose_interval_holds_zero_is_no_reason():
    found = reason_codes(explanation([[-0.3, -0.1, -0.1]], [[0.1, 0.1, 0.09]]))
    assert [reason.feature for reason in found[0].reasons] == ["a", "c"]


def test_players_that_cannot_be_told_apart_are_tied_and_said_so():
    found = reason_codes(explanation([[-0.30, -0.26, -0.10, -0.05]], [[0.03, 0.03, 0.01, 0.01]]))
    assert listed(found[0]) == [("a", 1, True), ("b", 1, True), ("c", 3, False), ("d", 4, False)]
    assert any("cannot be told apart" in note for note in found[0].notes)
    exact = reason_codes(explanation([[-0.25, -0.25, -0.1]]))
    assert listed(exact[0]) == [("a", 1, True), ("b", 1, True), ("c", 3, False)]


def test_what_ties_with_the_last_reason_and_has_no_room_is_named():
    found = reason_codes(explanation([[-0.5, -0.4, -0.3, -0.20, -0.19, -0.02]], [[0.01] * 6]))
    assert [reason.feature for reason in found[0].reasons] == ["a", "b", "c", "d"] and found[0].left_out == ("e",)
    assert found[0].reasons[3].tied and any("Further factors weigh as much" in note and note.rstrip(".").endswith("e") for note in found[0].notes)


def test_a_rejection_without_any_certain_reason_says_so():
    found = reason_codes(explanation([[-0.05, -0.04]], [[0.2, 0.2]]))
    assert found[0].adverse and found[0].reasons == () and "No single factor" in found[0].notes[0]
    noise = explanation([[-1e-13, 0.2, -0.5]])
    assert [reason.feature for reason in reason_codes(noise)[0].reasons] == ["c"], "what arithmetic alone may make is no reason"


def test_an_attribution_within_the_additivity_residual_is_no_reason():
    loose = replace(explanation([[-0.3, -0.001]]), predicted=np.array([-0.311]))
    assert [reason.feature for reason in reason_codes(loose)[0].reasons] == ["a"]


# -- who decided ----------------------------------------------------------------------------------------------------------------------------


def test_the_decision_is_the_models_and_never_guessed():
    close = explanation([[-0.1, 0.05]], base=0.65)
    assert not reason_codes(close)[0].adverse
    assert reason_codes(close, decisions=["bad"])[0].adverse, "a model may ask for more than one half"
    with pytest.raises(UsageError, match=r"decisions=model\.predict"):
        reason_codes(replace(close, details={**close.details, "decision": "own rule"}))
    outside = {name: value for name, value in close.details.items() if name != "decision"}
    with pytest.raises(UsageError, match="how each row was decided"):
        reason_codes(replace(close, details=outside))
    with pytest.raises(UsageError, match="2 decisions for 1"):
        reason_codes(close, decisions=["bad", "bad"])
    with pytest.raises(UsageError, match="none of the model's classes"):
        reason_codes(close, decisions=["awful"])


def test_an_even_chance_goes_to_the_first_class_as_argmax_gives_it():
    assert reason_codes(explanation([[-0.1, 0.1]], base=0.5))[0].adverse
    assert not reason_codes(explanation([[-0.1, 0.1]], base=0.5), policy(adverse="good"))[0].adverse


def test_one_of_several_classes_must_be_the_one_explained():
    several = explanation([[-0.1, 0.3]], base=0.2, output="probability of refer", classes=["bad", "good", "refer"])
    with pytest.raises(UsageError, match="label='bad'"):
        reason_codes(several, decisions=["bad"])
    assert listed(reason_codes(several, policy(adverse="refer"), decisions=["refer"])[0]) == [("b", 1, False)]
    with pytest.raises(UsageError, match="how each row was decided"):
        reason_codes(several, policy(adverse="refer"))
    with pytest.raises(UsageError, match=r"no class 'badd'.*'bad'"):
        reason_codes(several, policy(adverse="badd"), decisions=["bad"])


def test_estimates_without_intervals_and_without_reference_give_no_reasons():
    with pytest.raises(InvalidInput, match="without intervals"):
        reason_codes(explanation([[-0.3, 0.1]], exact=False))
    with pytest.raises(InvalidInput, match="which reference rows"):
        reason_codes(explanation([[-0.3, 0.1]], background=None))
    with pytest.raises(InvalidInput, match="between which classes"):
        reason_codes(explanation([[-0.3, 0.1]], classes=None))


# -- words ----------------------------------------------------------------------------------------------------------------------------------


def test_the_reference_point_is_stated_in_both_languages():
    english, chinese = (reason_codes(explanation([[-0.3, -0.25]], [[0.1, 0.1]]), policy(language=language)) for language in ("en", "zh"))
    assert english.reference == "Compared with 100 reference applicants (data ffffffffffff)."
    assert "100" in chinese.reference and "参照申请人" in chinese.reference
    assert english[0].reasons[0].text == "Your a counted against you, compared with the reference applicants."
    assert chinese[0].reasons[0].text == "与参照申请人相比，您的“a”一项对结果不利。" and "名次相同" in chinese[0].notes[0]
    assert [reason.code for reason in english[0].reasons] == [reason.code for reason in chinese[0].reasons] == ["A", "B"]


def test_the_users_own_wording_shows_value_and_reference():
    background = Dataset.from_arrow({"income": [10, 20, 30, 40], "purpose": ["car", "car", "tv", None]})
    wording = {
        "income": {"en": "Income of {value} (typical: {reference})"},
        "purpose": {"en": "{feature}: {value} instead of {reference}", "zh": "用途"},
    }
    given = explanation([[-0.3, -0.2]], players=("income", "purpose"), background=background.fingerprint, background_rows=4)
    given = replace(given, inputs=[[12.5, None]])
    found = reason_codes(given, policy(wording=wording), background=background)
    assert [reason.text for reason in found[0].reasons] == ["Income of 12.5 (typical: 20)", "purpose: no entry instead of car"]
    assert "12.5" not in str(found.to_json()), "the record holds no value"
    chinese = reason_codes(given, policy(wording=wording, language="zh"))
    assert chinese[0].reasons[1].text == "用途" and "income" in chinese[0].reasons[0].text
    with pytest.raises(UsageError, match="Pass background="):
        reason_codes(given, policy(wording=wording))
    with pytest.raises(UsageError, match="not the reference rows"):
        reason_codes(given, policy(wording=wording), background=background.head(3))
    with pytest.raises(UsageError, match="not part of this explanation"):
        reason_codes(Explanation.from_json(given.to_json()), policy(wording={"income": {"en": "Income of {value}"}}))


@pytest.mark.parametrize(
    ("details", "player"),
    [({"masked": ["a"]}, "a"), ({"masked": None}, "a"), ({"groups": {"a": ["x", "y"]}}, "a"), ({"players": ("masked fields", "b")}, "masked fields")],
)
@pytest.mark.parametrize("place", ["{value}", "{reference}"])
def test_a_wording_that_shows_what_a_mask_hides_is_refused(details, player, place):
    with pytest.raises(Refused) as refusal:
        reason_codes(explanation([[0.3, -0.6]], **details), policy(wording={player: {"en": f"Your entry: {place}"}}))
    assert refusal.value.line == f"explain.reasons.wording.{player}.en", "whether or not a row has that reason"


@pytest.mark.parametrize("text", ["{value.__class__}", "{0}", "{}", "{value!r}", "{value:>9}", "{vale}", "{value", "{value[0]}"])
def test_a_wording_is_a_plain_template(text):
    with pytest.raises(Refused, match="wording for 'a'"):
        reason_codes(explanation([[-0.3, 0.1]]), policy(wording={"a": {"en": text}}))


def test_a_value_with_braces_is_text_like_any_other():
    given = replace(explanation([[-0.3, 0.1]]), inputs=[["{reference}{x}", 1]])
    assert reason_codes(given, policy(wording={"a": {"en": "{value}"}}))[0].reasons[0].text == "{reference}{x}"


def test_codes_are_stable_and_differ():
    given = explanation([[-0.3, -0.2, -0.1]], players=("credit amount", "credit_amount", "收入"))
    assert [reason.code for reason in reason_codes(given)[0].reasons] == ["CREDIT_AMOUNT", "CREDIT_AMOUNT_2", "收入"]


# -- what leaves under another release ------------------------------------------------------------------------------------------------------


def mode(name, given, **keys):
    settings = parse_model(ExplainPolicy, {"release": name, **keys}, whose="test")
    return released(given, settings, lambda: 1.0)


def test_reasons_come_from_what_a_release_lets_out():
    given = explanation([[-0.3, 0.2, -0.1, -0.05, -0.04]], base=0.7)
    top = reason_codes(mode("top-k", given, top_k=3))
    assert listed(top[0]) == [("a", 1, False), ("c", 2, False)] and any("may be released" in note for note in top[0].notes)
    order = reason_codes(mode("reason-codes", given, top_k=3))
    assert listed(order[0]) == listed(top[0]) and any("may be released" in note for note in order[0].notes)
    steps = reason_codes(mode("quantised", given, levels=10))
    assert listed(steps[0]) == [("a", 1, False), ("c", 2, False)], "steps of a tenth: what is within one is none"
    coarse = reason_codes(mode("quantised", explanation([[-0.32, -0.28, 0.1]], base=0.6), levels=10))
    assert listed(coarse[0]) == [("a", 1, True), ("b", 1, True)]
    with pytest.raises(UsageError, match="not part of this explanation"):
        reason_codes(mode("top-k", given), policy(wording={"a": {"en": "{value}"}}))


def test_no_reason_released_is_not_no_reason():
    hidden = reason_codes(mode("top-k", explanation([[0.5, 0.4, -0.3, -0.3, -0.35]], base=0.2), top_k=2))
    assert hidden[0].adverse and not hidden[0].reasons and "may be released" in hidden[0].notes[0]
    beyond = reason_codes(mode("quantised", explanation([[-3.0, -0.3]], [[0.1, 0.1]]), levels=4))
    assert not beyond[0].reasons and "margins of error" in beyond[0].notes[0], "the strongest must not be skipped in silence"
    exact = reason_codes(mode("quantised", explanation([[-3.0, -0.5]]), levels=4))
    assert [reason.feature for reason in exact[0].reasons] == ["a", "b"]


def test_ties_and_open_signs_of_an_order_without_numbers():
    given = explanation([[-0.3, -0.3, 0.3, -0.1]], [[0.01, 0.01, 0.01, 0.2]], base=0.5)
    order = reason_codes(mode("reason-codes", given, top_k=4))
    assert listed(order[0]) == [("a", 1, True), ("b", 1, True)]


# -- real explanations ----------------------------------------------------------------------------------------------------------------------


def test_reasons_of_real_methods_are_those_of_the_brute_order(table):
    """A linear probability: what each player takes away from the mean is known."""

    def rule(data):
        return np.clip(0.5 + 0.1 * data.to_numpy("x0") - 0.08 * data.to_numpy("x1") + 0.1 * data.to_numpy("flag"), 0.01, 0.99)

    model, rows = Formula(rule, table), table.head(30)
    shift = {"x0": 0.1, "x1": -0.08, "flag": 0.1}
    push = {name: -weight * (rows.to_numpy(name) - table.to_numpy(name)[:100].mean()) for name, weight in shift.items()}
    for explained in (Exact().explain(model, rows, table.head(100)), Permutation().explain(model, rows, table.head(100), budget=4000)):
        found = reason_codes(explained, decisions=model.predict(rows).values)
        assert sum(row.adverse for row in found) >= 5
        for row in np.flatnonzero([row.adverse for row in found]):
            names = [reason.feature for reason in found[row].reasons]
            assert "colour" not in names and all(push[name][row] > 0 for name in names)
            clear = sorted((name for name in push if push[name][row] > 1e-6), key=lambda name: -push[name][row])
            if not any(reason.tied for reason in found[row].reasons) and explained.exact:
                assert names == clear


def test_regression_reasons_come_from_the_lines_below(table):
    model = Formula(lambda data: data.to_numpy("x0") - 2 * data.to_numpy("x1"), table, task=Task.REGRESSION)
    found = reason_codes(Exact().explain(model, table.head(20), table), policy(below=-1.0))
    assert [row.adverse for row in found] == list(model.predict(table.head(20)).values < -1)
    assert {reason.feature for row in found for reason in row.reasons} <= {"x0", "x1"}


def test_a_workspace_gives_reasons_without_asking_the_model_again(tmp_path):
    settings = {
        "masking": {"detect": False, "fields": {"age": {"generalise": {"width": 5}}}},
        "explain": {"reasons": {"wording": {"duration_months": {"en": "A term of {value} months (typical: {reference})"}}}},
        "fairness": {"protected": ["personal_status_sex"]},
    }
    people = {name: {"role": "identifier"} for name in ("full_name", "email", "phone", "iban", "national_id")}
    with af.Workspace(tmp_path / "ws", policy=settings, actor="tester") as workspace:
        data = workspace.load(pyarrow.csv.read_csv(CREDIT), target="credit_risk", name="credit", fields=people)
        train, test = data.split(test=0.25, stratify=True, seed=7)
        model = workspace.train("tabular.logistic", train)
        rows = test.head(60)
        explained = workspace.explain(model, rows)
        background = workspace.background(model)
        found = explained.reasons(workspace.policy.explain.reasons, background=background)
        decided = workspace.predict(model, rows).values
        tells = parse_model(Policy, {"explain": {"reasons": {"wording": {"age": {"en": "Your age: {value}"}}}}}, whose="test")
        with pytest.raises(Refused, match="'age'.*masked"):
            explained.reasons(tells.explain.reasons)
    assert [row.adverse for row in found] == [value == "bad" for value in decided] and 5 < sum(row.adverse for row in found) < 50
    texts = [reason.text for row in found for reason in row.reasons]
    typical = int(np.quantile(background.to_numpy("duration_months"), 0.5, method="inverted_cdf"))
    assert any(text.endswith(f"months (typical: {typical})") for text in texts) and found.reference.startswith("Compared with 100 reference")
    assert all(len(row.reasons) <= 4 and "personal_status_sex" not in [reason.feature for reason in row.reasons] for row in found)
    for place in np.flatnonzero(np.array(decided) == "bad"):
        values = explained.values[place]
        assert [reason.feature for reason in found[place].reasons] == [explained.players[i] for i in np.argsort(values)[:4] if values[i] < 0]


def test_the_linear_method_gives_reasons_outside_a_workspace_when_told_the_decisions(table):
    from affidavit_plugins.tabular.linear import Logistic

    model = Logistic().fit(table)
    explained = Linear().explain(model, table.head(10), table)
    found = explained.reasons(decisions=model.predict(table.head(10)).values)
    assert len(found) == 10 and found.adverse == "no"
