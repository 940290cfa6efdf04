"""shap's DeepExplainer through our door: right where it has rules, and noticed where it has none."""

from __future__ import annotations

import numpy as np
import pytest
import shap
import torch
from tests.governance.explain.explain_models import make_table
from tests.governance.explain.test_explain_gradient import Net, net, numbers
from torch import nn

from affidavit import Task
from affidavit.interfaces.model import Predictions
from affidavit_governance.explain.methods.deep import Deep
from affidavit_governance.explain.methods.gradient import Gradient
from affidavit_plugins.tabular.mlp import MLP


@pytest.fixture(scope="module")
def data():
    return numbers()


class Swish(nn.Module):
    """A layer by a name of its own, which no library has a rule for."""

    def forward(self, x):
        return x * torch.sigmoid(x)


class Functional(nn.Module):
    """Only layers that shap knows, but the activation is a function called in `forward`, which its hooks do not see."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 16), nn.Linear(16, 2)

    def forward(self, x):
        return self.last(torch.nn.functional.silu(self.first(x)))


class Reused(nn.Module):
    """One activation used twice: shap keeps one input for each layer."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last, self.activation = nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, 2), nn.Tanh()

    def forward(self, x):
        return self.last(self.activation(self.middle(self.activation(self.first(x)))))


class Recurrent(nn.Module):
    """Reads the columns one after the other."""

    def __init__(self):
        super().__init__()
        self.cells, self.last = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.last(self.cells(x.unsqueeze(-1))[0][:, -1])


@pytest.mark.parametrize("layers", [[nn.Linear(5, 16), nn.Tanh()], [nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.5)], [nn.Linear(5, 16), nn.Softplus()]])
def test_layers_with_rules_add_up_and_equal_shap_itself(data, layers):
    model, background = net(data, *layers, nn.Linear(16, 2)), data.take(np.arange(50, 80))
    found = Deep().explain(model, data.head(4), background)
    assert (found.method, found.details.get("fallback")) == ("deep", None)
    assert found.residual.max() < 1e-12
    assert found.details["library"] == f"shap {shap.__version__}"
    sigmoid = nn.Sequential(model.module, nn.Linear(2, 1).double(), nn.Sigmoid())
    sigmoid[1].weight.data, sigmoid[1].bias.data = torch.tensor([[-1.0, 1.0]]).double(), torch.zeros(1).double()
    alone = shap.DeepExplainer(sigmoid, model.encode(background)).shap_values(model.encode(data.head(4)), check_additivity=False)
    np.testing.assert_allclose(found.values, alone.reshape(4, 5), atol=1e-12)


def test_a_linear_module_has_its_closed_form(data):
    model = net(data, nn.Linear(5, 1), task=Task.REGRESSION)
    x = np.stack([data.to_numpy(f"x{i}") for i in range(5)], axis=1)
    found = Deep().explain(model, data.head(3), data.take(np.arange(50, 80)))
    assert "fallback" not in found.details
    np.testing.assert_allclose(found.values, model.module[0].weight.detach().numpy()[0] * (x[:3] - x[50:80].mean(axis=0)), atol=1e-12)


def test_the_perceptron_of_tables_sums_categories_and_gaps_to_fields():
    table = make_table(160)
    model, background = MLP(hidden=(8,), epochs=3).fit(table), table.take(np.arange(30, 60))
    found = Deep().explain(model, table.head(3), background)
    assert found.players == ("x0", "x1", "colour", "flag")
    assert "fallback" not in found.details
    assert found.residual.max() < 1e-12
    assert not found.exact


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ([nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 2)], "SiLU"),
        ([nn.Linear(5, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 2)], "LayerNorm"),
        ([nn.Linear(5, 16), Swish(), nn.Linear(16, 2)], "Swish"),
        ([Recurrent()], "LSTM"),
    ],
)
def test_layers_without_rules_are_named_and_gradients_take_over(data, layers, name):
    model, background = net(data, *layers), data.take(np.arange(50, 60))
    found = Deep().explain(model, data.head(2), background)
    assert found.details["fallback"] == f"shap's DeepExplainer has no sound rule for {name}; 'gradient' was used instead"
    assert found.method == "gradient"
    assert (found.values == Gradient().explain(model, data.head(2), background).values).all()
    assert found.residual.max() < 1e-6


