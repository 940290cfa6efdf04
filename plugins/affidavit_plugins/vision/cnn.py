"""A small convolutional network: ``vision.cnn``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field as Param
from torch import Tensor, nn

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Capabilities, OnnxView
from affidavit.interfaces.training import TrainingEngine
from affidavit_plugins.torch_base.model import TorchModel, TorchParams
from affidavit_plugins.vision.images import ImageEncoding

if TYPE_CHECKING:
    from affidavit.artifacts import ArtifactReader, ArtifactWriter

GRID = 4
"""Features are averaged to a grid of this side before the last layers, so that images of any size fit."""


class CNNParams(TorchParams):
    """Parameters of ``vision.cnn``, besides those of every torch type.

    Attributes
    ----------
    channels
        Channels of each convolution; after each, the image is halved. Multiples of 4, the number of groups that are normalised together.
    hidden
        Units of the layer before the output.
    dropout
        Share of these units left out in each training step.
    """

    channels: tuple[Annotated[int, Param(ge=4, le=1024, multiple_of=4)], ...] = Param(default=(16, 32, 64), min_length=1, max_length=6)
    hidden: Annotated[int, Param(ge=1, le=4096)] = 64
    dropout: Annotated[float, Param(ge=0, lt=1)] = 0.0


class ConvNet(nn.Module):
    """Convolutions with group norm, then two fully connected layers.

    Group norm reads one image at a time. Batch norm mixes the rows of a batch, so that no row's gradient could be clipped by itself: a
    network with it cannot be trained privately.
    """

    def __init__(self, encoding: ImageEncoding, outputs: int, params: CNNParams) -> None:
        super().__init__()
        inputs = encoding.channels
        blocks: list[nn.Module] = []
        for channels in params.channels:
            # Rounding up keeps at least one pixel, however small the image.
            blocks += [nn.Conv2d(inputs, channels, 3, padding=1), nn.GroupNorm(4, channels), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            inputs = channels
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(GRID), nn.Flatten())
        wide = nn.Linear(inputs * GRID * GRID, params.hidden)
        self.head = nn.Sequential(wide, nn.ReLU(), nn.Dropout(params.dropout), nn.Linear(params.hidden, outputs))
        self.divisor = encoding.divisor

    def forward(self, images: Tensor) -> Tensor:
        """Scores of each image, rows × outputs, from pixels of shape rows × channels × height × width in the column's own type."""
        scores: Tensor = self.head(self.features(images.to(self.head[-1].weight.dtype) / self.divisor))
        return scores


class CNN(TorchModel):
    """A convolutional network over one image column: fixed-shape tensors or fixed-size lists of uint8, uint16 or floats."""

    type: ClassVar[str] = "vision.cnn"
    Params = CNNParams
    capabilities: ClassVar[Capabilities] = Capabilities(private_training=True, probabilities=True, torch_module=True, onnx=True)
    predict_rows: ClassVar[int] = 256
    _encoding: ImageEncoding

    def prepare(self, data: Dataset, engine: TrainingEngine) -> None:
        """Find the image column; nothing is read from its values."""
        self._encoding = ImageEncoding.learn(data)

    def build(self, outputs: int) -> nn.Module:
        """The network for the images' channels."""
        return ConvNet(self._encoding, outputs, self.params)

    def encode(self, data: Dataset) -> Tensor:
        """The pixels in their own type: scaling waits for the batch, so that 8-bit images stay small."""
        return torch.tensor(self._encoding.pixels(data))

    def onnx_layers(self) -> Sequence[nn.Module]:
        """The convolutions and the head."""
        module = self.module
        assert isinstance(module, ConvNet)
        return (module.features, module.head)

    def onnx_rows(self, data: Dataset) -> Tensor:
        """The pixels, divided as the network does first."""
        return super().onnx_rows(data) / self._encoding.divisor

    def onnx_view(self) -> OnnxView:
        """The network as a graph, with how pixels become its input."""
        return replace(super().onnx_view(), encoding=self._encoding.to_json())

    def defaults(self, *, private: bool) -> tuple[int, float]:
        """Epochs and learning rate; private epochs have fewer, larger steps, whose noise asks for more of them."""
        return (20, 0.015) if private else (12, 0.004)

    def write_encoding(self, files: ArtifactWriter) -> None:
        """Write the image column's layout."""
        files.json("encoding", self._encoding.to_json())

    def read_encoding(self, files: ArtifactReader) -> None:
        """Read the image column's layout."""
        self._encoding = ImageEncoding.from_json(files.json("encoding"))
