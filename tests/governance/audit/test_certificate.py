"""Stated epsilons held against what their own events cost; statements that claim too much, or contradict themselves, are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from audit_workspace import announce, finish, open_small
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import IntegrityError
from affidavit.policy import PrivacyPolicy
from affidavit_governance.audit import recount
from affidavit_governance.audit.bundle import write_bundle
from affidavit_governance.audit.certificate import recompute
from affidavit_governance.audit.recount import MOST_MECHANISMS
from affidavit_governance.audit.verify import VerificationReport, verify_bundle
from affidavit_governance.privacy import Event, joint_epsilon, repeat_and_select

EVENTS = [Event("gaussian", 8.0), Event("gaussian", 2.0, 0.1, 30)]
EPSILON = joint_epsilon(EVENTS, 1e-5)
DETAILS = {"type": "t", "params": {}, "capabilities": [], "signature": {}, "rows": 9, "roots": ["cd" * 32], "seed": 0}


def stated(**changes: Any) -> dict[str, Any]:
    """What a run of these events states."""
    return {
        "certificate": 1,
        "private": True,
        "epsilon": EPSILON,
        "delta": 1e-5,
        "unit": "record",
        "unit_records": 1,
        "relation": "add-or-remove-one",
        "sampler": "poisson",
        "sampling_rate": 0.1,
        "noise_multiplier": 2.0,
        "steps": 30,
        "steps_per_epoch": 10,
        "events": [event.to_json() for event in EVENTS],
        **changes,
    }


def test_an_honest_statement_lies_in_its_bracket() -> None:
    result = recompute(stated(), "it")
    low, high = result["bracket"]
    assert low <= EPSILON <= high + 1e-3
    assert high - low < 0.01 * EPSILON
    assert result["remark"] is None


def test_the_engine_s_own_statement_is_read() -> None:
    from affidavit_governance.privacy.training.engine import PrivateEngine

    engine = PrivateEngine(PrivacyPolicy(epsilon=0.5, delta=1e-3, relation="replace-one"), reserve=lambda events: None)
    import numpy as np

    engine.center_and_scale(np.ones((20, 2)))
    statement = engine.statement()
    low, high = recompute(statement, "it")["bracket"]
    assert low <= statement["epsilon"] <= high + 1e-3


@pytest.mark.parametrize("factor", [0.98, 0.5, 0.0])
def test_an_epsilon_below_what_the_events_cost_is_refused(factor: float) -> None:
    with pytest.raises(IntegrityError, match=r"evidence/000007\.json states epsilon .* claims more privacy"):
        recompute(stated(epsilon=EPSILON * factor), "evidence/000007.json")


def test_a_higher_epsilon_is_remarked_upon_and_accepted() -> None:
    assert "higher" in recompute(stated(epsilon=EPSILON * 1.2), "it")["remark"]
    assert "higher" in recompute(stated(epsilon="Infinity"), "it")["remark"]


@pytest.mark.parametrize(
    "changes",
    [
        {"events": []},
        {"events": [EVENTS[0].to_json()]},
        {"events": [EVENTS[0].to_json(), {**EVENTS[1].to_json(), "steps": 29}]},
        {"events": [EVENTS[0].to_json(), {**EVENTS[1].to_json(), "noise_multiplier": 20.0}]},
        {"events": [EVENTS[0].to_json(), {**EVENTS[1].to_json(), "sampling_rate": 0.01}]},
        {"sampler": "shuffle"},
        {"sampler": "sorted"},
        {"relation": "replace-one"},
        {"unit": "group", "unit_records": 3},
        {"unit": "label"},
        {"unit": "record", "unit_records": 2, "events": [event.under("add-or-remove-one", 2).to_json() for event in EVENTS]},
        {"events": [{"type": "magic"}]},
        {"events": 7},
        {"events": [{**EVENTS[1].to_json(), "noise_multiplier": True}]},
        {"events": [{**EVENTS[1].to_json(), "sampling_rate": 1.5}]},
        {"epsilon": None},
        {"epsilon": "low"},
        {"delta": None},
        {"private": False},
        {"delta": 1},
        {"delta": 5.0},
        {"unit": "planet"},
        {"unit": None},
        {"events": [{**EVENTS[1].to_json(), "group_size": 10**9}], "unit": "group", "unit_records": 10**9},
        {"events": [], "epsilon": 0.0, "steps": 0, "sampler": None, "status": "done"},
    ],
)
def test_a_statement_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="^it "):
        recompute(stated(**changes), "it")


def test_shuffled_epochs_are_read() -> None:
    events = [Event("gaussian", 2.0, 1.0, 3)]
    epsilon = joint_epsilon(events, 1e-5)
    fine = stated(sampler="shuffle", sampling_rate=None, epsilon=epsilon, events=[event.to_json() for event in events])
    assert recompute(fine, "it")["remark"] is None
    with pytest.raises(IntegrityError, match="account for fewer"):
        recompute({**fine, "steps": 31}, "it")


def test_old_statements_are_held_to_their_events_and_new_ones_name_the_remedy() -> None:
    events = [{key: value for key, value in event.to_json().items() if key not in ("relation", "group_size")} for event in EVENTS]
    old = {"private": True, "epsilon": EPSILON, "delta": 1e-5, "events": events}
    assert recompute(old, "it")["bracket"] == recompute(stated(), "it")["bracket"]
    with pytest.raises(IntegrityError):
        recompute({**old, "epsilon": 0.5 * EPSILON}, "it")
    assert "pip install" in recompute(stated(certificate=2, events="of another form"), "it")["remark"]
    assert "no events" in recompute({"private": True, "epsilon": 2.9, "delta": 1e-5}, "it")["remark"]


def test_training_without_noise_claims_nothing() -> None:
    result = recompute({"certificate": 1, "private": False, "epsilon": None, "delta": 1e-5, "events": []}, "it")
    assert result == {"bracket": None, "remark": "training without noise, which claims no privacy"}


def test_a_repetition_says_why_it_is_not_computed_again() -> None:
    event = repeat_and_select(EVENTS, mean=3.0)
    assert "RDP only" in recompute(stated(steps=0, sampler=None, events=[event.to_json()]), "it")["remark"]


def test_a_statement_of_today_lists_its_events() -> None:
    without = {key: value for key, value in stated().items() if key != "events"}
    with pytest.raises(IntegrityError, match="cannot be read"):
        recompute(without, "it")
    assert "no events" in recompute({**without, "certificate": 0}, "it")["remark"]


@pytest.mark.parametrize("delta", [0.0, 1e-300, 1e-20])
def test_a_delta_too_small_to_recompute_hides_no_epsilon_that_is_too_low(delta: float) -> None:
    with pytest.raises(IntegrityError, match="claims more privacy"):
        recompute(stated(delta=delta, epsilon=0.5 * EPSILON), "it")
    assert "too small" in recompute(stated(delta=delta, epsilon="Infinity"), "it")["remark"]


@pytest.mark.parametrize(
    "other",
    [
        {**repeat_and_select(EVENTS, mean=3.0).to_json(), "steps": 0},
        {"type": "repeat_and_select"},
        Event("gaussian", 1e-9, 1.0, 1).to_json(),
        Event("gaussian", 2.0, 0.1, 10**18).to_json(),
    ],
)
def test_an_event_that_cannot_be_recomputed_hides_none_of_the_others(other: dict[str, Any]) -> None:
    changes = {"events": [*stated()["events"], other]}
    with pytest.raises(IntegrityError, match="claims more privacy"):
        recompute(stated(**changes, epsilon=0.5 * EPSILON), "it")
    assert recompute(stated(**changes, epsilon=1e30), "it")["bracket"] is None


def test_a_large_group_that_is_not_recomputed_is_held_to_what_a_small_one_costs() -> None:
    events = [Event("gaussian", 1.0, 0.5, 100, group_size=200)]
    many = stated(unit="group", unit_records=200, sampling_rate=0.5, noise_multiplier=1.0, events=[event.to_json() for event in events])
    assert "take too long" in recompute({**many, "epsilon": joint_epsilon(events, 1e-5)}, "it")["remark"]
    with pytest.raises(IntegrityError, match="claims more privacy"):
        recompute({**many, "epsilon": 3.0}, "it")


def test_a_statement_of_very_many_mechanisms_does_not_keep_the_verifier_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [Event("gaussian", 20.0 + number / 1000, 0.1, 1) for number in range(MOST_MECHANISMS + 1)]
    monkeypatch.setattr(recount, "MOST_MECHANISMS", 3)  # the same, sooner
    said = stated(steps=0, sampler=None, events=[event.to_json() for event in events], epsilon=100.0)
    assert "different mechanisms take too long" in recompute(said, "it")["remark"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["gaussian", "replace-one", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "steps", "noise_multiplier", "sampling_rate"]), inner),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(stated())), JSON)
def test_whatever_stands_in_a_statement_the_verifier_does_not_fail(key: str, value: Any) -> None:
    try:
        result = recompute(stated(**{key: value}), "it")
    except IntegrityError:
        return
    assert set(result) == {"bracket", "remark"}


def verified(folder: Path, *stages: dict[str, Any], status: str = "done") -> VerificationReport:
    """A bundle with these statements, signed by the workspace's own key, and verified with it."""
    workspace = open_small(folder / "ws")
    try:
        for number, privacy in enumerate(stages):
            call = f"{number:032x}"
            announce(workspace, call, "train")
            finish(workspace, call, "train", details=DETAILS, stages={"privacy": privacy})
        path = write_bundle(workspace, folder / "audit.zip", report_html=None)
        return verify_bundle(path, workspace.keyring.verifier_key)
    finally:
        workspace.ledger.close()
        workspace.store.close()


def test_verify_shows_the_bracket_beside_what_was_stated(tmp_path: Path) -> None:
    report = verified(tmp_path, stated(), {"private": False}, stated(private=False, epsilon=None, events=[], steps=0))
    low, high = report.privacy[0]["bracket"]
    assert f"epsilon {EPSILON!r}, delta 1e-05; computed again: between {low:.4f} and {high:.4f}" in str(report)
    assert "epsilon null, delta 1e-05 (training without noise, which claims no privacy)" in str(report)
    assert report.to_json()["privacy"][0]["bracket"] == [low, high]
    assert "1 stated epsilons" in str(report)


def test_the_verify_page_shows_a_real_line(tmp_path: Path) -> None:
    (line,) = (line for line in (Path(__file__).parents[3] / "docs/verify.md").read_text().splitlines() if line.startswith("note  stated"))
    assert line in str(verified(tmp_path, stated(epsilon=1.3777))).splitlines()


def test_a_workspace_s_own_key_cannot_sign_an_epsilon_that_is_too_low(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"evidence/000001\.json .* claims more privacy"):
        verified(tmp_path, stated(epsilon=0.9 * EPSILON))
