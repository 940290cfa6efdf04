"""Owen values against published numbers, the definition, Harsanyi dividends, and brute force over models."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.governance.explain.explain_models import Formula, images, interacting, make_table

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.outputs import relative_residual
from affidavit_governance.explain.estimators.partition import FIRST_DRAWS, estimate_owen, owen_values, players_in, smallest_budget
from affidavit_governance.explain.estimators.shapley import shapley_values
from affidavit_governance.explain.methods.partition import Partition
from affidavit_governance.explain.methods.sampled import Exact
from affidavit_governance.explain.players.nesting import halves, neighbours


def table_game(values):
    """A game by its table: coalition number c holds player i where bit i of c is set."""
    values = np.asarray(values, dtype=float)
    return lambda coalitions: values[coalitions @ (1 << np.arange(coalitions.shape[1]))]


def random_game(players, seed):
    return table_game(np.random.default_rng(seed).normal(size=2**players))


def logistic_game(players, seed):
    """A probability with interactions of two and three players, like a model's."""
    generator = np.random.default_rng(seed)
    weight, pairs = generator.normal(size=players), generator.normal(size=(players, players)) * 0.3
    triples, more = generator.integers(0, players, (40, 3)), generator.normal(size=40) * 0.6
    return lambda c: 1 / (1 + np.exp(-(c @ weight + ((c @ pairs) * c).sum(axis=1) + c[:, triples].all(axis=2) @ more)))


def orders(hierarchy):
    """Every order in which the members of each group come together."""
    if isinstance(hierarchy, int):
        return [(hierarchy,)]
    found = []
    for arranged in permutations(hierarchy):
        found += [sum(parts, ()) for parts in product(*[orders(part) for part in arranged])]
    return found


def by_definition(game, hierarchy):
    """The mean marginal contribution over those orders."""
    every = orders(hierarchy)
    total = np.zeros(len(every[0]))
    for order in every:
        inside = np.array([[player in order[:k] for player in range(len(order))] for k in range(len(order) + 1)])
        total[list(order)] += np.diff(game(inside))
    return total / len(every)


def by_dividends(game, unions):
    """Owen's values from Harsanyi dividends: each is shared equally by the unions in it, and in each by its members."""
    players = sum(len(union) for union in unions)
    codes = np.arange(2**players)
    worth = game((codes[:, None] >> np.arange(players) & 1).astype(bool))
    values = np.zeros(players)
    for code in codes[1:]:
        inside = [player for player in range(players) if code >> player & 1]
        below = [c for c in codes if c & ~code == 0]
        dividend = sum((-1) ** (len(inside) - int(c).bit_count()) * worth[c] for c in below)
        present = [[player for player in union if player in inside] for union in unions]
        present = [union for union in present if union]
        for union in present:
            values[union] += dividend / len(present) / len(union)
    return values


def test_owen_values_have_their_published_numbers():
    # The example of the R packages GameTheoryAllocation 1.0 and TUvalues: v(1), v(2), v(3), v(12), v(13), v(23), v(123) = 1, 1, 2, 1, 2, 2, 2.
    game = table_game([0, 1, 1, 1, 2, 2, 2, 2])
    np.testing.assert_allclose(owen_values(game, [[0, 1], [2]]), [0.25, 0.25, 1.5], atol=1e-15)
    np.testing.assert_allclose(owen_values(game, [0, 1, 2]), [1 / 3, 1 / 3, 4 / 3], atol=1e-15)


def test_a_union_of_three_takes_all_from_a_majority_of_five():
    values = owen_values(lambda c: (c.sum(axis=1) >= 3).astype(float), [[0, 1, 2], [3], [4]])
    np.testing.assert_allclose(values, [1 / 3, 1 / 3, 1 / 3, 0, 0], atol=1e-15)


def test_without_groups_and_with_one_group_of_all_they_are_shapley_values():
    def council(c):
        return (c[:, :5].all(axis=1) & (c.sum(axis=1) >= 9)).astype(float)

    published = [421 / 2145] * 5 + [4 / 2145] * 10
    np.testing.assert_allclose(owen_values(council, list(range(15))), published, rtol=1e-11)
    np.testing.assert_allclose(owen_values(council, [list(range(15))]), published, rtol=1e-11)


