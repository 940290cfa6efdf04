"""The numbers of trees alone: arrays in, arrays out, against enumeration and published forms."""

from __future__ import annotations

from itertools import product
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from affidavit.errors import UsageError
from affidavit_governance.explain.trees import Ensemble, games, interventional_values, path_dependent_values, paths, read_ensemble, values
from affidavit_governance.explain.trees.games import product_integral
from affidavit_governance.explain.trees.paths import distinct


def some_rows(rows, columns, seed=0, gaps=False):
    """Numbers with ties, and an answer with interactions."""
    generator = np.random.default_rng(seed)
    matrix = np.round(generator.normal(size=(rows, columns)), 1)
    answer = matrix[:, 0] * matrix[:, 1] + matrix[:, 2] - 0.5 * (matrix[:, -1] > 0) * matrix[:, 0]
    if gaps:
        matrix[generator.random(matrix.shape) < 0.15] = np.nan
    return matrix, answer


def coalition_worth(score, player, players, row, background):
    """The value of every coalition: players inside take the row's columns, the others the background's."""
    worth = {}
    for inside in product([False, True], repeat=players):
        mixed = np.where(np.array(inside)[player], row, background)
        worth[inside] = score(mixed).mean()
    return worth


def cover_worth(ensemble, player, players, row):
    """The value of every coalition where an absent player goes both ways, by recursion over the nodes."""

    def value(node, inside):
        column = ensemble.feature[node]
        if column < 0:
            return ensemble.value[node]
        left, right = ensemble.left[node], ensemble.right[node]
        if inside[player[column]]:
            return value(left if row[column] <= ensemble.threshold[node] else right, inside)
        share = ensemble.cover[[left, right]] / ensemble.cover[node]
        return share[0] * value(left, inside) + share[1] * value(right, inside)

    return {inside: ensemble.offset + sum(value(root, inside) for root in ensemble.roots) for inside in product([False, True], repeat=players)}


def enumerated(worth, players):
    """Shapley values, and the matrix of interactions whose rows sum to them, from the definition."""
    phi, pairs = np.zeros(players), np.zeros((players, players))

    def with_(inside, *more):
        return tuple(True if i in more else each for i, each in enumerate(inside))

    for inside, base in worth.items():
        size = sum(inside)
        for i in range(players):
            if inside[i]:
                continue
            phi[i] += factorial(size) * factorial(players - size - 1) / factorial(players) * (worth[with_(inside, i)] - base)
            for j in range(players):
                if j != i and not inside[j]:
                    delta = worth[with_(inside, i, j)] - worth[with_(inside, i)] - worth[with_(inside, j)] + base
                    pairs[i, j] += factorial(size) * factorial(players - size - 2) / (2 * factorial(players - 1)) * delta
    pairs[range(players), range(players)] = phi - pairs.sum(axis=1)
    return phi, pairs


PLAYERS = np.array([0, 1, 2, 1, 3, 2])


@pytest.mark.parametrize("kind", ["forest", "boosting", "one tree"])
def test_values_and_interactions_equal_enumeration_where_players_are_groups_of_columns(kind):
    matrix, answer = some_rows(150, 6, gaps=kind == "boosting")
    model = {
        "forest": RandomForestRegressor(12, random_state=0),
        "boosting": HistGradientBoostingRegressor(max_iter=12, min_samples_leaf=3),
        "one tree": DecisionTreeRegressor(max_depth=4),
    }[kind].fit(matrix, answer)
    background = matrix[100:117]
    ensemble = read_ensemble(model)
    found = interventional_values(ensemble, PLAYERS, 4, matrix[:5], background, interactions=True)
    assert found.interactions is not None
    for row in range(5):
        worth = coalition_worth(model.predict, PLAYERS, 4, matrix[row], background)
        phi, pairs = enumerated(worth, 4)
        np.testing.assert_allclose(found.values[row], phi, atol=1e-12)
        np.testing.assert_allclose(found.interactions[row], pairs, atol=1e-12)
        assert found.base == pytest.approx(worth[False, False, False, False], abs=1e-12)
    np.testing.assert_array_equal(found.interactions, found.interactions.transpose(0, 2, 1))
    np.testing.assert_allclose(found.interactions.sum(axis=2), found.values, atol=1e-14)


