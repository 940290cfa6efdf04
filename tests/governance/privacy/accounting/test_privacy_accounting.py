"""ε against published values, brute force and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.privacy import Event, calibrate, epsilon, joint_delta, joint_epsilon, rdp_epsilon
from affidavit_governance.privacy.accounting import joint_rdp_epsilon

# sampling rate, noise multiplier, steps, delta, RDP, PLD
PUBLISHED = [
    pytest.param(0.04, 1.5, 2250, 1e-5, 7.329111, 6.7688, id="Opacus"),
    pytest.param(0.0025, 1.3, 6000, 1e-5, 0.724223, 0.6401, id="TF-Privacy 1"),
    pytest.param(0.001, 1.0, 30000, 1e-7, 1.415499, 1.0982, id="TF-Privacy 2"),
    pytest.param(0.01, 0.7, 120, 1e-5, 3.239268, 2.461238, id="TF-Privacy 3"),
    pytest.param(0.001, 0.8, 100, 1e-6, 1.371, 0.2603, id="PRV 1"),
    pytest.param(0.05, 1.5, 1000, 1e-6, None, 6.1997, id="PRV 2"),
    pytest.param(0.05, 3.0, 20000, 1e-6, None, 13.9507, id="PRV 3"),
    pytest.param(0.001, 2.0, 50000, 1e-6, None, 0.4828, id="PRV 4"),
    pytest.param(256 / 1797, 1.0, 70, 1e-5, 9.52, 8.507, id="digits"),
]


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """The analytic Gaussian mechanism: Balle and Wang (2018), theorem 8."""

    def gap(eps: float) -> float:
        return float(norm.cdf(1 / (2 * sigma) - eps * sigma) - math.exp(eps) * norm.cdf(-1 / (2 * sigma) - eps * sigma)) - delta

    return float(brentq(gap, 0, 500))


@pytest.mark.parametrize(("rate", "sigma", "steps", "delta", "rdp", "pld"), PUBLISHED)
def test_epsilon_agrees_with_published_values(rate: float, sigma: float, steps: int, delta: float, rdp: float | None, pld: float) -> None:
    found = epsilon(rate, sigma, steps, delta)
    assert found == pytest.approx(pld, abs=1e-3)
    above = rdp_epsilon(rate, sigma, steps, delta)
    assert found <= above
    if rdp is not None:
        assert above == pytest.approx(rdp, abs=0.015 if rdp == 9.52 else 1e-3)


def test_a_central_limit_accountant_would_be_too_low() -> None:
    assert epsilon(256 / 1797, 1.0, 70, 1e-5) > 8.5  # where GDP says 7.40


def test_three_gaussians_have_the_published_delta() -> None:
    assert joint_delta([Event("gaussian", math.sqrt(3), steps=3)], 1.0) == pytest.approx(0.126936, abs=1e-5)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 3.7])
def test_one_gaussian_agrees_with_the_analytic_mechanism_from_above(sigma: float) -> None:
    exact = gaussian_epsilon(sigma, 1e-5)
    assert exact <= joint_epsilon([Event("gaussian", sigma)], 1e-5) <= exact + 1e-4


@pytest.mark.parametrize(("sigma", "steps"), [(10.0, 40), (40.0, 1000), (1000.0, 3), (1e7, 1)])
def test_gaussians_on_all_records_compose_as_the_one_that_they_are(sigma: float, steps: int) -> None:
    exact = gaussian_epsilon(sigma / math.sqrt(steps), 1e-5) if sigma < 1e7 else 0.0  # noise enough for δ alone
    assert exact <= joint_epsilon([Event("gaussian", sigma, steps=steps)], 1e-5) <= exact + 1e-6


def test_pure_mechanisms_are_exact() -> None:
    assert joint_epsilon([Event("laplace", 1.0), Event("laplace", 1.0)], 0.0) == 2.0
    assert joint_epsilon([Event("laplace", 1.0, steps=2)], 1e-9) == pytest.approx(2.0, abs=1e-6)
    assert joint_epsilon([Event("gaussian", 1.0)], 0.0) == math.inf


def test_composition_depends_neither_on_order_nor_on_grouping() -> None:
    one, two = Event("gaussian", 1.2, 0.05, 300), Event("gaussian", 4.0)
    split = [Event("gaussian", 1.2, 0.05, 100), two, Event("gaussian", 1.2, 0.05, 200)]
    assert joint_epsilon([one, two], 1e-5) == joint_epsilon(split, 1e-5) == joint_epsilon([two, one], 1e-5)


def test_joint_composition_costs_less_than_the_sum_and_more_than_either() -> None:
    one, two = Event("gaussian", 1.2, 0.05, 300), Event("gaussian", 4.0)
    alone = [joint_epsilon([event], 1e-5) for event in (one, two)]
    assert max(alone) < joint_epsilon([one, two], 1e-5) < sum(alone)


def test_one_step_agrees_with_a_brute_force_hockey_stick() -> None:
    rate, sigma, eps = 0.3, 1.1, 0.4
    grid = np.linspace(-30, 30, 2_000_001)
    without, with_one = norm.pdf(grid, 0, sigma), (1 - rate) * norm.pdf(grid, 0, sigma) + rate * norm.pdf(grid, 1, sigma)
    step = grid[1] - grid[0]
    removed = np.maximum(with_one - math.exp(eps) * without, 0).sum() * step
    added = np.maximum(without - math.exp(eps) * with_one, 0).sum() * step
    assert joint_delta([Event("gaussian", sigma, rate)], eps) == pytest.approx(max(removed, added), abs=1e-6)


def test_no_steps_cost_nothing_and_more_steps_cost_more() -> None:
    assert epsilon(0.1, 1.0, 0, 1e-5) == 0.0
    costs = [epsilon(0.1, 3.0, steps, 1e-5) for steps in (1, 10, 100)]
    assert costs == sorted(set(costs))


def test_hardly_any_noise_is_an_upper_bound_and_needs_no_memory() -> None:
    found = epsilon(1.0, 0.01, 10, 1e-5)
    assert math.isfinite(found)
    assert found >= gaussian_epsilon(0.5, 1e-5)
    assert epsilon(1.0, 1e-9, 1, 1e-5) > 1e6


@pytest.mark.parametrize(
    ("target", "rate", "steps"),
    [(3.0, 0.25, 80), (0.3, 0.01, 500), (1.0, 1.0, 30), (0.02, 0.002, 10), (12.0, 0.05, 60)],
)
def test_calibrate_inverts_epsilon_and_never_exceeds_it(target: float, rate: float, steps: int) -> None:
    sigma = calibrate(target, sampling_rate=rate, steps=steps, delta=1e-5)
    found = epsilon(rate, sigma, steps, 1e-5)
    assert found <= target
    assert found > target * (1 - 1e-3)


def test_calibrate_pays_for_other_releases() -> None:
    extra = [Event("gaussian", 6.0, steps=2)]
    sigma = calibrate(3.0, sampling_rate=0.1, steps=100, delta=1e-5, extra=extra)
    assert sigma > calibrate(3.0, sampling_rate=0.1, steps=100, delta=1e-5)
    assert 2.99 < joint_epsilon([*extra, Event("gaussian", sigma, 0.1, 100)], 1e-5) <= 3.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: epsilon(0.1, 0.0, 10, 1e-5),
        lambda: epsilon(0.1, math.nan, 10, 1e-5),
        lambda: epsilon(1.1, 1.0, 10, 1e-5),
        lambda: epsilon(0.0, 1.0, 10, 1e-5),
        lambda: epsilon(0.1, 1.0, -1, 1e-5),
        lambda: epsilon(0.1, 1.0, 10, 1.0),
        lambda: epsilon(0.1, 1.0, 10, -0.1),
        lambda: calibrate(0.0, sampling_rate=0.1, steps=10, delta=1e-5),
        lambda: calibrate(-1.0, sampling_rate=0.1, steps=10, delta=1e-5),
        lambda: calibrate(1.0, sampling_rate=0.1, steps=10, delta=0.0),
        lambda: calibrate(1.0, sampling_rate=0.1, steps=0, delta=1e-5),
        lambda: calibrate(1.0, sampling_rate=0.1, steps=10, delta=1e-5, extra=[Event("gaussian", 1.0)]),
        lambda: Event("laplace", 1.0, 0.5),
        lambda: Event("cauchy", 1.0),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        wrong()  # type: ignore[operator]  # a list of functions


def test_events_survive_json_and_damaged_ones_are_refused() -> None:
    event = Event("gaussian", 1.25, 0.1, 7)
    assert Event.from_json(event.to_json()) == event
    with pytest.raises(InvalidInput):
        Event.from_json({"type": "gaussian"})


def test_rdp_is_infinite_without_delta() -> None:
    assert joint_rdp_epsilon([Event("gaussian", 1.0)], 0.0) == math.inf
