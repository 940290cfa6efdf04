"""The surrogate of a weighted sum: its Shapley values by brute force, and games that are such a sum."""

from __future__ import annotations

import numpy as np
import pytest

from affidavit_governance.explain import estimate_shapley, shapley_values
from affidavit_governance.explain.estimators.index import WAVES, changes, waves


def everyone(players):
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)


def played(table):
    place = 2 ** np.arange(int(np.log2(len(table))))
    return lambda inside: table[inside @ place]


@pytest.mark.parametrize("players", [2, 5, 8])
def test_waves_and_their_changes_have_the_shapley_values_of_enumeration(players):
    generator = np.random.default_rng(players)
    weights, heights = generator.normal(size=players), generator.normal(size=WAVES)
    weights /= abs(weights).sum()
    signs = np.where(everyone(players), 1.0, -1.0)
    for found in (waves(signs, weights), changes(signs, weights, heights)):
        by_enumeration = [shapley_values(played(column), players) for column in found.columns.T]
        np.testing.assert_allclose(found.shapley, by_enumeration, atol=1e-11)


def test_changes_are_the_derivatives_of_the_waves():
    generator = np.random.default_rng(1)
    weights, heights = generator.dirichlet(np.ones(6)), generator.normal(size=WAVES)
    signs, step = np.where(everyone(6), 1.0, -1.0), 1e-5
    found = changes(signs, weights, heights)
    for player in range(6):
        above, below = (waves(signs, weights + side * step * (np.arange(6) == player)) for side in (1, -1))
        np.testing.assert_allclose(found.columns[:, player], (above.columns - below.columns) @ heights / (2 * step), atol=1e-4)
        np.testing.assert_allclose(found.shapley[player], heights @ (above.shapley - below.shapley) / (2 * step), atol=1e-4)


@pytest.mark.parametrize("players", [90, 400])
def test_with_many_players_few_nodes_of_the_quadrature_do(players):
    generator = np.random.default_rng(2)
    weights = generator.normal(size=players)
    weights /= abs(weights).sum()
    signs = np.where(generator.random((3, players)) < 0.5, 1.0, -1.0)
    for found in (waves(signs, weights), changes(signs, weights, generator.normal(size=WAVES))):
        np.testing.assert_allclose(found.shapley.sum(axis=1), 0, atol=1e-10)


def logistic(players, seed):
    return 1 / (1 + np.exp(-2 * (everyone(players) @ np.random.default_rng(seed).normal(size=players))))


def test_a_sigmoid_of_a_weighted_sum_is_all_but_exact_from_a_quarter_of_its_coalitions():
    games = [logistic(10, seed) for seed in range(6)]
    errors = []
    for game in games:
        truth = shapley_values(played(game), 10)
        errors.append(np.linalg.norm(shapley_values(played(game), 10, 256, seed=1) - truth) / np.linalg.norm(truth))
    assert np.median(errors) < 0.004, "the surrogate of higher orders alone leaves about 0.016"


def covered(games, budget, runs):
    """The share of intervals with the true value inside."""
    inside = []
    for game in games:
        truth = shapley_values(played(game), 10)
        found = [estimate_shapley(played(game), 10, budget, seed=run) for run in range(runs)]
        inside.append(np.mean([abs(run.values - truth) <= run.errors for run in found]))
    return np.mean(inside)


def vote(players, seed):
    generator = np.random.default_rng(seed)
    weight = generator.gamma(2, size=players)
    return (everyone(players) @ weight >= generator.uniform(0.4, 0.7) * weight.sum()).astype(float)


def test_intervals_of_votes_cover_though_the_weights_are_learnt_from_the_same_numbers():
    assert 0.91 < covered([vote(10, seed) for seed in range(8)], 128, runs=20) < 0.98


def product(players, seed):
    factor = np.random.default_rng(seed).uniform(0.6, 1.6, players)
    return np.where(everyone(players), factor, factor**-0.5).prod(axis=1)


def test_intervals_of_products_cover_though_one_coalition_stands_far_above_the_others():
    assert covered([product(10, seed) for seed in range(4)], 512, runs=12) > 0.95, "a sample without that coalition would miss by far, and not know"


@pytest.mark.parametrize("budget", [128, 400, 1022, 1024])
def test_the_chosen_coalition_is_within_the_budget_and_never_asked_for_twice(budget):
    asked = []

    def game(inside):
        asked.extend(map(bytes, inside))
        return product(10, 1)[inside @ 2 ** np.arange(10)]

    estimate = estimate_shapley(game, 10, budget, seed=3)
    assert len(asked) == len(set(asked)) == estimate.evaluations <= budget
