"""Deep SHAP (Lundberg, Lee 2017; DeepLIFT: Shrikumar, Greenside, Kundaje 2017) through the library, guarded: `deep`."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import shap
import torch
from numpy.typing import NDArray
from shap.explainers._deep.deep_pytorch import op_handler
from torch import Tensor, nn

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.outputs import relative_residual
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.gradients.torch_score import TorchScore
from affidavit_governance.explain.methods.gradient import ADDS_UP, Gradient
from affidavit_governance.explain.planner import torch_unfit
from affidavit_governance.explain.players.build import PLAYER_OPTIONS, players_of

_SHAP_RAISES = (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


RULES = frozenset(op_handler) - {"Softmax"}
"""Layers that shap has rules for. Its rule for the softmax goes entry by entry: what moves an answer through the other entries gets zero, and the
numbers add up all the same."""


class Deep(Explainer):
    """shap's DeepExplainer on a copy of the module, against the background rows.

    The library has rules for some layers only, and for the others (SiLU, LayerNorm, LSTM, functions called in ``forward``) gives numbers that do
    not add up, with a warning at most. Layers without a rule are looked for beforehand, and every row is checked against the model's own
    answer; where either fails, `gradient` takes over and the record says so. Options: label, seed, groups, and who the players of tensors are.
    """

    type = "deep"
    accepts = ACCEPTS

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        reason = torch_unfit(model)
        if reason:
            raise UsageError(f"Method '{self.type}' does not fit this {model.type}: {reason}.")
        read = Options.read(self.type, options, own=PLAYER_OPTIONS)
        case = Case.open(model, data, background, read)
        players = players_of(case, method=self.type)
        score = TorchScore.open(case, players, self.type)
        strange = sorted({type(layer).__name__ for layer in score.module.modules() if not list(layer.children())} - RULES)
        if score.column is not None and len(model.fitted.classes) > 2:
            strange.append("the softmax of several classes")
        if strange:
            return self._fall_back(model, data, background, f"shap's DeepExplainer has no sound rule for {', '.join(strange)}", options)
        try:
            numbers, base = _deep_shap(score, case)
        except _SHAP_RAISES as error:
            return self._fall_back(model, data, background, f"shap's DeepExplainer raised {type(error).__name__}", options)
        values = np.zeros((len(numbers), len(players.names)))
        for row, each in enumerate(numbers):
            np.add.at(values[row], score.player[row].ravel(), each.ravel())
        inputs = [players.labels(row) for row in range(len(case.data))]
        details = {"library": f"shap {shap.__version__}", "game": "DeepLIFT's rescale rule on the model's encoded input", **players.details}
        found = case.record(self.type, players.names, values, base, inputs=inputs, exact=False, details=details)
        worst = float(relative_residual(found).max(initial=0.0))
        if not worst <= ADDS_UP:
            return self._fall_back(model, data, background, f"shap's DeepExplainer missed the model's answer by {worst:.1e}", options)
        read.report(Progress(len(case.data), len(case.data), "explaining"))
        return found

    def _fall_back(self, model: Model, data: Dataset, background: Dataset, why: str, options: dict[str, Any]) -> Explanation:
        found = Gradient().explain(model, data, background, **options)
        return replace(found, details={**found.details, "fallback": f"{why}; 'gradient' was used instead"})


def _deep_shap(score: TorchScore, case: Case) -> tuple[NDArray[np.float64], float]:
    """Attributions (rows × the shape of one input) and the base."""
    module = nn.Sequential(copy.deepcopy(score.module), _answering(score)).to(score.rows.dtype)
    explainer = shap.DeepExplainer(module, score.background)
    # One row at a time: its numbers must not depend on its neighbours.
    numbers = [explainer.shap_values(score.rows[row : row + 1], check_additivity=False) for row in range(len(score.rows))]
    # Forwards and backwards of the row and the background, once for each background row.
    case.score.rows += len(score.rows) * 4 * len(score.background)
    found = np.concatenate([np.asarray(each, dtype=np.float64).reshape(1, *score.rows.shape[1:]) for each in numbers])
    return found, float(np.asarray(explainer.expected_value).reshape(-1)[0])


def _answering(score: TorchScore) -> nn.Module:
    """The last step from the module's output to the explained number, as layers that the library has rules for.

    Raises
    ------
    ValueError
        The model answers in another way.
    """
    with torch.no_grad():
        output = score.module(score.background)
        if score.column is None:
            ends: Tensor = score.score(torch.tensor([[0.0], [1.0]], dtype=output.dtype))
            layers = nn.Sequential(_linear(torch.ones(1, 1) * (ends[1] - ends[0]), ends[0]))
        else:
            # With two classes the softmax is a sigmoid of the difference, which DeepLIFT's rule follows exactly.
            sign = 1.0 if score.column == 1 else -1.0
            layers = nn.Sequential(_linear(torch.tensor([[-sign, sign]])), nn.Sigmoid())
        layers = layers.to(output.dtype)
        if not torch.allclose(layers(output)[:, 0], score(score.background).to(output.dtype), rtol=1e-5, atol=1e-7):
            raise ValueError("The model's answer is no softmax and no straight line of its module's output.")
    return layers


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    # On no device first: initial weights would be drawn from torch's global generator.
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64, device="meta").to_empty(device="cpu")
    layer.weight.data, layer.bias.data = weight.double(), torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.double().reshape(-1)
    return layer
