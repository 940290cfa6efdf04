"""Neighbour relations and groups: dominating pairs against brute force, dp-accounting and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from affidavit.errors import UsageError
from affidavit_governance.privacy import Event, epsilon, joint_delta, joint_epsilon, rdp_epsilon

DIGITS = (256 / 1797, 1.0, 70, 1e-5)


def test_replacing_one_record_has_the_published_epsilon() -> None:
    assert epsilon(*DIGITS, relation="replace-one") == pytest.approx(12.78, abs=5e-3)
    assert 12.78 < rdp_epsilon(*DIGITS, relation="replace-one") < 15


def test_shuffled_epochs_have_no_amplification() -> None:
    epochs = 10
    assert joint_epsilon([Event("gaussian", 1.0, 1.0, epochs)], 1e-5) == pytest.approx(17.86, abs=5e-3)
    assert epsilon(256 / 1797, 1.0, 70, 1e-5) < 17.86 / 2  # the formula for samples would halve it


@pytest.mark.parametrize("relation", ["add-or-remove-one", "replace-one"])
@pytest.mark.parametrize(("rate", "sigma", "steps"), [(256 / 1797, 1.0, 70), (0.001, 2.0, 5000), (0.99, 2.0, 10)])
def test_one_record_in_a_sample_agrees_with_the_library_s_own_mechanism(relation: str, rate: float, sigma: float, steps: int) -> None:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    theirs = from_gaussian_mechanism(
        sigma, sampling_prob=rate, neighboring_relation=NeighboringRelation["_".join(relation.upper().split("-"))]
    ).self_compose(steps)
    assert epsilon(rate, sigma, steps, 1e-5, relation=relation) == pytest.approx(theirs.get_epsilon_for_delta(1e-5), abs=1e-6)


def test_rdp_of_one_record_is_hardly_below_the_library_s_whose_fractional_orders_are_bounds() -> None:
    from dp_accounting import dp_event
    from dp_accounting.rdp import RdpAccountant

    theirs = RdpAccountant()
    theirs.compose(dp_event.PoissonSampledDpEvent(0.04, dp_event.GaussianDpEvent(1.5)), 2250)
    assert theirs.get_epsilon(1e-5) - 1e-3 <= rdp_epsilon(0.04, 1.5, 2250, 1e-5) <= theirs.get_epsilon(1e-5)


def test_a_group_agrees_with_the_library_s_mixture_of_gaussians() -> None:
    from dp_accounting.pld.privacy_loss_distribution import from_mixture_gaussian_mechanism

    k, rate, sigma = 2, 0.05, 6.0
    theirs = from_mixture_gaussian_mechanism(sigma, list(range(k + 1)), list(binom.pmf(range(k + 1), k, rate))).self_compose(50)
    assert epsilon(rate, sigma, 50, 1e-5, group_size=k) == pytest.approx(theirs.get_epsilon_for_delta(1e-5), abs=1e-6)


def _hockey_stick(upper: np.ndarray, lower: np.ndarray, eps: float, cell: float) -> float:
    return float(np.maximum(upper - math.exp(eps) * lower, 0).sum() * cell)


def _mixture(grid: np.ndarray, shifts: dict[int, np.ndarray], rate: float, sigma: float, k: int) -> np.ndarray:
    """Density on a plane of the noisy sum with j of k members in the sample, shifted by shifts[j]."""
    density = np.zeros((len(grid), len(grid)))
    for j in range(k + 1):
        x, y = shifts[j]
        density += binom.pmf(j, k, rate) * norm.pdf(grid, x, sigma)[:, None] * norm.pdf(grid, y, sigma)[None, :]
    return density


@settings(max_examples=25, deadline=None)
@given(angle=st.floats(0, math.pi), lengths=st.tuples(st.floats(0, 1), st.floats(0, 1)), eps=st.floats(0, 2), k=st.sampled_from([1, 3]))
def test_no_replaced_contributions_in_the_plane_tell_more_than_the_dominating_pair(
    angle: float, lengths: tuple[float, float], eps: float, k: int
) -> None:
    rate, sigma = 0.4, 1.3
    grid = np.linspace(-12, 12, 241)
    cell = (grid[1] - grid[0]) ** 2
    before = {j: j * lengths[0] * np.array([1.0, 0.0]) for j in range(k + 1)}
    after = {j: j * lengths[1] * np.array([math.cos(angle), math.sin(angle)]) for j in range(k + 1)}
    upper, lower = _mixture(grid, before, rate, sigma, k), _mixture(grid, after, rate, sigma, k)
    found = max(_hockey_stick(upper, lower, eps, cell), _hockey_stick(lower, upper, eps, cell))
    assert found <= joint_delta([Event("gaussian", sigma, rate, 1, "replace-one", k)], eps) + 1e-6


def test_a_replaced_group_s_delta_is_reached_by_opposite_contributions() -> None:
    rate, sigma, k, eps = 0.3, 2.0, 4, 0.7
    grid = np.linspace(-30, 30, 200_001)
    weights = binom.pmf(np.arange(k + 1), k, rate)
    upper = sum(w * norm.pdf(grid, j, sigma) for j, w in enumerate(weights))
    lower = sum(w * norm.pdf(grid, -j, sigma) for j, w in enumerate(weights))
    exact = _hockey_stick(np.asarray(upper), np.asarray(lower), eps, grid[1] - grid[0])
    assert exact - 1e-8 <= joint_delta([Event("gaussian", sigma, rate, 1, "replace-one", k)], eps) <= exact + 1e-6


@pytest.mark.parametrize(("relation", "factor"), [("add-or-remove-one", 1), ("replace-one", 2)])
@pytest.mark.parametrize("mechanism", ["gaussian", "laplace", "pure"])
def test_without_sampling_a_group_divides_the_noise(mechanism: str, relation: str, factor: int) -> None:
    for delta in (1e-5, 1e-9):
        group = joint_epsilon([Event(mechanism, 12.0, 1.0, 2, relation, 3)], delta)
        assert group == pytest.approx(joint_epsilon([Event(mechanism, 12.0 / (3 * factor), 1.0, 2)], delta), abs=1e-9)


def test_pure_mechanisms_stay_exact_for_groups_and_replacement() -> None:
    assert joint_epsilon([Event("laplace", 1.0), Event("pure", 0.5)], 0.0) == 3.0
    assert joint_epsilon([Event("laplace", 1.0, relation="replace-one")], 0.0) == 2.0
    assert joint_epsilon([Event("pure", 4.0, group_size=6)], 0.0) == 1.5


def test_any_pure_mechanism_costs_at_least_as_much_as_the_laplace_mechanism() -> None:
    laplace, pure = (joint_epsilon([Event(name, 5.0, 1.0, 60)], 1e-5) for name in ("laplace", "pure"))
    assert laplace < pure < 12.0
    # Randomized response, composed (Kairouz, Oh and Viswanath 2015): δ(ε) in closed form.
    yes = 1 / (1 + math.exp(-0.2))
    wins = np.arange(61)
    loss = 0.2 * (2 * wins - 60)
    exact = float((binom.pmf(wins, 60, yes) * np.maximum(-np.expm1(pure - loss), 0)).sum())
    assert exact == pytest.approx(1e-5, rel=1e-3)


def test_mixed_mechanisms_compose_to_less_than_their_sum() -> None:
    parts = [Event("laplace", 4.0, 1.0, 3), Event("gaussian", 3.0), Event("gaussian", 1.5, 0.02, 200)]
    alone = [joint_epsilon([part], 1e-5) for part in parts]
    assert max(alone) < joint_epsilon(parts, 1e-5) < sum(alone)


def test_events_of_different_neighbours_are_composed_under_the_widest() -> None:
    one, two = Event("gaussian", 4.0, 0.05, 50), Event("laplace", 20.0, relation="replace-one", group_size=2)
    lifted = [one.under("replace-one", 2), two]
    assert joint_epsilon([one, two], 1e-5) == joint_epsilon(lifted, 1e-5) > joint_epsilon([one, two.under("add-or-remove-one", 1)], 1e-5)


@settings(max_examples=6, deadline=None)
@given(rate=st.floats(0.01, 0.5), sigma=st.floats(5.0, 12.0), steps=st.integers(1, 20), k=st.integers(1, 3))
def test_wider_neighbours_cost_more_and_rdp_is_above_pld(rate: float, sigma: float, steps: int, k: int) -> None:
    removed, replaced = (epsilon(rate, sigma, steps, 1e-5, relation=relation, group_size=k) for relation in ("add-or-remove-one", "replace-one"))
    assert removed <= replaced <= rdp_epsilon(rate, sigma, steps, 1e-5, relation="replace-one", group_size=k) + 1e-6
    assert removed <= epsilon(rate, sigma, steps, 1e-5, group_size=k + 1)


def test_hardly_any_noise_in_a_large_group_is_bounded_and_needs_no_memory() -> None:
    found = epsilon(0.01, 0.01, 3, 1e-5, relation="replace-one", group_size=1000)
    assert 1e6 < found < math.inf


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Event("gaussian", 1.0, relation="replace-two"),
        lambda: Event("gaussian", 1.0, group_size=0),
        lambda: Event("gaussian", 1.0, group_size=1001),
        lambda: Event("pure", 1.0, 0.5),
        lambda: Event("gaussian", 1.0, mean=3.0),
    ],
)
def test_neighbours_that_cannot_be_accounted_for_are_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        wrong()  # type: ignore[operator]  # a list of functions


def test_events_carry_their_neighbours_through_json_and_old_ones_still_read() -> None:
    event = Event("gaussian", 1.25, 0.1, 7, "replace-one", 3)
    assert Event.from_json(event.to_json()) == event
    old = {"type": "gaussian", "noise_multiplier": 1.25, "sampling_rate": 0.1, "steps": 7}
    assert Event.from_json(old) == Event("gaussian", 1.25, 0.1, 7, "add-or-remove-one", 1)
