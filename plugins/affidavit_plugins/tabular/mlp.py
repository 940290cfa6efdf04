"""A multilayer perceptron over table columns: ``tabular.mlp``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Param
from torch import Tensor, nn

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Capabilities, EncodedView, OnnxView, TorchView
from affidavit.interfaces.training import TrainingEngine
from affidavit_plugins.tabular.torch_encoding import TableEncoding
from affidavit_plugins.torch_base.model import TorchModel, TorchParams
from affidavit_plugins.torch_base.target import Target

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


LONE_PRODUCT = 2**18
"""Multiplications up to which BLAS libraries keep a product to one thread; callers that ask for many rows have threads of their own."""


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
    capabilities: ClassVar[Capabilities] = Capabilities(private_training=True, probabilities=True, torch_module=True, onnx=True)
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

    def torch_view(self) -> TorchView:
        """The perceptron, with the field of each column of its input."""
        return replace(super().torch_view(), players=self._encoding.players)

    def onnx_layers(self) -> Sequence[nn.Module]:
        """The hidden layers and the output."""
        module = self.module
        assert isinstance(module, Perceptron)
        return (*module.layers, module.output)

    def onnx_view(self) -> OnnxView:
        """The perceptron as a graph, with how columns become its input."""
        return replace(super().onnx_view(), encoding=self._encoding.to_json())

    def encoded_view(self) -> EncodedView:
        """The perceptron in plain numpy, in double precision like `predict`."""
        module = self.module
        assert isinstance(module, Perceptron)
        layers = [layer for layer in (*module.layers, module.output) if isinstance(layer, nn.Linear)]
        weights = [layer.weight.detach().numpy().T.copy() for layer in layers]
        biases = [layer.bias.detach().numpy().copy() for layer in layers]
        dense = Dense(_Layers.of(weights, biases), _Layers.of(weights, biases, np.float32), _ACTIVATIONS[self.params.activation], self._target)
        return EncodedView(
            encode=self._encoding.transform,
            players=self._encoding.players,
            output="probability" if self.fitted.task.classifies else "value",
            answer=lambda matrix: dense.head(product(matrix, dense.layers.weights[0])),
            projection=weights[0],
            head=dense.head,
        )

    def write_encoding(self, files: ArtifactWriter) -> None:
        """Write scales and categories."""
        files.json("encoding", self._encoding.to_json())

    def read_encoding(self, files: ArtifactReader) -> None:
        """Read scales and categories."""
        self._encoding = TableEncoding.from_json(files.json("encoding"))


Numbers = NDArray[np.float64] | NDArray[np.float32]


def _tanh(values: Numbers) -> None:
    np.tanh(values, out=values)


def _relu(values: Numbers) -> None:
    np.maximum(values, 0.0, out=values)


_ACTIVATIONS: dict[str, Callable[[Numbers], None]] = {"relu": _relu, "tanh": _tanh}


@dataclass(frozen=True, slots=True)
class Dense:
    """Fully connected layers in numpy, whose tanh takes a fifth of torch's time in double precision, and which starts no threads."""

    layers: _Layers
    single: _Layers
    activate: Callable[[Numbers], None]
    target: Target

    def head(self, products: Numbers) -> NDArray[np.float64]:
        """The answers, from the rows' products with the first layer's weights, in the precision of these."""
        layers = self.single if products.dtype == np.float32 else self.layers
        values: Numbers = products + layers.biases[0]
        for weight, bias in zip(layers.weights[1:], layers.biases[1:], strict=True):
            self.activate(values)
            values = product(values, weight)
            values += bias
        return self.target.array(values.astype(np.float64, copy=False))


@dataclass(frozen=True, slots=True)
class _Layers:
    """Weights (inputs × units) and biases of each layer, in one precision."""

    weights: tuple[Numbers, ...]
    biases: tuple[Numbers, ...]

    @classmethod
    def of(cls, weights: Sequence[Numbers], biases: Sequence[Numbers], kind: type[np.floating[Any]] = np.float64) -> _Layers:
        return cls(tuple(weight.astype(kind) for weight in weights), tuple(bias.astype(kind) for bias in biases))


def product(rows: Numbers, weight: Numbers) -> Numbers:
    """``rows @ weight``, in blocks of rows that BLAS works out without threads of its own."""
    block = LONE_PRODUCT // max(1, weight.size)
    whole = len(rows) // block * block if block >= 16 else 0
    out: Numbers = np.empty((len(rows), weight.shape[1]), dtype=rows.dtype)
    if whole:
        np.matmul(rows[:whole].reshape(-1, block, rows.shape[1]), weight, out=out[:whole].reshape(-1, block, weight.shape[1]))
    np.matmul(rows[whole:], weight, out=out[whole:])
    return out
