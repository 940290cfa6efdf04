"""Open Inference Protocol v2 (REST): requests to data sets, predictions to responses. No web framework here.

Specification: github.com/kserve/open-inference-protocol, ``specification/protocol/inference_rest.md``. One input tensor is one column;
its first dimension is the batch. A missing value is ``null``. The binary tensor extension is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from affidavit.errors import AffidavitError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.deployment import Predictor
from affidavit.interfaces.model import Predictions, Task
from affidavit.interfaces.schema import Field, FieldType, Schema

_INTEGERS = {f"{sign}INT{bits}": bits for bits in (8, 16, 32, 64) for sign in ("", "U")}
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_NUMBERS = frozenset(_INTEGERS) | _FLOATS
_TEXT = frozenset({"BYTES"})
DATATYPES = {
    FieldType.NUMERIC: ("FP64", _NUMBERS),
    FieldType.TENSOR: ("FP64", _NUMBERS),
    FieldType.BOOLEAN: ("BOOL", frozenset({"BOOL"})),
    FieldType.CATEGORICAL: ("BYTES", _TEXT),
    FieldType.TEXT: ("BYTES", _TEXT),
    FieldType.DATETIME: ("BYTES", _TEXT),
}
"""For each type of field the datatype in the model's metadata, and those that a request may use."""
_NAME = 200
"""Letters of an unknown name that are compared with the known ones: more would cost time and tell nothing."""
_BINARY = ("binary_data", "binary_data_size", "binary_data_output")


class ProtocolError(Exception):
    """A request that gets an error response; the message quotes nothing from the request.

    Parameters
    ----------
    status
        The HTTP status.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request that has been checked.

    Attributes
    ----------
    id
        Given back in the response.
    data
        The input tensors as columns.
    outputs
        Names of the output tensors asked for; None for all.
    """

    id: str | None
    data: Dataset
    outputs: tuple[str, ...] | None


def accepted_fields(predictor: Predictor) -> Schema:
    """The columns that a request may hold: the model's inputs, and those that governance takes away before the model sees the rows."""
    accepts: Schema = getattr(predictor, "accepts", None) or predictor.signature.inputs
    return accepts


def model_metadata(predictor: Predictor) -> dict[str, Any]:
    """The model metadata response. A model that gives labels only has no ``probabilities`` in its answers."""
    inputs = [{"name": field.name, "datatype": DATATYPES[field.type][0], "shape": [-1, *(field.shape or ())]} for field in accepted_fields(predictor)]
    outputs: list[dict[str, Any]] = [{"name": "value", "datatype": "FP64", "shape": [-1]}]
    if predictor.signature.task is not Task.REGRESSION:
        classes = len(predictor.signature.classes)
        outputs = [{"name": "label", "datatype": "BYTES", "shape": [-1]}, {"name": "probabilities", "datatype": "FP64", "shape": [-1, classes]}]
    return {
        "name": predictor.name,
        "versions": [str(predictor.version)],
        "platform": f"affidavit_{predictor.model_type}",
        "inputs": inputs,
        "outputs": outputs,
    }


# -- requests --------------------------------------------------------------------------------------------------------------------------


def parse_request(body: bytes, predictor: Predictor, *, max_rows: int) -> InferenceRequest:
    """Check an inference request and build its data set.

    Raises
    ------
    ProtocolError
        400 for anything wrong with it, 413 for more than `max_rows` rows.
    """
    return read_request(decode(body), predictor, max_rows=max_rows)


