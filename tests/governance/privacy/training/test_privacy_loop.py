"""Private steps end to end: spoiled examples, parts of a batch, half precision, replaced BatchNorm, and a module left as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from affidavit.errors import PluginError, Refused
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training import loop as loop_module
from affidavit_governance.privacy.training.engine import PrivateEngine
from affidavit_governance.privacy.training.norms import batchnorms_replaced, group_norm
from affidavit_plugins.torch_base.norms import follow_replacements

KEY = bytes(range(32))
ROWS = 24
LOOSE = PrivacyPolicy(epsilon=50, delta=1e-3, noise_multiplier=1.0)


class Silent(Randomness):
    """Replayable samples and no noise."""

    def add_noise_(self, sums: Sequence[Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        assert deviation > 0


def fresh(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().train()


def uneven(module: nn.Module, inputs: Tensor) -> Callable[[np.ndarray], Tensor]:
    """A loss whose gradients differ from output to output: after a normalisation equal ones would cancel."""

    def losses(rows: np.ndarray) -> Tensor:
        output = module(inputs[torch.from_numpy(rows)]).flatten(1)
        return ((output - 1) ** 2 * torch.linspace(0.5, 2.0, output.shape[1])).sum(1)

    return losses


def train(
    module: nn.Module,
    inputs: Tensor,
    *,
    policy: PrivacyPolicy = LOOSE,
    source: Randomness | None = None,
    lr: float = 0.1,
    make: Any = torch.optim.SGD,
    batch_size: int = ROWS,
) -> Any:
    engine = PrivateEngine(policy, reserve=lambda events: None, source=source or Silent(KEY))
    loop = engine.begin(module, make(module.parameters(), lr=lr), rows=len(inputs), batch_size=batch_size, epochs=2, seed=0)
    try:
        for _ in range(2):
            for indices in loop.epoch():
                loop.step(indices, uneven(module, inputs))
    finally:
        loop.close()
    engine.check_finished("test")
    return loop


def same(one: nn.Module, other: nn.Module, *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=rtol, atol=atol)


def left_alone(module: nn.Module) -> bool:
    """Whether nothing of the engine is on the module."""
    plain = set(vars(nn.Module()))
    known = {name for layer in fresh(lambda: nn.Sequential(nn.Linear(1, 1), nn.Conv2d(1, 1, 1), nn.ReLU())).modules() for name in vars(layer)}
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return all(set(vars(layer)) <= plain | known and not layer._forward_hooks for layer in layers) and all(
        p.grad is None for p in module.parameters()
    )


# -- examples that are not finite -------------------------------------------------------------------------------------------------------------

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), (4,)),
    "sequence": (lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)), (7, 4)),
    "long sequence": (lambda: nn.Sequential(nn.Linear(4, 3), nn.RMSNorm(3), nn.Linear(3, 2)), (30, 4)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 40, 3), nn.Conv2d(40, 40, 2)), (2, 6, 6)),
    "recurrent": (lambda: Last(nn.LSTM(4, 3, batch_first=True)), (5, 4)),
    "fallback": (lambda: nn.Sequential(nn.Linear(4, 5), nn.PReLU(5), nn.Linear(5, 2)), (4,)),
}


class Last(nn.Module):
    """The outputs of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


@pytest.mark.parametrize("network", NETWORKS)
def test_spoiled_examples_count_as_zero_and_nothing_else_changes(network: str) -> None:
    build, shape = NETWORKS[network]
    inputs = torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(1))
    spoiled = inputs.clone()
    spoiled[0].view(-1)[-1] = float("nan")
    spoiled[3] = float("inf")
    good = torch.tensor([row for row in range(ROWS) if row not in (0, 3)])
    policy = LOOSE.model_copy(update={"records": ROWS})
    one, other = fresh(build), fresh(build)
    loop = train(one, spoiled, policy=policy)
    train(other, inputs[good], policy=policy)
    assert loop.non_finite == 4  # two examples, two steps
    same(one, other)


def test_a_batch_of_which_nothing_is_finite_is_a_step_of_noise() -> None:
    module = nn.Linear(3, 2)
    before = module.weight.detach().clone()
    loop = train(module, torch.full((ROWS, 3), float("nan")), source=Randomness())
    assert loop.non_finite == 2 * ROWS
    assert bool(torch.isfinite(module.weight).all())
    assert not torch.equal(module.weight, before)


