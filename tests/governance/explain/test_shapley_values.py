"""Shapley values against published numbers, closed forms and brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.explain import estimate_mean_shapley, estimate_shapley, shapley_values
from affidavit_governance.explain.estimators.leverage import by_leverage
from affidavit_governance.explain.estimators.permutation import by_permutations


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
    place = 2 ** np.arange(players)
    everyone = (np.arange(2**players)[:, None] & place > 0).astype(bool)
    worth = sum(w * everyone[:, list(term)].all(axis=1) for term, w in zip(terms, weights, strict=True))
    return lambda coalitions: worth[coalitions @ place]


def security_council(coalitions):
    """A resolution passes with all five permanent members and nine votes in all."""
    return (coalitions[:, :5].all(axis=1) & (coalitions.sum(axis=1) >= 9)).astype(float)


def test_un_security_council_has_its_published_values():
    values = shapley_values(security_council, 15)
    np.testing.assert_allclose(values[:5], 421 / 2145, rtol=1e-12)
    np.testing.assert_allclose(values[5:], 4 / 2145, rtol=1e-12)


def test_sampled_security_council_is_inside_its_error_bars():
    estimates = [estimate_shapley(security_council, 15, budget=2_000, seed=seed) for seed in range(12)]
    truth = np.array([421 / 2145] * 5 + [4 / 2145] * 10)
    assert max(estimate.evaluations for estimate in estimates) <= 2_000
    inside = np.array([abs(estimate.values - truth) <= estimate.errors for estimate in estimates])
    assert inside.mean() >= 0.9 and inside[:, :5].mean() >= 0.9
    errors = np.array([estimate.errors for estimate in estimates])
    assert (errors[:, :5] > 0.0005).all() and (errors < 0.03).all()


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


def estimates(game, players, budget, seed):
    """The same budget by both sampled methods."""
    return estimate_shapley(game, players, budget, seed=seed), by_permutations(lambda part, _: game(part), players, 1, budget, seed=seed)


@settings(max_examples=25, deadline=None)
@given(players=st.integers(5, 8), seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_pairs_are_exact_where_at_most_two_players_interact(players, seed, share):
    game = random_game(players, seed, order=2)
    least, most = 4 * players - 2, 2**players - 1
    truth = shapley_values(game, players)
    for estimate in estimates(game, players, int(least + share * (most - least)), seed):
        assert estimate.errors is not None, "the budget must be too small to enumerate, or this shows nothing"
        np.testing.assert_allclose(estimate.values, truth, atol=1e-9 * max(1, abs(truth).max()))
        np.testing.assert_allclose(estimate.errors, 0, atol=1e-8 * max(1, abs(truth).max()))


@settings(max_examples=40, deadline=None)
@given(players=st.integers(1, 8), seed=st.integers(0, 2**32 - 1), sampled=st.booleans())
def test_values_add_up_to_the_grand_coalition(players, seed, sampled):
    game = random_game(players, seed)
    estimate = estimate_shapley(game, players, budget=2**players - 1 if sampled and players > 3 else None, seed=seed)
    assert estimate.base + estimate.values.sum() == pytest.approx(estimate.total, abs=1e-9)
    assert estimate.total == pytest.approx(game(np.ones((1, players), dtype=bool))[0])


@pytest.mark.parametrize(("budget", "method"), [(48, 0), (64, 0), (128, 0), (200, 0), (64, 1), (200, 1)])
def test_intervals_cover_about_95_percent(budget, method):
    games = [random_game(8, seed=11), random_game(8, seed=12, order=4)]
    truths = [shapley_values(game, 8) for game in games]
    runs = [(estimates(game, 8, budget, seed)[method], truth) for game, truth in zip(games, truths, strict=True) for seed in range(60)]
    covered = np.mean([abs(run.values - truth) <= run.errors for run, truth in runs])
    assert 0.91 <= covered <= 0.98


def family(games, players, order=None):
    """Several random games at once, and their mean; the values of all coalitions are worked out once."""
    bits = 2 ** np.arange(players)
    everyone = (np.arange(2**players)[:, None] & bits > 0).astype(bool)
    worth = np.stack([random_game(players, seed, order)(everyone) for seed in range(games)])
    return lambda coalitions, which: worth[which, coalitions @ bits], lambda coalitions: worth[:, coalitions @ bits].mean(axis=0)


def means(play, players, games, budget, seed=0):
    """The same budget by both sampled methods."""
    return estimate_mean_shapley(play, players, games, budget, seed=seed), by_permutations(play, players, games, budget, seed=seed)


@pytest.mark.parametrize("budget", [5 * 42, 5 * 96])
def test_values_of_a_mean_of_games_add_up_and_are_exact_below_order_three(budget):
    play, mean = family(5, 7, order=2)
    for estimate in means(play, 7, 5, budget):
        np.testing.assert_allclose(estimate.values, shapley_values(mean, 7), atol=1e-6)
        assert estimate.base + estimate.values.sum() == pytest.approx(estimate.total, abs=1e-10)
        assert estimate.evaluations <= budget and estimate.errors is not None


def test_a_mean_of_games_is_exact_where_the_budget_pays_for_all_coalitions():
    play, mean = family(5, 7)
    estimate = estimate_mean_shapley(play, 7, 5, 5 * 2**7)
    np.testing.assert_allclose(estimate.values, shapley_values(mean, 7), atol=1e-12)
    assert estimate.errors is None and estimate.evaluations == 5 * 2**7


@pytest.mark.parametrize("budget", [12 * 6, 12 * 20, 12 * 48])
def test_intervals_of_a_mean_of_games_cover(budget):
    play, mean = family(12, 8)
    truth = shapley_values(mean, 8)
    runs = [estimate_mean_shapley(play, 8, 12, budget, seed=seed) for seed in range(40)]
    assert max(run.evaluations for run in runs) <= budget
    assert 0.91 <= np.mean([abs(run.values - truth) <= run.errors for run in runs]) <= 0.99


def test_intervals_from_permutations_with_one_pair_a_game_are_wider_than_they_need_be():
    play, mean = family(12, 8)
    truth = shapley_values(mean, 8)
    for pairs, least, most in ((3, 0.92, 0.98), (1, 0.95, 1.0)):
        runs = [by_permutations(play, 8, 12, 12 * (2 + 14 * pairs), seed=seed) for seed in range(100)]
        assert runs[0].evaluations == 12 * (2 + 14 * pairs)
        assert least <= np.mean([abs(run.values - truth) <= run.errors for run in runs]) <= most


def test_too_small_a_budget_is_refused_with_the_least_that_will_do():
    for method, least in ((estimate_mean_shapley, 44), (by_permutations, 192)):
        with pytest.raises(UsageError, match=f"at least {least}"):
            method(family(12, 8)[0], 8, 12, least - 1)
        assert method(family(12, 8)[0], 8, 12, least).errors is not None
    for players in range(1, 12):
        game = random_game(players, seed=players)
        least = min(2**players, 2 * players + 6)
        with pytest.raises(UsageError, match=f"at least {least}"):
            shapley_values(game, players, budget=least - 1)
        assert shapley_values(game, players, budget=least).shape == (players,)


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
    with pytest.raises(UsageError, match="at least 46"):
        shapley_values(lambda c: c[:, 0].astype(float), 20, budget=45)
    with pytest.raises(InvalidInput, match="not finite"):
        shapley_values(lambda c: np.full(len(c), np.nan), 3)
    with pytest.raises(InvalidInput, match="shape"):
        shapley_values(lambda c: np.zeros((len(c), 2)), 3)
    assert shapley_values(lambda c: np.ones(len(c)), 0).shape == (0,)


@pytest.mark.parametrize("players", [5, 6, 8])
def test_the_regression_on_all_pairs_is_exact_whatever_the_surrogate_explains(players):
    game = random_game(players, seed=players)
    found = by_leverage(lambda part, _: game(part), players, 1, 2**players)
    np.testing.assert_allclose(found.values, shapley_values(game, players), atol=1e-10)
    assert (found.errors == 0).all(), "every pair is here, so nothing is left to chance"


def sums(games, players, order=None):
    """Games that squash a sum of weights, or with `order` two its square, and their mean; each has weights of its own."""
    generator, bits = np.random.default_rng(7), 2 ** np.arange(players)
    everyone = (np.arange(2**players)[:, None] & bits > 0).astype(bool)
    drive = everyone @ (generator.normal(0.6, 1, (players, games)) / 2)
    worth = (drive + drive**2 if order == 2 else np.tanh(drive) + drive**3 / 20).T
    return lambda coalitions, which: worth[which, coalitions @ bits], lambda coalitions: worth[:, coalitions @ bits].mean(axis=0)


def test_with_many_pairs_each_is_put_to_all_games_of_one_group_and_to_no_other():
    play, bits = sums(30, 10)[0], 2 ** np.arange(10)
    asked = []
    found = estimate_mean_shapley(lambda part, which: asked.append((part @ bits, which.copy())) or play(part, which), 10, 30, 30 * 802)
    code, which = (np.concatenate(parts)[60:] for parts in zip(*asked, strict=True))  # the first sixty are nobody and everybody
    of_game = [frozenset(code[which == game].tolist()) for game in range(30)]
    sizes = sorted(of_game.count(group) for group in set(of_game))
    assert sizes == [1] * 2 + [2] * 14, "thirty games in sixteen groups"
    assert all(len(group) == 800 for group in of_game) and len(code) == 30 * 800 == found.evaluations - 60


@pytest.mark.parametrize("each", [200, 400])
def test_groups_of_games_keep_sums_exactness_and_bits(each):
    play, mean = sums(30, 10, order=2)
    found = estimate_mean_shapley(play, 10, 30, 30 * (2 * each + 2) + 17, seed=3)
    np.testing.assert_allclose(found.values, shapley_values(mean, 10), atol=1e-9)
    np.testing.assert_allclose(found.errors, 0, atol=1e-8)
    play, mean = sums(30, 10)
    found = estimate_mean_shapley(play, 10, 30, 30 * (2 * each + 2) + 17, seed=3)
    again = estimate_mean_shapley(play, 10, 30, found.evaluations, seed=3)
    assert (again.values == found.values).all() and (again.covariance == found.covariance).all()
    assert found.base + found.values.sum() == pytest.approx(found.total, abs=1e-12)


@pytest.mark.parametrize(("each", "runs"), [(150, 25), (400, 60)])
def test_intervals_cover_where_games_share_their_pairs_in_groups(each, runs):
    play, mean = sums(30, 10)
    truth = shapley_values(mean, 10)
    found = [estimate_mean_shapley(play, 10, 30, 30 * (2 * each + 2), seed=seed) for seed in range(runs)]
    assert 0.91 <= np.mean([abs(run.values - truth) <= run.errors for run in found]) <= 0.99


def test_groups_of_unequal_size_count_by_their_games():
    play, mean = sums(30, 10)
    truth = shapley_values(mean, 10)
    found = [estimate_mean_shapley(play, 10, 30, 30 * 802, seed=seed) for seed in range(60)]
    assert abs(np.mean([run.values for run in found], axis=0) - truth).max() < 0.3 * np.mean([run.errors for run in found])
