"""Intervals of the regression: what its jackknife is multiplied with and its degrees of freedom, against games drawn at random."""

from __future__ import annotations

import numpy as np
import pytest

from affidavit_governance.explain import estimate_shapley, shapley_values
from affidavit_governance.explain.estimators.intervals import student_95
from affidavit_governance.explain.estimators.jackknife import LeftOut, correction, degrees_of_freedom, jackknife
from affidavit_governance.explain.estimators.pairs import all_pairs, sampled_pairs, shapley_weights, squared_weights
from affidavit_governance.explain.estimators.regression import zero_sum

PLAYERS, NUMBERS = 8, 60


def all_coalitions(players):
    return sampled_pairs(players, all_pairs(players), np.random.default_rng(0)).coalitions


@pytest.fixture(scope="module")
def smoother():
    """A regression with a surrogate on 60 of 127 pairs: the pairs, what it multiplies numbers with, its model's covariance, and its residuals'."""
    pairs = sampled_pairs(PLAYERS, NUMBERS, np.random.default_rng(0))
    signs, basis = np.where(pairs.coalitions, 1.0, -1.0), zero_sum(PLAYERS)
    line, beyond = signs @ basis / 2, 2 * (signs @ signs.T / PLAYERS) ** 3
    covariance = np.eye(NUMBERS) + beyond
    against = np.linalg.solve(covariance, line)
    middle = np.linalg.inv(line.T @ against)
    return pairs, basis @ middle @ against.T, covariance, np.linalg.inv(covariance) - against @ middle @ against.T


def left_out(smoother, odd):
    pairs, weights, _, products = smoother
    return LeftOut(weights, products @ odd, np.diag(products), 1 - pairs.share)


@pytest.mark.parametrize("players", [4, 5, 8])
def test_weights_of_all_pairs_give_the_shapley_values_less_an_equal_share(players):
    coalitions = all_coalitions(players)
    table, place = np.random.default_rng(players).normal(size=2**players), 2 ** np.arange(players)
    odd = (table[coalitions @ place] - table[~coalitions @ place]) / 2
    values = shapley_values(lambda inside: table[inside @ place], players)
    weights = shapley_weights(coalitions)
    np.testing.assert_allclose(weights @ odd, values - values.mean(), atol=1e-12)
    assert squared_weights(players) == pytest.approx((weights**2).sum())


def test_the_correction_is_how_errors_and_moves_compare_where_numbers_are_independent_and_alike(smoother):
    pairs, weights, _, products = smoother
    coalitions, place = all_coalitions(PLAYERS), 2 ** np.arange(PLAYERS)
    codes = (coalitions @ place).tolist()
    here = [codes.index(code) for code in (pairs.coalitions @ place).tolist()]
    drawn = ~np.isin(coalitions.sum(axis=1), pairs.size[pairs.share == 1])
    assert drawn.any() and not drawn.all()
    generator, exact, moved, missed = np.random.default_rng(1), shapley_weights(coalitions), 0.0, 0.0
    for _ in range(3000):
        odd = np.where(drawn, generator.normal(size=len(codes)), 0.0)
        moved += float(np.trace(jackknife([left_out(smoother, odd[here])])))
        missed += float(((weights @ odd[here] - exact @ odd) ** 2).sum())
    found = correction(left_out(smoother, np.zeros(NUMBERS)), products, pairs.coalitions)
    assert found < 0.95, "there is something to correct"
    assert found == pytest.approx(missed / moved, rel=0.03)


def test_where_all_pairs_are_known_there_is_nothing_to_correct():
    coalitions = all_coalitions(5)
    known = LeftOut(shapley_weights(coalitions), np.ones(15), np.ones(15), np.zeros(15))
    assert correction(known, np.eye(15), coalitions) == 1
    assert (degrees_of_freedom(known, np.eye(15), freedom=11, settings=0) == 11).all()
    assert (jackknife([known]) == 0).all()


def test_degrees_of_freedom_are_those_that_the_variances_scatter_with(smoother):
    _, _, covariance, products = smoother
    generator, root = np.random.default_rng(2), np.linalg.cholesky(covariance)
    games = [left_out(smoother, root @ generator.normal(size=NUMBERS)) for _ in range(3000)]
    variances = np.array([np.diag(jackknife([game])) for game in games])
    scattered = 2 * variances.mean(axis=0) ** 2 / variances.var(axis=0)
    least = min(games, key=lambda game: np.mean(game.left**4 / game.kept**2))  # no tails
    found = degrees_of_freedom(least, products, freedom=NUMBERS - PLAYERS + 1, settings=0)
    assert found == pytest.approx(scattered, rel=0.15)
    assert (found < 0.7 * (NUMBERS - PLAYERS + 1)).all(), "left-out residuals depend on each other"


def test_chosen_settings_and_heavy_tails_take_degrees_of_freedom(smoother):
    products = smoother[3]
    even = LeftOut(smoother[1], np.sqrt(np.diag(products)), np.diag(products), 1 - smoother[0].share)
    tailed = LeftOut(even.weights, even.left * np.where(np.arange(NUMBERS) % 10 == 0, 5.0, 1.0), even.kept, even.unknown)
    without = degrees_of_freedom(even, products, freedom=53, settings=0)
    assert degrees_of_freedom(even, products, freedom=53, settings=4) == pytest.approx(without * 49 / 53)
    squares = np.where(np.arange(NUMBERS) % 10 == 0, 25.0, 1.0)
    kurtosis = np.mean(squares**2) / np.mean(squares) ** 2
    assert degrees_of_freedom(tailed, products, freedom=53, settings=0) == pytest.approx(without * 2 / (kurtosis - 1))


@pytest.mark.parametrize(("freedom", "exact"), [(1, 12.7062), (1.5, 6.0167), (2.5, 3.5747), (3.5, 2.9401), (5.5, 2.5019), (10, 2.2281)])
def test_points_of_student_between_whole_degrees_of_freedom(freedom, exact):
    assert student_95(freedom) == pytest.approx(exact, rel=0.03 if freedom < 5 else 0.0012)


def test_intervals_of_networks_are_as_wide_as_their_errors():
    players, place = 11, 2 ** np.arange(11)
    inside = (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)
    missed, said = 0.0, 0.0
    for seed in range(5):
        generator = np.random.default_rng(seed)
        table = np.tanh(np.where(inside, 1.0, -1.0) @ generator.normal(size=(players, 6)) / 3 + generator.normal(size=6)) @ generator.normal(size=6)
        game = lambda coalitions, table=table: table[coalitions @ place]  # noqa: E731  # bound here
        truth = shapley_values(game, players)
        for run in range(10):
            found = estimate_shapley(game, players, 512, seed=run)
            missed += float(((found.values - truth) ** 2).sum())
            said += float(np.trace(found.covariance))
    assert 0.8 < said / missed < 1.15, "the jackknife alone says 1.3 times as much"