def test_each_union_gets_its_shapley_value_among_unions():
    """The quotient game property (Owen 1977; López, Saboya 2009)."""
    unions = [[0, 4], [1, 2, 6], [3], [5, 7]]
    game = random_game(8, 3)
    membership = np.array([[player in union for player in range(8)] for union in unions])
    quotient = shapley_values(lambda c: game((c.astype(int) @ membership) > 0), 4)
    values = owen_values(game, unions)
    np.testing.assert_allclose([values[union].sum() for union in unions], quotient, atol=1e-12)


HIERARCHIES = [
    [[0, 1], [2, 3]],
    [[0, 1, 2], [3], [4, 5]],
    [[[0, 3], 1], [2, [4, 5]]],
    [[5, [4, [3, [2, [1, 0]]]]]],
    [[0, 1, 2], 3, [[4, 5], 6]],
    0,
]


@pytest.mark.parametrize("hierarchy", HIERARCHIES, ids=str)
def test_values_over_several_levels_are_those_of_the_definition(hierarchy):
    game = random_game(len(players_in(hierarchy)), 7)
    found = estimate_owen(game, hierarchy)
    np.testing.assert_allclose(found.values, by_definition(game, hierarchy), atol=1e-12)
    assert found.errors is None


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10**6), st.data())
def test_two_levels_are_dividends_shared_by_unions_and_by_members(players, seed, data):
    home = data.draw(st.lists(st.integers(0, 3), min_size=players, max_size=players))
    unions = [[player for player in range(players) if home[player] == union] for union in sorted(set(home))]
    game = random_game(players, seed)
    np.testing.assert_allclose(owen_values(game, unions), by_dividends(game, unions), atol=1e-10)


def test_a_balanced_binary_tree_takes_two_thirds_of_the_square_and_asks_nothing_twice():
    asked = []

    def game(coalitions):
        asked.extend(map(bytes, np.packbits(coalitions, axis=1)))
        return coalitions.sum(axis=1).astype(float)

    found = estimate_owen(game, neighbours([0.0] * 16))
    assert found.evaluations == len(asked) == len(set(asked)) == 172
    assert estimate_owen(game, neighbours([0.0] * 48)).evaluations == 1708


def test_sampling_a_binary_tree_asks_nothing_twice():
    asked = []

    def game(coalitions):
        asked.extend(map(bytes, np.packbits(coalitions, axis=1)))
        return logistic_game(40, 0)(coalitions)

    hierarchy = neighbours([0.0] * 40)
    everything = estimate_owen(logistic_game(40, 0), hierarchy).evaluations
    found = estimate_owen(game, hierarchy, everything - 3)
    assert found.errors is not None and everything - 8 < len(asked) == len(set(asked))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 400),
    st.sampled_from([neighbours([0.0] * 24), [[0, 1, 2, 3, 4], [5, 6, 7], [8, [9, 10, 11]]], list(range(11))]),
)
def test_sampled_values_add_up_within_every_budget(seed, more, hierarchy):
    game = logistic_game(len(players_in(hierarchy)), seed % 50)
    budget = smallest_budget(hierarchy) + more
    found = estimate_owen(game, hierarchy, budget, seed=seed)
    assert found.evaluations <= budget
    assert found.values.sum() == pytest.approx(found.total - found.base, abs=1e-12)
    assert found.errors is None or (found.errors > 0).any()


