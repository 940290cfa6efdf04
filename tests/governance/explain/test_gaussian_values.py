"""Conditional values of linear scores under a Gaussian: against conditional expectations by enumeration, and closed forms."""

from __future__ import annotations

from itertools import product
from math import factorial

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.explain.estimators import gaussian
from affidavit_governance.explain.estimators.gaussian import gaussian_values, shrunk_correlation
from affidavit_governance.explain.estimators.intervals import half_widths


def correlated(rows, columns, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, columns)) @ generator.normal(size=(columns, columns)) + generator.normal(size=columns)


def by_enumeration(weight, mean, covariance, player, players, row):
    """Shapley values of E[wx | x_S], with the conditional mean of the textbook: μ_B + Σ_BS Σ_SS⁻¹ (x_S - μ_S)."""
    worth = {}
    for inside in product([False, True], repeat=players):
        known = np.array(inside)[player]
        expected = mean.copy()
        expected[known] = row[known]
        if known.any() and not known.all():
            gain = covariance[np.ix_(~known, known)] @ np.linalg.inv(covariance[np.ix_(known, known)])
            expected[~known] = mean[~known] + gain @ (row[known] - mean[known])
        worth[inside] = expected @ weight
    phi = np.zeros(players)
    for inside, value in worth.items():
        for i in np.flatnonzero(~np.array(inside)):
            more = tuple(each or k == i for k, each in enumerate(inside))
            phi[i] += factorial(sum(inside)) * factorial(players - sum(inside) - 1) / factorial(players) * (worth[more] - value)
    return phi


def shrunk_covariance(background):
    scale = background.std(axis=0)
    correlation, _ = shrunk_correlation((background - background.mean(axis=0)) / scale)
    return correlation * scale[:, None] * scale


PLAYER = np.array([0, 1, 1, 2, 3, 2])


@pytest.mark.parametrize("player", [PLAYER, np.arange(6)])
def test_values_equal_enumeration_of_conditional_expectations(player):
    background, weight = correlated(60, 6), np.array([1.0, -2, 0.5, 3, 0, 1])
    rows, players = correlated(5, 6, seed=1), int(player.max()) + 1
    found = gaussian_values(weight, 0.7, player, players, rows, background)
    assert found.covariance is None and found.base == pytest.approx(background.mean(axis=0) @ weight + 0.7)
    for row in range(5):
        expected = by_enumeration(weight, background.mean(axis=0), shrunk_covariance(background), player, players, rows[row])
        np.testing.assert_allclose(found.values[row], expected, atol=1e-9)
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), rows @ weight + 0.7, atol=1e-10)


def test_two_correlated_columns_share_as_the_closed_form_says():
    """With correlation ρ and unit variances: φ₁ = w₁x₁ + ½ρ (w₂x₁ - w₁x₂), by both orders."""
    background = correlated(4000, 2, seed=3)
    background = (background - background.mean(axis=0)) / background.std(axis=0)
    rho = shrunk_correlation(background)[0][0, 1]
    found = gaussian_values(np.array([2.0, 5.0]), 0.0, np.arange(2), 2, np.array([[1.5, -0.5]]), background)
    first = 2 * 1.5 + 0.5 * rho * (5 * 1.5 - 2 * -0.5)
    np.testing.assert_allclose(found.values[0], [first, 2 * 1.5 + 5 * -0.5 - first], atol=1e-9)


def test_an_irrelevant_column_gets_a_share_by_correlation_alone():
    """What the conditional game is blamed for (Janzing, Minorics, Blöbaum 2020): a column without weight is not without value."""
    one = np.random.default_rng(0).normal(size=500)
    background = np.stack([one, one + 0.1 * np.random.default_rng(1).normal(size=500)], axis=1)
    found = gaussian_values(np.array([1.0, 0.0]), 0.0, np.arange(2), 2, np.array([[2.0, 2.0]]), background)
    assert found.values[0, 1] > 0.8


