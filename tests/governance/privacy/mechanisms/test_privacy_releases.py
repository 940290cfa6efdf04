"""Noisy sums and noisy minimisers: sensitivity by leaving out each record, replayed noise, and plans that cheat."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from affidavit.errors import InvalidInput, PluginError, Refused, UsageError
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy import Event, calibrate, joint_delta, joint_epsilon
from affidavit_governance.privacy.accounting import accountant, joint_rdp_epsilon
from affidavit_governance.privacy.accounting.rdp import divergences
from affidavit_governance.privacy.mechanisms import convex
from affidavit_governance.privacy.mechanisms.releases import PrivateReleases
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_plugins.torch_base.plain import PlainReleases

KEY = bytes(range(32))
RNG = np.random.default_rng(3)


class Silent(Randomness):
    """No noise."""

    def normal(self, purpose: Purpose, step: int, count: int) -> np.ndarray:
        return np.zeros(count)

    def add_noise_(self, sums: Any, deviation: float, purpose: Purpose, step: int) -> None:
        return


def make(plan: Any, *, epsilon: float = 1.0, source: Randomness | None = None, **changes: Any) -> PrivateReleases:
    """Of a fixed noise, which is quick; tests of the cost let it be found."""
    known: dict[str, Any] = {"before": [], "relation": "add-or-remove-one", "group_size": 1, "noise_multiplier": 6.0, **changes}
    return PrivateReleases(plan, epsilon=epsilon, delta=1e-5, source=source or Randomness(), **known)


def problem(loss: str, rows: int = 25, columns: int = 3) -> tuple[np.ndarray, np.ndarray]:
    matrix = RNG.normal(size=(rows, columns)) * 3
    return matrix, (matrix[:, 0] > 0).astype(float) if loss == "logistic" else matrix[:, 0] * 3


# -- clipping and sums ------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.floats(width=64), min_size=2, max_size=2), min_size=1, max_size=5), st.floats(1e-3, 1e3))
def test_clipping_leaves_no_row_longer_than_the_bound_whatever_it_holds(rows: list[list[float]], bound: float) -> None:
    clipped = convex.clipped(np.array(rows), bound)
    assert (np.linalg.norm(clipped, axis=1) <= bound * (1 + 1e-12)).all()
    for row, kept in zip(np.array(rows), clipped, strict=True):
        if not np.isfinite(row).all():
            assert (kept == 0).all()
        elif np.abs(row).max() <= bound / 2:
            assert np.allclose(kept, row)


def test_leaving_out_any_record_moves_all_sums_together_by_at_most_the_bound() -> None:
    rows, groups = RNG.normal(size=(30, 2)) * 5, RNG.integers(0, 4, 30)
    whole, _ = make([("sums", 1.0)], source=Silent()).sums(rows, bound=2.0, groups=groups, number=4)
    moves = []
    for record in range(30):
        keep = np.arange(30) != record
        part, _ = make([("sums", 1.0)], source=Silent()).sums(rows[keep], bound=2.0, groups=groups[keep], number=4)
        moves.append(np.linalg.norm(whole - part))
    assert max(moves) == pytest.approx(2.0)
    plain, deviation = PlainReleases().sums(rows, bound=2.0, groups=groups, number=4)
    assert np.allclose(whole, plain)
    assert deviation == 0


def test_the_noise_of_sums_is_as_large_as_the_accountant_was_told() -> None:
    releases = make([("sums", 1.0), ("sums", 3.0)], noise_multiplier=None)
    noisy, deviation = releases.sums(np.zeros((5, 1)), bound=0.5, groups=np.zeros(5, dtype=np.int64), number=4000)
    other, smaller = releases.sums(np.zeros((5, 1)), bound=0.5, groups=np.zeros(5, dtype=np.int64), number=4000)
    assert noisy.std() == pytest.approx(deviation, rel=0.05)
    assert other.std() == pytest.approx(smaller, rel=0.05)
    assert deviation / smaller == pytest.approx(math.sqrt(3.0))
    assert [event.noise_multiplier * 0.5 for event in releases.executed] == pytest.approx([deviation, smaller])
    assert 0.999 < joint_epsilon(releases.executed, 1e-5) <= 1.0
    assert not np.array_equal(noisy, other)


def test_rows_that_are_not_finite_count_as_zero_and_are_counted() -> None:
    rows = np.array([[1.0], [np.nan], [np.inf]])
    releases = make([("sums", 1.0)], source=Silent())
    assert releases.sums(rows, bound=5.0)[0].tolist() == [[1.0]]
    assert releases.non_finite == 2


def test_rows_outside_the_groups_count_nowhere() -> None:
    found, _ = make([("sums", 1.0)], source=Silent()).sums(np.ones((3, 1)), bound=1.0, groups=np.array([-1, 0, 7]), number=2)
    assert found.tolist() == [[1.0], [0.0]]


# -- minimisers -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["logistic", "huber"])
def test_leaving_out_any_record_moves_the_exact_minimiser_by_at_most_slope_over_penalty(loss: str) -> None:
    rows, targets = problem(loss)
    rows, chosen, penalty = convex.clipped(rows, 2.0), convex.LOSSES[loss], 1.5
    whole = convex.minimise(rows, targets, np.ones(25), chosen, penalty, np.zeros(3))
    moves = []
    for record in range(25):
        keep = np.arange(25) != record
        part = convex.minimise(rows[keep], targets[keep], np.ones(24), chosen, penalty, np.zeros(3))
        moves.append(np.linalg.norm(whole - part))
    assert 0.01 < max(moves) <= chosen.slope * 2.0 / penalty


@pytest.mark.parametrize("loss", ["logistic", "huber"])
@settings(max_examples=50)
@given(score=st.floats(-50, 50), target=st.floats(0, 1))
def test_a_loss_has_the_derivatives_and_the_bounds_that_the_noise_rests_on(loss: str, score: float, target: float) -> None:
    chosen, h = convex.LOSSES[loss], 1e-4
    at, t = np.array([score - h, score, score + h]), np.full(3, target)
    value, first, second = chosen.value(at, t), chosen.first(at, t), chosen.second(at, t)
    assert (value[2] - value[0]) / (2 * h) == pytest.approx(first[1], abs=1e-6)
    assert (first[2] - first[0]) / (2 * h) == pytest.approx(second[1], abs=1e-6)
    assert abs(first[1]) <= chosen.slope
    assert 0 <= second[1] <= chosen.curvature


@pytest.mark.parametrize("loss", ["logistic", "huber"])
def test_the_privacy_loss_of_objective_perturbation_is_within_its_bound_on_every_outcome(loss: str) -> None:
    # The density of θ is φ(b) |det H| with b = -∇L(θ) - λθ: the proof's own terms, evaluated for each record left out.
    rows, targets = problem(loss)
    rows, chosen, penalty, bound, sigma = convex.clipped(rows, 2.0), convex.LOSSES[loss], 3.0 * convex.LOSSES[loss].curvature * 4.0, 2.0, 2.5
    slope = chosen.slope * bound
    shift, mu = -math.log1p(-chosen.curvature * bound**2 / penalty), 1 / sigma

    def log_density(theta: np.ndarray, keep: np.ndarray) -> tuple[float, np.ndarray]:
        x, y = rows[keep], targets[keep]
        b = -(x.T @ chosen.first(x @ theta, y) + penalty * theta)
        hessian = (x.T * chosen.second(x @ theta, y)) @ x + penalty * np.eye(3)
        return -(b @ b) / (2 * (sigma * slope) ** 2) + np.linalg.slogdet(hessian)[1], b

    largest = -math.inf
    for record in range(25):
        everybody, others = np.arange(25) >= 0, np.arange(25) != record
        direction = rows[record] / np.linalg.norm(rows[record])
        for _ in range(20):
            theta = convex.minimise(rows, targets, np.ones(25), chosen, penalty, sigma * slope * RNG.normal(size=3))
            (with_it, b), (without, c) = log_density(theta, everybody), log_density(theta, others)
            for loss_of, seen in ((with_it - without, b), (without - with_it, c)):
                allowed = shift + mu**2 / 2 + mu * abs(seen @ direction) / (sigma * slope)
                assert loss_of <= allowed + 1e-6
                largest = max(largest, loss_of / allowed)
    assert largest > 0.3  # the bound is no idle one


def test_the_solver_reaches_its_tolerance_on_rows_that_are_mostly_zero_too() -> None:
    rows = np.zeros((400, 40))
    rows[np.arange(400), RNG.integers(0, 40, 400)] = 1.0
    targets = RNG.integers(0, 2, 400).astype(float)
    chosen, linear = convex.LOSSES["logistic"], RNG.normal(size=40)
    theta = convex.minimise(rows, targets, np.ones(400), chosen, 0.1, linear)
    gradient = rows.T @ chosen.first(rows @ theta, targets) + 0.1 * theta + linear
    assert np.linalg.norm(gradient) <= convex.TOLERANCE


def test_without_noise_a_private_minimiser_is_the_plain_one_of_its_penalty() -> None:
    rows, targets = problem("logistic", 60)
    releases = make([("minimise", 1.0)], source=Silent())
    found = releases.minimise(rows, targets, loss="logistic", bound=2.0, l2=0.5)
    penalty = float(str(releases.notes[0]["penalty"]))
    assert penalty == pytest.approx(0.25 * 4 / -math.expm1(-0.1))
    assert np.allclose(found, PlainReleases().minimise(rows, targets, loss="logistic", bound=2.0, l2=penalty), atol=1e-5)
    stronger = make([("minimise", 1.0)], source=Silent())
    stronger.minimise(rows, targets, loss="logistic", bound=2.0, l2=50.0)
    assert stronger.notes[0]["penalty"] == 50.0


@pytest.mark.parametrize("loss", ["logistic", "huber"])
def test_the_noise_of_a_minimiser_is_as_large_as_the_accountant_was_told(loss: str) -> None:
    # Without anything in the rows the minimiser is -b/λ, the noise alone.
    releases = make([("minimise", 1.0)])
    found = releases.minimise(np.zeros((2, 4000)), np.zeros(2), loss=loss, bound=3.0)
    objective, output = releases.executed
    slope, penalty = {"logistic": 1.0, "huber": 2.0}[loss], float(str(releases.notes[0]["penalty"]))
    assert found.std() == pytest.approx(objective.noise_multiplier * slope * 3.0 / penalty, rel=0.05)
    assert penalty * -math.expm1(-objective.shift) >= {"logistic": 0.25, "huber": 1.0}[loss] * 3.0**2 * (1 - 1e-12)
    assert output.noise_multiplier == pytest.approx(10 * objective.noise_multiplier)


def test_the_answer_hides_which_of_all_points_within_the_tolerance_the_solver_found() -> None:
    class OutputOnly(Silent):
        """Noise of one deviation on the answer itself."""

        def add_noise_(self, sums: Any, deviation: float, purpose: Purpose, step: int) -> None:
            for values in sums:
                values += deviation

    rows, targets = problem("logistic")
    found, without = (
        make([("minimise", 1.0)], source=source).minimise(rows, targets, loss="logistic", bound=1.0, l2=1e-3) for source in (OutputOnly(), Silent())
    )
    releases = make([("minimise", 1.0)])
    penalty = 0.25 / -math.expm1(-0.1)
    sensitivity = 2 * convex.TOLERANCE / penalty
    assert np.allclose(found - without, releases.planned[1].noise_multiplier * sensitivity, rtol=1e-3)


def test_weights_above_one_and_targets_beyond_their_classes_are_cut() -> None:
    rows, targets = problem("logistic")
    found = [
        make([("minimise", 1.0)], source=Silent()).minimise(rows, given, loss="logistic", bound=1.0, weights=weights)
        for given, weights in ((targets, np.ones(25)), (np.where(targets > 0, 900.0, -900.0), np.full(25, 1e6)))
    ]
    assert np.array_equal(*found)


def test_a_record_that_is_not_finite_counts_as_left_out() -> None:
    rows, targets = problem("huber")
    rows[3, 1], targets[5] = np.nan, np.inf
    keep = ~np.isin(np.arange(25), [3, 5])
    releases = make([("minimise", 1.0)], source=Silent())
    found = releases.minimise(rows, targets, loss="huber", bound=1.0)
    assert releases.non_finite == 2
    assert np.allclose(found, make([("minimise", 1.0)], source=Silent()).minimise(rows[keep], targets[keep], loss="huber", bound=1.0), atol=1e-6)


def test_the_noise_is_replayed_from_a_key_only() -> None:
    rows, targets = problem("logistic")

    def run(source: Randomness) -> np.ndarray:
        return make([("minimise", 1.0)], source=source).minimise(rows, targets, loss="logistic", bound=1.0)

    assert np.array_equal(run(Randomness(key=KEY)), run(Randomness(key=KEY)))
    assert not np.array_equal(run(Randomness()), run(Randomness()))


def test_the_privacy_loss_of_two_records_together_is_within_the_bound_of_a_group() -> None:
    rows, targets = problem("logistic")
    rows, chosen, penalty, sigma = convex.clipped(rows, 2.0), convex.LOSSES["logistic"], 3.0, 2.5
    shift, mu = -math.log1p(-1.0 / penalty), 1 / sigma
    for first in range(0, 24, 2):
        keep = ~np.isin(np.arange(25), [first, first + 1])
        theta = convex.minimise(rows, targets, np.ones(25), chosen, penalty, sigma * 2.0 * RNG.normal(size=3))
        parts = []
        for x, y in ((rows, targets), (rows[keep], targets[keep])):
            b = -(x.T @ chosen.first(x @ theta, y) + penalty * theta)
            hessian = (x.T * chosen.second(x @ theta, y)) @ x + penalty * np.eye(3)
            parts.append((-(b @ b) / (2 * (sigma * 2.0) ** 2) + np.linalg.slogdet(hessian)[1], b))
        (with_them, b), (without, _) = parts
        seen = sum(abs(b @ rows[record]) / np.linalg.norm(rows[record]) for record in (first, first + 1)) / (sigma * 2.0)
        assert with_them - without <= 2 * shift + (2 * mu) ** 2 / 2 + mu * seen


# -- what it costs ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.4, 1.0, 1.5])
def test_delta_of_objective_perturbation_is_theorem_3_1_of_redberg_koskela_and_wang(epsilon: float) -> None:
    event = Event("objective_perturbation", 4.0, shift=0.1)
    mu, rest = 0.25, epsilon - 0.1
    gaussian = norm.cdf(mu / 2 - rest / mu) - math.exp(rest) * norm.cdf(-mu / 2 - rest / mu)
    assert joint_delta([event], epsilon) == pytest.approx(2 * gaussian, rel=2e-3)


def test_objective_perturbation_composes_and_its_renyi_bound_lies_above() -> None:
    event = Event("objective_perturbation", 6.0, shift=0.05)
    alone, twice = joint_epsilon([event], 1e-5), joint_epsilon([event, event], 1e-5)
    assert alone < twice < 2 * alone
    assert joint_epsilon([Event("gaussian", 6.0)], 1e-5) < alone < joint_rdp_epsilon([event], 1e-5)
    rng = np.random.default_rng(0)
    losses = (0.05 + 1 / 72 + np.abs(rng.normal(size=(2, 400_000))) / 6).sum(axis=0)
    assert joint_delta([event, event], 0.5) == pytest.approx(np.maximum(0, -np.expm1(0.5 - losses)).mean(), rel=0.02)


@pytest.mark.parametrize(("relation", "group_size"), [("replace-one", 1), ("add-or-remove-one", 3)])
def test_a_wider_neighbourhood_of_objective_perturbation_costs_more_and_goes_by_rdp(relation: str, group_size: int) -> None:
    event = Event("objective_perturbation", 10.0, shift=0.02)
    wide = event.under(relation, group_size)
    assert accountant([wide]) == "RDP"
    members = 2 * group_size if relation == "replace-one" else group_size
    as_one = Event("objective_perturbation", 10.0 / members, shift=0.02 * members)
    assert np.allclose(divergences([wide]), divergences([as_one]))
    assert joint_epsilon([wide], 1e-5) > joint_epsilon([event], 1e-5)
    assert Event.from_json(wide.to_json()) == wide


@pytest.mark.parametrize("changes", [{"shift": 0.0}, {"shift": -1.0}, {"mechanism": "gaussian", "shift": 0.1}, {"sampling_rate": 0.5}])
def test_an_objective_perturbation_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Event(**{"mechanism": "objective_perturbation", "noise_multiplier": 1.0, "shift": 0.1, **changes})


@pytest.mark.parametrize("plan", [[("sums", 1.0)] * 3, [("minimise", 1.0)], [("sums", 0.1), ("minimise", 0.5), ("minimise", 0.4)]])
@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_a_plan_costs_what_it_may_and_no_more_with_what_was_released_before(plan: Any, epsilon: float) -> None:
    before = [Event("gaussian", 20.0)]
    spent = joint_epsilon([*before, *make(plan, epsilon=epsilon, before=before, noise_multiplier=None).planned], 1e-5)
    assert 0.998 * epsilon < spent <= epsilon


def test_groups_and_replacement_reach_the_noise() -> None:
    one = make([("sums", 1.0)], noise_multiplier=None).planned[0].noise_multiplier
    group = make([("sums", 1.0)], relation="replace-one", group_size=2, noise_multiplier=None).planned[0].noise_multiplier
    assert group == pytest.approx(4 * one, rel=1e-3)
    wide = make([("minimise", 1.0)], relation="replace-one", noise_multiplier=None).planned
    assert joint_epsilon(wide, 1e-5) <= 1.0


# -- what is refused --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [[], [("sums", 0.0)], [("sums", -1.0)], [("means", 1.0)], [("sums", math.inf)], [("sums", math.nan)]])
def test_a_plan_of_nothing_or_of_unknown_releases_is_refused(plan: Any) -> None:
    with pytest.raises(PluginError, match="announced releases"):
        make(plan)


def test_a_fixed_noise_that_costs_too_much_is_refused_and_one_that_does_not_is_taken() -> None:
    for sigma in (0.5, 0.0):
        with pytest.raises(Refused, match="costs epsilon"):
            make([("sums", 1.0)], noise_multiplier=sigma)
    assert make([("sums", 1.0)], noise_multiplier=50.0).planned[0].noise_multiplier == 50.0


def test_too_little_left_for_a_minimiser_or_for_anything_is_refused() -> None:
    almost, everything = calibrate(0.97, sampling_rate=1.0, steps=1, delta=1e-5), calibrate(1.01, sampling_rate=1.0, steps=1, delta=1e-5)
    with pytest.raises(Refused, match="leaves too little"):
        make([("minimise", 1.0)], before=[Event("gaussian", almost)], noise_multiplier=None)
    with pytest.raises(UsageError, match="other releases alone"):
        make([("sums", 1.0)], before=[Event("gaussian", everything)], noise_multiplier=None)


def test_a_solver_that_misses_its_tolerance_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convex, "TOLERANCE", -1.0)
    rows, targets = problem("logistic")
    releases = make([("minimise", 1.0)])
    with pytest.raises(InvalidInput, match="did not reach"):
        releases.minimise(rows, targets, loss="logistic", bound=1.0)
    assert releases.executed  # it counts all the same


def test_releases_in_another_number_or_order_than_announced_are_refused() -> None:
    releases = make([("sums", 1.0), ("minimise", 1.0)])
    rows, targets = problem("logistic")
    with pytest.raises(PluginError, match="announced 'sums'"):
        releases.minimise(rows, targets, loss="logistic", bound=1.0)
    releases.sums(rows, bound=1.0)
    with pytest.raises(PluginError, match="1 of the 2"):
        releases.check_finished("test")
    releases.minimise(rows, targets, loss="logistic", bound=1.0)
    releases.check_finished("test")
    with pytest.raises(PluginError, match="more releases than it announced"):
        releases.sums(rows, bound=1.0)


@pytest.mark.parametrize("bad", [{"bound": 0.0}, {"bound": math.inf}, {"groups": np.zeros(3, dtype=np.int64)}, {"number": 0}, {"number": 2}])
def test_sums_that_do_not_fit_are_refused_before_anything_is_released(bad: dict[str, Any]) -> None:
    releases = make([("sums", 1.0)])
    with pytest.raises(PluginError):
        releases.sums(np.ones((4, 2)), **{"bound": 1.0, **bad})
    assert releases.executed == []


def engine(**policy: Any) -> tuple[PrivateEngine, list[list[Event]]]:
    reserved: list[list[Event]] = []
    return PrivateEngine(PrivacyPolicy(**{"epsilon": 1.0, "delta": 1e-5, **policy}), reserve=lambda events: reserved.append(list(events))), reserved


def test_the_engine_reserves_all_releases_before_the_first_and_counts_what_ran() -> None:
    private, reserved = engine()
    private.center_and_scale(RNG.normal(size=(50, 2)))
    releases = private.releases([("sums", 1.0), ("sums", 1.0)])
    assert len(private.events) == 2
    assert joint_epsilon(reserved[-1], 1e-5) == pytest.approx(1.0, abs=2e-3)
    releases.sums(np.ones((50, 1)), bound=1.0)
    assert sum(event.steps for event in private.events) == 3
    with pytest.raises(PluginError, match="1 of the 2"):
        private.check_finished("test")
    releases.sums(np.ones((50, 1)), bound=1.0)
    private.check_finished("test")
    statement = private.statement()
    assert statement["releases"] == [{"release": "sums", "columns": 1, "groups": 1, "bound": 1.0, "share": 0.5, "times": 2}]
    assert 0.998 < float(str(statement["epsilon"])) <= 1.0


def test_statistics_after_releases_and_a_second_plan_are_refused() -> None:
    private, _ = engine()
    private.releases([("sums", 1.0)])
    with pytest.raises(PluginError, match="after training began"):
        private.center_and_scale(np.ones((3, 1)))
    with pytest.raises(PluginError, match="twice"):
        private.releases([("sums", 1.0)])
    with pytest.raises(PluginError, match="twice"):
        private.begin(None, None, rows=3, batch_size=1, epochs=1, seed=0)


def test_a_budget_that_refuses_leaves_nothing_released() -> None:
    def refuse(events: Any) -> None:
        raise Refused("Nothing is left.", by="budget", line="privacy.dataset_budget", satisfy="Use other data.")

    private = PrivateEngine(PrivacyPolicy(), reserve=refuse)
    with pytest.raises(Refused):
        private.releases([("sums", 1.0)])
    assert private.events == ()
