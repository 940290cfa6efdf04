"""What a private run states of its unit, relation, sampler and noise; and that its events come from what ran."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from affidavit.errors import Refused
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy import Event, calibrate, joint_epsilon
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_governance.privacy.training.sampling import ShuffleSampler

LOOSE: dict[str, Any] = {"epsilon": 0.5, "delta": 1e-3}


def run(policy: PrivacyPolicy, *, epochs: int = 2, stop_after: int = 10**9, columns: np.ndarray | None = None) -> tuple[PrivateEngine, list[Any]]:
    inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    reserved: list[Any] = []
    engine = PrivateEngine(policy, reserve=lambda events: reserved.append(list(events)))
    if columns is not None:
        engine.center_and_scale(columns)
    module = nn.Linear(4, 2)
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=60, batch_size=20, epochs=epochs, seed=0)
    for _ in range(epochs):
        for indices in loop.epoch():
            if loop.executed >= stop_after:
                return engine, reserved
            loop.step(indices, lambda chosen: module(inputs[torch.from_numpy(chosen)]).square().sum(1))
    return engine, reserved


def only(engine: PrivateEngine) -> Event:
    (event,) = engine.events
    return event


@pytest.mark.parametrize(
    ("settings", "relation", "group_size"),
    [
        ({}, "add-or-remove-one", 1),
        ({"relation": "replace-one"}, "replace-one", 1),
        ({"unit": "label"}, "replace-one", 1),
        ({"unit": "group", "unit_records": 3}, "add-or-remove-one", 3),
        ({"unit": "user", "user": "customer", "unit_records": 2, "relation": "replace-one"}, "replace-one", 2),
    ],
)
def test_noise_is_calibrated_for_the_policy_s_neighbours_and_the_statement_names_them(
    settings: dict[str, Any], relation: str, group_size: int
) -> None:
    policy = PrivacyPolicy(**LOOSE, **settings)
    engine, reserved = run(policy)
    event, statement = only(engine), engine.statement()
    assert (event.relation, event.group_size, event.sampling_rate, event.steps) == (relation, group_size, 20 / 60, 6)
    expected = calibrate(0.5, sampling_rate=20 / 60, steps=6, delta=1e-3, relation=relation, group_size=group_size)
    assert event.noise_multiplier == expected
    assert reserved == [[event]]
    assert (statement["unit"], statement["relation"], statement["unit_records"]) == (policy.unit, relation, group_size)
    assert statement["certificate"] == 1
    assert 0.49 < statement["epsilon"] <= 0.5


def test_shuffled_epochs_are_charged_whole_and_without_amplification() -> None:
    engine, reserved = run(PrivacyPolicy(**LOOSE, sampler="shuffle"), stop_after=4)
    statement = engine.statement()
    assert only(engine) == Event("gaussian", statement["noise_multiplier"], 1.0, 2)  # the second epoch began
    assert reserved[-1][-1].steps == 2
    assert (statement["sampler"], statement["sampling_rate"], statement["steps"], statement["steps_per_epoch"]) == ("shuffle", None, 4, 3)
    assert statement["expected_batch_size"] == 20
    poisson = calibrate(0.5, sampling_rate=20 / 60, steps=6, delta=1e-3)
    assert statement["noise_multiplier"] > 1.5 * poisson


def test_each_row_is_in_one_batch_an_epoch_and_moves_no_other_row() -> None:
    key = bytes(range(32))
    for rows in (60, 61):
        sampler = ShuffleSampler(Randomness(key), rows, 3)
        epochs = [[sampler.draw(3 * epoch + number) for number in (1, 2, 3)] for epoch in range(2)]
        for batches in epochs:
            assert Counter(np.concatenate(batches).tolist()) == Counter(range(rows))
        assert not np.array_equal(epochs[0][0], epochs[1][0])
    smaller = ShuffleSampler(Randomness(key), 60, 3)
    for step, larger in enumerate([*epochs[0], *epochs[1]], start=1):
        assert np.array_equal(smaller.draw(step), larger[larger < 60])


def test_events_count_the_steps_that_ran_not_the_planned_ones() -> None:
    engine, reserved = run(PrivacyPolicy(**LOOSE), stop_after=2)
    statement = engine.statement()
    assert only(engine).steps == statement["steps"] == 2 < statement["steps_planned"] == reserved[-1][-1].steps == 6
    assert statement["epsilon"] == joint_epsilon(engine.events, 1e-3) < 0.4


def test_a_fixed_noise_multiplier_is_used_and_stated() -> None:
    engine, _ = run(PrivacyPolicy(**LOOSE, noise_multiplier=30.0))
    assert only(engine).noise_multiplier == engine.statement()["noise_multiplier"] == 30.0
    assert engine.statement()["epsilon"] < 0.3


def test_a_fixed_noise_multiplier_that_costs_too_much_is_refused_with_one_that_does_not() -> None:
    with pytest.raises(Refused) as refused:
        run(PrivacyPolicy(**LOOSE, noise_multiplier=0.7))
    assert refused.value.line == "privacy.noise_multiplier"
    assert refused.value.measured > refused.value.bound == 0.5
    satisfying = float(str(refused.value.satisfy).split(" would")[0].rsplit(" ", 1)[1])
    run(PrivacyPolicy(**LOOSE, noise_multiplier=satisfying))


def test_training_without_noise_says_so_and_claims_nothing() -> None:
    engine, reserved = run(PrivacyPolicy(**LOOSE, noise_multiplier=0.0, without_noise=True))
    statement = engine.statement()
    assert (statement["private"], statement["epsilon"], statement["epsilon_rdp"]) == (False, None, None)
    assert (statement["noise_multiplier"], statement["steps"], statement["events"]) == (0.0, 6, [])
    assert reserved == []


class Recorder(Randomness):
    """Notes how much noise statistics get, and adds none."""

    deviations: list[float]

    def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        self.deviations.append(deviation)


@pytest.mark.parametrize(("relation", "group_size"), [("add-or-remove-one", 1), ("replace-one", 1), ("add-or-remove-one", 3), ("replace-one", 3)])
def test_statistics_noise_covers_the_largest_change_that_the_unit_makes(relation: str, group_size: int) -> None:
    unit = {"unit": "group", "unit_records": group_size} if group_size > 1 else {}
    policy = PrivacyPolicy(**LOOSE, relation=relation, **unit)
    source = Recorder()
    source.deviations = []
    engine = PrivateEngine(policy, reserve=lambda events: None, source=source)
    columns = np.full((50, 5), 3.0)
    engine.center_and_scale(columns)
    # All of the group's counts in one bin of each of five columns, and, replaced, in another one of each.
    worst = group_size * math.sqrt(5 * (2 if relation == "replace-one" else 1))
    event, _ = engine.events
    loss = group_size * (2 if relation == "replace-one" else 1) / event.noise_multiplier
    assert source.deviations[0] / worst == pytest.approx(1 / loss)
    assert engine.statement()["statistics"][0]["bound"] * event.noise_multiplier == pytest.approx(source.deviations[0])