def read_request(request: dict[str, Any], predictor: Predictor, *, max_rows: int) -> InferenceRequest:
    """Check a decoded request and build its data set. Raises ProtocolError as `parse_request`."""
    _refuse_binary(request, "The request")
    request_id = request.get("id")
    if request_id is not None and not (isinstance(request_id, str) and _is_text(request_id)):
        raise ProtocolError("'id' must be a string.")
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise ProtocolError("'inputs' must be a list of at least one tensor.")
    outputs = _requested(request.get("outputs"), tuple(tensor["name"] for tensor in model_metadata(predictor)["outputs"]))
    accepted = accepted_fields(predictor)
    columns: dict[str, Any] = {}
    sizes: set[int] = set()
    for position, item in enumerate(inputs):
        field, values, rows = _column(_object(item, f"Input {position}"), position, accepted, max_rows)
        if field.name in columns:
            raise ProtocolError(f"Input '{field.name}' stands twice in the request.")
        columns[field.name] = values
        sizes.add(rows)
    for field in predictor.signature.inputs:
        if field.name not in columns:
            raise ProtocolError(f"Input '{field.name}' is missing. The model reads: {', '.join(predictor.signature.inputs.names)}.")
    if len(sizes) > 1:
        raise ProtocolError("The inputs have different batch sizes.")
    schema = accepted.select(tuple(field.name for field in accepted if field.name in columns))
    try:
        data = Dataset.from_rows(columns, schema, name="request")
    except AffidavitError as error:
        raise ProtocolError(str(error)) from None
    return InferenceRequest(request_id, data, outputs)


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object that a request is. Raises ProtocolError."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise ProtocolError("The request is not UTF-8 text.") from None
    except RecursionError:
        raise ProtocolError("The request is nested too deeply.") from None
    except ValueError:
        raise ProtocolError("The request is not valid JSON.") from None
    return _object(value, "The request")


def _no_constant(name: str) -> NoReturn:
    raise ProtocolError("The request is not valid JSON: NaN and infinity are no JSON numbers; a missing value is null.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ProtocolError("An object in the request names a key twice.")
    return result


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} must be an object.")
    return value


def _refuse_binary(value: Mapping[str, Any], what: str) -> None:
    parameters = value.get("parameters")
    if parameters is None:
        return
    if any(_object(parameters, f"{what}: 'parameters'").get(name) for name in _BINARY):
        raise ProtocolError("The binary tensor extension is not supported. Send and ask for JSON data.")


def _column(tensor: dict[str, Any], position: int, accepted: Schema, max_rows: int) -> tuple[Field, Any, int]:
    """One input tensor as field, values for each row, and number of rows."""
    name = tensor.get("name")
    if not isinstance(name, str):
        raise ProtocolError(f"Input {position} needs a 'name'.")
    if name not in accepted:
        guess = nearest(name[:_NAME], accepted.names)
        raise ProtocolError(f"Input {position} is no column of this model.{guess} It takes: {', '.join(accepted.names)}.")
    field = accepted[name]
    what = f"Input '{field.name}'"
    _refuse_binary(tensor, what)
    expected, allowed = DATATYPES[field.type]
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in allowed:
        others = f", or one of {', '.join(sorted(allowed - {expected}))}" if len(allowed) > 1 else ""
        raise ProtocolError(f"{what} takes the datatype {expected}{others}.")
    shape = _shape(tensor.get("shape"), field, what)
    if shape[0] > max_rows:
        raise ProtocolError(f"The request has more than {max_rows} rows. Send it in parts.", 413)
    values = _flatten(tensor.get("data"), shape, what)
    _check_values(values, datatype, what)
    if field.type is not FieldType.TENSOR:
        return field, values, shape[0]
    if None in values:
        raise ProtocolError(f"{what} is a tensor: it may not hold null.")
    return field, np.array(values, dtype=np.float64).reshape(shape), shape[0]


def _shape(shape: Any, field: Field, what: str) -> list[int]:
    wanted = list(field.shape or ())
    sizes = isinstance(shape, list) and len(shape) > 0 and all(type(size) is int and size >= 0 for size in shape)
    if sizes and (shape[1:] == wanted or (not wanted and shape[1:] == [1])):
        checked: list[int] = shape
        return checked
    raise ProtocolError(f"{what} needs the shape [{', '.join(map(str, ['n', *wanted]))}], where n is the number of rows.")


def _flatten(data: Any, shape: list[int], what: str) -> list[Any]:
    """The values in row-major order, from a flat list or from one nested as the shape says."""
    if not isinstance(data, list):
        raise ProtocolError(f"{what} needs 'data', a list.")
    level = [data]
    if any(isinstance(item, list) for item in data):
        for size in shape:
            if not all(isinstance(item, list) and len(item) == size for item in level):
                raise ProtocolError(f"{what}: 'data' does not have the shape that 'shape' says.")
            level = [value for item in level for value in item]
        values = level
        if any(isinstance(item, list) for item in values):
            raise ProtocolError(f"{what}: 'data' does not have the shape that 'shape' says.")
    else:
        values = data
    if len(values) != math.prod(shape):
        raise ProtocolError(f"{what}: 'data' holds {len(values)} values, and 'shape' says otherwise.")
    return values


