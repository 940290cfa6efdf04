"""The reconstruction audit: what is known to be recoverable is found, and what tells nothing is not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import affidavit as af
from affidavit.errors import Refused
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Explanation
from affidavit.policy import ExplainPolicy
from affidavit_governance.explain.release.attackers import mean, nearest, ridge
from affidavit_governance.explain.release.audit import LEAST_ROWS, reconstruction
from affidavit_governance.explain.release.modes import released

WEIGHTS = np.array([1.0, -0.7, 0.4, 0.2, 1.3, -0.9, 0.6, 0.5])


def people(rows=300, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, len(WEIGHTS)))


def table_of(inputs):
    return Dataset.from_arrow({f"x{i}": inputs[:, i] for i in range(inputs.shape[1])})


def made(values, mode="full", *, scale=3.0, **policy):
    whole = Explanation(
        method="linear",
        output="value",
        players=tuple(f"x{i}" for i in range(values.shape[1])),
        values=values,
        base=np.zeros(len(values)),
        predicted=values.sum(axis=1),
        details={"additive": True},
    )
    return released(whole, ExplainPolicy(release=mode, **policy), lambda: scale)


def worst(audit):
    return audit.fields[audit.worst].share.value


def test_a_linear_model_gives_its_inputs_back_exactly():
    inputs = people()
    audit = reconstruction(made((inputs - inputs.mean(axis=0)) * WEIGHTS), table_of(inputs))
    assert set(audit.fields) == {f"x{i}" for i in range(8)} and audit.rows == 300
    for guess in audit.fields.values():
        assert guess.share.value > 1 - 1e-9 and guess.attacker == "ridge"
        assert guess.prediction.value < 0.6 and guess.gain.low > 0.3
        assert guess.gain.value == pytest.approx(guess.share.value - guess.prediction.value)


def test_less_is_given_back_the_less_is_released():
    inputs = people()
    values = (inputs - inputs.mean(axis=0)) * WEIGHTS
    audits = {
        "full": reconstruction(made(values), table_of(inputs)),
        "quantised": reconstruction(made(values, "quantised", levels=3), table_of(inputs)),
        "top-k": reconstruction(made(values, "top-k", top_k=2), table_of(inputs)),
        "reason-codes": reconstruction(made(values, "reason-codes", top_k=2), table_of(inputs)),
    }
    share = {mode: np.mean([guess.share.value for guess in audit.fields.values()]) for mode, audit in audits.items()}
    assert share["full"] > 0.999 > share["quantised"] > share["top-k"] > share["reason-codes"] > 0.1
    low = {mode: np.mean([guess.gain.low for guess in audit.fields.values()]) for mode, audit in audits.items()}
    assert low["reason-codes"] > 0, "even an order of reasons tells something of the inputs, and the audit says so"


def test_coarser_steps_give_back_less():
    inputs = people()
    values = (inputs - inputs.mean(axis=0)) * WEIGHTS
    fine, coarse = (reconstruction(made(values, "quantised", levels=levels), table_of(inputs)) for levels in (20, 1))
    assert worst(fine) > 0.98 and np.mean([g.share.value for g in coarse.fields.values()]) < 0.5


def test_explanations_that_do_not_depend_on_the_inputs_give_nothing_back():
    inputs, others = people(seed=0), people(seed=1)
    audit = reconstruction(made(others * WEIGHTS), table_of(inputs))
    for guess in audit.fields.values():
        assert abs(guess.share.value) < 0.08 and guess.gain.low < 0.02


def test_what_the_prediction_alone_gives_is_no_gain_of_the_explanation():
    inputs = people()[:, :1]
    audit = reconstruction(made(inputs * 2.0), table_of(inputs))
    assert audit.fields["x0"].share.value > 0.999 and audit.fields["x0"].prediction.value > 0.999
    assert abs(audit.fields["x0"].gain.value) < 1e-6


def test_steps_of_a_tree_are_found_by_neighbours():
    inputs = people()
    values = np.floor(inputs * 2) * np.where(np.floor(inputs * 2) % 2 == 0, 1, -1)  # a step function that no line follows
    audit = reconstruction(made(values), table_of(inputs))
    assert np.median([guess.share.value for guess in audit.fields.values()]) > 0.85, "all but the steps that a training fold has not seen"
    assert all("nearest" in guess.attacker for guess in audit.fields.values())


def test_categories_booleans_dates_and_gaps():
    generator = np.random.default_rng(0)
    rows = 240
    colour = generator.integers(0, 3, rows)
    day = generator.integers(0, 1000, rows)
    number = generator.normal(size=rows)
    data = Dataset.from_arrow(
        pa.table(
            {
                "colour": pa.array([["red", None, "blue"][c] for c in colour]),
                "flag": generator.random(rows) < 0.5,
                "day": pa.array(np.datetime64("2020-01-01") + day),
                "number": pa.array(np.where(np.arange(rows) % 3 == 0, np.nan, number), from_pandas=True),
                "same": np.full(rows, 7.0),
                "often": pa.array([f"person {i}" for i in range(rows)]),
            }
        ),
        fields={"colour": {"type": "categorical"}, "often": {"type": "categorical"}},
    )
    values = np.stack([np.array([0.5, -1.0, 0.2])[colour], np.zeros(rows), day / 100.0, number, np.zeros(rows), np.zeros(rows)], axis=1)
    explanation = replace(made(values), players=("colour", "flag", "day", "number", "same", "often"))
    audit = reconstruction(explanation, data)
    assert audit.fields["colour"].kind == "category" and audit.fields["colour"].share.value == 1.0
    assert abs(audit.fields["flag"].share.value) < 0.25
    assert audit.fields["day"].kind == "number" and audit.fields["day"].share.value > 0.999
    assert audit.fields["number"].share.value > 0.999
    assert "same value" in audit.missing["same"] and "240 different values" in audit.missing["often"]


def test_members_of_a_group_and_words_are_told_by_their_players():
    inputs = people()[:, :2]
    explanation = made(inputs @ np.array([[1.0], [1.0]]))
    together = replace(explanation, players=("both",), details={**explanation.details, "groups": {"both": ["x0", "x1"]}})
    audit = reconstruction(together, table_of(inputs))
    assert all(0.3 < guess.share.value < 0.7 for guess in audit.fields.values()), "the sum of two gives half of each"
    texts = Dataset.from_arrow({"note": ["a b"] * 60, "x0": people(60)[:, 0]}, fields={"note": {"type": "text"}})
    spoken = replace(made(people(60)[:, :3]), players=("note [1]", "note [2]", "x0"))
    assert "no single number" in reconstruction(spoken, texts).missing["note"]


def test_too_few_rows_are_not_measured_and_never_zero():
    inputs = people(LEAST_ROWS - 1)
    audit = reconstruction(made(inputs * WEIGHTS), table_of(inputs))
    assert audit.fields == {} and audit.worst is None
    assert audit.to_json()["maximum"] is None and "not measured: too few rows (49" in audit.missing["all"]


def test_the_audit_is_the_same_for_the_same_seed_and_touches_no_global_state():
    inputs = people(1500)
    state = np.random.get_state()[1].copy()
    explanation = made(inputs * WEIGHTS, "quantised")
    first, second = (reconstruction(explanation, table_of(inputs), seed=4).to_json() for _ in range(2))
    assert first == second and first["rows"] == 1000
    assert (np.random.get_state()[1] == state).all()
    assert json.loads(json.dumps(first, allow_nan=False)) == first


def test_attackers_on_their_own():
    generator = np.random.default_rng(0)
    known, asked = generator.normal(size=(80, 3)), generator.normal(size=(20, 3))
    line = lambda x: x @ np.array([[1.0], [2.0], [0.0]]) + 5 + x[:, :1] ** 2  # noqa: E731  # a formula
    np.testing.assert_allclose(ridge(known, line(known), asked), line(asked), atol=1e-4)
    np.testing.assert_allclose(nearest(1)(known, line(known), known), line(known))
    np.testing.assert_allclose(mean(known, line(known), asked), line(known).mean())
    steps = np.repeat([[0.0], [1.0]], 10, axis=0)
    target = np.arange(20.0)[:, None]
    np.testing.assert_allclose(nearest(3)(steps, target, np.array([[0.0]])), 4.5, err_msg="all that are equally near count")
    np.testing.assert_allclose(ridge(np.ones((5, 2)), target[:5], np.ones((1, 2))), 2.0, err_msg="features that say nothing")


def test_the_attacker_that_suits_the_test_rows_by_chance_is_not_picked_on_them():
    """Many null fields: the mean share must not be above zero by more than chance."""
    inputs = np.random.default_rng(5).normal(size=(80, 30))
    others = np.random.default_rng(6).normal(size=(80, 30))
    audit = reconstruction(made(others), table_of(inputs))
    assert np.mean([guess.share.value for guess in audit.fields.values()]) < 0.02


# In a workspace


def loaded(workspace, rows=260):
    generator = np.random.default_rng(0)
    columns = {f"x{i}": generator.normal(size=rows) for i in range(4)}
    score = columns["x0"] - columns["x1"] + generator.normal(size=rows)
    return workspace.load(pa.table({**columns, "y": np.where(score > 0, "good", "bad")}), target="y")


def opened(folder, **explain):
    return af.Workspace(folder / "ws", policy={"explain": explain}, actor="tester")


def test_the_audit_stands_beside_the_explanation_and_in_the_evidence(tmp_path):
    with opened(tmp_path) as workspace:
        data = loaded(workspace)
        model = workspace.train("tabular.logistic", data)
        out = workspace.explain(model, data.head(200), reconstruction=True)
        few = workspace.explain(model, data.head(10), reconstruction=True)
        silent = workspace.explain(model, data.head(200))
        said = [e.predicate for e in workspace.ledger.entries("explain") if e.predicate["phase"] == "outcome"]
    assert out.details["reconstruction"]["maximum"]["value"] > 1 - 1e-9
    assert said[0]["stages"]["explain"]["reconstruction"] == out.details["reconstruction"]
    assert few.details["reconstruction"]["maximum"] is None and "too few rows" in few.details["reconstruction"]["missing"]["all"]
    assert "reconstruction" not in silent.details


def test_a_bound_refuses_a_release_that_gives_back_more(tmp_path):
    with opened(tmp_path, max_reconstruction=0.9) as workspace:
        data = loaded(workspace)
        model = workspace.train("tabular.logistic", data)
        with pytest.raises(Refused) as caught:
            workspace.explain(model, data.head(200))
        last = [e.predicate for e in workspace.ledger.entries("explain")][-1]
    assert caught.value.line == "explain.max_reconstruction" and caught.value.bound == 0.9 and caught.value.measured > 0.99
    assert "reason-codes" in caught.value.satisfy and last["status"] == "refused"


def test_a_release_within_the_bound_leaves(tmp_path):
    with opened(tmp_path, max_reconstruction=0.95, release="reason-codes", top_k=2) as workspace:
        data = loaded(workspace)
        model = workspace.train("tabular.logistic", data)
        assert workspace.explain(model, data.head(200)).details["reconstruction"]["maximum"]["value"] < 0.95


def test_a_call_of_few_rows_is_held_to_what_the_background_says(tmp_path):
    with opened(tmp_path, max_reconstruction=0.9) as workspace:
        data = loaded(workspace)
        model = workspace.train("tabular.logistic", data)
        with pytest.raises(Refused) as caught:
            workspace.explain(model, data.head(1))
    assert caught.value.measured > 0.99


def test_where_nothing_can_be_measured_the_bound_refuses(tmp_path):
    with opened(tmp_path, max_reconstruction=0.9) as workspace:
        data = loaded(workspace)
        model = workspace.train("tabular.logistic", data)
        with pytest.raises(Refused, match="too few rows") as caught:
            workspace.explain(model, data.head(1), background=data.take(range(20)))
    assert caught.value.measured == "not measured"


def test_predictions_with_explanations_are_held_to_the_bound_and_measured_once(tmp_path, monkeypatch):
    from affidavit_governance.explain.methods.linear import Linear

    calls = []
    plain = Linear.explain
    monkeypatch.setattr(
        Linear, "explain", lambda self, model, data, *rest, **options: (calls.append(len(data)), plain(self, model, data, *rest, **options))[1]
    )
    with opened(tmp_path, max_reconstruction=0.95, release="reason-codes", top_k=1, each_prediction=True) as workspace:
        data = loaded(workspace)
        model = workspace.train("tabular.logistic", data)
        for row in range(3):
            assert workspace.predict(model, data.take([row])).explanations.details["reconstruction"]["rows"] == 100
    assert calls == [1, 100, 1, 1]
    with opened(tmp_path / "full", max_reconstruction=0.95, each_prediction=True) as workspace:
        data = loaded(workspace)
        model = workspace.train("tabular.logistic", data)
        with pytest.raises(Refused, match="gives back"):
            workspace.predict(model, data.head(1))
