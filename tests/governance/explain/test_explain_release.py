"""What leaves of an explanation in each release mode, and what follows from it although it was withheld."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.governance.explain.explain_models import make_table

import affidavit as af
from affidavit.errors import PluginError, Refused
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.schema import Schema
from affidavit.policy import ExplainPolicy
from affidavit_governance.explain.methods.linear import Linear
from affidavit_governance.explain.release.leaving import answer_spread
from affidavit_governance.explain.release.masked import check_masked
from affidavit_governance.explain.release.modes import released, strongest
from affidavit_governance.explain.release.recoverable import bounds_given_sum, recoverable

SECRET = 0.123456789012345
MODES = ("top-k", "quantised", "reason-codes")


def made(values, *, errors=None, base=0.5, **details):
    values = np.asarray(values, dtype=float)
    bases = np.broadcast_to(np.asarray(base, dtype=float), (len(values),)).copy()
    return Explanation(
        method="exact",
        output="value",
        players=tuple(f"f{i}" for i in range(values.shape[1])),
        values=values,
        base=bases,
        predicted=bases + values.sum(axis=1),
        inputs=[[f"cell {i}" for i in range(values.shape[1])] for _ in values],
        errors=None if errors is None else np.asarray(errors, dtype=float),
        interactions=np.full((len(values), values.shape[1], values.shape[1]), SECRET),
        details={"exact": errors is None, "additive": True, "background": "b" * 64, "data": "d" * 64, "model_rows": 9, "reason": "asked", **details},
    )


def leave(explanation, mode, *, scale=1.0, **policy):
    return released(explanation, ExplainPolicy(release=mode, **policy), lambda: scale)


def told(explanation):
    """Everything that can be read from an explanation, as one text."""
    shown = io.StringIO()
    with np.printoptions(precision=17, threshold=10**6, floatmode="maxprec"):
        print(repr(explanation), json.dumps(explanation.to_json()), explanation.inputs, explanation.summary(), dict(explanation.details), file=shown)
    return shown.getvalue()


def test_full_says_that_all_was_released():
    out = leave(made([[1.0, 2.0]]), "full")
    assert out.details["release"] == {"mode": "full"} and out.inputs == [["cell 0", "cell 1"]]


def test_top_k_keeps_the_largest_of_each_row():
    out = leave(made([[1.0, -5.0, 3.0, 0.5], [9.0, 1.0, 2.0, -3.0]], errors=np.full((2, 4), 0.1)), "top-k", top_k=2)
    np.testing.assert_array_equal(out.values, [[np.nan, -5, 3, np.nan], [9, np.nan, np.nan, -3]])
    np.testing.assert_array_equal(np.isnan(out.errors), np.isnan(out.values))
    assert out.details["release"] == {"mode": "top-k", "k": 2, "withheld": [2, 2], "recoverable": [0, 0]}


def test_one_withheld_attribution_is_reported_as_recoverable_and_can_be_recovered():
    whole = made([[1.0, -5.0, 3.0], [0.25, 4.0, -2.0]])
    out = leave(whole, "top-k", top_k=2)
    assert out.details["release"]["withheld"] == [1, 1]
    assert out.details["release"]["recoverable"] == [1, 1], "base + sum = prediction gives it back"
    recovered = out.predicted - out.base - np.nansum(out.values, axis=1)
    np.testing.assert_allclose(recovered, whole.values[np.isnan(out.values)], atol=1e-12)


def test_withheld_attributions_of_a_row_with_few_others_are_known_to_be_zero():
    out = leave(made([[2.0, 0.0, 0.0, 0.0, 0.0]]), "top-k", top_k=2)
    assert out.details["release"]["recoverable"] == [3], "none is larger than the released zero"


def test_the_bounds_of_an_order_and_the_sum_can_pin_withheld_ones_together():
    out = leave(made([[3.0, 2.0, 2.0, 2.0]]), "top-k", top_k=2)
    assert out.details["release"]["recoverable"] == [2], "two that are at most 2 and add up to 4"
    assert leave(made([[-3.0, -2.0, -2.0, -2.0]]), "top-k", top_k=2).details["release"]["recoverable"] == [2]


def test_quantised_gives_steps_and_bounds_that_hold_the_attribution():
    generator = np.random.default_rng(0)
    whole = made(generator.normal(size=(50, 6)) * 0.4)
    out = leave(whole, "quantised", levels=3, scale=1.2)
    step = out.details["release"]["step"]
    assert step == pytest.approx(0.4) and set(np.unique(np.rint(out.values / step))) <= set(range(-3, 4))
    inside = abs(out.values) < 1.2 - 1e-9
    assert (abs(out.values - whole.values)[inside] <= out.errors[inside] + 1e-12).all()
    assert np.isnan(out.errors[~inside]).all(), "the last step means: this or more"
    assert (abs(whole.values[~inside]) >= 1.2 - step / 2 - 1e-12).all()
    assert out.details["release"]["recoverable"] == [0] * 50


def test_quantised_errors_are_whole_steps_and_hold_the_interval():
    whole = made([[0.12, -0.4]], errors=[[0.24, 0.26]])
    out = leave(whole, "quantised", levels=4, scale=1.0)
    np.testing.assert_allclose(out.errors / 0.25, np.rint(out.errors / 0.25))
    assert (abs(out.values - whole.values) + whole.errors <= out.errors + 1e-12).all()


def test_quantised_rows_do_not_set_their_own_scale():
    """A scale from the row's own largest attribution would give that one back exactly."""
    first, second = (leave(made([[value, 0.1]]), "quantised", levels=4, scale=1.0) for value in (0.73, 0.76))
    assert first.values[0, 0] == second.values[0, 0] == 0.75


