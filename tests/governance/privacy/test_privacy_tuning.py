"""The private search: what it costs against dp-accounting and brute force, what it draws, and that it keeps to its budget."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dp_accounting
import dp_accounting.rdp
import numpy as np
import pyarrow as pa
import pytest
from dp_accounting import dp_event
from scipy.stats import chisquare, logser

from affidavit.errors import PluginError, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.training import Training
from affidavit.policy import PrivacyPolicy
from affidavit.store import Store
from affidavit_governance.privacy import Event, joint_epsilon
from affidavit_governance.privacy.accounting import joint_delta, repeat_and_select
from affidavit_governance.privacy.accounting.rdp import ORDERS, gamma
from affidavit_governance.privacy.budget import Budget
from affidavit_governance.privacy.mechanisms.discrete import Integers
from affidavit_governance.privacy.randomness import Randomness
from affidavit_governance.privacy.tuning import repetitions, tune
from affidavit_plugins.tabular.linear import Linear, Logistic

KEY = bytes(range(32))
POLICY = PrivacyPolicy(epsilon=8.0, delta=1e-5, dataset_budget=10.0)


def rows(size: int, seed: int, **fields: Any) -> Dataset:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, size)
    table = pa.table({"x": x, "flag": rng.random(size) < 0.5, "answer": np.where(x > 0.3, "yes", "no"), "number": x * 3 + 1})
    target = fields.pop("target", "answer")
    return Dataset.from_arrow(table.drop_columns(["number" if target == "answer" else "answer"]), target=target, fields=fields)


@pytest.fixture
def budget(tmp_path: Path) -> Iterator[Budget]:
    with Store.open(tmp_path / "ws") as store:
        yield Budget(store)


@pytest.mark.parametrize("mean", [1.5, 5.0, 20.0])
def test_the_number_of_trials_has_its_distribution(mean: float) -> None:
    integers = Integers(Randomness(key=KEY))
    drawn = Counter(repetitions(integers, mean) for _ in range(6000))
    chance = logser(1 - gamma(mean, 0.0))
    assert chance.mean() == pytest.approx(mean, rel=1e-6)
    few = [k for k in range(1, 60) if 6000 * chance.pmf(k) > 5]
    observed, expected = [drawn[k] for k in few], [6000 * float(chance.pmf(k)) for k in few]
    assert chisquare([*observed, 6000 - sum(observed)], [*expected, 6000 - sum(expected)], sum_check=False).pvalue > 1e-3


def test_a_mean_of_one_trial_is_one_trial() -> None:
    assert {repetitions(Integers(Randomness()), 1.0) for _ in range(20)} == {1}


def test_the_cost_is_dp_accountings_for_the_same_search() -> None:
    event = repeat_and_select([Event("gaussian", 5.0)], mean=10.0, shape=0.0)
    accountant = dp_accounting.rdp.RdpAccountant(list(ORDERS))
    accountant.compose(dp_event.RepeatAndSelectDpEvent(dp_accounting.GaussianDpEvent(5.0), 10.0, 0.0))
    assert joint_epsilon([event], 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-3)


@pytest.mark.parametrize("mean", [2.0, 10.0, 100.0])
def test_the_best_of_a_random_number_of_coins_leaks_no_more_than_is_accounted_for(mean: float) -> None:
    # Randomized response with three ordered outcomes; the winner's exact distribution from the generating function of the number of trials.
    own = 0.6
    one = np.array([math.exp(own), 1.0, math.exp(-own)]) / (math.exp(own) + 1 + math.exp(-own))
    pair = one, one[::-1]
    assert np.abs(np.log(pair[0] / pair[1])).max() == pytest.approx(2 * own)
    g = gamma(mean, 0.0)

    def winner(chance: np.ndarray) -> np.ndarray:
        upto = np.cumsum(chance)
        generating = np.log1p(-(1 - g) * np.minimum(upto, 1.0)) / math.log(g)
        return np.diff(generating, prepend=0.0)

    event = repeat_and_select([Event("pure", 1 / (2 * own))], mean=mean, shape=0.0)
    for p, q in (pair, pair[::-1]):
        best, other = winner(p), winner(q)
        assert best.sum() == pytest.approx(1.0)
        for epsilon in (0.2, 0.6, 1.0, 1.5, 2.0):
            exact = np.maximum(best - math.exp(epsilon) * other, 0.0).sum()
            assert exact <= joint_delta([event], epsilon) + 1e-12


def test_a_search_finds_the_candidate_that_learns_and_charges_all_roots_once(budget: Budget) -> None:
    train, validation = rows(1500, 1), rows(400, 2)
    found = tune(
        Logistic,
        [{"class_weight": {"yes": 200.0}}, {"l2": 1.0}],
        train,
        validation,
        policy=POLICY,
        budget=budget,
        trial_epsilon=2.0,
        score_epsilon=0.5,
        mean=8.0,
        source=Randomness(key=bytes([1] * 32)),  # eleven trials
    )
    assert found.params == {"l2": 1.0}
    assert 330 < found.score < 420
    assert found.epsilon == joint_epsilon([found.event], 1e-5) <= 8.0
    for data in (train, validation):
        (root,) = data.roots
        assert budget.spent(root, 1e-5) == pytest.approx(found.epsilon)
    assert [(row["runs"], row["unsettled"]) for row in budget.status()] == [(1, 0)] * 2
    # Statistics, minimiser, output, score: what one trial costs is what its training may cost, and the score.
    trial = [event for event in found.event.repeated if event.mechanism != "pure"]
    assert joint_epsilon(trial, 1e-5) == pytest.approx(2.0, abs=0.01)
    assert found.epsilon > joint_epsilon(found.event.repeated, 1e-5)


def test_numbers_are_scored_by_their_errors_share_of_the_public_bounds(budget: Budget) -> None:
    fields = {"target": "number", "number": {"bounds": [-10, 10]}}
    found = tune(
        Linear,
        [{"l2": 1.0}],
        rows(1500, 1, **fields),
        rows(400, 2, **fields),
        policy=POLICY,
        budget=budget,
        trial_epsilon=2.0,
        score_epsilon=1.0,
        mean=1.0,
    )
    assert 350 < found.score < 415
    with pytest.raises(UsageError, match="no public bounds"):
        tune(
            Linear,
            [{}],
            rows(300, 1, target="number"),
            rows(100, 2, target="number"),
            policy=POLICY,
            budget=budget,
            trial_epsilon=1.0,
            score_epsilon=1.0,
            mean=1.0,
        )


def search(budget: Budget, make: Any = Logistic, candidates: Any = ({},), policy: PrivacyPolicy = POLICY, **changes: Any) -> Any:
    settings = {"trial_epsilon": 1.0, "score_epsilon": 0.2, "mean": 2.0, **changes}
    return tune(make, list(candidates), rows(200, 1), rows(100, 2), policy=policy, budget=budget, **settings)


def test_a_search_that_costs_too_much_is_refused_before_anything_runs(budget: Budget) -> None:
    with pytest.raises(Refused, match="would cost epsilon"):
        search(budget, policy=PrivacyPolicy(epsilon=1.0))
    with pytest.raises(Refused, match="has spent"):
        search(budget, policy=PrivacyPolicy(epsilon=8.0, dataset_budget=0.5))
    (root,) = rows(200, 1).roots
    assert budget.spent(root, 1e-5) == 0


@pytest.mark.parametrize(("changes", "match"), [({"candidates": ()}, "no candidates"), ({"score_epsilon": 0.0}, "gives no score")])
def test_a_search_that_makes_no_sense_is_refused(changes: dict[str, Any], match: str, budget: Budget) -> None:
    with pytest.raises(UsageError, match=match):
        search(budget, **changes)


def test_candidates_that_cost_differently_are_refused(budget: Budget) -> None:
    class Other(Logistic):
        """Releases more statistics as its penalty says."""

        def _fit_private(self, data: Any, signature: Any, engine: Any) -> None:
            if self.params.l2 == 2.0:
                engine.releases([("sums", 1.0)]).sums(np.ones((len(data), 1)), bound=1.0)
            super()._fit_private(data, signature, engine)

    with pytest.raises(UsageError, match="cost differently"):
        search(budget, Other, [{"l2": 1.0}, {"l2": 2.0}])


def test_a_model_that_releases_more_than_in_rehearsal_is_caught_and_charged(budget: Budget) -> None:
    seen: list[int] = []

    class Sly(Logistic):
        """Asks for more statistics from its second training on."""

        def fit(self, data: Dataset, training: Training | None = None) -> Any:
            seen.append(1)
            if len(seen) > 1 and training is not None and training.engine is not None:
                training.engine.center_and_scale(np.ones((len(data), 1)))
            return super().fit(data, training)

    with pytest.raises(PluginError, match="more than it did in rehearsal"):
        search(budget, Sly)
    (root,) = rows(200, 1).roots
    assert budget.spent(root, 1e-5) > 1.0


def test_a_model_that_does_not_use_the_engine_is_caught(budget: Budget) -> None:
    class Plain(Logistic):
        def fit(self, data: Dataset, training: Training | None = None) -> Any:
            return super().fit(data, Training())

    with pytest.raises(PluginError, match="did not train through the engine"):
        search(budget, Plain)


def test_a_user_takes_part_with_so_many_rows_and_no_more(budget: Budget) -> None:
    seen: list[int] = []

    class Counting(Logistic):
        def fit(self, data: Dataset, training: Training | None = None) -> Any:
            seen.append(len(data))
            return super().fit(data, training)

    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=400), "who": ["eva"] * 300 + [f"person {n}" for n in range(100)], "answer": ["yes", "no"] * 200})
    data = Dataset.from_arrow(table, target="answer", fields={"who": {"role": "identifier"}})
    policy = PrivacyPolicy(epsilon=50.0, dataset_budget=60.0, unit="user", user="who", unit_records=2)
    found = tune(Counting, [{}], data, data, policy=policy, budget=budget, trial_epsilon=1.0, score_epsilon=1.0, mean=1.0)
    assert set(seen) == {102}
    assert {event.group_size for event in found.event.repeated} == {2}
    assert found.score < 120


def test_wider_neighbours_reach_trials_and_score(budget: Budget) -> None:
    policy = PrivacyPolicy(epsilon=20.0, dataset_budget=30.0, relation="replace-one")
    found = search(budget, policy=policy)
    assert {event.relation for event in found.event.repeated} == {"replace-one"}
    score = next(event for event in found.event.repeated if event.mechanism == "pure")
    assert joint_epsilon([score], 0) == pytest.approx(0.2)


def test_a_search_under_a_policy_without_noise_is_refused_before_it_trains(budget: Budget) -> None:
    policy = PrivacyPolicy(epsilon=8.0, delta=1e-5, noise_multiplier=0.0, without_noise=True)
    with pytest.raises(UsageError, match="trains with noise"):
        tune(Logistic, [{}], rows(100, 1), rows(50, 2), policy=policy, budget=budget, trial_epsilon=1.0, score_epsilon=0.5)
    assert budget.status() == []