def test_without_correlation_it_is_the_closed_form():
    background = np.array(list(product([-1.0, 1.0], repeat=4))) * [1, 2, 3, 4]
    rows, weight = np.array([[1.0, 2, 3, 4]]), np.array([1.0, -1, 2, 0])
    np.testing.assert_allclose(gaussian_values(weight, 0, np.arange(4), 4, rows, background).values, rows * weight, atol=1e-12)


def test_shrinkage_is_ledoit_and_wolf_s():
    background = correlated(40, 7)
    standardised = (background - background.mean(axis=0)) / background.std(axis=0)
    theirs, share = ledoit_wolf(standardised, assume_centered=True)
    ours, found = shrunk_correlation(standardised)
    assert found == pytest.approx(share, rel=1e-10)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_repeated_and_constant_columns_still_have_finite_values_that_add_up():
    one = np.random.default_rng(0).normal(size=50)
    background = np.stack([one, one, -one, np.full(50, 3.0)], axis=1)
    rows = np.array([[1.0, 1.0, -1.0, 3.0], [0.3, -2.0, 0.0, 5.0]])
    found = gaussian_values(np.ones(4), 0.0, np.arange(4), 4, rows, background)
    assert np.isfinite(found.values).all()
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), rows.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(found.values[:, 3], [0.0, 2.0], atol=1e-12)


def test_sampled_orders_cover_the_exact_values(monkeypatch):
    background, weight = correlated(80, 8), np.linspace(-1, 1, 8)
    rows = correlated(20, 8, seed=5)
    exact = gaussian_values(weight, 0.0, np.arange(8), 8, rows, background)
    monkeypatch.setattr(gaussian, "MOST_COALITIONS", 200)
    inside = []
    for seed in range(30):
        found = gaussian_values(weight, 0.0, np.arange(8), 8, rows, background, seed=seed)
        assert found.covariance is not None
        np.testing.assert_allclose(found.base + found.values.sum(axis=1), rows @ weight, atol=1e-9)
        inside.append(abs(found.values - exact.values) <= np.array([half_widths(each) for each in found.covariance]))
    assert 0.92 < np.mean(inside) < 0.98


def test_paired_orders_are_exact_where_columns_are_correlated_in_pairs_only(monkeypatch):
    """Such a game has no interactions above order two, on which antithetic orders leave no error (Covert, Lee 2021)."""
    factors = np.array(list(product([-1.0, 1.0], repeat=6)))
    background = factors.copy()
    background[:, 1::2] += 0.8 * factors[:, ::2]
    rows, weight = correlated(3, 6, seed=2), np.linspace(-1, 2, 6)
    exact = gaussian_values(weight, 0.0, np.arange(6), 6, rows, background)
    monkeypatch.setattr(gaussian, "MOST_COALITIONS", 50)
    sampled = gaussian_values(weight, 0.0, np.arange(6), 6, rows, background)
    assert sampled.covariance is not None and abs(sampled.covariance).max() < 1e-20
    np.testing.assert_allclose(sampled.values, exact.values, atol=1e-10)


def test_too_many_columns_and_numbers_that_are_none_are_refused():
    background = correlated(20, 3)
    with pytest.raises(InvalidInput, match="missing or infinite"):
        gaussian_values(np.ones(3), 0, np.arange(3), 3, np.array([[1.0, np.nan, 0]]), background)
    wide = np.random.default_rng(0).normal(size=(10, 500))
    with pytest.raises(UsageError, match="costs too much"):
        gaussian_values(np.ones(500), 0, np.arange(500), 500, wide, wide)
    grouped = gaussian_values(np.ones(500), 0, np.arange(500) // 250, 2, wide[:2], wide)
    np.testing.assert_allclose(grouped.base + grouped.values.sum(axis=1), wide[:2].sum(axis=1), atol=1e-8)