@pytest.mark.parametrize("player", [PLAYERS, np.arange(6)])
def test_path_dependent_values_and_interactions_equal_enumeration_by_recursion(player):
    matrix, answer = some_rows(120, 6)
    model = RandomForestRegressor(4, max_depth=6, random_state=0).fit(matrix, answer)
    ensemble, players = read_ensemble(model), int(player.max()) + 1
    found = path_dependent_values(ensemble, player, players, matrix[:3], interactions=True)
    for row in range(3):
        phi, pairs = enumerated(cover_worth(ensemble, player, players, matrix[row].astype(np.float32)), players)
        np.testing.assert_allclose(found.values[row], phi, atol=1e-12)
        np.testing.assert_allclose(found.interactions[row], pairs, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), columns=st.integers(3, 6), gaps=st.booleans())
def test_any_small_ensemble_equals_enumeration(seed, columns, gaps):
    generator = np.random.default_rng(seed)
    matrix, answer = some_rows(60, columns, seed, gaps)
    player = generator.integers(0, 3, columns)
    model = (HistGradientBoostingRegressor(max_iter=4, min_samples_leaf=2) if gaps else ExtraTreesRegressor(4, random_state=seed)).fit(matrix, answer)
    background = matrix[generator.integers(0, 60, 7)]
    found = interventional_values(read_ensemble(model), player, 3, matrix[:2], background)
    for row in range(2):
        phi, _ = enumerated(coalition_worth(model.predict, player, 3, matrix[row], background), 3)
        np.testing.assert_allclose(found.values[row], phi, atol=1e-12)


def chain(depth):
    """A tree that asks for column 0, 1, 2… in turn and pays one where every column is at most zero."""
    nodes = 2 * depth + 1
    feature, left, right = np.full(nodes, -1), np.full(nodes, -1), np.full(nodes, -1)
    for level in range(depth):
        feature[2 * level], left[2 * level], right[2 * level] = level, 2 * level + 2, 2 * level + 1
    value = np.zeros(nodes)
    value[-1] = 1.0
    cover = np.ones(nodes)
    cover[::2] = 2.0 ** np.arange(depth, -1, -1)
    cover[1::2] = 2.0 ** np.arange(depth - 1, -1, -1)
    return Ensemble(feature, np.zeros(nodes), np.zeros(nodes, dtype=bool), left, right, value, cover, np.zeros(1, dtype=np.int64), 0.0, True)


@pytest.mark.parametrize("depth", [9, 40, 64, 65, 130])
def test_paths_of_many_players_follow_the_product_formula(depth):
    """A unanimity game: with a players that only x satisfies and b that only the background does, (a-1)! b! / (a+b)! each, and minus."""
    ensemble = chain(depth)
    only_background = depth // 3
    row, other = np.full((1, depth), -1.0), np.full((1, depth), 1.0)
    row[0, :only_background], other[0, :only_background] = 1.0, -1.0
    found = interventional_values(ensemble, np.arange(depth), depth, row, other).values[0]
    a, b = depth - only_background, only_background
    np.testing.assert_allclose(found[only_background:], factorial(a - 1) * factorial(b) / factorial(a + b), rtol=1e-12)
    np.testing.assert_allclose(found[:only_background], -(factorial(a) * factorial(b - 1) / factorial(a + b)), rtol=1e-12)
    everyone = interventional_values(ensemble, np.arange(depth), depth, -np.ones((1, depth)), np.ones((1, depth)))
    np.testing.assert_allclose(everyone.values[0], 1 / depth, rtol=1e-12)
    shared = path_dependent_values(ensemble, np.arange(depth), depth, -np.ones((1, depth)))
    np.testing.assert_allclose(shared.values[0], (1 - 0.5**depth) / depth, rtol=1e-10)
    assert shared.base == 0.5**depth


def test_a_player_satisfied_by_neither_takes_the_leaf_from_everybody():
    ensemble = chain(3)
    found = interventional_values(ensemble, np.arange(3), 3, np.array([[-1.0, 1.0, -1.0]]), np.array([[1.0, 1.0, -1.0]]))
    np.testing.assert_array_equal(found.values, 0.0)
    assert found.base == 0.0


def test_unlimited_depth_adds_up_and_equals_enumeration_of_groups():
    matrix, answer = some_rows(1200, 24, seed=3)
    model = RandomForestRegressor(5, max_features=0.3, random_state=0).fit(matrix + 1e-3 * np.random.default_rng(0).normal(size=matrix.shape), answer)
    ensemble = read_ensemble(model)
    each = interventional_values(ensemble, np.arange(24), 24, matrix[:6], matrix[200:260])
    np.testing.assert_allclose(each.base + each.values.sum(axis=1), model.predict(matrix[:6]), atol=1e-12)
    player = np.arange(24) // 8
    found = interventional_values(ensemble, player, 3, matrix[:6], matrix[200:260])
    for row in range(6):
        phi, _ = enumerated(coalition_worth(model.predict, player, 3, matrix[row], matrix[200:260]), 3)
        np.testing.assert_allclose(found.values[row], phi, atol=1e-12)


