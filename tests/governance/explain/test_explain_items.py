"""A recommender's players: items of a history beside fields."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.governance.explain.explain_models import Formula

from affidavit import Dataset
from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.model import Task
from affidavit_governance.explain.methods.sampled import Exact, Permutation

RATINGS = Path(__file__).parents[4] / "shared/data/movielens_100k.csv.gz"

WORTH = np.array([0.0, 0.05, -0.03, 0.08, 0.02, -0.06])
"""What each item number adds in the model of `visits`; padding adds nothing."""


def histories(items, kind=np.int64, **fields):
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(np.asarray(items).astype(kind)))
    return Dataset.from_arrow(pa.table({"history": column, **fields}))


def visits(rows=30, seed=0):
    generator = np.random.default_rng(seed)
    items = generator.integers(0, 6, (rows, 5))
    return histories(items, age=generator.integers(18, 80, rows), member=generator.random(rows) < 0.5)


def liking(data):
    """Additive in items and age; the first and second position together add when both hold something."""
    items = data.to_numpy("history").astype(int)
    both = 0.1 * ((items[:, 0] > 0) & (items[:, 1] > 0))
    return 0.3 + WORTH[items].sum(axis=1) + 0.002 * data.to_numpy("age") + both


@pytest.mark.parametrize("kind", [np.int64, np.float64, np.uint8])
def test_items_and_fields_get_what_the_formula_gives_them(kind):
    data = histories([[3, 1, 0, 5, 3], [0, 2, 0, 0, 0], [0, 0, 0, 0, 0]], kind, age=[30, 40, 50], member=[True, False, True])
    model, background = Formula(liking, data, Task.REGRESSION), visits()
    for explainer in (Exact, Permutation):
        found = explainer().explain(model, data, background, players={"history": "items"})
        age = 0.002 * (np.array([30, 40, 50]) - background.to_numpy("age").mean())
        due = np.zeros((3, 5))
        due[0] = WORTH[[3, 1, 0, 5, 3]] + [0.05, 0.05, 0, 0, 0]
        due[1] = WORTH[[0, 2, 0, 0, 0]]
        assert found.players == ("age", "member", *(f"history [{i}]" for i in range(1, 6)))
        np.testing.assert_allclose(found.values[:, 2:], due, atol=1e-10)
        np.testing.assert_allclose(found.values[:, 0], age, atol=1e-10)
        assert found.residual.max() < 1e-12
        assert (found.values[:, 2:][due == 0] == 0).all(), "padding is no player, so its attribution is zero and no rounding"
        assert found.inputs[0][2:] == [3, 1, None, 5, 3]
        assert found.details["players"] == {"history": "items"} and "fill" not in found.details


def test_absent_items_leave_padding_so_that_the_others_keep_their_positions():
    data = histories([[4, 2, 5, 1, 3]])
    seen = []

    def watch(d):
        seen.append(d.to_numpy("history"))
        return np.zeros(len(d))

    Exact().explain(Formula(watch, data, Task.REGRESSION), data, histories(np.ones((3, 5))), players={"history": "items"})
    asked = np.concatenate(seen)
    assert ((asked == 0) | (asked == [4, 2, 5, 1, 3])).all() and len(np.unique(asked, axis=0)) == 32


def test_an_empty_history_and_a_missing_one_have_no_items_to_credit():
    values = np.array([[0.0, 0, 0], [np.nan] * 3, [1, 0, 2]])
    data = histories(values, np.float64)
    model = Formula(lambda d: np.isnan(d.to_numpy("history")[:, 0]) * 0.5 + np.nansum(d.to_numpy("history"), axis=1), data, Task.REGRESSION)
    found = Permutation().explain(model, data, data, players={"history": "items"})
    np.testing.assert_allclose(found.values, [[0, 0, 0], [0, 0, 0], [1, 0, 2]], atol=1e-12)
    assert found.base.tolist() == [0, 0.5, 0] and found.residual.max() < 1e-12


def test_the_whole_history_is_one_player_where_that_is_asked_for():
    data = visits()
    found = Exact().explain(Formula(liking, data, Task.REGRESSION), data.head(2), data, players={"history": "field"})
    assert set(found.players) == {"history", "age", "member"} and found.details["players"] == {"history": "field"}
    assert found.residual.max() < 1e-12


def test_what_is_no_history_is_refused_without_its_values():
    for bad in ([[1.5, 2]], [[-1.0, 2]], [[np.nan, 7]], [[np.inf, 7]]):
        data = histories(np.array(bad), np.float64)
        with pytest.raises(InvalidInput, match="no item number") as caught:
            Exact().explain(
                Formula(lambda d: np.zeros(len(d)), data, Task.REGRESSION), data, histories(np.ones((2, 2))), players={"history": "items"}
            )
        assert "1.5" not in str(caught.value) and "7" not in str(caught.value)
    square = histories(np.ones((3, 2, 2)))
    with pytest.raises(UsageError, match="shape 2×2"):
        Exact().explain(Formula(lambda d: np.zeros(len(d)), square, Task.REGRESSION), square, square, players={"history": "items"})
    data = visits()
    with pytest.raises(UsageError, match=r"group 'person'.*no items"):
        Exact().explain(Formula(liking, data, Task.REGRESSION), data, data, players={"history": "items"}, groups={"person": ["history", "age"]})
    with pytest.raises(UsageError, match="numeric field and has no items"):
        Exact().explain(Formula(liking, data, Task.REGRESSION), data, data, players={"age": "items"})


def test_films_that_people_liked_explain_what_they_are_recommended():
    if not RATINGS.exists():
        pytest.skip("the ratings are not on this machine")
    with gzip.open(RATINGS, "rt", newline="") as file:
        ratings = [(int(row["userId"]), int(row["movieId"]), float(row["rating"]), row["genres"]) for row in csv.DictReader(file)]
    liked: dict[int, list[int]] = {}
    for user, movie, rating, _ in ratings:
        if rating >= 4:
            liked.setdefault(user, []).append(movie)
    counts = np.unique([movie for movies in liked.values() for movie in movies], return_counts=True)
    known = {int(movie): number + 1 for number, movie in enumerate(counts[0][np.argsort(-counts[1], kind="stable")][:300])}
    watched = np.zeros((len(liked), len(known) + 1))
    for row, movies in enumerate(liked.values()):
        watched[row, [known[movie] for movie in movies if movie in known]] = 1
    together = watched.T @ watched
    likeness = together / (np.sqrt(np.outer(np.diag(together), np.diag(together))) + 1e-9)  # cosine between films
    np.fill_diagonal(likeness, 0)
    likeness[0] = 0
    items = np.zeros((len(liked), 8), dtype=np.int64)
    for row, movies in enumerate(liked.values()):
        last = [known[movie] for movie in movies if movie in known][-8:]
        items[row, : len(last)] = last
    wanted = 1  # the film that most people liked
    data = histories(items, count=(items > 0).sum(axis=1))
    model = Formula(
        lambda d: 1 / (1 + np.exp(2 - 3 * likeness[d.to_numpy("history").astype(int), wanted].sum(axis=1) - 0.05 * d.to_numpy("count"))), data
    )
    shown = np.flatnonzero((items > 0).sum(axis=1) >= 5)[:4]
    found = Exact().explain(model, data.take(shown), data.take(np.arange(20)), players={"history": "items"})
    assert found.residual.max() < 1e-9
    for row, number in enumerate(shown):
        alike = likeness[items[number], wanted]
        assert np.argmax(found.values[row, 1:]) == np.argmax(alike), "the film most like the recommended one speaks most for it"
        assert (found.values[row, 1:][items[number] == 0] == 0).all()