def test_a_single_player_is_recoverable_in_every_mode():
    for mode in ("quantised", "reason-codes"):
        assert leave(made([[0.7]]), mode).details["release"]["recoverable"] == [1]


def test_reason_codes_hold_no_number_of_the_row_but_its_prediction():
    whole = made([[1.0, -5.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    out = leave(whole, "reason-codes", top_k=2)
    assert np.isnan(out.values).all() and np.isnan(out.base).all() and out.errors is None
    np.testing.assert_array_equal(out.predicted, whole.predicted)
    first, second = out.details["release"]["order"]
    assert first == [{"player": "f1", "sign": "-", "rank": 1}, {"player": "f2", "sign": "+", "rank": 2}] and second == []
    assert out.details["release"]["recoverable"] == [0, 4], "an empty list says that all are zero"


def test_reasons_that_intervals_cannot_tell_apart_share_a_rank_and_one_over_zero_has_no_sign():
    found = strongest(("a", "b", "c"), np.array([2.0, -2.0, 1.0]), np.array([0.1, 0.1, 1.5]), 3)
    assert [(each["player"], each["sign"], each["rank"]) for each in found] == [("a", "+", 1), ("b", "-", 1), ("c", "?", 1)]
    apart = strongest(("a", "b", "c"), np.array([2.0, -1.9, 1.0]), np.array([0.1, 0.1, 0.1]), 3)
    assert [each["rank"] for each in apart] == [1, 1, 3]
    estimated = made([[2.0, 1.9, 0.0]], errors=[[0.1, 0.1, 0.0]])
    assert leave(estimated, "reason-codes").details["release"]["recoverable"] == [1], "like sizes are not the same size"


def test_reasons_of_one_size_are_recoverable_from_their_sum():
    assert leave(made([[2.0, 2.0, 0.0]]), "reason-codes", top_k=3).details["release"]["recoverable"] == [3]
    assert leave(made([[2.0, 1.0, 0.0]]), "reason-codes", top_k=3).details["release"]["recoverable"] == [1], "the zero that is not listed"


@pytest.mark.parametrize("mode", MODES)
def test_no_member_leaks_what_the_mode_withholds(mode):
    generator = np.random.default_rng(1)
    values = generator.normal(size=(3, 6))
    values[:, 0] = SECRET
    whole = made(
        values,
        errors=np.tile([SECRET / 7, 0.01, 0.01, 0.01, 0.01, 0.01], (3, 1)),
        stability={"k": 5, "probability": [SECRET] * 3, "ties": [["f0"]] * 3},
        local_r2=[SECRET] * 3,
        coefficients=[[SECRET] * 6] * 3,
        rows_spent=[512, 1024, 2048],
    )
    out = leave(whole, mode, top_k=2)
    text = told(out)
    held = [values[row, place] for row in range(3) for place in range(6) if np.isnan(out.values[row, place]) or mode != "top-k"]
    for number in [*held, SECRET, SECRET / 7]:
        assert repr(float(number))[:12].lstrip("-") not in text
    assert "cell" not in text and "d" * 64 not in text and "stability" not in text and "2048" not in text
    assert out.interactions is None and not {"local_r2", "coefficients", "rows_spent", "data"} & set(out.details)
    for array in (out.values, out.errors, out.base, out.residuals):
        assert array is None or array.base is None or not np.shares_memory(array, whole.values), "a view would carry the whole along"
        assert array is None or not np.shares_memory(array, whole.base)


@pytest.mark.parametrize("mode", MODES)
def test_residuals_are_what_was_measured_before_and_have_one_digit(mode):
    whole = made([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    off = replace(whole, predicted=whole.predicted + np.array([0.00123456, 0.0]))
    out = leave(off, mode, top_k=1)
    assert out.residual == pytest.approx([0.002, 0.0]) and Explanation.from_json(json.loads(json.dumps(out.to_json()))).residual[0] == out.residual[0]


def test_costs_stay_where_they_are_the_same_for_all_rows():
    assert leave(made([[1.0, 2.0]] * 2, rows_spent=[64, 64]), "top-k").details["rows_spent"] == [64, 64]


def test_a_base_of_the_rows_own_is_withheld():
    assert np.isnan(leave(made([[1.0, 2.0], [3.0, 1.0]], base=[0.1, 0.2]), "top-k").base).all()
    assert np.isnan(leave(made([[1.0, 2.0]], additive=False), "quantised").base).all()
    assert np.isnan(leave(made([[1.0, 2.0]], fill="blur"), "top-k").base).all()
    assert np.isfinite(leave(made([[1.0, 2.0]]), "top-k").base).all()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10**6))
def test_bounds_are_those_of_linear_programming(count, seed):
    linprog = pytest.importorskip("scipy.optimize", reason="the reference for the bounds").linprog
    generator = np.random.default_rng(seed)
    low = generator.normal(size=count)
    high = low + generator.choice([0.0, 0.5, 2.0, np.inf], size=count)
    low = np.where(generator.random(count) < 0.2, -np.inf, low)
    inside = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high - 1, 0.0))
    inside = np.where(np.isfinite(high), inside + 0.3 * (high - inside), inside)
    total = float(inside.sum())
    least, most = bounds_given_sum(low, high, total)
    for place in range(count):
        aim = np.eye(count)[place]
        box = [(None if not np.isfinite(a) else a, None if not np.isfinite(b) else b) for a, b in zip(low, high, strict=True)]
        for sign, found in ((1, least[place]), (-1, most[place])):
            answer = linprog(sign * aim, A_eq=np.ones((1, count)), b_eq=[total], bounds=box)
            due = sign * answer.fun if answer.status == 0 else -sign * np.inf
            assert found == pytest.approx(due, abs=1e-7)


def test_numbers_that_are_not_withheld_are_not_counted():
    low = high = np.array([1.0, 2.0])
    assert recoverable(low, high, np.array([False, False]), 3.0) == 0


def test_the_scale_of_steps_is_the_spread_of_the_background_and_never_zero(table, formula):
    background = table.take(range(40))
    answers = formula.predict(background).score("yes")
    assert answer_spread(formula, "probability of yes", background) == pytest.approx(answers.std())
    still = type(formula)(lambda data: np.full(len(data), 0.3), table)
    assert answer_spread(still, "probability of yes", background) == 1.0


# In a workspace


def opened(folder, **explain):
    return af.Workspace(folder / "ws", policy={"explain": explain}, actor="tester")


def trained(workspace, kind="tabular.logistic", rows=160):
    data = workspace.load(make_table(rows, numbers=4).table, target="y", name="toy")
    return workspace.train(kind, data), data


@pytest.mark.filterwarnings("ignore::affidavit.errors.UngovernedCallWarning")  # to see what is withheld
@pytest.mark.parametrize("mode", MODES)
def test_every_way_out_of_a_workspace_is_released(tmp_path, mode):
    with opened(tmp_path, release=mode, top_k=2, each_prediction=True) as workspace:
        model, data = trained(workspace)
        whole = Linear().explain(model, data.head(3), workspace.background(model))
        found = [workspace.explain(model, data.head(3)), workspace.predict(model, data.head(3)).explanations]
        said = json.dumps([e.predicate for e in workspace.ledger.entries("explain")])
        empty = workspace.predict(model, data.head(0)).explanations
    assert len(empty) == 0
    for out in found:
        assert out.details["release"]["mode"] == mode
        hidden = whole.values[np.isnan(out.values)] if mode == "top-k" else whole.values.ravel()
        assert hidden.size
        for number in hidden:
            assert repr(float(number))[:14].lstrip("-") not in told(out) + said + str(out.signed)
    assert found[0].signed is not None and '"mode": "' + mode in said.replace('"mode":"', '"mode": "')


def test_the_digest_of_released_rows_cannot_be_tested_against_guesses(tmp_path):
    with opened(tmp_path, release="top-k") as workspace:
        model, data = trained(workspace)
        row = data.take([3])
        first, again = workspace.explain(model, row), workspace.explain(model, row)
        plain = model.fitted.conform(row).fingerprint
        other = workspace.explain(model, data.take([4]))
    assert first.details["data"] == again.details["data"] != other.details["data"]
    assert plain not in told(first)


def test_descriptions_of_the_model_do_not_lead_around_a_release(tmp_path):
    with opened(tmp_path, release="reason-codes") as workspace:
        model, data = trained(workspace)
        with pytest.raises(Refused, match="over 2 rows") as caught:
            workspace.explain_model(model, data.head(2), method="shapley-importance")
        whole = workspace.explain_model(model, data.head(60), method="partial-dependence", ice=3)
    assert caught.value.line == "explain.release"
    assert whole.curves and "ice" not in json.dumps(whole.to_json()["curves"])
    with opened(tmp_path / "full") as workspace:
        model, data = trained(workspace)
        assert "ice" in json.dumps(workspace.explain_model(model, data.head(60), method="partial-dependence", ice=3).to_json()["curves"])


def test_asking_again_gives_the_same_answer_so_that_averaging_gains_nothing(tmp_path):
    with opened(tmp_path, release="top-k", top_k=2) as workspace:
        model, data = trained(workspace, "tabular.mlp")
        first, again = (workspace.explain(model, data.take([5]), method="permutation", budget=2000) for _ in range(2))
        among = workspace.explain(model, data.head(8), method="permutation", budget=2000)
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.values[0], among.values[5])


