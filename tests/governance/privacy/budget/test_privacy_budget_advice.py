"""What a refusal says would fit, does: each piece of its advice is followed, and accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from affidavit.errors import Refused
from affidavit.store import Store
from affidavit_governance.privacy import Event, calibrate, joint_epsilon
from affidavit_governance.privacy.budget import Budget
from affidavit_governance.privacy.budget.advice import NOTHING

ROOT, DELTA = "a" * 64, 1e-5
EARLIER = Event("gaussian", 4.0, 0.1, 100)
WIDE = EARLIER.under("replace-one", 1)
TRAINING = Event("gaussian", 2.5, 0.1, 100)
STATISTICS = [Event("gaussian", 20.0), Event("gaussian", 20.0)]
NUMBER = r"([0-9.]+[0-9])"


@pytest.fixture
def budget(tmp_path: Path) -> Iterator[Budget]:
    with Store.open(tmp_path / "ws") as store:
        yield Budget(store)


def refusal(budget: Budget, events: Sequence[Event], limit: float, expected: Sequence[Event] = ()) -> Refused:
    with pytest.raises(Refused) as refused:
        budget.reserve("refused", [ROOT], events, delta=DELTA, limit=limit, expected=lambda: expected)
    return refused.value


def found(pattern: str, refused: Refused) -> float:
    match = re.search(pattern.replace("#", NUMBER), refused.satisfy or "")
    assert match, refused.satisfy
    return float(match[1])


@pytest.mark.parametrize(("earlier", "events"), [(EARLIER, [*STATISTICS, TRAINING]), (WIDE, [TRAINING])])
def test_the_epsilon_sigma_and_steps_that_a_refusal_names_fit(budget: Budget, earlier: Event, events: list[Event]) -> None:
    limit = 3.0 if earlier is WIDE else 1.7
    budget.reserve("earlier", [ROOT], [earlier], delta=DELTA, limit=limit)
    refused = refusal(budget, events, limit)
    left = found("^# is left", refused)
    assert left == pytest.approx(limit - budget.spent(ROOT, DELTA), rel=1e-3)
    epsilon, sigma, steps = (found(f"{words}", refused) for words in ("epsilon = #", "noise multiplier of #", r"at most (\d+) of them"))
    others = events[:-1]
    for run in (
        [Event("gaussian", calibrate(epsilon, sampling_rate=1.0, steps=1, delta=DELTA))],
        [*others, replace(TRAINING, noise_multiplier=sigma)],
        [*others, replace(TRAINING, steps=int(steps))],
    ):
        assert joint_epsilon(run, DELTA) <= epsilon  # so that a policy with this epsilon lets it through
        budget.reserve("refused", [ROOT], run, delta=DELTA, limit=limit)
        budget.release("refused")
    # and they are not far from the most that fits
    for run in ([*others, replace(TRAINING, noise_multiplier=0.9 * sigma)], [*others, replace(TRAINING, steps=int(1.2 * steps) + 5)]):
        assert joint_epsilon(run, DELTA) > epsilon
    assert ("widest neighbours" in (refused.satisfy or "")) == (earlier is WIDE)


@pytest.mark.parametrize("earlier", [EARLIER, WIDE, EARLIER.under("add-or-remove-one", 2)])
def test_a_run_calibrated_to_the_epsilon_that_a_refusal_names_fits_whatever_its_batch(budget: Budget, earlier: Event) -> None:
    budget.reserve("earlier", [ROOT], [earlier], delta=DELTA, limit=9.0)
    limit = budget.spent(ROOT, DELTA) + 0.5
    epsilon = found("epsilon = #", refusal(budget, [Event("gaussian", 1.0)], limit))
    for rate, steps in ((1.0, 1), (0.3, 30), (0.1, 100), (0.02, 200)):
        sigma = calibrate(epsilon, sampling_rate=rate, steps=steps, delta=DELTA)
        budget.reserve("refused", [ROOT], [Event("gaussian", sigma, rate, steps)], delta=DELTA, limit=limit)
        budget.release("refused")


def test_joint_composition_leaves_more_than_the_difference(budget: Budget) -> None:
    budget.reserve("earlier", [ROOT], [EARLIER], delta=DELTA, limit=8.0)
    limit = budget.spent(ROOT, DELTA) + 0.5
    assert found("epsilon = #", refusal(budget, [TRAINING], limit)) > 0.5


def test_a_run_whose_mechanisms_are_not_known_yet_gets_advice_for_what_it_is_expected_to_do(budget: Budget) -> None:
    budget.reserve("earlier", [ROOT], [EARLIER], delta=DELTA, limit=8.0)
    limit = budget.spent(ROOT, DELTA) + 0.5
    place = [Event("gaussian", calibrate(3.0, sampling_rate=1.0, steps=1, delta=DELTA))]
    assert "noise multiplier" not in (refusal(budget, place, limit).satisfy or "")
    sigma = found("noise multiplier of #", refusal(budget, place, limit, [TRAINING]))
    budget.reserve("two", [ROOT], [replace(TRAINING, noise_multiplier=sigma)], delta=DELTA, limit=limit)


def test_statistics_that_cost_more_than_is_left_leave_nothing_to_advise_on_the_training(budget: Budget) -> None:
    budget.reserve("earlier", [ROOT], [EARLIER], delta=DELTA, limit=8.0)
    limit = budget.spent(ROOT, DELTA) + 0.1
    refused = refusal(budget, [Event("gaussian", 1.0), TRAINING], limit)
    assert "noise multiplier" not in (refused.satisfy or "")
    assert found("epsilon = #", refused) > 0.1


def test_a_run_with_wider_neighbours_than_those_before_is_told_what_is_left_for_them(budget: Budget) -> None:
    budget.reserve("earlier", [ROOT], [EARLIER], delta=DELTA, limit=8.0)
    wide = joint_epsilon([WIDE], DELTA)
    assert wide > budget.spent(ROOT, DELTA) + 0.5
    run = TRAINING.under("replace-one", 1)
    assert refusal(budget, [run], wide - 0.1).satisfy == NOTHING
    epsilon = found("epsilon = #", refusal(budget, [replace(run, noise_multiplier=1.0)], wide + 0.5))
    sigma = calibrate(epsilon, sampling_rate=0.1, steps=100, delta=DELTA, relation="replace-one")
    budget.reserve("refused", [ROOT], [replace(run, noise_multiplier=sigma)], delta=DELTA, limit=wide + 0.5)


def test_an_exhausted_budget_says_that_nothing_is_left(budget: Budget) -> None:
    budget.reserve("earlier", [ROOT], [EARLIER], delta=DELTA, limit=8.0)
    assert refusal(budget, [TRAINING], 0.5).satisfy == NOTHING