@pytest.mark.parametrize(
    "hierarchy", [neighbours([0.0] * 20), [[0, 1, 2, 3], [4, 5, 6], [7, 8], [9, 10, 11]], list(range(12))], ids=["binary", "wide", "flat"]
)
def test_sampled_values_cover_the_exact_ones_and_close_in_on_them(hierarchy):
    players = len(players_in(hierarchy))
    least = smallest_budget(hierarchy)
    covered, errors = [], {1: [], 2: []}
    for seed in range(36):
        game = logistic_game(players, seed % 12)
        truth = owen_values(game, hierarchy)
        for times in errors:
            budget = least + (times - 1) * (least // 3)
            found = estimate_owen(game, hierarchy, budget, seed=seed)
            assert found.errors is not None
            covered.append((abs(found.values - truth) <= found.errors + 1e-12).mean())
            errors[times].append(np.linalg.norm(found.values - truth))
    assert np.mean(covered) > 0.93
    assert np.mean(errors[2]) < np.mean(errors[1])


def test_sampling_is_unbiased_where_groups_are_wide():
    hierarchy, game = [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10]], random_game(11, 5)
    truth = owen_values(game, hierarchy)
    found = np.array([estimate_owen(game, hierarchy, smallest_budget(hierarchy), seed=seed).values for seed in range(250)])
    spread = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert (abs(found.mean(axis=0) - truth) <= 4.5 * spread + 1e-12).all()


def test_interactions_of_two_players_leave_no_error_in_pairs_of_contexts():
    generator = np.random.default_rng(4)
    pairs, hierarchy = generator.normal(size=(20, 20)), neighbours([0.0] * 20)

    def game(c):
        return ((c @ pairs) * c).sum(axis=1)

    np.testing.assert_allclose(estimate_owen(game, hierarchy, smallest_budget(hierarchy)).values, owen_values(game, hierarchy), atol=1e-10)


def test_the_budget_goes_where_the_split_is_uncertain():
    """Players 0 to 15 only add; of the others three interact."""
    hierarchy = [neighbours([0.0] * 16), list(range(16, 27))]

    def game(c):
        return c[:, :16].sum(axis=1) + 5.0 * (c[:, 16] & c[:, 17] & c[:, 18])

    asked = []

    def watched(c):
        asked.append((c[:, :16].any(axis=1) & ~c[:, :16].all(axis=1)).sum())
        return game(c)

    least = smallest_budget(hierarchy)
    estimate_owen(watched, hierarchy, least)
    first = sum(asked)
    asked.clear()
    estimate_owen(watched, hierarchy, 8 * least)
    assert sum(asked) < first + least, "most of the budget belongs to the eleven players that interact"


def test_bad_games_and_hierarchies_are_refused():
    game = random_game(4, 0)
    for hierarchy in ([[0, 1], [1, 2]], [[0, 1], [3]], [[0, -1]]):
        with pytest.raises(UsageError, match="hierarchy"):
            owen_values(game, hierarchy)
    with pytest.raises(UsageError, match="too small") as refused:
        owen_values(logistic_game(20, 0), neighbours([0.0] * 20), 50)
    assert str(smallest_budget(neighbours([0.0] * 20))) in refused.value.hint
    with pytest.raises(InvalidInput, match="not finite"):
        owen_values(lambda c: np.full(len(c), np.nan), [[0, 1], [2, 3]])
    with pytest.raises(InvalidInput, match="shape"):
        owen_values(lambda c: np.zeros(3), [[0, 1], [2, 3]])


def test_no_players_and_one_player():
    assert owen_values(lambda c: np.zeros(len(c)), []).shape == (0,)
    assert owen_values(lambda c: c.sum(axis=1) * 3.0, [[0]]).tolist() == [3.0]
    assert FIRST_DRAWS >= 3


def test_neighbours_and_halves_hold_each_player_once():
    for count in range(1, 40):
        breaks = np.random.default_rng(count).integers(0, 3, count).astype(float)
        assert players_in(neighbours(breaks.tolist())) == list(range(count))
        places = np.random.default_rng(count).normal(size=(count, 2))
        assert sorted(players_in(halves(places))) == list(range(count))
    assert halves(np.array([[0.0, 0], [0, 1], [5, 0], [5, 1]])) == [[0, 1], [2, 3]]


# -- the explainer ------------------------------------------------------------------------------------------------------------------