def test_a_reader_of_a_released_record_sees_no_more_than_its_owner(tmp_path):
    with opened(tmp_path, release="top-k", top_k=2) as workspace:
        model, data = trained(workspace)
        out = workspace.explain(model, data.head(3))
        out.save(tmp_path / "record.json")
        read = workspace.service("read_explanation")(tmp_path / "record.json", workspace.verifier_key)
    np.testing.assert_array_equal(read.values, out.values)
    assert read.details["release"] == out.details["release"] and read.details["release"]["withheld"] == [len(out.players) - 2] * 3


@pytest.mark.parametrize("mode", MODES)
def test_a_released_record_replays(tmp_path, mode):
    with opened(tmp_path, release=mode, top_k=2) as workspace:
        model, data = trained(workspace)
        record = workspace.explain(model, data.head(4), method="permutation", budget=2000)
        assert workspace.replay(record, data.head(4), model=model).bit_equal


class Boaster(Explainer):
    """A third party's explainer that states its own quality and release."""

    type = "test.boaster"

    def explain(self, model, data, background, **options):
        honest = Linear().explain(model, data, background)
        return replace(honest, details={**honest.details, **dict.fromkeys(("quality", "release", "reconstruction"), "splendid")})


def installed(workspace, monkeypatch, explainer):
    registry = workspace.registry
    sample = registry.entries[("explainer", "linear")]
    key = ("explainer", explainer.type)
    monkeypatch.setitem(registry._entries, key, type(sample)("explainer", explainer.type, "x:y", frozenset(), None, "test"))
    monkeypatch.setitem(registry._loaded, key, explainer)