# -- parts and precision ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_a_batch_in_parts_is_the_batch(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, shape = NETWORKS[network]
    inputs = torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(1)).double()
    results = []
    for examples, size in ((4096, 2**28), (5, 2**28), (4096, 1)):
        monkeypatch.setattr(loop_module, "PART_EXAMPLES", examples)
        monkeypatch.setattr(loop_module, "PART_BYTES", size)
        module = fresh(build).double()
        loop = train(module, inputs)
        assert loop._part == min(examples, max(1, size // max(1, loop._gradients.bytes_per_example))) or examples == 4096
        results.append(module)
    same(results[0], results[1], rtol=1e-10, atol=1e-12)
    same(results[0], results[2], rtol=1e-10, atol=1e-12)


def test_parts_are_of_nearly_equal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A last part of one or two would cost as much time as a whole one."""
    monkeypatch.setattr(loop_module, "PART_EXAMPLES", 10)
    module, sizes = nn.Linear(3, 2), []
    inputs = torch.ones(ROWS, 3)
    engine = PrivateEngine(LOOSE, reserve=lambda events: None, source=Silent(KEY))
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=ROWS, batch_size=ROWS, epochs=1, seed=0)

    def losses(rows: np.ndarray) -> Tensor:
        sizes.append(len(rows))
        return uneven(module, inputs)(rows)

    for indices in loop.epoch():
        loop.step(indices, losses)
    loop.close()
    assert sizes[-3:] == [8, 8, 8]


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_bfloat16_trains_and_keeps_its_precision(make: Any) -> None:
    build, shape = NETWORKS["sequence"]
    inputs = torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(1))
    half, single = fresh(build).to(torch.bfloat16), fresh(build)
    train(half, inputs.to(torch.bfloat16), make=make, lr=0.02)
    train(single, inputs, make=make, lr=0.02)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    same(half.float(), single, rtol=0.05, atol=0.05)


def test_parameters_of_two_precisions_train_together() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.high = nn.Linear(4, 5).to(torch.bfloat16), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.high(self.low(x.to(torch.bfloat16)).float())

    module = fresh(Mixed)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    train(module, torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(1)))
    assert all(not torch.equal(parameter, old) for parameter, old in zip(module.parameters(), before, strict=True))


# -- BatchNorm --------------------------------------------------------------------------------------------------------------------------------


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32, eps=1e-3), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(128, 5), nn.BatchNorm1d(5, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


REPLACING = LOOSE.model_copy(update={"replace_batchnorm": True})
IMAGES = torch.randn(ROWS, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_batchnorm_is_replaced_where_the_policy_says_so_and_its_parameters_train_on() -> None:
    module = fresh(Normed)
    weight = module.features[1].weight
    before = weight.detach().clone()
    train(module, IMAGES, policy=REPLACING)
    norm, last = module.features[1], module.head[2]
    assert isinstance(norm, nn.GroupNorm)
    assert (norm.num_groups, norm.num_channels, norm.eps, norm.affine) == (2, 32, 1e-3, True)
    assert isinstance(last, nn.GroupNorm)
    assert (last.num_groups, last.affine, last.weight) == (1, False, None)
    assert norm.weight is weight
    assert not torch.equal(weight, before)
    # An example's output no longer depends on its company.
    torch.testing.assert_close(module.eval()(IMAGES)[:1], module(IMAGES[:1]))


def test_batchnorm_is_put_back_where_training_does_not_begin() -> None:
    def refuse(events: Sequence[Any]) -> None:
        raise Refused("no", by="budget", line="privacy.dataset_budget")

    module = fresh(Normed)
    layers = list(module.modules())
    engine = PrivateEngine(REPLACING, reserve=refuse)
    with pytest.raises(Refused, match="no"):
        engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=ROWS, batch_size=8, epochs=1, seed=0)
    assert [id(layer) for layer in module.modules()] == [id(layer) for layer in layers]
    assert left_alone(module)


def test_a_batchnorm_in_two_places_is_one_groupnorm_in_both_and_a_bare_one_is_refused() -> None:
    shared = nn.BatchNorm1d(4)
    module = nn.Sequential(nn.Linear(4, 4), shared, nn.Linear(4, 4), shared)
    with batchnorms_replaced(module, True):
        pass
    assert isinstance(module[1], nn.GroupNorm)
    assert module[1] is module[3]
    with pytest.raises(Refused, match="the module itself"):
        train(nn.BatchNorm1d(4), torch.ones(ROWS, 4), policy=REPLACING)


def test_weights_that_were_trained_without_batchnorm_load_into_the_same_network() -> None:
    trained, loaded, plain = fresh(Normed), Normed(), Normed()
    train(trained, IMAGES, policy=REPLACING)
    follow_replacements(loaded, trained.state_dict().keys())
    loaded.load_state_dict(trained.state_dict())
    torch.testing.assert_close(loaded.eval()(IMAGES), trained.eval()(IMAGES))
    follow_replacements(plain, plain.state_dict().keys())
    assert isinstance(plain.features[1], nn.BatchNorm2d)


@pytest.mark.parametrize("channels", [1, 5, 16, 32, 40, 48])
def test_training_and_loading_choose_the_same_groups(channels: int) -> None:
    old = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(channels))
    follow_replacements(old, [])
    assert old[1].num_groups == group_norm(nn.BatchNorm1d(channels)).num_groups == (channels // 16 if channels % 16 == 0 else 1)


# -- a module left as it was ------------------------------------------------------------------------------------------------------------------


def test_closing_leaves_the_module_as_it_was_also_after_an_error_and_twice() -> None:
    module = fresh(NETWORKS["linear"][0])
    engine = PrivateEngine(LOOSE, reserve=lambda events: None)
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=ROWS, batch_size=8, epochs=1, seed=0)
    assert not left_alone(module)
    indices = next(loop.epoch())

    def failing(rows: np.ndarray) -> Tensor:
        uneven(module, torch.ones(ROWS, 4))(rows)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        loop.step(indices, failing)
    loop.close()
    loop.close()
    assert left_alone(module)
    assert module[0](torch.ones(1, 4)).requires_grad


def test_a_forward_of_the_module_s_own_comes_back() -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    plain = module[0].forward
    module[0].forward = lambda x: plain(x) * 2  # type: ignore[method-assign]  # as accelerate does
    own = module[0].forward
    expected = module(torch.ones(1, 3))
    copied = copy.deepcopy(module[0].weight)
    train(module, torch.ones(ROWS, 3))
    assert module[0].forward is own
    assert not torch.equal(module[0].weight, copied)
    assert not torch.equal(module(torch.ones(1, 3)), expected)


def test_predictions_and_copies_during_training_are_plain() -> None:
    module = fresh(NETWORKS["linear"][0])
    inputs = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(1))
    engine = PrivateEngine(LOOSE, reserve=lambda events: None)
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=ROWS, batch_size=8, epochs=1, seed=0)
    copied, before = copy.deepcopy(module), module(inputs)
    for indices in loop.epoch():
        loop.step(indices, uneven(module, inputs))
    after = module(inputs)
    after.sum().backward()
    assert module[0].weight.grad is not None
    assert not torch.equal(before, after)
    torch.testing.assert_close(copied(inputs), before)
    loop.close()
    torch.testing.assert_close(module(inputs), after)


def test_parameters_that_the_optimizer_does_not_have_stay_and_do_not_count() -> None:
    module = fresh(NETWORKS["linear"][0])
    inputs = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(1)) * 10
    twin = fresh(NETWORKS["linear"][0])
    twin[0].requires_grad_(False)
    for network in (module, twin):
        train(network, inputs, make=lambda parameters, lr, network=network: torch.optim.SGD(network[2].parameters(), lr=lr))
    same(module, twin)


def test_a_gradient_that_the_training_loop_leaves_on_another_parameter_is_not_stepped() -> None:
    module = fresh(NETWORKS["linear"][0])
    module[0].requires_grad_(False)
    inputs = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(1))
    before = module[0].weight.detach().clone()
    engine = PrivateEngine(LOOSE, reserve=lambda events: None)
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=ROWS, batch_size=8, epochs=1, seed=0)

    def cheating(rows: np.ndarray) -> Tensor:
        losses = uneven(module, inputs)(rows)
        module[0].weight.grad = torch.ones_like(module[0].weight) * float(losses.detach().sum())
        return losses

    for indices in loop.epoch():
        loop.step(indices, cheating)
    loop.close()
    assert torch.equal(module[0].weight, before)


class Remembers(nn.Module):
    """Keeps a running centre of its rows in a parameter that is not trained."""

    def __init__(self, *, moves: bool = True, listed: bool = True) -> None:
        super().__init__()
        self.centre, self.layer, self.moves = nn.Parameter(torch.zeros(3), requires_grad=not listed), nn.Linear(3, 2), moves

    def forward(self, x: Tensor) -> Tensor:
        if self.moves:
            self.centre.data.mul_(0.9).add_(0.1 * x.mean(0))
        return self.layer(x)


@pytest.mark.parametrize("listed", [True, False])
def test_a_parameter_that_is_not_trained_and_changes_with_the_rows_is_refused_at_the_end(listed: bool) -> None:
    inputs = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1))
    make = lambda parameters, lr: torch.optim.SGD(list(parameters)[1:], lr=lr)  # noqa: E731  # the optimizer does not have it either way
    train(fresh(lambda: Remembers(moves=False, listed=listed)), inputs, make=make)
    with pytest.raises(Refused, match="Parameter 'centre' .* is not trained, and changed"):
        train(fresh(lambda: Remembers(listed=listed)), inputs, make=make)


@pytest.mark.parametrize("put", [lambda module: setattr(module, "weight", nn.Parameter(module.weight.detach() + 1)), lambda module: None])
def test_a_parameter_put_in_the_place_of_a_trained_one_is_refused_at_the_end(put: Callable[[nn.Module], None]) -> None:
    module, inputs = fresh(lambda: nn.Linear(3, 2)), torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1))
    engine = PrivateEngine(LOOSE, reserve=lambda events: None)
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=ROWS, batch_size=8, epochs=1, seed=0)
    weight = module.weight
    for indices in loop.epoch():
        loop.step(indices, uneven(module, inputs))
    put(module)
    if module.weight is weight:
        engine.check_finished("test")
        return
    with pytest.raises(Refused, match="Parameter 'weight' .* is not trained, and changed"):
        engine.check_finished("test")


def test_another_optimizer_over_the_same_parameters_is_refused_while_training_is_private_and_only_then() -> None:
    module, inputs = fresh(lambda: nn.Linear(3, 2)), torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1))
    own, other = torch.optim.SGD(module.parameters(), lr=0.1), torch.optim.Adam([module.bias], lr=0.1)
    stranger = nn.Linear(2, 2)
    unrelated = torch.optim.SGD(stranger.parameters(), lr=0.1)
    loop = PrivateEngine(LOOSE, reserve=lambda events: None).begin(module, own, rows=ROWS, batch_size=8, epochs=1, seed=0)
    for indices in loop.epoch():
        loop.step(indices, uneven(module, inputs))
        uneven(module, inputs)(indices).sum().backward()
        with pytest.raises(PluginError, match="another optimizer"):
            other.step()
        unrelated.step()
    loop.close()
    other.step()


class Failing(torch.optim.SGD):
    """Fails in every second step."""

    calls = 0

    def step(self, closure: Any = None) -> Any:
        self.calls += 1
        if self.calls % 2:
            raise RuntimeError("out of memory")
        return super().step(closure)


def test_a_step_that_fails_after_its_noise_is_counted_and_its_batch_is_not_released_again() -> None:
    module, inputs = fresh(lambda: nn.Linear(3, 2)), torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1))
    engine = PrivateEngine(LOOSE, reserve=lambda events: None)
    loop = engine.begin(module, Failing(module.parameters(), lr=0.1), rows=ROWS, batch_size=8, epochs=2, seed=0)
    for _ in range(2):
        for indices in loop.epoch():
            try:
                loop.step(indices, uneven(module, inputs))
            except RuntimeError:
                with pytest.raises(PluginError, match="second one with the same rows"):
                    loop.step(indices, uneven(module, inputs))
    assert loop.executed == loop.planned == engine.events[0].steps


def test_after_the_engine_is_closed_nothing_more_is_released() -> None:
    module, inputs = fresh(lambda: nn.Linear(3, 2)), torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1))
    engine = PrivateEngine(LOOSE, reserve=lambda events: None)
    loop = engine.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=ROWS, batch_size=8, epochs=2, seed=0)
    indices = next(loop.epoch())
    engine.close()
    engine.close()
    with pytest.raises(PluginError):
        loop.step(indices, uneven(module, inputs))
    idle = PrivateEngine(LOOSE, reserve=lambda events: None)
    idle.close()
    for ask in (lambda: idle.center_and_scale(np.ones((3, 1))), lambda: idle.releases([("sums", 1.0)])):
        with pytest.raises(PluginError, match="after its call ended"):
            ask()
    with pytest.raises(PluginError, match="after its call ended"):
        idle.begin(module, torch.optim.SGD(module.parameters(), lr=0.1), rows=ROWS, batch_size=8, epochs=2, seed=0)
    releasing = PrivateEngine(PrivacyPolicy(epsilon=3, delta=1e-3), reserve=lambda events: None)
    releases = releasing.releases([("sums", 1.0), ("sums", 1.0)])
    releases.sums(np.ones((3, 1)), bound=1.0)
    releasing.close()
    with pytest.raises(PluginError, match="after its call ended"):
        releases.sums(np.ones((3, 1)), bound=1.0)
    assert len(releasing.events) == 1
