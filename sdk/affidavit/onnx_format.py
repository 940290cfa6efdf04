"""ONNX graphs on the way out: written, rid of what they need not hold, and run to be compared. No model is read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from affidavit.errors import InvalidInput, MissingExtra, PluginError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from affidavit.interfaces.dataset import Dataset
    from affidavit.interfaces.model import OnnxView

NOTES = ("doc_string", "metadata_props")
"""Fields of ONNX that compute nothing. Exporters write source paths, class names and stack traces into them."""


OPSET, IR_VERSION = 18, 8
"""Operators and file format of 2022, which belong together; onnxruntime reads them since 1.14."""

INPUT = "rows"
"""The only input of a graph that `Graph` writes."""


class Graph:
    """A graph under construction, from one array ``rows`` to the answers.

    Parameters
    ----------
    shape
        Of one row.
    kind
        Of the input's numbers.

    Raises
    ------
    MissingExtra
        onnx is not installed.
    """

    def __init__(self, shape: Sequence[int], kind: Any) -> None:
        self._onnx = _onnx()
        self._nodes: list[Any] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._input = self._info(INPUT, kind, shape)

    def add(self, operator: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        """Add one operator, whose inputs are names or constants, and give the name of its output."""
        output = f"{operator.lower()}_{len(self._nodes)}"
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        self._nodes.append(self._onnx.helper.make_node(operator, names, [output], **attributes))
        return output

    def probabilities(self, scores: str, classes: int) -> bytes:
        """Close the graph with the softmax of `scores`, rows × classes, in double precision."""
        self.add("Softmax", self._double(scores), axis=1)
        return self._close("probabilities", [classes])

    def values(self, scores: str, *, center: float = 0.0, scale: float = 1.0) -> bytes:
        """Close the graph with ``scores * scale + center``, where `scores` are rows × 1."""
        scaled = self.add("Add", self.add("Mul", self._double(scores), np.array(scale)), np.array(center))
        self.add("Reshape", scaled, np.array([-1]))
        return self._close("values", [])

    def _double(self, name: str) -> str:
        return self.add("Cast", name, to=self._onnx.TensorProto.DOUBLE)

    def _constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.array(array, order="C")
        return name

    def _info(self, name: str, kind: Any, shape: Sequence[int]) -> Any:
        helper = self._onnx.helper
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), ["batch", *shape])

    def _close(self, name: str, shape: Sequence[int]) -> bytes:
        """The whole graph; the last operator's output gets `name`."""
        helper = self._onnx.helper
        self._nodes[-1].output[0] = name
        constants = [self._onnx.numpy_helper.from_array(array, key) for key, array in self._constants.items()]
        graph = helper.make_graph(self._nodes, "model", [self._input], [self._info(name, np.float64, shape)], constants)
        opsets = [helper.make_opsetid("", OPSET)]
        return canonical(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="affidavit"))


def canonical(model: Any) -> bytes:
    """The bytes of an ``onnx.ModelProto`` without notes and shapes in between, in one order. Raises PluginError where it is no sound graph."""
    onnx = _onnx()
    for message in _messages(model):
        for name in NOTES:
            if name in message.DESCRIPTOR.fields_by_name:
                message.ClearField(name)
    model.graph.ClearField("value_info")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise PluginError(f"The exported ONNX graph does not hold together: {_first_line(error)}") from None
    graph: bytes = model.SerializeToString(deterministic=True)
    return graph


def notes(graph: bytes) -> list[str]:
    """What of a graph is no part of its computation: fields with notes, and weights kept in other files. Raises InvalidInput for what is no graph."""
    onnx = _onnx()
    try:
        model = onnx.load_from_string(graph)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the protobuf library's own error is not public
        raise InvalidInput(f"These bytes are no sound ONNX graph: {_first_line(error)}") from None
    found = {name for message in _messages(model) for name in (*NOTES, "external_data") if getattr(message, name, None)}
    return sorted(found)


def session(graph: bytes) -> Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]:
    """A function from the graph's inputs to its only output, run by onnxruntime on the processor with one thread. Safe in several threads.

    Raises
    ------
    MissingExtra
        onnxruntime is not installed.
    InvalidInput
        It cannot run this graph, or the graph has several outputs.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    # One thread adds in one order; the library's own log would quote shapes and names to the terminal.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        opened = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a type of its own for each status
        raise InvalidInput(f"onnxruntime cannot run this graph: {_first_line(error)}") from None
    names = [output.name for output in opened.get_outputs()]
    if len(names) != 1:
        raise InvalidInput(f"This graph has {len(names)} outputs; it must have one.")

    def run(inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        try:
            return np.asarray(opened.run(names, dict(inputs))[0])
        except Exception as error:
            failure = type(error).__name__
        # Raised outside the handler: the library's message may quote values.
        raise InvalidInput(f"onnxruntime could not run this graph on these rows ({failure}).", hint="Its inputs must fit in name, type and shape.")

    return run


def deviation(view: OnnxView, rows: Dataset, expected: NDArray[np.float64]) -> float:
    """How far the graph's answers for conforming `rows`, all together and the first alone, are from what `predict` answered.

    Returns
    -------
    The largest difference, over the largest number where that is more than one: probabilities are compared as they are. Infinite where the
    shapes differ or a number is not finite.
    """
    run = session(view.graph)
    if not np.isfinite(expected).all():
        return float("inf")
    scale = max(1.0, float(np.max(abs(expected), initial=0.0)))
    return max(_apart(run(view.encode(rows.head(n))), expected[:n]) / scale for n in (len(rows), 1))


def _apart(found: NDArray[Any], expected: NDArray[np.float64]) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.max(abs(found.astype(np.float64) - expected), initial=0.0))


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all that it holds, subgraphs and functions too."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(each)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ModuleNotFoundError as error:
        raise MissingExtra("An ONNX graph", extra="onnx", library=error.name or "onnx") from None
    return onnx


def _runtime() -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped]  # it ships no types
    except ModuleNotFoundError as error:
        raise MissingExtra("Running an ONNX graph", extra="onnx", library=error.name or "onnxruntime") from None
    return onnxruntime