def test_an_explainer_cannot_state_its_own_quality_or_release(tmp_path, monkeypatch):
    with opened(tmp_path) as workspace:
        model, data = trained(workspace)
        installed(workspace, monkeypatch, Boaster)
        out = workspace.explain(model, data.head(3), method="test.boaster")
    assert out.details["release"] == {"mode": "full"} and "splendid" not in json.dumps(out.to_json())


# Masked fields are one player


def masked_inputs():
    data = Dataset.from_arrow({"name": [1.0], "card": [2.0], "income": [3.0], "note": ["a b"]}, fields={"note": {"type": "text"}})
    fields = [replace(field, masked="pseudonym") if field.name in ("name", "card") else field for field in data.schema]
    return list(Schema(tuple(fields)))


def of(*players, **groups):
    explanation = made([[1.0] * len(players)], groups=groups)
    return replace(explanation, players=players)


def test_masked_fields_together_pass():
    check_masked(masked_inputs(), {}, of("masked fields", "income", "note [1]", "note [2]", **{"masked fields": ["name", "card"]}))
    check_masked(masked_inputs(), {"who": ["name", "income"]}, of("who", "note", who=["name", "card", "income"]))
    one = [field for field in masked_inputs() if field.name != "card"]
    check_masked(one, {}, of("name", "income", "note"))


