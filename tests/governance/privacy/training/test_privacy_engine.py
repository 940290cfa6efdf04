"""DP-SGD: against brute force, replayed with and without a record, and attacked by loops that cheat."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from affidavit.errors import InvalidInput, PluginError, Refused
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy import Event, epsilon, joint_epsilon
from affidavit_governance.privacy.gaussian import lattice_step
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training import loop as loop_module
from affidavit_governance.privacy.training.engine import PrivateEngine

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # torch's, where a test runs a backward pass of its own
KEY = bytes(range(32))
LOOSE = PrivacyPolicy(epsilon=0.5, delta=1e-3)  # much noise is quick to calibrate


class Silent(Randomness):
    """The seam for tests: replayable samples and no noise."""

    def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        """None."""


def make_engine(policy: PrivacyPolicy = LOOSE, source: Randomness | None = None) -> PrivateEngine:
    return PrivateEngine(policy, reserve=lambda events: None, source=source)


def data(rows: int = 60, columns: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, columns, generator=generator)
    return inputs, (inputs.sum(1) > 0).long()


def mlp(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 2))


def cross_entropy(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> Callable[[np.ndarray], torch.Tensor]:
    def losses(indices: np.ndarray) -> torch.Tensor:
        chosen = torch.from_numpy(indices)
        return nn.functional.cross_entropy(module(inputs[chosen]), labels[chosen], reduction="none")

    return losses


def train(
    engine: PrivateEngine,
    module: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int = 2,
    batch_size: int = 20,
    optimizer: torch.optim.Optimizer | None = None,
    losses: Callable[[np.ndarray], torch.Tensor] | None = None,
) -> Any:
    """The smallest honest loop."""
    optimizer = optimizer or torch.optim.SGD(module.parameters(), lr=0.5)
    losses = losses or cross_entropy(module, inputs, labels)
    loop = engine.begin(module, optimizer, rows=len(inputs), batch_size=batch_size, epochs=epochs, seed=0)
    try:
        for _ in range(epochs):
            for indices in loop.epoch():
                assert math.isnan(loop.step(indices, losses))
    finally:
        loop.close()
    return loop


def brute_force(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, batches: Sequence[np.ndarray], lr: float, expected: float) -> None:
    """DP-SGD without noise, one example at a time."""
    losses = cross_entropy(module, inputs, labels)
    parameters = list(module.parameters())
    for batch in batches:
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for index in batch:
            gradients = torch.autograd.grad(losses(np.array([index])).sum(), parameters)
            norm = torch.sqrt(sum((g**2).sum() for g in gradients))
            for part, gradient in zip(total, gradients, strict=True):
                part += gradient * min(1.0, 1.0 / float(norm))
        with torch.no_grad():
            for parameter, part in zip(parameters, total, strict=True):
                parameter -= lr * part / expected


@pytest.mark.parametrize("physical", [256, 7, 1])
def test_without_noise_it_is_clipping_one_example_at_a_time_whatever_fits_memory(physical: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "PART_EXAMPLES", physical)
    inputs, labels = data()
    inputs = inputs * 3  # large enough that most examples are clipped
    private, reference = mlp(), mlp()
    loop = train(make_engine(source=Silent(KEY)), private, inputs, labels)
    batches = [Randomness(KEY).sample(step + 1, 60, 20 / 60) for step in range(loop.planned)]
    assert loop.planned == loop.executed == 6
    brute_force(reference, inputs, labels, batches, lr=0.5, expected=20)
    for ours, theirs in zip(private.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_noise_has_the_calibrated_size() -> None:
    module = nn.Linear(100, 100)
    before = module.weight.detach().clone()
    engine = make_engine(PrivacyPolicy(epsilon=2.0, delta=1e-5, max_grad_norm=0.7, records=60))
    inputs = torch.zeros(60, 100)
    loop = train(
        engine,
        module,
        inputs,
        torch.zeros(60),
        epochs=1,
        optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
        batch_size=60,
        losses=lambda indices: module(inputs[torch.from_numpy(indices)]).sum(1) * 0,
    )
    sigma = engine.statement()["noise_multiplier"]
    assert loop.executed == 1
    assert epsilon(1.0, sigma, 1, 1e-5) == pytest.approx(2.0, abs=1e-3)
    # Noise divided by ten at the claimed epsilon would fail here.
    assert float((module.weight.detach() - before).std()) == pytest.approx(sigma * 0.7 / 60, rel=0.03)


def test_noise_differs_from_run_to_run_though_the_seed_does_not() -> None:
    inputs, labels = data()
    modules = [mlp(), mlp()]
    for module in modules:
        train(make_engine(), module, inputs, labels)
    assert not torch.equal(modules[0][0].weight, modules[1][0].weight)


@pytest.mark.parametrize(
    "make", [lambda p: torch.optim.Adam(p, lr=0.01), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.RMSprop(p)]
)
def test_any_optimizer_trains_and_the_module_is_left_as_it_was(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    inputs, labels = data()
    module = mlp()
    keys, attributes = list(module.state_dict()), {name: set(vars(layer)) for name, layer in module.named_modules()}
    engine = make_engine()
    loop = train(engine, module, inputs, labels, optimizer=make(module.parameters()))
    engine.check_finished("test")
    loop.close()
    assert list(module.state_dict()) == keys
    assert {name: set(vars(layer)) for name, layer in module.named_modules()} == attributes
    for layer in module.modules():
        assert not layer._forward_hooks
        assert not layer._backward_hooks
    for parameter in module.parameters():
        assert parameter.grad is None
        assert not [name for name in ("grad_sample", "summed_grad", "_forward_counter", "_current_grad_sample") if hasattr(parameter, name)]
    # An ordinary step works again.
    ordinary = torch.optim.SGD(module.parameters(), lr=0.1)
    cross_entropy(module, inputs, labels)(np.arange(5)).mean().backward()
    ordinary.step()


@pytest.mark.parametrize("noise", [False, True])
def test_one_record_moves_a_step_by_at_most_the_clipping_bound(noise: bool) -> None:
    inputs, labels = data(rows=40)
    inputs[-1] *= 1e4
    moves = []
    for rows in (40, 39):
        module = mlp()
        before = [parameter.detach().clone() for parameter in module.parameters()]
        policy = PrivacyPolicy(epsilon=0.5, delta=1e-3, records=40, max_grad_norm=0.5)
        # One step at rate 1 on all rows: the record that the neighbour lacks takes part for certain. The noise is replayed.
        train(
            engine := make_engine(policy, Randomness(KEY) if noise else Silent(KEY)),
            module,
            inputs[:rows],
            labels[:rows],
            epochs=1,
            batch_size=40,
            optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
        )
        moves.append([(parameter.detach() - start) * 40 for parameter, start in zip(module.parameters(), before, strict=True)])
    difference = math.sqrt(sum(float(((one - other) ** 2).sum()) for one, other in zip(*moves, strict=True)))
    # With noise both sums are rounded, which may take each of the numbers half a lattice step further apart on either side.
    numbers = sum(parameter.numel() for parameter in moves[0])
    step = lattice_step(float(engine.statement()["noise_multiplier"]) * 0.5)
    assert 0.1 < difference <= 0.5 * (1 + 1e-5) + noise * step * math.sqrt(numbers)


def test_the_divisor_and_the_rate_come_from_the_declared_records_not_from_the_rows() -> None:
    inputs, labels = data(rows=60)
    engine = make_engine(PrivacyPolicy(epsilon=0.5, delta=1e-3, records=100), Silent(KEY))
    module, reference = mlp(), mlp()
    loop = train(engine, module, inputs, labels, epochs=1, batch_size=20)
    statement = engine.statement()
    assert (statement["sampling_rate"], statement["expected_batch_size"], statement["records"], loop.planned) == (0.2, 20, 100, 5)
    assert "number of records as declared in the policy" in statement["assumed_public"]
    brute_force(reference, inputs, labels, [Randomness(KEY).sample(step + 1, 60, 0.2) for step in range(5)], lr=0.5, expected=20)
    torch.testing.assert_close(module[0].weight, reference[0].weight, atol=1e-5, rtol=1e-4)


def test_a_batch_larger_than_the_records_is_all_of_them() -> None:
    inputs, labels = data(rows=12)
    engine = make_engine()
    train(engine, mlp(), inputs, labels, epochs=1, batch_size=512)
    statement = engine.statement()
    assert (statement["sampling_rate"], statement["expected_batch_size"], statement["steps"]) == (1.0, 12, 1)
    assert "number of rows" in statement["assumed_public"]


def test_empty_batches_are_steps_with_noise() -> None:
    inputs, labels = data(rows=3)
    module = mlp()
    engine = make_engine(PrivacyPolicy(epsilon=0.2, delta=1e-3, records=100), Randomness(KEY))
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=3, batch_size=1, epochs=1, seed=0)
    empty = 0
    for indices in loop.epoch():
        before = module[0].weight.detach().clone()
        loop.step(indices, cross_entropy(module, inputs, labels))
        empty += not len(indices)
        assert not torch.equal(module[0].weight, before)
    loop.close()
    engine.check_finished("test")
    assert empty == loop.empty_batches > 90
    assert engine.statement()["steps"] == 100


def test_an_example_without_a_finite_gradient_counts_as_zero_and_is_counted() -> None:
    inputs, labels = data(rows=30)
    spoiled = inputs.clone()
    spoiled[4, 0] = float("nan")
    spoiled[9] = 1e38
    modules = [mlp(), mlp()]
    keep = np.array([index for index in range(30) if index not in (4, 9)])
    engine = make_engine(PrivacyPolicy(epsilon=0.5, delta=1e-3, records=30), Silent(KEY))
    loop = train(engine, modules[0], spoiled, labels, epochs=2, batch_size=30)
    reference = make_engine(PrivacyPolicy(epsilon=0.5, delta=1e-3, records=30), Silent(KEY))
    train(reference, modules[1], inputs[keep], labels[keep], epochs=2, batch_size=30)
    assert loop.non_finite >= 2
    for one, other in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, atol=0.05, rtol=0)


def test_parts_that_learn_nothing_and_frozen_parts_are_fine() -> None:
    class Partial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)
            self.frozen.requires_grad_(False)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.used(self.frozen(inputs))

    inputs, labels = data()
    module = Partial()
    frozen = module.frozen.weight.clone()
    engine = make_engine()
    train(engine, module, inputs, labels)
    engine.check_finished("test")
    assert torch.equal(module.frozen.weight, frozen)


def test_convolutions_and_embeddings_train() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.words, self.head = nn.Conv2d(1, 2, 3), nn.Embedding(5, 3), nn.Linear(2 * 4 + 3, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            image = self.conv(inputs.reshape(-1, 1, 4, 4)).flatten(1)
            return self.head(torch.cat([image, self.words((inputs[:, 0] > 0).long())], dim=1))

    inputs, _ = data(columns=16)
    module = Both()
    engine = make_engine()
    train(engine, module, inputs, (inputs[:, 0] > 0).long())
    engine.check_finished("test")


def test_it_learns_a_separable_problem_at_epsilon_three() -> None:
    inputs, labels = data(rows=2000, seed=3)
    module = mlp()
    engine = make_engine(PrivacyPolicy(epsilon=3.0, delta=1e-5))
    train(engine, module, inputs, labels, epochs=8, batch_size=250, optimizer=torch.optim.Adam(module.parameters(), lr=0.03))
    tests, truth = data(rows=1000, seed=4)
    assert float((module(tests).argmax(1) == truth).float().mean()) > 0.9
    assert 2.99 < engine.statement()["epsilon"] <= 3.0


# -- what is refused --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "fix"),
    [
        (nn.BatchNorm1d(4), "GroupNorm"),
        (nn.BatchNorm1d(4, affine=False), "GroupNorm"),
        (nn.Embedding(4, 4, max_norm=1.0), "max_norm=None"),
        (nn.Embedding(4, 4, scale_grad_by_freq=True), "scale_grad_by_freq=False"),
        (nn.LazyLinear(4), "Run the module once"),
        (nn.InstanceNorm1d(4, track_running_stats=True), "track_running_stats=False"),
    ],
)
def test_layers_that_cannot_be_private_are_refused_by_name_with_the_fix(layer: nn.Module, fix: str) -> None:
    module = nn.Sequential(nn.Linear(4, 4), layer)
    with pytest.raises(Refused, match=f"Layer '1' .{type(layer).__name__}.*{fix}"):
        make_engine().begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=10, batch_size=5, epochs=1, seed=0)


def test_a_parameter_used_past_its_layer_is_refused() -> None:
    class Functional(nn.Module):
        def __init__(self, twice: bool) -> None:
            super().__init__()
            self.layer, self.twice = nn.Linear(4, 2), twice

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            direct = nn.functional.linear(inputs * 2, self.layer.weight)
            return direct + self.layer(inputs) if self.twice else direct

    inputs, labels = data()
    for twice in (False, True):
        with pytest.raises(Refused, match=r"'layer.weight'.*outside its layer's own forward"):
            train(make_engine(), Functional(twice), inputs, labels)


def test_a_module_in_evaluation_mode_is_refused() -> None:
    inputs, labels = data()
    with pytest.raises(PluginError, match="evaluation mode"):
        train(make_engine(), mlp().eval(), inputs, labels)


def test_a_layer_without_the_batch_in_front_is_refused() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer(inputs.reshape(-1, 2)).reshape(len(inputs), 2, 2).mean(1)

    inputs, labels = data()
    with pytest.raises(Refused, match="first dimension is not the batch"):
        train(make_engine(), Flat(), inputs, labels)


def test_an_optimizer_with_strange_parameters_or_several_evaluations_is_refused() -> None:
    module = mlp()
    for optimizer, error in (
        (torch.optim.SGD([*module.parameters(), nn.Parameter(torch.zeros(3))], lr=0.1), PluginError),
        (torch.optim.LBFGS(module.parameters()), Refused),
    ):
        with pytest.raises(error):
            make_engine().begin(module, optimizer, rows=10, batch_size=5, epochs=1, seed=0)


def begin(engine: PrivateEngine, module: nn.Module, **changes: int) -> Any:
    arguments = {"rows": 60, "batch_size": 20, "epochs": 2, "seed": 0, **changes}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    return engine.begin(module, optimizer, **arguments), optimizer


def test_a_loop_that_skips_a_batch_is_caught() -> None:
    inputs, labels = data()
    module = mlp()
    loop, _ = begin(make_engine(), module)
    batches = loop.epoch()
    next(batches)
    with pytest.raises(PluginError, match="passed over a batch"):
        next(batches)
    del inputs, labels


def test_a_loop_that_takes_other_rows_or_a_batch_twice_is_caught() -> None:
    inputs, labels = data()
    module = mlp()
    loop, _ = begin(make_engine(), module)
    losses = cross_entropy(module, inputs, labels)
    indices = next(loop.epoch())
    with pytest.raises(PluginError, match="other rows"):
        loop.step(np.arange(60), losses)
    loop.step(indices, losses)
    with pytest.raises(PluginError, match="other rows"):
        loop.step(indices, losses)


def test_a_loop_that_takes_more_epochs_than_it_announced_is_caught() -> None:
    inputs, labels = data()
    module = mlp()
    loop, _ = begin(make_engine(), module, epochs=1)
    losses = cross_entropy(module, inputs, labels)
    for indices in loop.epoch():
        loop.step(indices, losses)
    with pytest.raises(PluginError, match="more than the 3 batches"):
        next(loop.epoch())


def test_a_loop_that_stops_early_is_caught_and_pays_for_what_it_took() -> None:
    inputs, labels = data()
    module = mlp()
    engine = make_engine()
    loop, _ = begin(engine, module)
    for indices in loop.epoch():
        loop.step(indices, cross_entropy(module, inputs, labels))
    loop.close()
    with pytest.raises(PluginError, match="took 3 of the 6"):
        engine.check_finished("test")
    statement = engine.statement()
    assert [event.steps for event in engine.events] == [3]
    assert statement["epsilon"] == epsilon(1 / 3, statement["noise_multiplier"], 3, LOOSE.delta) < LOOSE.epsilon


def test_a_step_without_noise_is_caught() -> None:
    inputs, labels = data()
    module = mlp()
    loop, optimizer = begin(make_engine(), module)
    cross_entropy(module, inputs, labels)(np.arange(5)).mean().backward()
    with pytest.raises(PluginError, match="no noise"):
        optimizer.step()
    loop.close()


def test_a_model_that_ignores_the_engine_is_caught() -> None:
    with pytest.raises(PluginError, match="did not train through the engine"):
        make_engine().check_finished("acme.cheat")


def test_losses_of_another_shape_are_caught() -> None:
    inputs, labels = data()
    module = mlp()
    for wrong in (lambda indices: cross_entropy(module, inputs, labels)(indices).mean(), lambda indices: 0.0):
        with pytest.raises(PluginError, match="one loss for each example"):
            train(make_engine(), mlp(), inputs, labels, losses=wrong)


def test_gradients_left_from_before_do_not_leak_into_a_step() -> None:
    inputs, labels = data()
    modules = [mlp(), mlp()]
    for module, stale in zip(modules, (False, True), strict=True):
        losses = cross_entropy(module, inputs, labels)
        loop, _ = begin(make_engine(source=Silent(KEY)), module)
        if stale:
            losses(np.arange(9)).mean().backward()
        for indices in loop.epoch():
            if stale:  # a forward pass nobody followed up, and a gradient nobody cleared
                losses(np.arange(7))
                losses(np.arange(9)).sum().backward()
            loop.step(indices, losses)
        loop.close()
    for one, other in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_abandoned_step_leaves_nothing_behind() -> None:
    inputs, labels = data()
    results = []
    for fail in (False, True):
        module = mlp()
        losses = cross_entropy(module, inputs, labels)
        calls = iter(range(100))

        def failing(indices: np.ndarray, calls: Any = calls, losses: Any = losses) -> torch.Tensor:
            values = losses(indices)
            if next(calls) == 1:
                raise RuntimeError("out of memory")
            return values

        loop, _ = begin(make_engine(source=Silent(KEY)), module, epochs=1)
        loop._part = 5
        for indices in loop.epoch():
            if fail and loop.drawn == 2:
                with pytest.raises(RuntimeError):
                    loop.step(indices, failing)
            loop.step(indices, losses)
        results.append(module)
        assert loop.executed == 3
    for one, other in zip(results[0].parameters(), results[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_buffer_that_changes_in_training_is_caught() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.register_buffer("mean", torch.zeros(4))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            self.mean.copy_(inputs.mean(0))
            return self.layer(inputs)

    inputs, labels = data()
    module = nn.Sequential(Counting())
    engine = make_engine()
    train(engine, module, inputs, labels)
    with pytest.raises(Refused, match=r"'0\.mean'"):
        engine.check_finished("test")


def test_no_rows_and_a_second_begin_are_refused() -> None:
    module = mlp()
    with pytest.raises(InvalidInput):
        begin(make_engine(), module, rows=0)
    engine = make_engine()
    loop, _ = begin(engine, module)
    with pytest.raises(PluginError, match="twice"):
        begin(engine, mlp())
    with pytest.raises(PluginError, match="after training began"):
        engine.center_and_scale(np.zeros((3, 1)))
    loop.close()


# -- statistics and accounting ----------------------------------------------------------------------------------------------------------


def test_statistics_and_steps_are_accounted_together() -> None:
    inputs, labels = data(rows=1000)
    planned: list[list[Event]] = []
    engine = PrivateEngine(PrivacyPolicy(epsilon=2.0, delta=1e-4), reserve=lambda events: planned.append(list(events)), source=Randomness(KEY))
    center, scale = engine.center_and_scale(inputs.double().numpy() * 30 + 100)
    assert center == pytest.approx([100] * 4, abs=30)
    assert (scale > 0).all()
    assert engine.vocabulary(["a", None]) is None
    train(engine, mlp(), inputs, labels, batch_size=100)
    engine.check_finished("test")
    statement = engine.statement()
    assert [len(events) for events in planned] == [2, 3]
    assert list(engine.events) == planned[-1]
    assert statement["epsilon"] == joint_epsilon(engine.events, 1e-4)
    assert 1.99 < statement["epsilon"] <= 2.0 < statement["epsilon_rdp"] < 2.4
    assert len(statement["statistics"]) == 2
    assert joint_epsilon(engine.events[:2], 1e-4) < 0.6


def test_the_share_of_statistics_is_what_it_says() -> None:
    engine = make_engine(PrivacyPolicy(epsilon=3.0, delta=1e-5))
    engine.center_and_scale(np.zeros((10, 3)))
    spent = sum(1 / event.noise_multiplier**2 for event in engine.events)
    assert spent == pytest.approx(0.1 / 1.39059**2, rel=1e-3)


def test_too_many_statistics_are_refused_before_they_are_released() -> None:
    engine = make_engine(PrivacyPolicy(epsilon=1.0, delta=1e-5))
    with pytest.raises(Refused, match="more statistics"):
        for _ in range(12):
            engine.center_and_scale(np.zeros((10, 1)))
    assert joint_epsilon(engine.events, 1e-5) < 1.0


def test_nothing_is_released_where_the_budget_refuses() -> None:
    def refuse(events: Sequence[Event]) -> None:
        raise Refused("no", by="budget", line="privacy.dataset_budget")

    engine = PrivateEngine(LOOSE, reserve=refuse)
    module = mlp()
    with pytest.raises(Refused):
        engine.center_and_scale(np.zeros((10, 1)))
    with pytest.raises(Refused):
        begin(engine, module)
    assert engine.events == ()
    assert "forward" not in vars(module[0])


def test_importing_the_engine_leaves_logging_and_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    inputs, labels = data()
    train(make_engine(), mlp(), inputs, labels)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all("opacus" not in str(getattr(handler, "formatter", "")) for handler in logging.getLogger().handlers)


def test_private_training_does_not_import_the_compiler() -> None:
    """Which takes as long as torch itself, and which nothing here uses."""
    code = (
        "import sys, torch; from affidavit.policy import PrivacyPolicy; from affidavit_governance.privacy.training.engine import PrivateEngine\n"
        "from affidavit_plugins.torch_base import loop\n"
        "module = torch.nn.Linear(1, 1)\n"
        "losses = lambda indices: module(torch.ones(len(indices), 1)).square().sum(1)\n"
        "engine = PrivateEngine(PrivacyPolicy(epsilon=50.0, delta=1e-3), reserve=lambda events: None)\n"
        "settings = loop.LoopSettings(1, 2, 0.1, 'sgd', 0.1, 0.1, None)\n"
        "loop.run(module, losses, rows=4, settings=settings, engine=engine, seed=0, report=lambda progress: None)\n"
        "assert engine.events and 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
