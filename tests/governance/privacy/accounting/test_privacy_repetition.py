"""Repeating a mechanism and publishing the best outcome only."""

from __future__ import annotations

import math

import pytest

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.privacy import Event, joint_delta, joint_epsilon, joint_rdp_epsilon, repeat_and_select
from affidavit_governance.privacy.accounting import accountant

BASE = (Event("laplace", 4.0), Event("gaussian", 3.0, 1.0, 2))


@pytest.mark.parametrize(("mean", "shape"), [(10.0, math.inf), (1.0, math.inf), (10.0, 1.0), (10.0, 0.0), (1.5, 0.3), (1.0, 0.5)])
def test_repetition_agrees_with_the_library(mean: float, shape: float) -> None:
    from dp_accounting import dp_event as dp
    from dp_accounting.rdp import RdpAccountant

    repeated = dp.ComposedDpEvent([dp.LaplaceDpEvent(4.0), dp.SelfComposedDpEvent(dp.GaussianDpEvent(3.0), 2)])
    theirs = RdpAccountant()
    theirs.compose(dp.RepeatAndSelectDpEvent(repeated, mean, shape))
    assert joint_epsilon([repeat_and_select(BASE, mean=mean, shape=shape)], 1e-5) == pytest.approx(theirs.get_epsilon(1e-5), abs=1e-6)


def test_choosing_the_best_of_ten_costs_more_than_one_run_and_less_than_ten() -> None:
    once, ten = joint_rdp_epsilon(BASE, 1e-5), joint_rdp_epsilon(BASE * 10, 1e-5)
    assert once < joint_epsilon([repeat_and_select(BASE, mean=10.0)], 1e-5) < ten


def test_a_set_with_a_repetition_is_accounted_for_by_rdp_as_a_whole() -> None:
    chosen, more = repeat_and_select(BASE, mean=5.0), Event("gaussian", 1.0, 0.02, 100)
    assert accountant([chosen, more]) == "RDP"
    assert accountant([more]) == "PLD"
    together = joint_epsilon([chosen, more], 1e-5)
    assert together == joint_rdp_epsilon([chosen, more], 1e-5)
    assert max(joint_epsilon([chosen], 1e-5), joint_epsilon([more], 1e-5)) < together < joint_epsilon([chosen], 1e-5) + joint_epsilon([more], 1e-5)
    assert joint_delta([chosen, more], together) == pytest.approx(1e-5, rel=1e-6)


def test_repetition_follows_what_it_repeats_to_wider_neighbours() -> None:
    wide = tuple(event.under("replace-one", 2) for event in BASE)
    assert repeat_and_select(BASE, mean=3.0).under("replace-one", 2) == repeat_and_select(wide, mean=3.0)
    assert joint_epsilon([repeat_and_select(wide, mean=3.0)], 1e-5) > joint_epsilon([repeat_and_select(BASE, mean=3.0)], 1e-5)


@pytest.mark.parametrize("shape", [math.inf, 0.5])
def test_a_repetition_survives_json(shape: float) -> None:
    event = repeat_and_select(BASE, mean=4.0, shape=shape)
    assert Event.from_json(event.to_json()) == event


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: repeat_and_select([], mean=3.0),
        lambda: repeat_and_select(BASE, mean=0.0),
        lambda: repeat_and_select(BASE, mean=0.5, shape=1.0),
        lambda: repeat_and_select(BASE, mean=2.0, shape=-0.5),
        lambda: repeat_and_select([repeat_and_select(BASE, mean=2.0)], mean=2.0),
        lambda: repeat_and_select([BASE[0], BASE[1].under("replace-one", 1)], mean=2.0),
        lambda: Event("repeat_and_select", 1.0, repeated=BASE, mean=2.0),
    ],
)
def test_repetitions_that_the_theorem_does_not_cover_are_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        wrong()  # type: ignore[operator]  # a list of functions


def test_a_damaged_repetition_is_refused() -> None:
    damaged = repeat_and_select(BASE, mean=4.0).to_json() | {"repeated": [7]}
    with pytest.raises(InvalidInput):
        Event.from_json(damaged)