@pytest.mark.parametrize(
    ("players", "words"),
    [
        (("name", "card", "income", "note"), "masked field 'name' apart"),
        (("masked fields", "card", "income", "note"), "masked field 'card' apart"),
        (("masked fields", "name [1]", "income", "note"), "masked field 'name' apart"),
        (("masked fields [1]", "income", "note"), "masked field 'masked fields' apart"),
        (("feature 0", "feature 1"), "no input of this model"),
        (("income", "note", "masked fields"), "does not say"),
    ],
)
def test_players_that_tell_masked_fields_apart_are_refused(players, words):
    groups = {} if "does not say" in words else {"masked fields": ["name", "card"]}
    with pytest.raises(PluginError, match=words):
        check_masked(masked_inputs(), {}, of(*players, **groups))


def people(rows=80):
    generator = np.random.default_rng(0)
    columns = {
        "email": [f"person{i}@example.com" for i in range(rows)],
        "phone": [f"+1 212 555 {i:04d}" for i in range(rows)],
        "income": generator.normal(size=rows),
    }
    return {**columns, "y": np.where(columns["income"] + generator.normal(size=rows) > 0, "good", "bad")}


@pytest.mark.parametrize("groups", [{}, {"who": ["email"]}, {"who": ["email"], "how": ["phone"]}, {"who": ["email", "income"]}])
def test_no_group_of_a_user_tells_masked_fields_apart(tmp_path, groups):
    policy = {"masking": {"fields": {"email": "pseudonym", "phone": "pseudonym"}}}
    with af.Workspace(tmp_path / "ws", policy=policy, actor="tester") as workspace:
        kinds = {name: {"role": "feature", "type": "categorical"} for name in ("email", "phone")}
        data = workspace.load(pa.table(people()), target="y", fields=kinds)
        model = workspace.train("tabular.logistic", data)
        out = workspace.explain(model, data.head(3), groups=groups)
    both = [name for name, fields in out.details["groups"].items() if {"email", "phone"} <= set(fields)]
    assert len(both) == 1 and not {"email", "phone"} & set(out.players)


def test_an_explainer_that_takes_no_groups_is_refused_for_masked_fields(tmp_path, monkeypatch):
    class Columns(Explainer):
        type = "test.columns"

        def explain(self, model, data, background, **options):
            whole = Linear().explain(model, data, background)
            names = tuple(model.fitted.inputs.names)
            values = np.zeros((len(data), len(names)))
            values[:, 0] = whole.values.sum(axis=1)
            return replace(whole, players=names, values=values, inputs=[[None] * len(names)] * len(data))

    policy = {"masking": {"fields": {"email": "pseudonym", "phone": "pseudonym"}}}
    with af.Workspace(tmp_path / "ws", policy=policy, actor="tester") as workspace:
        kinds = {name: {"role": "feature", "type": "categorical"} for name in ("email", "phone")}
        data = workspace.load(pa.table(people()), target="y", fields=kinds)
        model = workspace.train("tabular.logistic", data)
        installed(workspace, monkeypatch, Columns)
        with pytest.raises(PluginError, match="apart from the other masked fields"):
            workspace.explain(model, data.head(3), method="test.columns")
