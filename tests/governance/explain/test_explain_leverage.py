"""The sampled explainers as a whole: budgets, reproducibility, stability of the order, and how the estimators compare on exact games."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from tests.governance.explain.explain_models import Formula, interacting, make_table

from affidavit import Task
from affidavit.errors import UsageError
from affidavit.interfaces.outputs import relative_residual
from affidavit_governance.explain import estimate_shapley, shapley_values
from affidavit_governance.explain.estimators.pairs import all_pairs, allocation, pair_count, sampled_designs, sampled_pairs
from affidavit_governance.explain.estimators.permutation import by_permutations
from affidavit_governance.explain.estimators.stability import as_details, stability
from affidavit_governance.explain.estimators.surrogate import surrogate
from affidavit_governance.explain.methods.sampled import Exact, Leverage, Permutation

SAMPLED = [Leverage, Permutation]


@pytest.fixture(scope="module")
def case():
    """Eight fields with interactions of order three and more, rows, and 20 background rows."""
    data = make_table(120, numbers=6)
    model = Formula(lambda d: interacting(d) ** (1 + abs(d.to_numpy("x2") * d.to_numpy("x3"))), data)
    return model, data.head(3), data.take(np.arange(40, 60))


@pytest.mark.parametrize("explainer", SAMPLED)
def test_intervals_hold_the_exact_values_and_everything_adds_up(case, explainer):
    model, rows, background = case
    exact = Exact().explain(model, rows, background)
    found = explainer().explain(model, rows, background, budget=2000)
    assert found.method == explainer.type and not found.exact
    assert (abs(found.values - exact.values) <= found.errors + 1e-12).mean() > 0.85
    assert relative_residual(found).max() < 1e-12


def test_leverage_comes_nearer_than_permutation_at_equal_model_rows(case):
    model, rows, background = case
    exact = Exact().explain(model, rows, background).values
    errors = [
        np.mean([np.linalg.norm(each().explain(model, rows, background, budget=2000, seed=seed).values - exact) for seed in range(4)])
        for each in SAMPLED
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("explainer", [Exact, *SAMPLED])
def test_a_row_alone_in_other_company_and_on_threads_has_the_same_bits(case, explainer):
    model, rows, background = case
    options = {} if explainer is Exact else {"budget": 900}
    batch = explainer().explain(model, rows, background, **options)
    reverse = explainer().explain(model, rows.take([2, 1, 0]), background, **options)
    with ThreadPoolExecutor(3) as pool:
        alone = list(pool.map(lambda row: explainer().explain(model, rows.take([row]), background, **options), range(3)))
    for row in range(3):
        for other in (alone[row], reverse):
            place = 0 if other is alone[row] else 2 - row
            assert (other.values[place] == batch.values[row]).all()
            assert batch.errors is None or (other.errors[place] == batch.errors[row]).all()


@pytest.mark.parametrize("explainer", [Exact, *SAMPLED])
@pytest.mark.parametrize("limit", [{"seconds": 0.01}, {"width": 0.05}, {}])
def test_a_replay_with_the_rows_that_were_spent_gives_the_same_bits(case, explainer, limit):
    model, rows, background = case
    found = explainer().explain(model, rows.head(2), background, **limit)
    again = explainer().explain(model, rows.head(2), background, budget=found.details["rows_spent"])
    assert (again.values == found.values).all() and again.details["rows_spent"] == found.details["rows_spent"]
    assert again.details["stability"] == found.details["stability"]
    if "width" in limit and found.errors is not None:
        assert 2 * found.errors.max() <= limit["width"]


@pytest.mark.parametrize("explainer", SAMPLED)
def test_model_rows_stay_within_the_budget(case, explainer):
    model, rows, background = case
    for budget in (700, 1111, 2048):
        found = explainer().explain(model, rows.head(1), background, budget=budget)
        assert found.details["model_rows"] <= budget + 1  # the last one asks for the answer that is explained


def test_a_budget_that_does_not_pay_is_refused_with_what_would(case):
    model, rows, background = case
    with pytest.raises(UsageError, match=r"leverage'?") as refusal:
        Exact().explain(model, rows, background, budget=5119)
    assert "5120" in str(refusal.value)
    assert Exact().explain(model, rows.head(1), background, budget=5120).exact
    for explainer, least in ((Leverage, 60), (Permutation, 320)):
        with pytest.raises(UsageError, match=f"at least {least}"):
            explainer().explain(model, rows, background, budget=least - 1)
        assert explainer().explain(model, rows.head(1), background, budget=least).errors is not None
    for budget in (0, -1, [0]):
        with pytest.raises(UsageError, match="budget"):
            Leverage().explain(model, rows, background, budget=budget)


def test_more_players_than_the_budget_serves_is_refused_and_names_the_least():
    with pytest.raises(UsageError, match="at least 406"):
        shapley_values(lambda inside: inside.sum(axis=1).astype(float), 200, budget=405)
    found = estimate_shapley(lambda inside: inside.sum(axis=1).astype(float), 200, budget=406)
    np.testing.assert_allclose(found.values, 1, atol=1e-9)


def test_hundreds_of_players_are_served():
    weight = np.random.default_rng(0).normal(size=300)
    found = estimate_shapley(lambda inside: np.tanh(inside @ weight / 10) + inside[:, :3].all(axis=1), 300, budget=1500)
    assert found.base + found.values.sum() == pytest.approx(found.total)
    assert np.corrcoef(found.values[3:], weight[3:])[0, 1] > 0.95 and (found.errors > 0).all()


def test_stability_stands_in_the_record_and_exact_values_are_sure_of_their_order(case):
    model, rows, background = case
    exact = Exact().explain(model, rows, background).details["stability"]
    assert exact["k"] == 5 and exact["probability"] == [1.0] * 3
    few, many = (Leverage().explain(model, rows, background, budget=budget).details["stability"] for budget in (100, 4000))
    assert all(0 <= each <= 1 for each in few["probability"])
    assert np.mean(few["probability"]) < np.mean(many["probability"])
    assert any(few["ties"]) and all(set(group) <= set(rows.schema.names) for row in few["ties"] for group in row)


def test_a_model_that_answers_always_the_same_gives_nothing_to_anyone_and_is_sure_of_it():
    data = make_table(40, numbers=3, gaps=False)
    model = Formula(lambda d: d.to_numpy("x0") * 0 + 3.0, data, Task.REGRESSION)
    found = Leverage().explain(model, data.head(1), data.take(np.arange(20, 40)), budget=90)
    assert (found.values == 0).all() and (found.errors == 0).all()


def test_stability_against_the_closed_form_of_two_players():
    found = stability(np.array([1.0, -2.0]), np.eye(2) * 0.25, 2)
    # P(|second| >= |first|) of two normals with standard deviation one half: their sum and difference must have the same sign.
    both = np.random.default_rng(1).normal([1.0, -2.0], 0.5, (10**6, 2))
    assert found.probability == pytest.approx((abs(both[:, 1]) >= abs(both[:, 0])).mean(), abs=0.02)
    assert found.ties == [[1, 0]]  # the difference is one, its half-width 1.96 times the root of one half
    assert stability(np.array([1.0, -2.0]), np.eye(2) * 0.01, 2).ties == []
    correlated = np.array([[1.0, -0.999], [-0.999, 1.0]])
    assert stability(np.array([1.0, -2.0]), correlated, 2).ties == [], "sizes that move together keep their difference"


def test_exact_values_tie_only_where_they_are_equal():
    assert stability(np.array([1.0, -1.0, 0.5, 0.5 + 1e-6])).ties == [[0, 1]]
    assert stability(np.array([3.0, 0.0, 0.0, 1.0]), k=3).ties == [[1, 2]]
    assert stability(np.array([])).probability == 1.0
    judged = [stability(np.array([1.0, 1.0])), stability(np.array([2.0]))]
    assert as_details(judged, [["a", "b"], ["c"]]) == {"k": 5, "probability": [1.0, 1.0], "ties": [[["a", "b"]], []]}


@pytest.mark.parametrize("players", [4, 5, 8, 11])
def test_pairs_are_distinct_and_small_sizes_are_taken_whole(players):
    for count in {players, all_pairs(players) // 2, all_pairs(players)}:
        pairs = sampled_pairs(players, count, np.random.default_rng(0))
        codes = {min(code, 2**players - 1 - code) for code in (pairs.coalitions @ 2 ** np.arange(players)).tolist()}
        assert len(codes) == len(pairs) == count
        counts = allocation(players, count)
        free = [counts[size] / (2 if 2 * size < players else 1) for size in counts if counts[size] < pair_count(players, size)]
        assert not free or max(free) - min(free) <= 1, "sizes that are not taken whole share alike"


@pytest.mark.parametrize(("players", "count"), [(12, 300), (30, 500), (70, 400), (130, 200)])
def test_designs_have_the_same_sizes_and_distinct_pairs_of_their_own(players, count):
    designs = sampled_designs(players, count, 9, np.random.default_rng(1))
    codes = [set(map(bytes, np.packbits(np.where(each.coalitions[:, :1], each.coalitions, ~each.coalitions), axis=1))) for each in designs]
    assert all(len(code) == count for code in codes) and len(set(map(frozenset, codes))) == 9
    for each in designs:
        assert dict(zip(*np.unique(each.size, return_counts=True), strict=True)) == {s: n for s, n in allocation(players, count).items() if n}
        assert (2 * each.size <= players).all() and each.coalitions[2 * each.size == players, 0].all()


@pytest.mark.parametrize(("players", "count"), [(6, 14), (8, 40), (8, 12), (9, 30)])
def test_all_pairs_of_a_size_are_drawn_alike_often(players, count):
    repeats = 4000
    designs = sampled_designs(players, count, repeats, np.random.default_rng(5))
    codes = np.concatenate([each.coalitions for each in designs]) @ 2 ** np.arange(players)
    found, times = np.unique(codes, return_counts=True)
    size = np.bitwise_count(found)
    for each, drawn in allocation(players, count).items():
        chance = drawn / pair_count(players, each)
        assert (size == each).sum() == pair_count(players, each), "none is left out"
        deviation = np.sqrt(repeats * chance * (1 - chance))
        assert abs(times[size == each] - repeats * chance).max() <= 4.5 * deviation


def test_the_surrogate_has_the_covariances_of_its_terms():
    signs, relevance = np.where(np.random.default_rng(0).random((6, 5)) < 0.5, 1.0, -1.0), np.array([1.0, 0.5, 0.3, 0.9, 0.1])
    whole = np.vstack([signs, np.ones(5)])
    weights = {3: 1 / 1.2, 5: 0.2 / 1.2}
    cover, values = np.zeros((7, 7)), np.zeros((7, 5))
    for order, weight in weights.items():
        terms = [list(term) for term in combinations(range(5), order)]
        scale = weight / sum(relevance[term].prod() for term in terms)
        for term in terms:
            column, share = whole[:, term].prod(axis=1), scale * relevance[term].prod()
            cover += share * np.outer(column, column)
            values[:, term] += 2 / order * share * column[:, None]
    lean = signs.mean(axis=1)
    off = np.eye(7)[:6] - lean[:, None] * np.eye(7)[6]  # the process less its value at the grand coalition times the mean sign
    found = surrogate(signs, relevance)
    np.testing.assert_allclose(found.kernel, off @ cover @ off.T, atol=1e-12)
    np.testing.assert_allclose(found.shapley, off @ (values - 2 / 5 * cover[:, [6]]), atol=1e-12)


def test_leverage_halves_the_error_of_permutations_on_games_of_every_kind():
    players, budget = 9, 256
    generator = np.random.default_rng(3)
    everyone = (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)
    place = 2 ** np.arange(players)
    weight = generator.gamma(2, size=players)
    tables = [
        (everyone @ weight >= 0.55 * weight.sum()).astype(float),
        1 / (1 + np.exp(-2 * (everyone @ generator.normal(size=players)))),
        np.where(everyone, generator.uniform(0.6, 1.6, players), 1.0).prod(axis=1),
    ]
    for table in tables:
        game = lambda inside, table=table: table[inside @ place]  # noqa: E731  # bound here
        truth = shapley_values(game, players)
        ours = [np.linalg.norm(shapley_values(game, players, budget, seed=seed) - truth) for seed in range(5)]
        orders = [np.linalg.norm(by_permutations(lambda c, _, g=game: g(c), players, 1, budget, seed=seed).values - truth) for seed in range(5)]
        assert np.median(ours) < 0.5 * np.median(orders)