def test_fields_without_groups_get_shapley_values(formula, table):
    background = table.take(np.arange(40, 60))
    found, exact = Partition().explain(formula, table.head(4), background), Exact().explain(formula, table.head(4), background)
    np.testing.assert_allclose(found.values, exact.values, atol=1e-12)
    assert found.details["exact"] and found.details["values"] == "Owen"


def test_fields_in_a_hierarchy_stay_players_and_groups_of_them_get_what_one_player_would():
    data = make_table(160)
    model, background = Formula(interacting, data), data.take(np.arange(40, 60))
    structure = {"numbers": ["x0", "x1"], "others": ["colour", "flag"]}
    found = Partition().explain(model, data.head(4), background, hierarchy=structure)
    whole = Exact().explain(model, data.head(4), background, groups=structure)
    assert found.players == ("x0", "x1", "colour", "flag") and whole.players == ("numbers", "others")
    np.testing.assert_allclose(found.values[:, :2].sum(axis=1), whole.values[:, 0], atol=1e-12)
    plain = Exact().explain(model, data.head(4), background)
    assert abs(found.values - plain.values).max() > 1e-3
    assert relative_residual(found).max() < 1e-12


def test_levels_may_be_nested_and_unnamed_fields_stand_beside_the_groups():
    data = make_table(160)
    model, background = Formula(interacting, data), data.take(np.arange(40, 60))
    found = Partition().explain(model, data.head(1), background, hierarchy={"all": {"numbers": ["x0", "x1"], "colour": ["colour"]}})
    names = ("x0", "x1", "colour", "flag")

    def game(c):
        own = {name: data.to_list(name)[0] for name in names}
        rows = [{n: own[n] if i else background.to_list(n)[b] for n, i in zip(names, inside, strict=True)} for inside in c for b in range(20)]
        import pyarrow as pa

        from affidavit import Dataset

        table = pa.table({n: pa.array([r[n] for r in rows], type=data.column(n).type) for n in names})
        return model.predict(Dataset(table, data.select(list(names)).schema)).score("yes").reshape(len(c), 20).mean(axis=1)

    np.testing.assert_allclose(found.values[0], by_definition(game, [[[0, 1], 2], 3]), atol=1e-12)


def test_a_hierarchy_that_does_not_fit_is_refused(formula, table):
    background = table.take(np.arange(40, 60))
    for structure, message in [
        ({"a": ["x0", "x7"]}, "'x7'.*no input"),
        ({"a": ["x0"], "b": ["x0"]}, "in two groups"),
        ({"a": []}, "mapping"),
        ({"a": "x0"}, "mapping"),
        (["x0"], "mapping"),
        ({"a": [["x0"]]}, "mapping"),
    ]:
        with pytest.raises(UsageError, match=message):
            Partition().explain(formula, table.head(1), background, hierarchy=structure)


def test_a_row_alone_equals_the_row_in_a_batch_to_the_last_bit_and_its_budget_replays():
    data = make_table(90, numbers=9)
    model, background = Formula(interacting, data), data.take(np.arange(50, 62))
    budget = 12 * 100
    batch = Partition().explain(model, data.head(4), background, budget=budget)
    alone = Partition().explain(model, data.take([2]), background, budget=budget)
    assert batch.errors is not None and (batch.errors > 0).any()
    np.testing.assert_array_equal(alone.values[0], batch.values[2])
    wide = Partition().explain(model, data.head(2), background, width=0.2)
    again = Partition().explain(model, data.head(2), background, budget=wide.details["rows_spent"])
    np.testing.assert_array_equal(wide.values, again.values)
    assert 2 * wide.errors.max() <= 0.2


def test_an_image_is_split_exactly_over_its_regions():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8)).astype(np.uint8)
    data = images(pixels)
    model = Formula(lambda d: 1 / (1 + np.exp(-(d.to_numpy("image")[:, :2, :2].mean(axis=(1, 2)) * d.to_numpy("image")[:, 4, 4] / 9000 - 1))), data)
    found = Partition().explain(model, data.head(2), data)
    assert found.details["exact"] and found.errors is None
    assert found.details["model_rows"] < 2 * 180 + 20
    assert relative_residual(found).max() < 1e-12
