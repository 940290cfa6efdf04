"""The ε that progress shows: quick, exact at the end, and never below what was spent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from affidavit_governance.privacy import Event, joint_epsilon
from affidavit_governance.privacy.training.meter import epsilon_so_far

DELTA = 1e-5


@pytest.mark.parametrize("before", [[], [Event("gaussian", 12.0)] * 2])
@pytest.mark.parametrize("training", [Event("gaussian", 1.9, 0.33, 60), Event("gaussian", 1.0, 0.05, 400), Event("gaussian", 6.0, 1.0, 50)])
def test_the_epsilon_so_far_is_near_that_of_pld_and_exact_at_the_end(before: list[Event], training: Event) -> None:
    planned = [*before, training]
    found = []
    for share in (0.25, 0.5, 0.75, 1.0):
        done = [*before, replace(training, steps=int(share * training.steps))]
        found.append(epsilon_so_far(done, planned, DELTA))
        exact = joint_epsilon(done, DELTA)
        assert exact * 0.999 <= found[-1] <= exact * 1.1
    assert found == sorted(found)
    assert found[-1] == joint_epsilon(planned, DELTA)


def test_nothing_done_has_cost_nothing() -> None:
    assert epsilon_so_far([], [Event("gaussian", 1.0, 0.05, 400)], DELTA) == 0.0
    assert epsilon_so_far([], [], DELTA) == 0.0


def test_asking_again_is_quick(calls_in) -> None:  # type: ignore[no-untyped-def]  # a fixture that counts
    training = Event("gaussian", 1.0, 0.05, 400)
    assert calls_in(lambda: epsilon_so_far([replace(training, steps=77)], [training], DELTA)) < 1000  # composing by PLD makes many more