@pytest.mark.parametrize("interactions", [False, True])
def test_a_row_alone_in_a_batch_and_in_another_order_gives_the_same_bits(interactions, monkeypatch):
    matrix, answer = some_rows(500, 9, seed=1)
    ensemble = read_ensemble(RandomForestRegressor(8, random_state=0).fit(matrix, answer))

    def explained(rows):
        inside = interventional_values(ensemble, np.arange(9), 9, rows, matrix[:50], interactions=interactions)
        conditional = path_dependent_values(ensemble, np.arange(9), 9, rows, interactions=interactions)
        return [part for found in (inside, conditional) for part in (found.values, found.interactions) if part is not None]

    order = np.random.default_rng(0).permutation(300)
    together, shuffled = explained(matrix[100:400]), explained(matrix[100:400][order])
    for whole, mixed in zip(together, shuffled, strict=True):
        np.testing.assert_array_equal(whole[order], mixed)
    for row in (0, 7, 299):
        for whole, alone in zip(together, explained(matrix[100 + row : 101 + row]), strict=True):
            np.testing.assert_array_equal(whole[row : row + 1], alone)
    monkeypatch.setattr(games, "PAIRS_AT_ONCE", 5000)
    monkeypatch.setattr(games, "FACTORS_AT_ONCE", 5000)
    monkeypatch.setattr(values, "ROWS_AT_ONCE", 7)
    for whole, chunked in zip(together, explained(matrix[100:110]), strict=True):
        np.testing.assert_array_equal(whole[:10], chunked)


def test_smaller_blocks_of_leaves_change_the_last_bits_at_most(monkeypatch):
    matrix, answer = some_rows(300, 8, seed=1)
    ensemble = read_ensemble(RandomForestRegressor(8, random_state=0).fit(matrix, answer))
    whole = interventional_values(ensemble, np.arange(8), 8, matrix[:9], matrix[50:90])
    monkeypatch.setattr(paths, "SLOTS_AT_ONCE", 16)
    np.testing.assert_allclose(interventional_values(ensemble, np.arange(8), 8, matrix[:9], matrix[50:90]).values, whole.values, atol=1e-13)


@pytest.mark.parametrize("nodes", [1, 500, 10**6])
def test_runs_of_trees_are_the_ensemble(nodes):
    matrix, answer = some_rows(200, 8, seed=1)
    ensemble = read_ensemble(GradientBoostingRegressor(n_estimators=12, random_state=0).fit(matrix, answer))
    parts = list(ensemble.parts(nodes))
    assert len(parts) == (12 if nodes == 1 else len(parts)) and sum(len(part.roots) for part in parts) == 12
    np.testing.assert_allclose(ensemble.offset + sum(part.scores(matrix) for part in parts), ensemble.scores(matrix), atol=1e-12)
    whole = interventional_values(ensemble, np.arange(8), 8, matrix[:5], matrix[50:90]).values
    halves = sum(interventional_values(part, np.arange(8), 8, matrix[:5], matrix[50:90]).values for part in parts)
    np.testing.assert_allclose(halves, whole, atol=1e-13)


def test_thresholds_that_float32_cannot_hold_send_rows_as_the_library_does():
    """Midpoints of neighbouring float32 numbers: rounding the threshold, or not rounding the input, sends rows the other way."""
    generator = np.random.default_rng(0)
    low = generator.normal(size=200).astype(np.float32)
    close = np.concatenate([low, np.nextafter(low, np.float32(9))]).astype(np.float64)
    matrix = np.stack([close, close[::-1]], axis=1)
    answer = generator.normal(size=400)
    model = DecisionTreeRegressor().fit(matrix, answer)
    assert (model.tree_.threshold.astype(np.float32) != model.tree_.threshold).any()
    nudged = matrix + generator.normal(scale=1e-9, size=matrix.shape)
    for rows in (matrix, nudged):
        np.testing.assert_array_equal(read_ensemble(model).scores(rows), model.predict(rows))
        found = interventional_values(read_ensemble(model), np.arange(2), 2, rows, rows[:60])
        np.testing.assert_allclose(found.base + found.values.sum(axis=1), model.predict(rows), atol=1e-13)