def _check_values(values: list[Any], datatype: str, what: str) -> None:
    kinds = set(map(type, values)) - {type(None)}
    if datatype == "BYTES":
        if not kinds <= {str}:
            raise ProtocolError(f"{what}: BYTES data must be strings or null.")
        if not all(value is None or _is_text(value) for value in values):
            raise ProtocolError(f"{what}: a string holds half of a surrogate pair, which is no text.")
    elif datatype == "BOOL":
        if not kinds <= {bool}:
            raise ProtocolError(f"{what}: BOOL data must be true, false or null.")
    elif datatype in _FLOATS:
        if not kinds <= {int, float} or not _finite(values):
            raise ProtocolError(f"{what}: {datatype} data must be finite numbers or null.")
    else:
        bits = _INTEGERS[datatype]
        low, high = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if not kinds <= {int} or not all(value is None or low <= value <= high for value in values):
            raise ProtocolError(f"{what}: {datatype} data must be whole numbers from {low} to {high}, or null.")


def _is_text(value: str) -> bool:
    """JSON can spell half a surrogate pair, which no encoding can write."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(values: list[Any]) -> bool:
    try:
        return all(value is None or math.isfinite(value) for value in values)
    except OverflowError:  # a whole number beyond every float
        return False


def _requested(outputs: Any, known: tuple[str, ...]) -> tuple[str, ...] | None:
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list):
        raise ProtocolError("'outputs' must be a list.")
    names: list[str] = []
    for position, item in enumerate(outputs):
        _refuse_binary(_object(item, f"Output {position}"), f"Output {position}")
        name = item.get("name")
        if not isinstance(name, str):
            raise ProtocolError(f"Output {position} needs a 'name'.")
        if name not in known:
            raise ProtocolError(f"Output {position} is none of this model's.{nearest(name[:_NAME], known)} It gives: {', '.join(known)}.")
        if name in names:
            raise ProtocolError(f"Output '{name}' stands twice in the request.")
        names.append(name)
    return tuple(names)


# -- responses -------------------------------------------------------------------------------------------------------------------------


def build_response(request: InferenceRequest, predictions: Predictions, predictor: Predictor) -> dict[str, Any]:
    """The inference response.

    The specification allows only text, numbers and booleans as parameters, so the class names of ``probabilities`` stand in its parameter
    ``classes`` as JSON text, and so does an explanation in the response's parameter ``explanation``.

    Raises
    ------
    ProtocolError
        The request asks for the probabilities of a model that gives labels only.
    """
    tensors = {tensor["name"]: tensor for tensor in _outputs(predictions, predictor)}
    for name in request.outputs or ():
        if name not in tensors:
            raise ProtocolError(f"This model gives no {name}.")
    response: dict[str, Any] = {"model_name": predictor.name, "model_version": str(predictor.version)}
    if request.id is not None:
        response["id"] = request.id
    if predictions.explanations is not None:
        response["parameters"] = {"explanation": json.dumps(predictions.explanations.to_json())}
    response["outputs"] = [tensors[name] for name in request.outputs or tensors]
    return response


def _outputs(predictions: Predictions, predictor: Predictor) -> list[dict[str, Any]]:
    rows = len(predictions)
    if predictor.signature.task is Task.REGRESSION:
        return [{"name": "value", "shape": [rows], "datatype": "FP64", "data": floats(predictions.values)}]
    tensors: list[dict[str, Any]] = [{"name": "label", "shape": [rows], "datatype": "BYTES", "data": [str(label) for label in predictions.values]}]
    if predictions.probabilities is not None:
        tensors.append(
            {
                "name": "probabilities",
                "shape": [rows, len(predictions.classes)],
                "datatype": "FP64",
                "parameters": {"classes": json.dumps(list(predictions.classes), ensure_ascii=False)},
                "data": floats(predictions.probabilities.ravel()),
            }
        )
    return tensors


def floats(values: Any) -> list[float | None]:
    """Numbers for JSON, which has no word for NaN or infinity."""
    return [value if math.isfinite(value) else None for value in np.asarray(values, dtype=np.float64).tolist()]
