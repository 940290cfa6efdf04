"""From ε back to noise, steps or batch; and how ε depends on each of its numbers."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from affidavit.errors import UsageError
from affidavit_governance.privacy import Event, calibrate, calibrate_batch, calibrate_steps, epsilon, joint_epsilon

RATES, SIGMAS, STEPS, DELTAS = st.floats(0.001, 0.5), st.floats(2.0, 9.0), st.integers(1, 60), st.floats(1e-9, 1e-2)
WIDTH_ERROR = 1e-3
"""What rounding to the grid may add to ε."""


@settings(max_examples=6, deadline=None)
@given(rate=RATES, sigma=SIGMAS, steps=STEPS, delta=DELTAS)
def test_epsilon_falls_with_noise_and_delta_and_grows_with_steps_and_rate(rate: float, sigma: float, steps: int, delta: float) -> None:
    found = epsilon(rate, sigma, steps, delta)
    assert epsilon(rate, sigma * 1.1, steps, delta) <= found + WIDTH_ERROR
    assert epsilon(rate, sigma, steps, delta * 2) <= found + 1e-9
    assert epsilon(rate, sigma, steps + 20, delta) >= found - WIDTH_ERROR
    assert epsilon(min(1.0, rate * 1.5), sigma, steps, delta) >= found - WIDTH_ERROR


@settings(max_examples=3, deadline=None)
@given(
    target=st.floats(0.3, 6.0),
    rate=st.floats(0.01, 0.3),
    steps=st.integers(1, 60),
    relation=st.sampled_from(["add-or-remove-one", "replace-one"]),
    group_size=st.sampled_from([1, 2]),
)
@example(target=6.0, rate=0.03125, steps=13, relation="replace-one", group_size=2)  # where the bound jumps from 7.67 to 5.89
def test_calibrate_inverts_epsilon_under_every_relation_and_group(target: float, rate: float, steps: int, relation: str, group_size: int) -> None:
    sigma = calibrate(target, sampling_rate=rate, steps=steps, delta=1e-5, relation=relation, group_size=group_size)
    assert epsilon(rate, sigma, steps, 1e-5, relation=relation, group_size=group_size) <= target
    assert epsilon(rate, sigma * (1 - 1e-3), steps, 1e-5, relation=relation, group_size=group_size) > target, "less noise is enough"


def test_calibrate_steps_finds_the_last_step_that_fits() -> None:
    steps = calibrate_steps(2.0, sampling_rate=0.02, noise_multiplier=1.2, delta=1e-5)
    assert epsilon(0.02, 1.2, steps, 1e-5) <= 2.0 < epsilon(0.02, 1.2, steps + 1, 1e-5)


def test_calibrate_steps_pays_for_other_releases_and_for_replacement() -> None:
    alone = calibrate_steps(2.0, sampling_rate=0.05, noise_multiplier=2.0, delta=1e-5)
    extra = calibrate_steps(2.0, sampling_rate=0.05, noise_multiplier=2.0, delta=1e-5, extra=[Event("gaussian", 4.0)])
    replaced = calibrate_steps(2.0, sampling_rate=0.05, noise_multiplier=2.0, delta=1e-5, relation="replace-one")
    assert 0 < extra < alone
    assert 0 < replaced < alone


def test_calibrate_batch_finds_the_largest_batch_that_fits() -> None:
    batch = calibrate_batch(1.0, records=5000, noise_multiplier=1.5, steps=100, delta=1e-5)
    assert epsilon(batch / 5000, 1.5, 100, 1e-5) <= 1.0 < epsilon((batch + 1) / 5000, 1.5, 100, 1e-5)


def test_calibrate_batch_ends_at_all_records() -> None:
    assert calibrate_batch(50.0, records=30, noise_multiplier=2.0, steps=1, delta=1e-5) == 30


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: calibrate_steps(0.5, sampling_rate=1.0, noise_multiplier=1.0, delta=1e-5),
        lambda: calibrate_steps(0.0, sampling_rate=0.1, noise_multiplier=1.0, delta=1e-5),
        lambda: calibrate_steps(1.0, sampling_rate=0.1, noise_multiplier=0.0, delta=1e-5),
        lambda: calibrate_batch(0.1, records=2, noise_multiplier=0.5, steps=100, delta=1e-5),
        lambda: calibrate_batch(1.0, records=0, noise_multiplier=1.0, steps=1, delta=1e-5),
        lambda: calibrate_batch(1.0, records=10, noise_multiplier=1.0, steps=1, delta=1.0),
    ],
)
def test_what_cannot_be_reached_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        wrong()  # type: ignore[operator]  # a list of functions


@settings(max_examples=5, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.sampled_from([(3.0, 0.02), (4.0, 0.2), (6.0, 1.0)]), st.integers(1, 20)),
        min_size=2,
        max_size=3,
    )
)
def test_joint_composition_is_never_above_the_sum(parts: list[tuple[tuple[float, float], int]]) -> None:
    events = [Event("gaussian", sigma, rate, steps) for (sigma, rate), steps in parts]
    # The sum's δ is the sum of the parts'.
    assert joint_epsilon(events, len(events) * 1e-5) <= sum(joint_epsilon([event], 1e-5) for event in events) + WIDTH_ERROR
