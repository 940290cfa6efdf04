"""Shapley values against published numbers, closed forms and brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.explain import estimate_mean_shapley, estimate_shapley, shapley_values


def by_definition(game, players):
    """The mean marginal contribution over every order: the definition, in the slowest way."""
    total = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        inside = np.zeros((1, players), dtype=bool)
        before = game(inside)[0]
        for player in order:
            inside = inside.copy()
            inside[0, player] = True
            after = game(inside)[0]
            total[player] += after - before
            before = after
    return total / len(orders)


def random_game(players, seed, order=None):
    """A game as a sum over terms, each a product of players; `order` bounds how many players interact."""
    generator = np.random.default_rng(seed)
    terms = [tuple(np.flatnonzero(code >> np.arange(players) & 1)) for code in range(2**players)]
    terms = [term for term in terms if order is None or len(term) <= order]
    weights = generator.normal(size=len(terms))
    return lambda coalitions: sum(w * coalitions[:, list(term)].all(axis=1) for term, w in zip(terms, weights, strict=True))


def security_council(coalitions):
    """A resolution passes with all five permanent members and nine votes in all."""
    return (coalitions[:, :5].all(axis=1) & (coalitions.sum(axis=1) >= 9)).astype(float)


def test_un_security_council_has_its_published_values():
    values = shapley_values(security_council, 15)
    np.testing.assert_allclose(values[:5], 421 / 2145, rtol=1e-12)
    np.testing.assert_allclose(values[5:], 4 / 2145, rtol=1e-12)


def test_sampled_security_council_is_inside_its_error_bars():
    estimate = estimate_shapley(security_council, 15, budget=20_000, seed=3)
    truth = np.array([421 / 2145] * 5 + [4 / 2145] * 10)
    assert estimate.evaluations <= 20_000
    assert estimate.errors is not None
    assert (abs(estimate.values - truth)[:5] <= estimate.errors[:5]).all()
    assert (estimate.errors[:5] > 0.005).all() and (estimate.errors < 0.02).all()


def test_linear_game_has_its_closed_form():
    generator = np.random.default_rng(1)
    weight, row, background = generator.normal(size=7), generator.normal(size=7), generator.normal(size=(30, 7))

    def game(coalitions):
        return np.array([(np.where(inside, row, background) @ weight).mean() for inside in coalitions])

    np.testing.assert_allclose(shapley_values(game, 7), weight * (row - background.mean(axis=0)), atol=1e-12)


@pytest.mark.parametrize("players", [1, 2, 3, 5, 6])
def test_enumeration_equals_the_definition(players):
    game = random_game(players, seed=players)
    np.testing.assert_allclose(shapley_values(game, players), by_definition(game, players), atol=1e-10)


@pytest.mark.parametrize("budget", [4 * 9 - 2, 100, 400])
def test_pairs_are_exact_where_at_most_two_players_interact(budget):
    game = random_game(9, seed=4, order=2)
    estimate = estimate_shapley(game, 9, budget=budget, seed=budget)
    assert estimate.errors is not None, "the budget must be too small to enumerate, or this shows nothing"
    np.testing.assert_allclose(estimate.values, shapley_values(game, 9), atol=1e-10)
    np.testing.assert_allclose(estimate.errors, 0, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(players=st.integers(1, 8), seed=st.integers(0, 2**32 - 1), sampled=st.booleans())
def test_values_add_up_to_the_grand_coalition(players, seed, sampled):
    game = random_game(players, seed)
    estimate = estimate_shapley(game, players, budget=max(4 * players - 2, 2**players - 1) if sampled else None, seed=seed)
    assert estimate.base + estimate.values.sum() == pytest.approx(estimate.total, abs=1e-9)
    assert estimate.total == pytest.approx(game(np.ones((1, players), dtype=bool))[0])


def test_intervals_cover_about_95_percent():
    game = random_game(8, seed=11)
    truth = shapley_values(game, 8)
    runs = [estimate_shapley(game, 8, budget=200, seed=seed) for seed in range(200)]
    covered = np.mean([abs(run.values - truth) <= run.errors for run in runs])
    assert 0.92 <= covered <= 0.98


def family(games, players, order=None):
    """Several random games at once, and their mean; the values of all coalitions are worked out once."""
    bits = 2 ** np.arange(players)
    everyone = (np.arange(2**players)[:, None] & bits > 0).astype(bool)
    worth = np.stack([random_game(players, seed, order)(everyone) for seed in range(games)])
    return lambda coalitions, which: worth[which, coalitions @ bits], lambda coalitions: worth[:, coalitions @ bits].mean(axis=0)


@pytest.mark.parametrize("budget", [5 * 14, 5 * 14 * 3, 5 * 2**7])
def test_values_of_a_mean_of_games_add_up_and_are_exact_below_order_three(budget):
    play, mean = family(5, 7, order=2)
    estimate = estimate_mean_shapley(play, 7, 5, budget)
    np.testing.assert_allclose(estimate.values, shapley_values(mean, 7), atol=1e-10)
    assert estimate.base + estimate.values.sum() == pytest.approx(estimate.total, abs=1e-10)
    assert estimate.evaluations <= budget and (estimate.errors is None) == (budget == 5 * 2**7)


def test_intervals_of_a_mean_of_games_cover_and_with_one_pair_each_they_are_wider():
    play, mean = family(12, 8)
    truth = shapley_values(mean, 8)
    for pairs, least, most in ((3, 0.92, 0.98), (1, 0.95, 1.0)):
        runs = [estimate_mean_shapley(play, 8, 12, 12 * (2 + 14 * pairs), seed=seed) for seed in range(200)]
        assert runs[0].evaluations == 12 * (2 + 14 * pairs)
        covered = np.mean([abs(run.values - truth) <= run.errors for run in runs])
        assert least <= covered <= most


def test_a_budget_below_one_pair_for_each_game_is_refused():
    with pytest.raises(UsageError, match="at least 192"):
        estimate_mean_shapley(family(12, 8)[0], 8, 12, 191)


def test_same_seed_same_values_and_the_global_generator_is_left_alone():
    game = random_game(10, seed=2)
    before = np.random.get_state()[1].copy()
    first, again = (shapley_values(game, 10, budget=300, seed=5) for _ in range(2))
    assert (first == again).all()
    assert (first != shapley_values(game, 10, budget=300, seed=6)).any()
    assert (np.random.get_state()[1] == before).all()


def test_a_player_who_never_matters_gets_nothing_and_twins_get_the_same():
    values = shapley_values(lambda c: (c[:, 0] | c[:, 1]).astype(float), ["a", "b", "idle"])
    np.testing.assert_allclose(values, [0.5, 0.5, 0.0], atol=1e-12)


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="at least 78"):
        shapley_values(lambda c: c[:, 0].astype(float), 20, budget=77)
    with pytest.raises(InvalidInput, match="not finite"):
        shapley_values(lambda c: np.full(len(c), np.nan), 3)
    with pytest.raises(InvalidInput, match="shape"):
        shapley_values(lambda c: np.zeros((len(c), 2)), 3)
    assert shapley_values(lambda c: np.ones(len(c)), 0).shape == (0,)
