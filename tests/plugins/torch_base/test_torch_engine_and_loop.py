"""The plain engine and the one training loop."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from affidavit.errors import InvalidInput
from affidavit_plugins.torch_base.engine import PlainEngine
from affidavit_plugins.torch_base.loop import EarlyStopping, LoopSettings, decayed, make_optimizer, run, shrink
from affidavit_plugins.torch_base.seeding import seeded


def settings(**changes):
    defaults = {"epochs": 3, "batch_size": 4, "learning_rate": 0.1, "optimizer": "sgd", "l1": 0.0, "l2": 0.0, "patience": None}
    return LoopSettings(**(defaults | changes))


def batches(seed, rows=10, batch_size=4, epochs=2):
    module = nn.Linear(1, 1)
    loop = PlainEngine().begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=rows, batch_size=batch_size, epochs=epochs, seed=seed)
    return [[list(batch) for batch in loop.epoch()] for _ in range(epochs)]


def test_every_row_comes_once_an_epoch_in_another_order_each_time():
    epochs = batches(seed=3)
    assert [sorted(row for batch in epoch for row in batch) for epoch in epochs] == [list(range(10))] * 2
    assert [len(batch) for batch in epochs[0]] == [4, 4, 2]
    assert epochs[0] != epochs[1]


def test_the_seed_alone_decides_the_order():
    assert batches(seed=3) == batches(seed=3)
    assert batches(seed=3) != batches(seed=4)


def test_statistics_leave_missing_values_out_and_give_a_positive_scale_to_constant_columns():
    columns = np.array([[1.0, 7.1, np.nan, 1e9 + 0.1], [3.0, 7.1, np.nan, 1e9 + 0.1], [np.nan, 7.1, np.nan, 1e9 + 0.1]])
    center, scale = PlainEngine().center_and_scale(columns)
    np.testing.assert_allclose(center, [2.0, 7.1, 0.0, 1e9 + 0.1])
    np.testing.assert_array_equal(scale, [1.0, 1.0, 1.0, 1.0])


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_statistics_are_numpys_mean_and_deviation(values):
    column = np.array(values)[:, None]
    center, scale = PlainEngine().center_and_scale(column)
    assert center[0] == pytest.approx(column.mean(), abs=1e-6)
    assert scale[0] > 0
    if column.std() > 1e-3:
        assert scale[0] == pytest.approx(column.std(), rel=1e-6)


def test_a_step_is_gradient_descent_on_the_mean_loss():
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(2.0)
    loop = PlainEngine().begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=2, batch_size=2, epochs=1, seed=0)
    # The losses are w and 3w: their mean is 2w, its gradient 2.
    assert loop.step(np.array([0, 1]), lambda indices: module.weight[0, 0] * (1.0 + 2.0 * torch.from_numpy(indices))) == pytest.approx(4.0)
    assert module.weight.item() == pytest.approx(2.0 - 0.1 * 2.0)


def test_an_empty_batch_changes_nothing_and_gives_nan():
    module = nn.Linear(1, 1)
    before = module.weight.clone()
    loop = PlainEngine().begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=2, batch_size=2, epochs=1, seed=0)
    assert math.isnan(loop.step(np.array([], dtype=np.int64), lambda indices: pytest.fail("no rows, no losses")))
    assert torch.equal(module.weight, before)


@given(st.floats(-3, 3), st.floats(0, 2), st.floats(0, 2), st.floats(0.01, 1))
def test_shrink_is_the_minimum_of_its_proximal_problem(weight, l1, l2, rate):
    module = nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(weight)
        module.bias.fill_(1.0)
    shrink(module, learning_rate=rate, l1=l1, l2=l2)
    found = module.weight.item()
    grid = np.linspace(-3.5, 3.5, 7001)
    objective = (grid - np.float32(weight)) ** 2 / 2 + rate * (l1 * abs(grid) + l2 * grid**2 / 2)
    assert found == pytest.approx(grid[objective.argmin()], abs=2e-3)
    assert module.bias.item() == 1.0


def test_shrink_leaves_frozen_weights_alone():
    module = nn.Linear(2, 2).requires_grad_(False)
    before = module.weight.clone()
    shrink(module, learning_rate=1.0, l1=1.0, l2=1.0)
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize(
    ("name", "kind", "momentum"), [("sgd", torch.optim.SGD, 0.0), ("momentum", torch.optim.SGD, 0.9), ("adam", torch.optim.Adam, None)]
)
def test_optimizers_are_the_ones_named_and_train_only_what_is_not_frozen(name, kind, momentum):
    module = nn.Sequential(nn.Linear(1, 1).requires_grad_(False), nn.Linear(1, 1))
    optimizer = make_optimizer(module, settings(optimizer=name))
    assert isinstance(optimizer, kind)
    group = optimizer.param_groups[0]
    assert group.get("momentum") == momentum
    assert group["weight_decay"] == 0
    assert [id(p) for p in group["params"]] == [id(p) for p in module[1].parameters()]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("sgd", partial(torch.optim.SGD, lr=0.1)),
        ("momentum", partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
        ("adam", partial(torch.optim.Adam, lr=0.1)),
    ],
)
def test_optimizers_take_the_steps_of_torchs_own(name, own):
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    first = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    second = copy.deepcopy(first)
    pairs = [(first, make_optimizer(first, settings(optimizer=name, learning_rate=0.1))), (second, own(second.parameters()))]
    for module, optimizer in pairs:
        for _ in range(20):
            optimizer.zero_grad()
            module(inputs).square().mean().backward()
            optimizer.step()
    assert all(torch.equal(one, other) and one.requires_grad for one, other in zip(first.parameters(), second.parameters(), strict=True))


def test_training_does_not_import_the_compiler():
    """Which takes as long as torch itself, and which nothing here uses."""
    code = (
        "import sys, numpy, torch; from affidavit_plugins.torch_base import loop, engine; module = torch.nn.Linear(1, 1)\n"
        "for name in ('momentum', 'adam'):\n"
        "    settings = loop.LoopSettings(1, 2, 0.1, name, 0.1, 0.1, None)\n"
        "    losses = lambda indices: module(torch.ones(len(indices), 1)).square().sum(1)\n"
        "    loop.run(module, losses, rows=4, settings=settings, engine=engine.PlainEngine(), seed=0, report=lambda progress: None)\n"
        "assert module.weight.item() != 1.0 and 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_early_stopping_counts_only_epochs_without_a_lower_loss_and_restores_the_best():
    module = nn.Linear(1, 1)
    stopping = EarlyStopping(module, patience=2)
    answers = []
    for epoch, loss in enumerate([3.0, 2.0, 2.5, 1.0, math.nan, 1.5]):
        with torch.no_grad():
            module.weight.fill_(float(epoch))
        answers.append(stopping.should_stop(loss))
    stopping.restore_best()
    assert answers == [False, False, False, False, False, True]
    assert module.weight.item() == 3.0


class Recorder:
    """An engine that counts its calls."""

    def __init__(self, *, private):
        self.private = private
        self.closed = 0
        self.steps = 0

    def begin(self, module, optimizer, *, rows, batch_size, epochs, seed):
        return self

    def epoch(self):
        yield from (np.arange(2), np.array([], dtype=np.int64), np.arange(3))

    def step(self, indices, losses):
        self.steps += 1
        return float(losses(indices).mean())

    def close(self):
        self.closed += 1


def test_empty_batches_reach_the_engine_and_the_mean_loss_leaves_them_out():
    engine, seen = Recorder(private=False), []
    module = nn.Linear(1, 1)
    run(module, lambda indices: torch.full((len(indices),), 2.0), rows=3, settings=settings(epochs=2), engine=engine, seed=0, report=seen.append)
    assert engine.steps == 6
    assert engine.closed == 1
    assert [(p.done, p.total, p.message) for p in seen] == [(1, 2, "epoch 1/2, loss 2"), (2, 2, "epoch 2/2, loss 2")]
    assert not module.training


def test_the_learning_rate_falls_by_half_a_cosine_and_reaches_the_engines_optimizer():
    assert [decayed(0.4, epoch, 4) for epoch in (1, 2, 3, 4)] == pytest.approx([0.4, 0.2 + 0.2 * 0.5**0.5, 0.2, 0.2 - 0.2 * 0.5**0.5])
    rates = []

    class Watching(PlainEngine):
        def begin(self, module, optimizer, **rest):
            optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
            return super().begin(module, optimizer, **rest)

    module = nn.Linear(1, 1)
    arguments = {"rows": 3, "settings": settings(epochs=4, learning_rate=0.4), "engine": Watching(), "seed": 0, "report": lambda progress: None}
    run(module, lambda i: module(torch.ones(len(i), 1))[:, 0], **arguments)
    assert rates == pytest.approx([decayed(0.4, epoch, 4) for epoch in (1, 2, 3, 4)])


def test_a_private_run_reports_no_loss():
    seen = []
    run(nn.Linear(1, 1), lambda i: torch.ones(len(i)), rows=3, settings=settings(epochs=1), engine=Recorder(private=True), seed=0, report=seen.append)
    assert [p.message for p in seen] == ["epoch 1/1"]


def test_a_private_run_reports_what_it_has_spent_where_the_engine_can_say():
    class Spending(Recorder):
        def spent(self):
            return 0.15 * self.steps, 3.0

    seen, arguments = [], {"rows": 3, "seed": 0, "settings": settings(epochs=2)}
    run(nn.Linear(1, 1), lambda i: torch.ones(len(i)), engine=Spending(private=True), report=seen.append, **arguments)
    assert [p.message for p in seen] == ["epoch 1/2, ε about 0.45 of 3", "epoch 2/2, ε about 0.9 of 3"]


def test_cancelling_by_the_report_closes_the_engine():
    engine = Recorder(private=False)

    def cancel(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(nn.Linear(1, 1), lambda i: torch.ones(len(i)), rows=3, settings=settings(), engine=engine, seed=0, report=cancel)
    assert engine.closed == 1


def test_diverged_training_is_refused():
    module = nn.Linear(1, 1)
    with pytest.raises(InvalidInput, match=r"diverged.*Lower learning_rate"):
        run(
            module,
            lambda indices: module(torch.ones(len(indices), 1)).squeeze(-1) ** 4,
            rows=4,
            settings=settings(learning_rate=1e6, epochs=20),
            engine=PlainEngine(),
            seed=0,
            report=lambda progress: None,
        )


def test_a_seeded_block_repeats_and_leaves_the_global_generator_as_it_was():
    state = torch.get_rng_state()
    with seeded(5):
        first = torch.rand(3)
    with pytest.raises(ValueError, match="inside"), seeded(5):
        second = torch.rand(3)
        raise ValueError("inside")
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
