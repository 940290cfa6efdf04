"""Discrete samplers against their exact probabilities, and private figures on a budget."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chisquare

from affidavit.errors import Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.policy import PrivacyPolicy
from affidavit.store import Store
from affidavit_governance.privacy import joint_epsilon
from affidavit_governance.privacy.budget import Budget
from affidavit_governance.privacy.mechanisms.discrete import (
    Integers,
    bernoulli_exp,
    discrete_laplace,
    laplace_deviation,
    laplace_half_width,
)
from affidavit_governance.privacy.mechanisms.reports import PrivateStatistics
from affidavit_governance.privacy.randomness import Randomness

KEY = bytes(range(32))


def integers() -> Integers:
    """Fixed draws, so that a test of chance has one outcome."""
    return Integers(Randomness(key=KEY))


def check_distribution(drawn: list[int], probability: dict[int, float]) -> None:
    """Chi-square over the listed values and all others together."""
    found = Counter(drawn)
    observed = [found[value] for value in probability]
    rest = 1 - sum(probability.values())
    expected = [len(drawn) * chance for chance in probability.values()]
    if len(drawn) * rest > 5:
        observed.append(len(drawn) - sum(observed))
        expected.append(len(drawn) * rest)
    assert chisquare(observed, expected, sum_check=False).pvalue > 1e-3
    assert sum(observed) >= 0.999 * len(drawn)


@pytest.mark.parametrize("number", [1, 2, 3, 10, 2**64, 2**64 + 1])
def test_uniform_numbers_are_below_their_end_and_even(number: int) -> None:
    source = integers()
    drawn = [source.below(number) for _ in range(4000)]
    assert 0 <= min(drawn) <= max(drawn) < number
    quarters = Counter(4 * value // number for value in drawn)
    if number >= 2**64:
        assert chisquare([quarters[quarter] for quarter in range(4)]).pvalue > 1e-3
    elif number > 1:
        check_distribution(drawn, dict.fromkeys(range(number), 1 / number))


@pytest.mark.parametrize("exponent", [Fraction(0), Fraction(1, 7), Fraction(1), Fraction(5, 2), Fraction(7, 2)])
def test_a_coin_falls_with_the_probability_of_an_exponential(exponent: Fraction) -> None:
    source = integers()
    drawn = [int(bernoulli_exp(source, exponent)) for _ in range(8000)]
    chance = math.exp(-float(exponent))
    assert sum(drawn) / 8000 == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 8000))


@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(1), Fraction(5, 2), Fraction(7)])
def test_discrete_laplace_noise_has_its_exact_probabilities(scale: Fraction) -> None:
    source = integers()
    drawn = [discrete_laplace(source, scale) for _ in range(6000)]
    ratio = math.exp(-1 / float(scale))
    chance = {x: (1 - ratio) / (1 + ratio) * ratio ** abs(x) for x in range(-40, 41)}
    check_distribution(drawn, {x: p for x, p in chance.items() if 6000 * p > 5})
    assert np.std(drawn) == pytest.approx(laplace_deviation(scale), rel=0.06)
    width = laplace_half_width(scale, 0.95)
    assert sum(p for x, p in chance.items() if abs(x) <= width) >= 0.95 - 1e-9 > sum(p for x, p in chance.items() if abs(x) <= width - 1) - 1e-9


def test_the_interval_agrees_with_the_published_accuracy_of_the_discrete_laplace_mechanism() -> None:
    # OpenDP, discrete_laplacian_scale_to_accuracy(scale=1, alpha=0.05): log(2 / (alpha (e^(1/scale) + 1))) + 1 = 3.3756, so |x| < 3.3756.
    assert math.log(2 / (0.05 * (math.e + 1))) + 1 == pytest.approx(3.3756, abs=1e-4)
    assert laplace_half_width(Fraction(1), 0.95) == 3


# -- figures ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def budget(tmp_path: Path) -> Iterator[Budget]:
    with Store.open(tmp_path / "ws") as store:
        yield Budget(store)


def people(number: int = 2000) -> Dataset:
    rng = np.random.default_rng(0)
    age = pa.array(rng.uniform(20, 80, number), mask=np.arange(number) % 50 == 0)
    return Dataset.from_arrow(pa.table({"age": age, "town": rng.choice(["a", "b", "c"], number)}))


def open_statistics(budget: Budget, data: Dataset, epsilon: float = 2.0, **changes: Any) -> PrivateStatistics:
    source = changes.pop("source", None)
    policy = PrivacyPolicy(**{"delta": 1e-5, "dataset_budget": 3.0, **changes})
    return PrivateStatistics(budget, data, epsilon=epsilon, policy=policy, source=source)


def test_figures_are_near_the_truth_and_inside_their_intervals(budget: Budget) -> None:
    data = people()
    age = data.to_numpy("age")
    age = age[~np.isnan(age)]
    with open_statistics(budget, data, source=Randomness(key=KEY)) as statistics:
        figures = {
            "count": (statistics.count(epsilon=0.2), 2000),
            "old": (statistics.count(where=np.nan_to_num(data.to_numpy("age")) > 60, epsilon=0.2), (age > 60).sum()),
            "sum": (statistics.sum("age", bounds=(0, 100), epsilon=0.4), age.sum()),
            "mean": (statistics.mean("age", bounds=(0, 100), epsilon=0.4), age.mean()),
        }
        towns = statistics.histogram("town", categories=["a", "b", "c", "nowhere"], epsilon=0.3)
        ages = statistics.histogram("age", edges=[20, 40, 60, 80], epsilon=0.3)
    for figure, truth in figures.values():
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= truth <= figure.high
        assert figure.standard_error is not None
        assert 0 < figure.standard_error < figure.high - figure.low
    truth = [data.to_list("town").count(town) for town in ("a", "b", "c", "nowhere")] + np.histogram(age, [20, 40, 60, 80])[0].tolist()
    assert np.abs([figure.value - exact for figure, exact in zip([*towns, *ages], truth, strict=True)]).max() < 40


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says(budget: Budget) -> None:
    data = people(100)
    age = data.to_numpy("age")
    truth = np.clip(age[~np.isnan(age)], 30, 70).mean()
    inside = 0
    with open_statistics(budget, data, epsilon=3.0, source=Randomness(key=KEY)) as statistics:
        for _ in range(150):
            figure = statistics.mean("age", bounds=(30, 70), epsilon=0.02)
            inside += figure.low <= truth <= figure.high  # type: ignore[operator]  # a mean has an interval
            assert 30 <= figure.value <= 70
    assert inside / 150 >= 0.95


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_a_quantile_is_as_near_in_rank_as_it_says(share: float, budget: Budget) -> None:
    data = people()
    age = np.sort(data.to_numpy("age"))[:1960]
    with open_statistics(budget, data, source=Randomness(key=KEY)) as statistics:
        figure = statistics.quantile("age", share, bounds=(0, 100), epsilon=1.0)
    assert figure.rank_error is not None
    assert abs(np.searchsorted(age, figure.value) - share * 1960) <= figure.rank_error + 1


def test_the_exponential_mechanism_chooses_with_its_exact_probabilities(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    from affidavit_governance.privacy.mechanisms import reports

    monkeypatch.setattr(reports, "CANDIDATES", 4)
    data = Dataset.from_arrow(pa.table({"x": [0.5, 0.5, 3.5]}))
    with open_statistics(budget, data, epsilon=3.0, dataset_budget=5.0, source=Randomness(key=KEY)) as statistics:
        statistics._left = Fraction(4000)  # only the draws matter here
        drawn = [int(statistics.quantile("x", 0.5, bounds=(0, 4), epsilon=2.0).value) for _ in range(2000)]
        statistics.events.clear()
    # Scores -|below - above| / 2 at 0..4, moved by one record by at most a half: chances ∝ exp(2 score).
    weights = np.exp(2.0 * -np.array([3, 1, 1, 1, 3]) / 2)
    check_distribution(drawn, dict(enumerate(weights / weights.sum())))


def test_leaving_out_any_record_changes_no_probability_by_more_than_epsilon() -> None:
    # Brute force over the scores of the exponential mechanism, and over the counts of a histogram.
    values, candidates = np.array([1.0, 1.0, 2.0, 5.0, 8.0]), np.arange(0.0, 10.0)
    for share in (0.1, 0.5, 0.9):

        def scores(present: np.ndarray, share: float = share) -> np.ndarray:
            below, above = (present[:, None] < candidates).sum(0), (present[:, None] > candidates).sum(0)
            return -np.abs((1 - share) * below - share * above)

        for record in range(5):
            assert np.abs(scores(values) - scores(np.delete(values, record))).max() <= max(share, 1 - share) + 1e-12


# -- the budget -------------------------------------------------------------------------------------------------------------------------


def test_what_was_used_is_charged_and_the_rest_given_back(budget: Budget) -> None:
    data = people(50)
    (root,) = data.roots
    with open_statistics(budget, data, epsilon=1.0) as statistics:
        assert budget.spent(root, 1e-5) == pytest.approx(1.0, abs=1e-3)
        statistics.count(epsilon=0.25)
        assert statistics.left == 0.75
    assert budget.spent(root, 1e-5) == pytest.approx(0.25, abs=1e-3)
    assert joint_epsilon(statistics.events, 0) == pytest.approx(0.25)
    with open_statistics(budget, data, epsilon=1.0):
        pass
    assert budget.spent(root, 1e-5) == pytest.approx(0.25, abs=1e-3)


def test_an_error_inside_the_block_still_charges_what_was_released(budget: Budget) -> None:
    data = people(50)
    (root,) = data.roots
    with pytest.raises(ZeroDivisionError), open_statistics(budget, data) as statistics:
        statistics.count(epsilon=0.5)
        raise ZeroDivisionError
    assert budget.spent(root, 1e-5) == pytest.approx(0.5, abs=1e-3)


def test_more_than_was_set_aside_or_than_the_data_set_has_left_is_refused(budget: Budget) -> None:
    data = people(50)
    with open_statistics(budget, data, epsilon=1.0) as statistics:
        statistics.count(epsilon=0.7)
        with pytest.raises(Refused, match=r"0\.3 left"):
            statistics.count(epsilon=0.4)
        statistics.count(epsilon=0.3)
    with pytest.raises(Refused, match="has spent"), open_statistics(budget, data, epsilon=2.5):
        pass
    with pytest.raises(Refused, match="left"):
        statistics.count(epsilon=0.1)
    with pytest.raises(UsageError, match="'with' block"):
        open_statistics(budget, data).count(epsilon=0.1)
    with pytest.raises(UsageError, match="opened before"), statistics:
        pass


def test_replaced_records_and_groups_get_their_noise(budget: Budget) -> None:
    data = people(50)
    with open_statistics(budget, data, relation="replace-one", unit="group", unit_records=2) as statistics:
        figure = statistics.count(epsilon=1.0)
    assert figure.standard_error == pytest.approx(laplace_deviation(Fraction(4)))
    assert joint_epsilon(statistics.events, 0) == pytest.approx(1.0)


def test_a_user_counts_with_so_many_rows_and_no_more(budget: Budget) -> None:
    data = Dataset.from_arrow(pa.table({"who": ["eva"] * 900 + [f"person {n}" for n in range(100)], "x": [1.0] * 1000}))
    with open_statistics(budget, data, unit="user", user="who", unit_records=3) as statistics:
        figure = statistics.count(epsilon=2.0)
    assert abs(figure.value - 103) < 30
    assert figure.standard_error == pytest.approx(laplace_deviation(Fraction(3, 2)))


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.count(epsilon=0.0),
        lambda s: s.count(epsilon=math.nan),
        lambda s: s.count(epsilon=1e-9),
        lambda s: s.count(epsilon=0.1, where=np.ones(3, dtype=bool)),
        lambda s: s.histogram("age", epsilon=0.1),
        lambda s: s.histogram("age", epsilon=0.1, edges=[3]),
        lambda s: s.histogram("age", epsilon=0.1, edges=[3, 2]),
        lambda s: s.histogram("town", epsilon=0.1, categories=["a", "a"]),
        lambda s: s.sum("age", bounds=(1, 1), epsilon=0.1),
        lambda s: s.mean("age", bounds=(0, math.inf), epsilon=0.1),
        lambda s: s.quantile("age", 1.5, bounds=(0, 1), epsilon=0.1),
    ],
)
def test_a_figure_that_makes_no_sense_is_refused_and_costs_nothing(ask: Any, budget: Budget) -> None:
    with open_statistics(budget, people(50)) as statistics:
        with pytest.raises(UsageError):
            ask(statistics)
        assert statistics.events == []
