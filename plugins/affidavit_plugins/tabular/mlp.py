"""A multilayer perceptron over table columns: ``tabular.mlp``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field as Param
from torch import Tensor, nn

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Capabilities
from affidavit.interfaces.training import TrainingEngine
from affidavit_plugins.tabular.torch_encoding import TableEncoding
from affidavit_plugins.torch_base.model import TorchModel, TorchParams

if TYPE_CHECKING:
    from affidavit.artifacts import ArtifactReader, ArtifactWriter

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class MLPParams(TorchParams):
    """Parameters of ``tabular.mlp``, besides those of every torch type.

    Attributes
    ----------
    hidden
        Units of each hidden layer; an empty list gives a linear model.
    activation
        ``"relu"`` or ``"tanh"``. Bounded activations train better under clipping and noise (Papernot et al. 2021, tempered sigmoids).
    dropout
        Share of hidden units left out in each training step.
    """

    hidden: tuple[Annotated[int, Param(ge=1, le=4096)], ...] = (64, 64)
    activation: Literal["relu", "tanh"] = "tanh"
    dropout: Annotated[float, Param(ge=0, lt=1)] = 0.0


class Perceptron(nn.Module):
    """Fully connected layers; reads rows × columns in any precision."""

    def __init__(self, inputs: int, outputs: int, params: MLPParams) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for units in params.hidden:
            layers += [nn.Linear(inputs, units), ACTIVATIONS[params.activation]()]
            if params.dropout:
                layers.append(nn.Dropout(params.dropout))
            inputs = units
        self.output = nn.Linear(inputs, outputs)
        self.layers = nn.Sequential(*layers)

    def forward(self, rows: Tensor) -> Tensor:
        """Scores of each row, rows × outputs."""
        scores: Tensor = self.output(self.layers(rows.to(self.output.weight.dtype)))
        return scores


class MLP(TorchModel):
    """A multilayer perceptron for tables of numbers, categories, booleans and dates, with missing values and unseen categories.

    Predicts in double precision, so that a row's answer is the same to 1e-12 in any batch and explanations can add up to it.
    """

    type: ClassVar[str] = "tabular.mlp"
    Params = MLPParams
    capabilities: ClassVar[Capabilities] = Capabilities(private_training=True, probabilities=True, torch_module=True)
    predict_dtype: ClassVar[torch.dtype] = torch.float64
    _encoding: TableEncoding

    def prepare(self, data: Dataset, engine: TrainingEngine) -> None:
        """Learn scales and categories through `engine`."""
        self._encoding = TableEncoding.learn(data, engine)

    def build(self, outputs: int) -> nn.Module:
        """The perceptron for the encoded width."""
        return Perceptron(self._encoding.width, outputs, self.params)

    def encode(self, data: Dataset) -> Tensor:
        """The encoded rows, float64."""
        return torch.from_numpy(self._encoding.transform(data))

    def defaults(self, *, private: bool) -> tuple[int, float]:
        """Epochs and learning rate; a private epoch has a few large steps, which may be longer."""
        return (20, 0.01 if private else 0.004)

    def write_encoding(self, files: ArtifactWriter) -> None:
        """Write scales and categories."""
        files.json("encoding", self._encoding.to_json())

    def read_encoding(self, files: ArtifactReader) -> None:
        """Read scales and categories."""
        self._encoding = TableEncoding.from_json(files.json("encoding"))
