"""What the page on intervals says is so: its code runs, its methods and budgets exist, and its figures hold."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from tests.docs.pages import run_page

from affidavit_governance.explain import estimate_shapley, shapley_values
from affidavit_governance.explain.case import Options
from affidavit_governance.explain.estimators.permutation import by_permutations
from affidavit_governance.explain.estimators.stability import TOP
from affidavit_governance.explain.methods.sampled import Exact, Leverage, Permutation

PAGE = Path(__file__).parents[2] / "docs" / "explaining-intervals.md"


def test_the_code_on_the_page_gives_what_the_page_shows() -> None:
    run_page("explaining-intervals", options=doctest.IGNORE_EXCEPTION_DETAIL)


def test_the_refusal_on_the_page_has_these_words() -> None:
    with pytest.raises(Exception, match="too small") as refusal:
        shapley_values(lambda inside: inside[:, 0].astype(float), 15, budget=20)
    assert str(refusal.value).replace("\n", " ") in PAGE.read_text().replace("\n", " ")


def test_the_methods_and_budgets_on_the_page_are_those_there_are() -> None:
    text = PAGE.read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == [each.type for each in (Exact, Leverage, Permutation)]
    for name, value in re.findall(r"^- `(budget|seconds|width)=([\d.]+)`", text, re.M):
        Options.read("leverage", {name: float(value) if "." in value else int(value)}, sampled=True)
    assert TOP == 5 and "five players" in text


def test_about_95_of_100_intervals_hold_the_exact_value() -> None:
    table = np.random.default_rng(0).normal(size=2**8)
    game = lambda inside: table[inside @ 2 ** np.arange(8)]  # noqa: E731  # a table lookup
    truth = shapley_values(game, 8)
    runs = [estimate_shapley(game, 8, budget=150, seed=seed) for seed in range(60)]
    assert 0.9 <= np.mean([abs(run.values - truth) <= run.errors for run in runs]) <= 0.99


def test_about_95_of_100_intervals_of_permutation_do_in_votes_and_products_too() -> None:
    generator = np.random.default_rng(0)
    inside = (np.arange(2**10)[:, None] >> np.arange(10) & 1).astype(bool)
    factor, weight = generator.uniform(0.6, 1.6, 10), generator.gamma(2, size=10)
    for table in (np.where(inside, factor, factor**-0.5).prod(axis=1), (inside @ weight >= weight.sum() / 2).astype(float)):
        game = lambda part, _=None, table=table: table[part @ 2 ** np.arange(10)]  # noqa: E731  # a table lookup
        truth = shapley_values(game, 10)
        runs = [by_permutations(game, 10, 1, 256, seed=seed) for seed in range(100)]
        assert 0.93 <= np.mean([abs(run.values - truth) <= run.errors for run in runs]) <= 0.98


def test_few_orders_of_a_vote_that_few_decide_hold_less_often() -> None:
    truth = np.array([1.0 / 3] * 3 + [0.0] * 7)
    veto = lambda part, _: (part[:, :3].all(axis=1)).astype(float)  # noqa: E731  # three players with a veto
    covered = {}
    for budget in (40, 256):
        runs = [by_permutations(veto, 10, 1, budget, seed=seed) for seed in range(100)]
        covered[budget] = np.mean([abs(run.values - truth)[:3] <= run.errors[:3] for run in runs])
    assert covered[40] < 0.9 <= covered[256]