TAKE_GAPS = (DecisionTreeClassifier, RandomForestClassifier, HistGradientBoostingClassifier)


@pytest.mark.parametrize(("make", "gaps"), [(GradientBoostingClassifier, False), *((make, gaps) for make in TAKE_GAPS for gaps in (False, True))])
def test_every_estimator_that_is_read_answers_as_the_library_does(make, gaps):
    matrix, answer = some_rows(200, 5, gaps=gaps)
    labels = np.digitize(answer, [-0.5, 0.5])
    model = make(random_state=0).fit(matrix, labels)
    boosted = hasattr(model, "decision_function")
    truth = model.decision_function(matrix) if boosted else model.predict_proba(matrix)
    for k in range(3):
        ensemble = read_ensemble(model, np.eye(3)[k])
        np.testing.assert_allclose(ensemble.scores(matrix), truth[:, k], atol=1e-12)
    mixed = read_ensemble(model, [0.5, -1.0, 2.0])
    np.testing.assert_allclose(mixed.scores(matrix), truth @ [0.5, -1.0, 2.0], atol=1e-12)


@pytest.mark.parametrize("make", [GradientBoostingRegressor, HistGradientBoostingRegressor, ExtraTreesRegressor, RandomForestRegressor])
def test_regressors_are_read_with_their_start_and_learning_rate(make):
    matrix, answer = some_rows(150, 4)
    model = make(random_state=0).fit(matrix, answer + 40)
    np.testing.assert_allclose(read_ensemble(model).scores(matrix), model.predict(matrix), atol=1e-11)


def test_what_cannot_be_read_is_refused_with_the_reason():
    matrix, answer = some_rows(120, 3)
    labels = (answer > 0).astype(int)
    with pytest.raises(UsageError, match="do not read a AdaBoostClassifier"):
        read_ensemble(AdaBoostClassifier(n_estimators=2).fit(matrix, labels))
    with pytest.raises(UsageError, match="2 outputs, where 3 were due"):
        read_ensemble(RandomForestClassifier(2).fit(matrix, labels), [1, 0, 0])
    with pytest.raises(UsageError, match="starts from another model"):
        read_ensemble(GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()).fit(matrix, labels))
    with pytest.raises(UsageError, match="one target"):
        read_ensemble(DecisionTreeRegressor().fit(matrix, np.stack([answer, answer], axis=1)))
    kinds = np.stack([np.arange(120) % 6, answer], axis=1)
    categorical = HistGradientBoostingClassifier(max_iter=3, categorical_features=[0], min_samples_leaf=2).fit(kinds, np.arange(120) % 2)
    with pytest.raises(UsageError, match="category splits"):
        read_ensemble(categorical)


def test_trees_of_a_single_leaf_are_all_base():
    matrix = np.arange(6.0)[:, None]
    model = RandomForestRegressor(3, random_state=0).fit(matrix, np.full(6, 2.5))
    found = interventional_values(read_ensemble(model), np.arange(1), 2, matrix, matrix, interactions=True)
    assert found.base == pytest.approx(2.5, abs=1e-14)
    np.testing.assert_array_equal(found.values, np.zeros((6, 2)))
    np.testing.assert_array_equal(found.interactions, np.zeros((6, 2, 2)))


def test_no_rows_give_no_values():
    matrix, answer = some_rows(50, 3)
    ensemble = read_ensemble(DecisionTreeRegressor(max_depth=2).fit(matrix, answer))
    assert interventional_values(ensemble, np.arange(3), 3, matrix[:0], matrix).values.shape == (0, 3)
    assert path_dependent_values(ensemble, np.arange(3), 3, matrix[:0], interactions=True).interactions.shape == (0, 3, 3)


@given(codes=st.lists(st.integers(0, 30), min_size=1, max_size=40), size=st.sampled_from([31, 10**9]))
def test_distinct_codes_are_numbered_in_order_by_table_and_by_sorting(codes, size):
    array = np.array(codes)
    number, count = distinct(array, size)
    assert count == len(set(codes))
    np.testing.assert_array_equal(np.array(sorted(set(codes)))[number], array)


def test_weights_of_product_games_are_the_beta_function():
    table = product_integral(30)
    for a, b in [(0, 0), (1, 0), (3, 7), (30, 30), (0, 29)]:
        assert table[a, b] == pytest.approx(factorial(a) * factorial(b) / factorial(a + b + 1), rel=1e-14)
    assert (product_integral(700) >= 0).all()
