"""Interactions of order two against published numbers, the definition, and brute force."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.governance.explain.explain_models import Formula, interacting, make_table, sms, spam

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.explain.estimators.interactions import (
    LEAST_COVERS,
    _paths,
    cover_cost,
    estimate_interactions,
    interaction_values,
    smallest_interaction_budget,
)
from affidavit_governance.explain.estimators.shapley import shapley_values
from affidavit_governance.explain.methods.sampled import Exact, Leverage, Permutation


def random_game(players, seed):
    values = np.random.default_rng(seed).normal(size=2**players)
    return lambda coalitions, *_: values[coalitions @ (1 << np.arange(players))]


def logistic_game(players, seed):
    generator = np.random.default_rng(seed)
    weight, triples, more = generator.normal(size=players), generator.integers(0, players, (30, 3)), generator.normal(size=30)
    return lambda c, *_: 1 / (1 + np.exp(-(c @ weight + c[:, triples].all(axis=2) @ more)))


def by_definition(game, players):
    """Half of Grabisch and Roubens' index of each pair: the weighted mean of what two players do together given every set of the others."""
    matrix = np.zeros((players, players))

    def worth(*inside):
        return game(np.isin(np.arange(players), inside)[None])[0]

    for i, j in combinations(range(players), 2):
        others = [player for player in range(players) if player not in (i, j)]
        for size in range(players - 1):
            weight = factorial(size) * factorial(players - size - 2) / factorial(players - 1)
            for inside in combinations(others, size):
                matrix[i, j] += weight / 2 * (worth(i, j, *inside) - worth(i, *inside) - worth(j, *inside) + worth(*inside))
    return matrix + matrix.T


@pytest.mark.parametrize("players", [2, 3, 5, 7])
def test_all_coalitions_give_the_definition_and_rows_sum_to_the_shapley_values(players):
    game = random_game(players, players)
    found, values = interaction_values(game, players), shapley_values(game, players)
    np.testing.assert_allclose(found.pairs, by_definition(game, players), atol=1e-12)
    matrix = found.matrix(values)
    np.testing.assert_allclose(matrix.sum(axis=1), values, atol=1e-12)
    np.testing.assert_array_equal(matrix, matrix.T)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_players_who_win_only_together_have_the_published_index(members):
    """Grabisch, Roubens 1999: in the unanimity game of t players the index of each pair of them is 1 / (t - 1), of all others zero."""
    found = interaction_values(lambda c: c[:, :members].all(axis=1).astype(float), 6)
    due = np.zeros((6, 6))
    due[:members, :members] = 0.5 / (members - 1)
    np.fill_diagonal(due, 0)
    np.testing.assert_allclose(found.pairs, due, atol=1e-14)


def test_fever_and_cough_share_what_they_do_together():
    """The models of Lundberg et al. 2018, "Consistent individualized feature attribution for tree ensembles", figure 1, against neither symptom."""
    values = {"A": lambda c: 80.0 * (c[:, 0] & c[:, 1]), "B": lambda c: 80.0 * (c[:, 0] & c[:, 1]) + 10.0 * c[:, 1]}
    for name, game in values.items():
        matrix = interaction_values(game, 2).matrix(shapley_values(game, 2))
        np.testing.assert_allclose(matrix, [[0, 40], [40, 10 if name == "B" else 0]], atol=1e-12)


def test_an_additive_game_has_no_interactions():
    weight = np.random.default_rng(0).normal(size=9)
    assert abs(interaction_values(lambda c: c @ weight, 9).pairs).max() < 1e-14
    assert abs(estimate_interactions(lambda c, _: c @ weight, 9, 1, 2 * cover_cost(9)).pairs).max() < 1e-13


@pytest.mark.parametrize("players", range(2, 12))
def test_every_two_players_are_neighbours_in_one_path_of_a_cover(players):
    met = []
    for path in _paths(players):
        assert sorted(path) == list(range(players + players % 2))
        met += [frozenset(pair) for pair in zip(path.tolist(), path[1:].tolist(), strict=False) if max(pair) < players]
    assert len(met) == len(set(met)) == players * (players - 1) // 2


@pytest.mark.parametrize("players", [8, 9])
def test_sampling_is_unbiased_for_even_and_odd_numbers_of_players(players):
    game = random_game(players, 1)
    truth = interaction_values(game, players).pairs
    budget = LEAST_COVERS * cover_cost(players)
    assert budget < 2**players
    found = np.array([estimate_interactions(game, players, 1, budget, seed=seed).pairs for seed in range(150)])
    spread = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert (abs(found.mean(axis=0) - truth) <= 4.5 * spread + 1e-12).all()


