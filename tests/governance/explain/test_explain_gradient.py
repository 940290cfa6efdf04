"""Gradients averaged along paths: closed forms, completeness, honest intervals, and a module that stays as it was."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.governance.explain.explain_models import Formula, make_table
from torch import nn

from affidavit import Dataset, Task
from affidavit.errors import PluginError, UsageError
from affidavit.interfaces.model import Capabilities, TorchView
from affidavit_governance.explain.gradients.paths import NODES, path_integrals
from affidavit_governance.explain.methods.gradient import Gradient
from affidavit_governance.explain.methods.sampled import Exact
from affidavit_governance.explain.planner import choose
from affidavit_plugins.tabular.mlp import MLP
from affidavit_plugins.tabular.trees import Forest
from affidavit_plugins.vision.cnn import CNN

# -- the integrals alone ------------------------------------------------------------------------------------------------------------------


def along(function, gradient, start, end):
    """The slopes of a function of several numbers on the path between two points, and the values at both ends."""

    def slopes(path, at):
        points = start + at[:, None] * (end - start)
        return np.array([function(p) for p in points]), np.array([gradient(p) * (end - start) for p in points])

    return slopes, np.array([function(start)]), function(end)


def test_min_of_one_and_three_goes_to_the_first_as_in_the_paper():
    """Sundararajan, Taly and Yan 2017, section 4: min(x1, x2) at (1, 3) against (0, 0)."""
    slopes, starts, end = along(min, lambda p: np.array([1.0, 0.0]) if p[0] < p[1] else np.array([0.0, 1.0]), np.zeros(2), np.array([1.0, 3.0]))
    np.testing.assert_allclose(path_integrals(slopes, starts, end, 100, 1e-12).values, [[1.0, 0.0]], atol=1e-14)


def test_a_product_is_shared_equally_and_a_polynomial_of_degree_nine_takes_no_cut():
    slopes, starts, end = along(
        lambda p: p[0] ** 4 * p[1] ** 5, lambda p: np.array([4 * p[0] ** 3 * p[1] ** 5, 5 * p[0] ** 4 * p[1] ** 4]), np.zeros(2), np.ones(2)
    )
    found = path_integrals(slopes, starts, end, 100, 1e-13)
    np.testing.assert_allclose(found.values, [[4 / 9, 5 / 9]], atol=1e-14)
    assert found.points == NODES


def test_a_kink_is_closed_in_on_until_the_integral_adds_up():
    weight, start, end = np.array([1.0, -0.4]), np.array([-0.7, 0.3]), np.array([1.1, 0.2])

    def value(p):
        return max(0.0, float(weight @ p))

    slopes, starts, last = along(value, lambda p: weight * (weight @ p > 0), start, end)
    active = (weight @ end) / (weight @ end - weight @ start)
    found = path_integrals(slopes, starts, last, 2000, 1e-9)
    np.testing.assert_allclose(found.values[0], weight * (end - start) * active, atol=2e-9)
    assert found.off[0] < 1e-9
    assert found.points < 600


def test_the_points_asked_stay_within_the_budget_and_what_is_off_is_said():
    slopes, starts, last = along(lambda p: float(p[0] > 0.3), lambda p: np.zeros(1), np.zeros(1), np.ones(1))
    found = path_integrals(slopes, starts, last, 200, 1e-9)
    assert found.points <= 200
    assert found.off[0] == 1.0


def test_noise_in_the_values_does_not_cut_for_ever():
    generator = np.random.default_rng(0)

    def slopes(path, at):
        return at + 1e-3 * generator.normal(size=len(at)), np.ones((len(at), 1))

    assert path_integrals(slopes, np.zeros(1), 1.001, 10**5, 1e-12).points <= 10**5


# -- the explainer ------------------------------------------------------------------------------------------------------------------------


class Net(Formula):
    """A torch module over the columns x0, x1… in the precision of its weights."""

    type = "test.net"
    capabilities = Capabilities(probabilities=True, torch_module=True)

    def __init__(self, module, data, score=None, task=Task.BINARY):
        self.module = module.eval()
        self.names = [field.name for field in data.schema.features]
        self.score = score or (lambda output: torch.softmax(output.double(), dim=1) if task.classifies else output[:, 0].double())
        super().__init__(self.answer, data, task)

    def encode(self, data):
        return torch.from_numpy(np.stack([data.to_numpy(name) for name in self.names], axis=1)).to(next(self.module.parameters()).dtype)

    def answer(self, data):
        with torch.inference_mode():
            answers = (
                torch.softmax(self.module(self.encode(data)).double(), 1)[:, 1]
                if self.fitted.task.classifies
                else self.module(self.encode(data))[:, 0]
            )
        return answers.double().numpy()

    def torch_view(self):
        return TorchView(self.module, self.encode, tuple(self.names), self.score)


def numbers(rows=120, columns=5, seed=0):
    generator = np.random.default_rng(seed)
    table = {f"x{i}": generator.normal(size=rows) for i in range(columns)}
    return Dataset.from_arrow({**table, "y": np.where(table["x0"] > 0, "yes", "no")}, name="numbers", target="y")


def net(data, *layers, seed=0, double=True, task=Task.BINARY):
    torch.manual_seed(seed)
    module = nn.Sequential(*layers)
    return Net(module.double() if double else module, data, task=task)


@pytest.fixture(scope="module")
def data():
    return numbers()


@pytest.fixture(scope="module")
def smooth(data):
    return net(data, nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))


def test_on_a_linear_model_gradients_are_weights_times_distance_from_the_mean(data):
    model = net(data, nn.Linear(5, 1), task=Task.REGRESSION)
    x = np.stack([data.to_numpy(f"x{i}") for i in range(5)], axis=1)
    found = Gradient().explain(model, data.head(4), data.take(np.arange(50, 80)))
    weight = model.module[0].weight.detach().numpy()[0]
    np.testing.assert_allclose(found.values, weight * (x[:4] - x[50:80].mean(axis=0)), atol=1e-12)
    np.testing.assert_allclose(found.values, Exact().explain(model, data.head(4), data.take(np.arange(50, 80))).values, atol=1e-12)
    assert found.residual.max() < 1e-12


def test_on_a_smooth_model_they_add_up_to_the_answer_and_equal_a_long_riemann_sum(data, smooth):
    background = data.take(np.arange(50, 70))
    found = Gradient().explain(smooth, data.head(2), background)
    assert found.details["additive"]
    assert found.residual.max() < 1e-7
    module, reference = smooth.module, smooth.encode(background)
    for row in range(2):
        x = smooth.encode(data)[row]
        total = torch.zeros(5, dtype=torch.float64)
        for at in (np.arange(2000) + 0.5) / 2000:
            point = (reference + at * (x - reference)).requires_grad_()
            (gradient,) = torch.autograd.grad(torch.softmax(module(point), 1)[:, 1].sum(), point)
            total += (gradient * (x - reference)).mean(dim=0) / 2000
        np.testing.assert_allclose(found.values[row], total.numpy(), atol=1e-6)


def test_they_are_not_the_shapley_values_and_the_record_says_which_they_are(data, smooth):
    background = data.take(np.arange(50, 70))
    found, exact = Gradient().explain(smooth, data.head(2), background), Exact().explain(smooth, data.head(2), background)
    assert 1e-4 < abs(found.values - exact.values).max() < 0.2
    assert "Aumann-Shapley" in found.details["game"]
    np.testing.assert_allclose(found.base, exact.base, atol=1e-12)


def test_kinks_that_the_budget_does_not_pay_for_are_said_and_the_interval_holds_them(data):
    model = net(data, nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    background = data.take(np.arange(50, 60))
    long = Gradient().explain(model, data.head(5), background, budget=10**5)
    short = Gradient().explain(model, data.head(5), background, budget=1000)
    assert not short.details["additive"]
    assert long.residual.max() < 1e-6
    assert long.details["additive"]
    assert (abs(short.values - long.values) <= short.errors + long.errors).all()
    assert short.residual.max() > 1e-6


def test_a_budget_for_some_background_rows_gives_intervals_that_hold_the_values_over_all(data, smooth):
    background = data.take(np.arange(40, 100))
    all_of_them = Gradient().explain(smooth, data.head(20), background)
    some = Gradient().explain(smooth, data.head(20), background, budget=400)
    assert some.residual.max() < 1e-6  # the base is the mean over the drawn rows
    inside = abs(some.values - all_of_them.values) <= some.errors
    assert 0.85 < inside.mean() <= 1.0
    assert some.errors.mean() > 10 * all_of_them.errors.mean()


def test_a_row_costs_no_more_than_its_budget_and_forwards_and_backwards_both_count(data, smooth):
    background = data.take(np.arange(50, 70))
    for budget in (22, 100, 1000):
        found = Gradient().explain(smooth, data.head(3), background, budget=budget)
        ends_and_check = 2 * 3 + 2 * 20
        assert 3 * 22 <= found.details["model_rows"] <= 3 * budget + ends_and_check


def test_a_width_is_reached_by_drawing_more(data, smooth):
    background = data.take(np.arange(20, 110))
    found = Gradient().explain(smooth, data.head(3), background, width=0.05)
    assert 2 * found.errors.max() <= 0.05
    assert max(found.details["rows_spent"]) < 8000


@pytest.mark.parametrize("budget", [300, 3000])
def test_alone_in_a_batch_in_another_order_and_replayed_the_numbers_are_bit_equal(data, smooth, budget):
    background = data.take(np.arange(50, 90))
    batch = Gradient().explain(smooth, data.head(5), background, budget=budget)
    turned = Gradient().explain(smooth, data.take(np.arange(5)[::-1]), background, budget=budget)
    alone = Gradient().explain(smooth, data.take(np.array([2])), background, budget=budget)
    again = Gradient().explain(smooth, data.head(5), background, budget=batch.details["rows_spent"])
    for other in (turned.values[::-1], again.values):
        assert (batch.values == other).all()
    assert (batch.values[2] == alone.values[0]).all()


def test_four_threads_at_once_give_the_numbers_of_one_after_the_other(data, smooth):
    background = data.take(np.arange(50, 90))
    batches = [data.take(np.arange(3 * i, 3 * i + 3)) for i in range(4)]
    alone = [Gradient().explain(smooth, batch, background, budget=2000).values for batch in batches]
    together = [None] * 4

    def explain(number):
        together[number] = Gradient().explain(smooth, batches[number], background, budget=2000).values

    threads = [threading.Thread(target=explain, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_the_models_own_module_is_left_as_it_was(data):
    model = net(data, nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2), double=False)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    state = torch.get_rng_state()
    Gradient().explain(model, data.head(2), data.take(np.arange(50, 60)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert all(p.requires_grad and p.grad is None and p.dtype == torch.float32 for p in model.module.parameters())
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in model.module.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_other_class_gets_the_opposite(data, smooth):
    background = data.take(np.arange(50, 60))
    yes = Gradient().explain(smooth, data.head(2), background, label="yes")
    no = Gradient().explain(smooth, data.head(2), background, label="no")
    np.testing.assert_allclose(yes.values, -no.values, atol=1e-7)


def test_categories_and_gaps_of_a_table_model_are_summed_to_their_fields_and_groups():
    table = make_table(160)
    model = MLP(hidden=(8,), epochs=3).fit(table)
    background = table.take(np.arange(30, 60))
    found = Gradient().explain(model, table.head(3), background)
    assert found.players == ("x0", "x1", "colour", "flag")
    assert found.residual.max() < 1e-7
    grouped = Gradient().explain(model, table.head(3), background, groups={"both": ["x1", "colour"]})
    np.testing.assert_allclose(grouped.values[:, 1], found.values[:, 1] + found.values[:, 2], atol=1e-7)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (3, 8, 8)])
def test_pixels_of_an_image_are_summed_to_their_regions_in_every_layout(shape):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (60, *shape)).astype(np.uint8)
    top = pixels[:, :, :4] if shape[0] == 3 else pixels[:, :4]
    y = np.where(top.reshape(60, -1).mean(axis=1) > 127, "bright", "dark")
    data = Dataset.from_arrow(pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels), "y": y}), name="pictures", target="y")
    model = CNN(channels=(4,), hidden=8, epochs=8).fit(data)
    background = data.take(np.arange(40, 50))
    found = Gradient().explain(model, data.head(2), background, grid=2, budget=2**14)
    assert found.players == ("image [1, 1]", "image [1, 2]", "image [2, 1]", "image [2, 2]")
    assert found.residual.max() < 5e-3
    view = model.torch_view()
    x, reference = view.encode(data.head(1)).double(), view.encode(background).double()
    module = model.module.double()
    try:
        total = torch.zeros(x.shape[1:], dtype=torch.float64)
        for at in (np.arange(200) + 0.5) / 200:
            point = (reference + at * (x - reference)).requires_grad_()
            (gradient,) = torch.autograd.grad(view.score(module(point))[:, 1].sum(), point)
            total += (gradient * (x - reference)).mean(dim=0) / 200
    finally:
        module.float()
    quarters = [total[:, rows, columns].sum() for rows in (slice(0, 4), slice(4, 8)) for columns in (slice(0, 4), slice(4, 8))]
    np.testing.assert_allclose(found.values[0], quarters, atol=5e-3)


# -- what does not fit --------------------------------------------------------------------------------------------------------------------


def test_a_view_that_answers_otherwise_than_predict_is_an_error(data):
    model = net(data, nn.Linear(5, 2))
    model.score = lambda output: torch.softmax(2 * output, dim=1)
    with pytest.raises(PluginError, match="answers otherwise than its predict"):
        Gradient().explain(model, data.head(2), data.take(np.arange(50, 60)))


def test_a_model_without_gradients_is_told_which_methods_fit(data):
    forest = Forest(trees=3).fit(data)
    with pytest.raises(UsageError, match="'gradient' does not fit this tabular.forest"):
        Gradient().explain(forest, data.head(2), data)
    for method in ("gradient", "deep"):
        with pytest.raises(UsageError, match=f"'{method}' does not fit this tabular.forest: the model shows no torch module"):
            choose(forest, data, method)


def test_a_view_without_a_score_or_with_columns_of_no_field_is_refused(data, smooth):
    class Bare(Net):
        def torch_view(self):
            return TorchView(self.module, self.encode, tuple(self.names))

    class Nameless(Net):
        def torch_view(self):
            return TorchView(self.module, self.encode, (), self.score)

    with pytest.raises(UsageError, match="its torch view has no score"):
        Gradient().explain(Bare(smooth.module, data), data.head(1), data)
    with pytest.raises(UsageError, match="do not belong to one player each"):
        Gradient().explain(Nameless(smooth.module, data), data.head(1), data)


def test_a_budget_below_two_paths_is_refused(data, smooth):
    with pytest.raises(UsageError, match="too small for gradients"):
        Gradient().explain(smooth, data.head(1), data, budget=21)


def test_answers_that_are_not_finite_are_an_error_not_a_zero(data):
    model = net(data, nn.Linear(5, 2))
    with torch.no_grad():
        model.module[0].weight[0, 0] = float("nan")
    with pytest.raises(Exception, match="not finite"):
        Gradient().explain(model, data.head(1), data)