@pytest.mark.parametrize("kind", [Functional, Reused])
def test_what_the_names_do_not_show_is_noticed_because_it_does_not_add_up(data, kind):
    torch.manual_seed(0)
    model, background = Net(kind().double(), data), data.take(np.arange(50, 60))
    found = Deep().explain(model, data.head(2), background)
    assert "shap's DeepExplainer missed the model's answer by" in found.details["fallback"]
    assert found.residual.max() < 1e-6


def test_shap_itself_gives_wrong_numbers_there_without_an_error(data):
    """What the guard is for. Should a later shap add up or raise here, the guard can go."""
    torch.manual_seed(0)
    module, x = Functional().double(), torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = shap.DeepExplainer(module, x[10:]).shap_values(x[:4], check_additivity=False)
    with torch.no_grad():
        missed = abs(values.sum(axis=1) - (module(x[:4]) - module(x[10:]).mean(0)).numpy()).max()
    assert missed > 1e-3


class Three(Net):
    def __init__(self, module, data):
        super().__init__(module, data)
        self.signature = type(self.signature)(self.signature.inputs, Task.MULTICLASS, "y", ("a", "b", "c"))

    def predict(self, data):
        with torch.inference_mode():
            probabilities = torch.softmax(self.module(self.encode(data)), 1).numpy()
        return Predictions(np.array(["a", "b", "c"])[probabilities.argmax(1)], ("a", "b", "c"), probabilities)


def test_a_softmax_of_three_classes_falls_back_because_shap_gives_zero_to_what_moves_the_other_scores(data):
    module = nn.Sequential(nn.Linear(5, 3), nn.Tanh()).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[0, 0, 0, 2, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 2]]))  # class b's own score reads x0 alone
    model, background = Three(module, data), data.take(np.arange(50, 60))
    found = Deep().explain(model, data.head(2), background, label="b")
    assert "no sound rule for the softmax of several classes" in found.details["fallback"]
    assert abs(found.values[:, [3, 4]]).min() > 1e-3
    assert found.residual.max() < 1e-6
    pick = nn.Linear(3, 1, bias=False).double()
    pick.weight.data = torch.tensor([[0.0, 1.0, 0.0]]).double()
    alone = shap.DeepExplainer(nn.Sequential(module, nn.Softmax(dim=1), pick), model.encode(background)).shap_values(model.encode(data.head(2)))
    assert abs(alone.reshape(2, 5)[:, [3, 4]]).max() < 1e-12


def test_an_answer_that_is_no_softmax_falls_back(data):
    class Squared(Net):
        def answer(self, data):
            with torch.inference_mode():
                return self.module(self.encode(data))[:, 0].square().numpy()

    torch.manual_seed(0)
    model = Squared(nn.Linear(5, 1).double(), data, score=lambda output: output[:, 0].square(), task=Task.REGRESSION)
    found = Deep().explain(model, data.head(2), data.take(np.arange(50, 60)))
    assert found.details["fallback"].startswith("shap's DeepExplainer raised ValueError")
    assert found.residual.max() < 1e-6


def test_the_models_own_module_keeps_no_hooks_and_no_state(data):
    model = net(data, nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    Deep().explain(model, data.head(2), data.take(np.arange(50, 60)))
    for layer in model.module.modules():
        assert not (layer._forward_hooks or layer._backward_hooks or layer._forward_pre_hooks)
        assert not hasattr(layer, "x")
        assert not hasattr(layer, "y")
    assert all(p.requires_grad and p.grad is None for p in model.module.parameters())


def test_torch_s_global_generator_is_left_as_it_was(data):
    model = MLP(epochs=2, hidden=[6]).fit(data)
    before = torch.random.get_rng_state()
    Deep().explain(model, data.head(1), data.head(10))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_row_alone_and_in_a_batch_has_bit_equal_numbers(data):
    model, background = net(data, nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2)), data.take(np.arange(50, 60))
    batch, alone = Deep().explain(model, data.head(5), background), Deep().explain(model, data.take(np.array([3])), background)
    assert (batch.values[3] == alone.values[0]).all()
