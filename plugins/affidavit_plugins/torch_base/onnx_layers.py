"""Torch layers as ONNX operators.

Not by torch's own exporter: it traces with the interpreter's hooks, so that a model that trains in another thread meanwhile fails or learns
otherwise, rounds numbers such as a target's scale to single precision, and takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affidavit.errors import PluginError
from affidavit.onnx_format import INPUT, Graph
from affidavit_plugins.torch_base.target import Target


def layered_graph(layers: Iterable[nn.Module], target: Target, example: Tensor) -> bytes:
    """The graph of layers applied one after the other, and of the answers from their output.

    Parameters
    ----------
    layers
        In evaluation mode, in one precision.
    example
        One row that they read; its shape and precision are the graph's.

    Raises
    ------
    MissingExtra
        onnx is not installed.
    PluginError
        There is a layer that is not in `LAYERS`.
    """
    graph = Graph(tuple(example.shape[1:]), _array(example).dtype)
    name = INPUT
    with torch.inference_mode():
        for layer in _flat(layers):
            write = LAYERS.get(type(layer))
            if write is None:
                hint = f"Known: {', '.join(sorted(known.__name__ for known in LAYERS))}. Override onnx_view and write the graph yourself."
                raise PluginError(f"The layer {type(layer).__name__} cannot be written as ONNX.", hint=hint)
            name = write(graph, name, layer, example)
            example = layer(example)
    if target.task.classifies:
        return graph.probabilities(name, target.outputs)
    return graph.values(name, center=target.center, scale=target.scale)


def _flat(layers: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer)
        else:
            yield layer


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().numpy()
    return array


def _linear(graph: Graph, name: str, layer: Any, example: Tensor) -> str:
    bias = [] if layer.bias is None else [_array(layer.bias)]
    return graph.add("Gemm", name, _array(layer.weight), *bias, transB=1)


def _convolution(graph: Graph, name: str, layer: Any, example: Tensor) -> str:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise PluginError("A convolution that pads otherwise than with a number of zeros cannot be written as ONNX.")
    bias = [] if layer.bias is None else [_array(layer.bias)]
    window = {"strides": layer.stride, "pads": [*layer.padding, *layer.padding], "dilations": layer.dilation, "group": layer.groups}
    return graph.add("Conv", name, _array(layer.weight), *bias, **window)


def _group_norm(graph: Graph, name: str, layer: Any, example: Tensor) -> str:
    """Groups take the place of instances; then each channel gets its own scale and shift."""
    kind = _array(example).dtype
    grouped = graph.add("Reshape", name, np.array([0, layer.num_groups, -1]))
    plain = np.ones(layer.num_groups, kind), np.zeros(layer.num_groups, kind)
    normal = graph.add("Reshape", graph.add("InstanceNormalization", grouped, *plain, epsilon=layer.eps), np.array([0, *example.shape[1:]]))
    if not layer.affine:
        return normal
    weight, bias = (_array(each).reshape(-1, *[1] * (example.ndim - 2)) for each in (layer.weight, layer.bias))
    return graph.add("Add", graph.add("Mul", normal, weight), bias)


def _max_pool(graph: Graph, name: str, layer: Any, example: Tensor) -> str:
    kernel, stride, padding, dilation = (_pair(each) for each in (layer.kernel_size, layer.stride, layer.padding, layer.dilation))
    window = {"kernel_shape": kernel, "strides": stride, "pads": [*padding, *padding], "dilations": dilation}
    return graph.add("MaxPool", name, **window, ceil_mode=int(layer.ceil_mode))


def _average_to_grid(graph: Graph, name: str, layer: Any, example: Tensor) -> str:
    """Two matrix products: ONNX has no pooling into windows of unlike size, which sides that the grid does not divide need."""
    rows, columns = (
        _windows(size, grid or size).astype(_array(example).dtype) for size, grid in zip(example.shape[2:], _pair(layer.output_size), strict=True)
    )
    return graph.add("MatMul", graph.add("MatMul", rows, name), columns.T)


def _windows(size: int, grid: int) -> NDArray[np.float64]:
    """Grid × size: each row averages its window, as torch cuts them."""
    matrix = np.zeros((grid, size))
    for index in range(grid):
        start, end = index * size // grid, -(-(index + 1) * size // grid)
        matrix[index, start:end] = 1 / (end - start)
    return matrix


def _pair(value: Any) -> tuple[Any, Any]:
    return value if isinstance(value, tuple) else (value, value)


def _same(graph: Graph, name: str, layer: Any, example: Tensor) -> str:
    """Does nothing in evaluation mode."""
    return name


LAYERS: dict[type[nn.Module], Callable[[Graph, str, Any, Tensor], str]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _average_to_grid,
    nn.Flatten: lambda graph, name, layer, example: graph.add("Flatten", name, axis=1),
    nn.ReLU: lambda graph, name, layer, example: graph.add("Relu", name),
    nn.Tanh: lambda graph, name, layer, example: graph.add("Tanh", name),
    nn.Dropout: _same,
}
"""How each layer is written, from the name and an example of its input."""
