"""The one-run audit: published lower bounds, exact coverage against mechanisms with a known ε, and audits of the engine itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from affidavit.errors import PluginError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.training import Training, TrainingEngine
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.accounting import Event
from affidavit_governance.privacy.attacks import (
    audit_engine,
    audit_scores,
    audit_training,
    detectable_epsilon,
    epsilon_lower_bound,
    guess,
    p_value,
)
from affidavit_plugins.tabular.mlp import MLP


@pytest.mark.parametrize(("guesses", "correct", "expected"), [(1000, 900, 2.0206), (100, 100, 3.4654), (200, 180, 1.7963)])
def test_lower_bounds_are_those_of_the_papers_code(guesses: int, correct: int, expected: float) -> None:
    # Steinke, Nasr and Jagielski 2023, appendix D, for 1000 canaries at delta 1e-5 and 95 % confidence
    assert epsilon_lower_bound(1000, guesses, correct, delta=1e-5) == pytest.approx(expected, abs=1e-4)


def test_without_delta_all_right_is_refuted_in_closed_form() -> None:
    # all right has chance (e^eps / (1 + e^eps))^r, so the bound solves it for 5 %
    assert detectable_epsilon(1000, 100) == pytest.approx(-math.log(0.05 ** (-1 / 100) - 1), abs=1e-5)


@given(st.integers(1, 60), st.data(), st.floats(0, 5), st.floats(1e-8, 0.3))
@settings(deadline=None, max_examples=60)
def test_the_p_value_is_theorem_5_2_summed_term_by_term(canaries: int, data: st.DataObject, epsilon: float, delta: float) -> None:
    guesses = data.draw(st.integers(0, canaries))
    correct = data.draw(st.integers(0, guesses))
    accuracy = math.exp(epsilon) / (1 + math.exp(epsilon))
    chance = [math.comb(guesses, k) * accuracy**k * (1 - accuracy) ** (guesses - k) for k in range(guesses + 1)]
    worst = max((2 / i * sum(chance[max(0, correct - i) : correct]) for i in range(1, canaries + 1)), default=0.0)
    expected = min(1.0, sum(chance[correct:]) + canaries * delta * worst)
    assert p_value(canaries, guesses, correct, epsilon=epsilon, delta=delta) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("delta", [0.0, 0.01])
@pytest.mark.parametrize("together", [True, False])
def test_the_bound_exceeds_the_true_epsilon_in_at_most_five_percent_of_runs(epsilon: float, delta: float, together: bool) -> None:
    """Exactly, for ε-randomised response that tells the truth with chance δ: of all coins at once, or of each by itself."""
    canaries, accuracy = 40, math.exp(epsilon) / (1 + math.exp(epsilon))
    right = np.arange(canaries + 1)
    if together:
        chance = (1 - delta) * binom.pmf(right, canaries, accuracy) + delta * (right == canaries)
    else:
        chance = binom.pmf(right, canaries, delta + (1 - delta) * accuracy)
    exceeds = np.array([epsilon_lower_bound(canaries, canaries, int(v), delta=delta) > epsilon for v in right])
    assert chance[exceeds].sum() <= 0.05


def test_more_right_guesses_never_lower_the_bound_and_none_right_gives_zero() -> None:
    bounds = [epsilon_lower_bound(200, 100, correct, delta=1e-5) for correct in range(0, 101, 5)]
    assert bounds[0] == bounds[10] == 0.0
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(detectable_epsilon(200, 100, delta=1e-5))
    assert epsilon_lower_bound(200, 0, 0) == 0.0


def test_guesses_are_the_extremes_of_the_scores() -> None:
    assert guess(np.array([0.3, -1.0, 5.0, 2.0, 0.1]), 3).tolist() == [0, -1, 1, 1, 0]
    assert not guess(np.arange(4.0), 0).any()


def test_trying_several_numbers_of_guesses_costs_confidence() -> None:
    included = np.arange(200) % 2 == 0
    one = audit_scores(included.astype(float), included, attack="white box", delta=0.0, guesses=[200])
    many = audit_scores(included.astype(float), included, attack="white box", delta=0.0, guesses=[200, 100, 50, 20])
    assert one.epsilon_lower == pytest.approx(epsilon_lower_bound(200, 200, 200), abs=1e-5)
    assert many.epsilon_lower == pytest.approx(epsilon_lower_bound(200, 200, 200, confidence=1 - 0.05 / 4), abs=1e-5)
    assert [plan.guesses for plan in many.plans] == [200, 100, 50, 20]


def test_scores_without_any_knowledge_refute_nothing() -> None:
    generator = np.random.default_rng(4)
    reports = [
        audit_scores(generator.normal(size=300), generator.random(300) < 0.5, attack="black box", delta=1e-5, epsilon_upper=0.01) for _ in range(40)
    ]
    assert sum(report.epsilon_lower > 0 for report in reports) <= 5  # 2 expected at most, 6 or more has a chance below 2 %


@pytest.mark.parametrize(
    "call",
    [
        lambda: p_value(10, 11, 5, epsilon=1.0),
        lambda: p_value(10, 5, 6, epsilon=1.0),
        lambda: p_value(10, 5, 5, epsilon=-1.0),
        lambda: p_value(10, 5, 5, epsilon=1.0, delta=1.0),
        lambda: epsilon_lower_bound(10, 5, 5, confidence=1.0),
        lambda: guess(np.array([1.0, np.nan]), 1),
        lambda: guess(np.zeros(3), 4),
        lambda: audit_scores(np.zeros(3), np.zeros(4, dtype=bool), attack="white box", delta=0.0),
        lambda: audit_scores(np.zeros(3), np.zeros(3, dtype=bool), attack="white box", delta=0.0, guesses=[]),
    ],
)
def test_numbers_out_of_range_are_refused(call) -> None:  # type: ignore[no-untyped-def]  # one line each
    with pytest.raises(UsageError):
        call()


# -- audits of training ----------------------------------------------------------------------------------------------------------------------


def dirac_fit(rows: int, seen: list[np.ndarray] | None = None, *, lr: float = 1.0, epochs: int = 1):  # type: ignore[no-untyped-def]  # a factory
    """A model that gives each row a weight of its own, and trains through the engine."""

    def fit(engine: TrainingEngine) -> None:
        module = torch.nn.Linear(rows, 1, bias=False)

        def losses(indices: np.ndarray) -> torch.Tensor:
            return torch.nn.functional.softplus(-module(torch.eye(rows)[torch.from_numpy(indices)]).squeeze(1))

        loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=lr), rows=rows, batch_size=rows, epochs=epochs, seed=0)
        for _ in range(epochs):
            for indices in loop.epoch():
                if seen is not None:
                    seen.append(indices)
                loop.step(indices, losses)
        loop.close()

    return fit


def test_the_engine_passes_its_audit_and_the_report_says_what_could_have_been_shown(tmp_path: Path) -> None:
    report = audit_engine(PrivacyPolicy(epsilon=2.0, delta=1e-5))
    assert not report.refuted
    assert report.epsilon_lower < report.epsilon_upper <= 2.0  # type: ignore[operator]  # there is a claim
    assert report.epsilon_detectable == pytest.approx(detectable_epsilon(1000, 1000, delta=1e-5, confidence=1 - 0.05 / 4), abs=1e-5)
    record = report.to_json()
    assert {"epsilon_lower", "epsilon_upper", "epsilon_detectable", "canaries", "guesses", "correct", "delta", "confidence"} <= set(record)
    assert record["epsilon_lower"] == pytest.approx(
        epsilon_lower_bound(
            record["canaries"], record["guesses"], record["correct"], delta=record["delta"], confidence=1 - 0.05 / len(record["plans"])
        ),
        abs=1e-5,
    )
    assert f"could have shown {report.epsilon_detectable:.3f}" in str(report)
    report.plot(tmp_path / "audit.png")
    report.plot(tmp_path / "audit.svg")
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "audit.svg").read_bytes()
    with pytest.raises(UsageError, match=r"\.gif"):
        report.plot(tmp_path / "audit.gif")


@pytest.mark.parametrize("attack", ["white box", "black box"])
def test_little_noise_is_seen_in_both_boxes_and_claimed_as_such(attack: str) -> None:
    policy = PrivacyPolicy(epsilon=30.0, delta=1e-5, records=300)
    report = audit_training(
        dirac_fit(300, lr=300.0),
        policy,
        rows=300,
        canaries=np.arange(300),
        reserve=lambda events: None,
        attack=attack,  # type: ignore[arg-type]  # a literal, from parametrize
    )
    assert report.attack == attack
    assert report.epsilon_lower > 2  # σ is near 0.3: the coins show
    assert not report.refuted


def test_only_the_canaries_that_the_coins_chose_are_drawn_and_the_budget_is_asked_first() -> None:
    seen: list[np.ndarray] = []
    asked: list[list[Event]] = []
    policy = PrivacyPolicy(epsilon=1.0, delta=1e-3, records=80)
    canaries = np.arange(20, 80)
    report = audit_training(
        dirac_fit(80, seen, epochs=3), policy, rows=80, canaries=canaries, reserve=lambda events: asked.append(list(events)), guesses=[60]
    )
    drawn = set(seen[0])
    assert all(set(batch) == drawn for batch in seen)  # q is 1
    assert set(range(20)) <= drawn
    assert 5 < len(drawn & set(canaries)) < 55
    assert len(asked) == 1 and asked[0][0].steps == 3
    assert report.canaries == 60


@pytest.mark.parametrize(
    ("policy", "canaries", "match"),
    [
        (PrivacyPolicy(epsilon=1.0), np.arange(5), "public"),
        (PrivacyPolicy(epsilon=1.0, records=10, unit="label"), np.arange(5), "label"),
        (PrivacyPolicy(epsilon=1.0, records=10), np.array([1, 1]), "distinct"),
        (PrivacyPolicy(epsilon=1.0, records=10), np.array([10]), "distinct"),
        (PrivacyPolicy(epsilon=1.0, records=10), np.array([], dtype=np.int64), "distinct"),
    ],
)
def test_an_audit_that_would_mean_nothing_is_refused(policy: PrivacyPolicy, canaries: np.ndarray, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        audit_training(dirac_fit(10), policy, rows=10, canaries=canaries, reserve=lambda events: None)


def test_a_model_that_did_not_train_through_the_engine_is_not_audited() -> None:
    with pytest.raises(PluginError, match="engine"):
        audit_training(lambda engine: None, PrivacyPolicy(epsilon=1.0, records=10), rows=10, canaries=np.arange(5), reserve=lambda events: None)


def test_training_without_noise_makes_no_claim_and_shows_all_that_can_be_shown() -> None:
    policy = PrivacyPolicy(epsilon=1.0, delta=1e-5, records=200, noise_multiplier=0.0, without_noise=True)
    report = audit_training(dirac_fit(200), policy, rows=200, canaries=np.arange(200), reserve=lambda events: None)
    assert report.epsilon_upper is None and not report.refuted
    assert "no claim" in str(report)
    # Of all 200 some are wrong, because half are guessed "in" and the coins put in a few more or less; of the outer 100 none is.
    assert report.plans[1].correct == report.plans[1].guesses == 100
    assert report.epsilon_lower >= report.plans[1].epsilon_detectable


@pytest.mark.parametrize("attack", ["white box", "black box"])
def test_a_model_type_is_audited_through_its_own_fit(attack: str) -> None:
    generator = np.random.default_rng(0)
    columns = {f"c{number}": generator.normal(size=60) for number in range(20)}
    data = Dataset.from_arrow({**columns, "y": generator.choice(["yes", "no"], 60)}, target="y")
    report = audit_training(
        lambda engine: MLP(hidden=(8,), epochs=3, batch_size=30).fit(data, Training(engine=engine)),
        PrivacyPolicy(epsilon=1.0, delta=1e-3, records=50),
        rows=60,
        canaries=np.arange(20, 60),
        reserve=lambda events: None,
        attack=attack,  # type: ignore[arg-type]  # a literal, from parametrize
    )
    assert report.canaries == 40 and not report.refuted


def test_a_model_of_private_releases_has_no_steps_to_audit() -> None:
    with pytest.raises(UsageError, match="no gradient steps"):
        audit_training(
            lambda engine: engine.releases([("sums", 1.0)]),
            PrivacyPolicy(epsilon=1.0, records=10),
            rows=10,
            canaries=np.arange(5),
            reserve=lambda events: None,
        )