def test_intervals_cover_and_narrow():
    pairs = np.triu_indices(12, 1)
    covered, widths = [], {2000: [], 3900: []}
    for seed in range(20):
        game = logistic_game(12, seed % 5)
        truth = interaction_values(game, 12).pairs
        for budget in widths:
            found = estimate_interactions(game, 12, 1, budget, seed=seed)
            assert found.evaluations <= budget
            np.testing.assert_array_equal(found.pairs, found.pairs.T)
            covered.append((abs(found.pairs - truth) <= found.errors)[pairs].mean())
            widths[budget].append(found.errors[pairs].mean())
    assert 0.92 < np.mean(covered) < 0.99
    assert np.mean(widths[3900]) < np.mean(widths[2000])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_several_games_count_alike(seed, games):
    players = 5
    each = [random_game(players, seed + number) for number in range(games)]

    def family(coalitions, number):
        return np.array([each[n](row[None])[0] for row, n in zip(coalitions, number, strict=True)])

    found = estimate_interactions(family, players, games, games * 2**players)
    assert found.errors is None
    np.testing.assert_allclose(found.pairs, np.mean([interaction_values(game, players).pairs for game in each], axis=0), atol=1e-12)


def test_few_players_and_small_budgets():
    for players in (0, 1):
        assert estimate_interactions(lambda c, _: np.zeros(len(c)), players, 1, 1).pairs.shape == (players, players)
    with pytest.raises(UsageError, match="too small") as refused:
        estimate_interactions(random_game(12, 0), 12, 1, 100)
    assert str(LEAST_COVERS * cover_cost(12)) in refused.value.hint
    with pytest.raises(InvalidInput, match="not finite"):
        interaction_values(lambda c: np.full(len(c), np.inf), 4)
    assert smallest_interaction_budget(3, 1) == 2**3 and smallest_interaction_budget(3, 10) == LEAST_COVERS * cover_cost(3)
    assert smallest_interaction_budget(12, 1) == LEAST_COVERS * cover_cost(12)


# -- the explainers -----------------------------------------------------------------------------------------------------------------


def test_exact_explanations_carry_a_matrix_whose_rows_sum_to_the_values():
    data = make_table(120)
    model = Formula(lambda d: 0.2 + 0.1 * d.to_numpy("flag") * (d.to_numpy("x0") > 0) + 0.05 * (d.to_numpy("x1") > 0), data)
    found = Exact().explain(model, data.head(5), data.take(np.arange(40, 60)), interactions=True)
    assert found.interactions.shape == (5, 4, 4)
    np.testing.assert_allclose(found.interactions.sum(axis=2), found.values, atol=1e-12)
    np.testing.assert_array_equal(found.interactions, found.interactions.transpose(0, 2, 1))
    assert abs(found.interactions[:, 1, [0, 2, 3]]).max() < 1e-12, "x1 interacts with nothing"
    assert abs(found.interactions[:, 0, 3]).max() > 1e-3
    assert found.details["interaction_error"] == [0.0] * 5
    assert Exact().explain(model, data.head(1), data.take(np.arange(40, 60))).interactions is None


def test_words_that_count_together_interact():
    data = sms(["call now for a free prize", "hello there"])
    found = Exact().explain(Formula(spam, data), data, data, interactions=True)
    due = np.zeros((6, 6))
    due[1, 4] = due[4, 1] = 0.15
    due[4, 4] = 0.2
    np.testing.assert_allclose(found.interactions[0], due, atol=1e-12)
    np.testing.assert_allclose(found.interactions[1], 0, atol=1e-12)


@pytest.mark.parametrize("explainer", [Leverage, Permutation])
def test_sampled_explanations_stay_in_their_budget_and_cover_the_exact_matrix(explainer):
    data = make_table(120, numbers=9)
    model = Formula(lambda d: interacting(d) ** (1 + abs(d.to_numpy("x2") * d.to_numpy("x3"))), data)
    background = data.take(np.arange(40, 44))
    exact = Exact().explain(model, data.head(2), background, interactions=True)
    found = explainer().explain(model, data.head(2), background, interactions=True, budget=5000)
    assert found.details["model_rows"] <= 2 * 5000 + 2 + 200
    assert (abs(found.interactions - exact.interactions).max(axis=(1, 2)) <= 2 * np.array(found.details["interaction_error"])).all()
    np.testing.assert_allclose(found.interactions.sum(axis=2), found.values, atol=1e-12)
    again = explainer().explain(model, data.take([1]), background, interactions=True, budget=found.details["rows_spent"][1:])
    np.testing.assert_array_equal(again.interactions[0], found.interactions[1])


def test_an_unfit_choice_is_refused():
    data = make_table(60)
    with pytest.raises(UsageError, match="'interactions'.*true or false"):
        Exact().explain(Formula(interacting, data), data.head(1), data.head(20), interactions="yes")
    with pytest.raises(UsageError, match="too small"):
        Exact().explain(Formula(interacting, data), data.head(1), data.head(20), interactions=True, budget=20 * 16)
