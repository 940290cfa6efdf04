"""Intervals of permutation sampling: they hold the exact value where contributions are rare or skewed, and are no wider than that takes."""

from __future__ import annotations

import numpy as np
import pytest

from affidavit_governance.explain import shapley_values
from affidavit_governance.explain.estimators.intervals import moderated, stretches, student_95
from affidavit_governance.explain.estimators.permutation import by_permutations

PLAYERS = 10
INSIDE = (np.arange(2**PLAYERS)[:, None] >> np.arange(PLAYERS) & 1).astype(bool)


def interactions(seed):
    generator = np.random.default_rng(seed)
    terms = [(generator.normal(), generator.choice(PLAYERS, size, replace=False)) for size in range(1, 6) for _ in range(30)]
    return sum(weight * INSIDE[:, players].all(axis=1) for weight, players in terms)


def vote(seed):
    generator = np.random.default_rng(seed)
    weight = generator.gamma(2, size=PLAYERS)
    return (INSIDE @ weight >= generator.uniform(0.4, 0.7) * weight.sum()).astype(float)


def product(seed):
    factor = np.random.default_rng(seed).uniform(0.6, 1.6, PLAYERS)
    return np.where(INSIDE, factor, factor**-0.5).prod(axis=1)


def threshold(seed):
    score = INSIDE @ np.random.default_rng(seed).normal(size=PLAYERS)
    return np.maximum(score - np.quantile(score, 0.7), 0)


def network(seed):
    generator = np.random.default_rng(seed)
    hidden = np.tanh(INSIDE @ generator.normal(size=(PLAYERS, 16)) + generator.normal(size=16))
    return np.tanh(hidden @ generator.normal(size=(16, 16)) / 2) @ generator.normal(size=16)


def council(_):
    """Three players with a veto, and six votes in all: the others decide in one order of 84."""
    return (INSIDE[:, :3].all(axis=1) & (INSIDE.sum(axis=1) >= 6)).astype(float)


def played(table):
    return lambda inside, _=None: table[inside @ 2 ** np.arange(PLAYERS)]


def runs(table, budget, count):
    return [by_permutations(played(table), PLAYERS, 1, budget, seed=seed) for seed in range(count)]


def covered(make, budget, count=60, games=3):
    """The share of intervals with the true value inside, over some games of a kind."""
    shares = []
    for seed in range(games):
        table = make(seed)
        truth = shapley_values(played(table), PLAYERS)
        shares += [np.mean(abs(run.values - truth) <= run.errors) for run in runs(table, budget, count)]
    return float(np.mean(shares))


KINDS = (interactions, vote, product, threshold, network, council)


@pytest.mark.parametrize("budget", [64, 128, 256, 512, 1000])
def test_intervals_of_ten_players_cover_on_average_over_kinds_of_games(budget):
    shares = [covered(make, budget) for make in KINDS if make is not council]
    assert 0.93 <= np.mean(shares) <= 0.98
    assert min(shares) >= 0.9


@pytest.mark.parametrize(("budget", "least"), [(64, 0.8), (256, 0.93), (1000, 0.93)])
def test_intervals_cover_where_most_players_decide_in_few_orders(budget, least):
    assert covered(council, budget, 100, 1) >= least


@pytest.mark.parametrize(("make", "most"), [(interactions, 1.1), (network, 1.1), (threshold, 1.3), (vote, 1.6), (product, 1.7)])
def test_intervals_are_hardly_wider_than_the_spread_between_runs_asks_for(make, most):
    for budget in (128, 256, 512):
        found = runs(make(1), budget, 200)
        pairs = (budget - 2) // (2 * (PLAYERS - 1))
        asked = student_95(pairs - 1) * np.array([run.values for run in found]).std(axis=0).mean()
        assert 0.8 * asked <= np.mean([run.errors for run in found]) <= most * asked


def test_a_player_whose_contribution_no_order_showed_still_has_an_interval():
    truth = shapley_values(played(council(0)), PLAYERS)
    unseen = 0
    for run in runs(council(0), 128, 20):
        silent = run.values[3:] == 0
        unseen += int(silent.sum())
        assert (run.errors[3:][silent] >= truth[-1]).all()
    assert unseen > 20, "or this shows nothing"


def test_the_covariance_has_the_intervals_that_are_given():
    run = by_permutations(played(product(0)), PLAYERS, 1, 256)
    np.testing.assert_allclose(1.959964 * np.sqrt(np.diag(run.covariance)), run.errors, rtol=1e-12)
    assert np.linalg.eigvalsh(run.covariance).min() >= -1e-12


def test_several_games_with_rare_contributions_cover():
    tables = np.stack([vote(seed) for seed in range(5)])
    play = lambda inside, which: tables[which, inside @ 2 ** np.arange(PLAYERS)]  # noqa: E731  # a table lookup
    truth = shapley_values(played(tables.mean(axis=0)), PLAYERS)
    for pairs in (2, 3, 6):
        found = [by_permutations(play, PLAYERS, 5, 5 * (2 + 18 * pairs), seed=seed) for seed in range(100)]
        assert 0.93 <= np.mean([abs(run.values - truth) <= run.errors for run in found]) <= 0.99


def test_variances_are_moderated_as_smyth_does_and_the_sum_stays_certain():
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(8, 5)) * [0, 1, 2, 3, 4]
    samples -= samples.mean(axis=1, keepdims=True)
    own = np.cov(samples, rowvar=False)
    found, freedom = moderated(own, 7)
    assert freedom == 9
    np.testing.assert_allclose(np.diag(found), (7 * np.diag(own) + 2 * np.diag(own).mean()) / 9)
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-12)
    assert moderated(own, 1)[1] == 2, "the prior counts for no more than the sample"
    assert not moderated(np.zeros((3, 3)), 4)[0].any()


def test_intervals_are_stretched_for_skewness_by_the_expansion_and_no_more_than_twice():
    generator = np.random.default_rng(0)
    assert (stretches(generator.normal(size=(40, 6))) < 1.03).all()
    assert (stretches(np.repeat([[-1.0, 1.0], [1.0, -1.0]], 20, axis=0)) == 1).all()
    assert (stretches(np.ones((4, 3))) == 1).all()
    z, count = 1.959964, 400
    skewed = 1 + (z**4 + 2 * z**2 - 3) / 18 * 4 / count  # an exponential distribution has a skewness of two
    np.testing.assert_allclose(stretches(generator.exponential(size=(count, 2000))).mean(), skewed, atol=0.003)
    rare = np.zeros((30, 4))
    rare[0, 0] = 1
    assert (stretches(rare)[1:] == 2).all() and 1.5 < stretches(rare)[0] <= 2


def test_student_stretched_covers_the_mean_of_skewed_samples_better():
    generator = np.random.default_rng(1)
    count, inside, before = 15, [], []
    for _ in range(1500):
        samples = generator.exponential(size=(count, 4))
        half = student_95(count - 1) * samples.std(axis=0, ddof=1) / np.sqrt(count)
        miss = abs(samples.mean(axis=0) - 1)
        before.append(np.mean(miss <= half))
        inside.append(np.mean(miss <= half * stretches(samples)))
    assert np.mean(before) < 0.91 < 0.915 < np.mean(inside) < 0.96
