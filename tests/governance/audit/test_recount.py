"""The second accountant: its bracket against published values, closed forms and the first accountant, from which it takes nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm

from affidavit_governance.audit import losses, recount
from affidavit_governance.audit.losses import Mechanism, NotRecomputedError
from affidavit_governance.audit.recount import Bracket
from affidavit_governance.privacy import Event, joint_epsilon, repeat_and_select
from affidavit_governance.privacy.accounting import joint_rdp_epsilon

# rate, σ, steps, δ, published ε by PLD on a grid of 1e-4, and what dp-accounting gives on a grid of 1e-5 (computed once for this table)
TABLE = [
    pytest.param(0.04, 1.5, 2250, 1e-5, 6.7688, None, id="Opacus"),
    pytest.param(0.0025, 1.3, 6000, 1e-5, 0.6401, 0.6400047, id="TF-Privacy 1"),
    pytest.param(0.001, 1.0, 30000, 1e-7, 1.0982, 1.0976826, id="TF-Privacy 2"),
    pytest.param(0.01, 0.7, 120, 1e-5, 2.461238, None, id="TF-Privacy 3"),
    pytest.param(0.001, 0.8, 100, 1e-6, 0.2603, 0.2603371, id="PRV 1"),
    pytest.param(0.05, 1.5, 1000, 1e-6, 6.1997, None, id="PRV 2"),
    pytest.param(0.05, 3.0, 20000, 1e-6, 13.9507, None, id="PRV 3"),
    pytest.param(0.001, 2.0, 50000, 1e-6, 0.4828, 0.4813298, id="PRV 4"),
    pytest.param(256 / 1797, 1.0, 70, 1e-5, 8.50658, None, id="digits"),
]


def found(*events: Event, delta: float = 1e-5) -> Bracket:
    return recount.bracket([Mechanism.read(event.to_json()) for event in events], delta)


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """The analytic Gaussian mechanism: Balle and Wang (2018), theorem 8."""

    def gap(eps: float) -> float:
        return float(norm.cdf(1 / (2 * sigma) - eps * sigma) - math.exp(eps) * norm.cdf(-1 / (2 * sigma) - eps * sigma)) - delta

    return float(brentq(gap, 0, 500)) if gap(0.0) > 0 else 0.0


@pytest.mark.parametrize(("rate", "sigma", "steps", "delta", "published", "fine"), TABLE)
def test_the_bracket_is_narrow_and_holds_the_published_values(
    rate: float, sigma: float, steps: int, delta: float, published: float, fine: float | None
) -> None:
    bracket = found(Event("gaussian", sigma, rate, steps), delta=delta)
    assert bracket.high - bracket.low < 0.01 * published
    # The published values are rounded, and up by their grid: 50000 roundings add 0.0015, as the finer grid shows.
    assert bracket.low - 5e-5 <= published <= bracket.high + 2e-3
    if fine is not None:
        assert bracket.low <= fine <= bracket.high


@settings(max_examples=6, deadline=None)
@given(sigma=st.floats(0.3, 30.0), delta=st.floats(1e-8, 0.05))
def test_the_exact_gaussian_lies_inside(sigma: float, delta: float) -> None:
    bracket, exact = found(Event("gaussian", sigma), delta=delta), gaussian_epsilon(sigma, delta)
    assert bracket.low <= exact + 1e-9
    assert exact <= bracket.high + 1e-9
    assert bracket.high - bracket.low < 0.005 * exact + 1e-3


@example(rate=0.5, sigma=1.0, steps=7, relation="replace-one", k=3)
@settings(max_examples=4, deadline=None)
@given(
    rate=st.floats(0.005, 0.6),
    sigma=st.floats(1.0, 8.0),
    steps=st.integers(1, 60),
    relation=st.sampled_from(["add-or-remove-one", "replace-one"]),
    k=st.sampled_from([1, 1, 3]),
)
def test_the_first_accountant_is_never_below_and_hardly_above(rate: float, sigma: float, steps: int, relation: str, k: int) -> None:
    event = Event("gaussian", sigma, rate, steps, relation, k)
    bracket, first = found(event), joint_epsilon([event], 1e-5)
    assert bracket.low <= first
    # Where next to no privacy is left, the first accountant answers by RDP, which is looser.
    assert first <= bracket.high * 1.001 + 2e-3 or first == joint_rdp_epsilon([event], 1e-5)
    assert bracket.high - bracket.low <= 0.02 * bracket.high + 1e-3


def test_replacing_one_record_has_the_published_epsilon_inside() -> None:
    bracket = found(Event("gaussian", 1.0, 256 / 1797, 70, "replace-one"))
    assert bracket.low < 12.782 < bracket.high + 1e-3


def test_one_step_agrees_with_the_exact_divergences_of_both_directions() -> None:
    rate, sigma, delta = 0.3, 1.1, 1e-3

    def divergence(eps: float) -> float:
        # Removed: outcomes above t count; added: those below. Both ends in closed form.
        def ends(value: float) -> float:
            return sigma**2 * math.log((math.exp(value) - 1 + rate) / rate) + 0.5

        t = ends(eps)
        removed = (1 - rate - math.exp(eps)) * norm.sf(t, 0, sigma) + rate * norm.sf(t, 1, sigma)
        if math.exp(-eps) <= 1 - rate:
            return float(removed)
        t = ends(-eps)
        added = norm.cdf(t, 0, sigma) - math.exp(eps) * ((1 - rate) * norm.cdf(t, 0, sigma) + rate * norm.cdf(t, 1, sigma))
        return float(max(removed, added))

    exact = float(brentq(lambda eps: divergence(eps) - delta, 1e-6, 10))
    bracket = found(Event("gaussian", sigma, rate), delta=delta)
    assert bracket.low <= exact <= bracket.high
    assert bracket.high - bracket.low < 1e-3


def test_randomized_response_composed_is_inside_in_closed_form() -> None:
    loss, steps = 0.2, 40
    yes = 1 / (1 + math.exp(-loss))

    def gap(eps: float) -> float:
        wins = [(k, binom.pmf(k, steps, yes)) for k in range(steps + 1)]
        return sum(p * max(0.0, -math.expm1(eps - loss * (2 * k - steps))) for k, p in wins) - 1e-5

    exact = float(brentq(gap, 0.0, 8.0))
    bracket = found(Event("pure", 1 / loss, 1.0, steps))
    assert bracket.low <= exact <= bracket.high
    assert bracket.high - bracket.low < 0.02 * exact


def test_pure_mechanisms_are_exact_without_delta() -> None:
    assert found(Event("laplace", 1.0), Event("laplace", 1.0), delta=0.0) == Bracket(2.0, 2.0, 0)
    with pytest.raises(NotRecomputedError, match="too small"):
        found(Event("gaussian", 1.0), delta=0.0)


@pytest.mark.parametrize(
    "events",
    [
        [Event("laplace", 1.0, 1.0, 2)],
        [Event("laplace", 4.0, 1.0, 3), Event("gaussian", 3.0), Event("gaussian", 1.5, 0.02, 200)],
        [Event("laplace", 10.0, 1.0, 20, "replace-one", 2)],
        [Event("gaussian", 6.0), Event("gaussian", 6.0), Event("gaussian", 1.2, 0.05, 300)],
        [Event("gaussian", 5.0, 0.01, 100, "add-or-remove-one", 100)],
        [Event("gaussian", 0.5, 0.0005, 300)],
        [Event("objective_perturbation", 3.0, shift=0.1), Event("gaussian", 30.0)],
        [Event("gaussian", 4.0, 0.05, 50), Event("laplace", 20.0, relation="replace-one", group_size=2)],
    ],
    ids=["laplace", "mixed", "replaced laplace", "statistics and steps", "a hundred records", "rare large losses", "objective", "widest neighbours"],
)
def test_every_mechanism_is_bracketed_together_with_others(events: list[Event]) -> None:
    bracket, first = found(*events), joint_epsilon(events, 1e-5)
    assert bracket.low <= first <= bracket.high + 1e-3
    assert bracket.high - bracket.low < 0.02 * first


def test_no_events_cost_nothing() -> None:
    assert found() == found(Event("gaussian", 1.0, 0.1, 0)) == Bracket(0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (repeat_and_select([Event("laplace", 1.0)], mean=3.0), "RDP only"),
        (Event("gaussian", 5.0, 0.3, 10, "add-or-remove-one", 1000), "too long"),
        (Event("objective_perturbation", 3.0, relation="replace-one", shift=0.1), "RDP only"),
    ],
)
def test_what_cannot_be_recomputed_says_why(event: Event, why: str) -> None:
    with pytest.raises(NotRecomputedError, match=why):
        found(event)


def test_hardly_any_noise_is_bracketed_without_overflow() -> None:
    bracket = found(Event("gaussian", 0.01, 1.0, 10))
    exact = 5e4 + 316.2  # μ²/2 and some of its √(2·5e4) standard deviations
    assert exact < bracket.low <= bracket.high < 1.05 * exact


def test_the_worse_one_of_adding_and_removing_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(1.0, 1.005), (2.0, 2.01)])
    monkeypatch.setattr(recount, "_compose", lambda *arguments: next(answers))
    assert found(Event("gaussian", 1.234, 0.1, 3)) == Bracket(2.0, 2.01, recount.SIZES[0])


def test_adding_a_record_is_removing_it_with_the_two_distributions_exchanged() -> None:
    rate, sigma, eps = 0.3, 1.1, 0.2
    event = Mechanism("gaussian", sigma, rate, 1, "add-or-remove-one", 1)
    cells = losses.cells(event, 1e-3, 1e-12, 10**6).turned()
    t = sigma**2 * math.log((math.exp(-eps) - 1 + rate) / rate) + 0.5
    exact = norm.cdf(t, 0, sigma) - math.exp(eps) * ((1 - rate) * norm.cdf(t, 0, sigma) + rate * norm.cdf(t, 1, sigma))
    above = [(p, q) for i, (p, q) in enumerate(zip(cells.upper, cells.lower, strict=True)) if cells.offset + (cells.first + i) * 1e-3 >= eps]
    assert sum(p - math.exp(eps) * q for p, q in above) == pytest.approx(exact, abs=1e-6)
    assert math.fsum(cells.upper) == pytest.approx(1.0, abs=1e-9)
