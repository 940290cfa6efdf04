"""Explanations over the Open Inference Protocol: ``POST /v2/models/{name}/explain``, in the shapes of an inference request.

The protocol has no such operation; KServe's servers call theirs by the same path. The request is one to infer, with the method and its options as
parameters; the response has the attributions and what they add up to as tensors, and the whole record as the parameter ``explanation``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from affidavit.errors import nearest
from affidavit.interfaces.deployment import Predictor
from affidavit.interfaces.explanation import Explanation
from affidavit_plugins.targets.http.protocol import InferenceRequest, ProtocolError, decode, floats, read_request

_NAME = 200
"""Letters of a name in a request."""
PARAMETERS = {"method": str, "label": str, "seed": int, "budget": int, "seconds": float, "width": float}
"""What a client may say: no groups or masks, which are the policy's."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request to explain may cost.

    Attributes
    ----------
    rows
        Explained rows.
    budget
        Model rows for each of them.
    seconds
        For each of them.
    """

    rows: int
    budget: int
    seconds: float


def parse_explain(body: bytes, predictor: Predictor, limits: Limits) -> tuple[InferenceRequest, dict[str, Any]]:
    """The rows and the options of a request. Raises ProtocolError: 400 for anything wrong with it, 413 for more than the limits."""
    value = decode(body)
    parameters = value.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ProtocolError("'parameters' must be an object.")
    options: dict[str, Any] = {}
    for name, given in parameters.items():
        if name not in PARAMETERS:
            raise ProtocolError(f"There is no such parameter.{nearest(name[:_NAME], PARAMETERS)} It may say: {', '.join(PARAMETERS)}.")
        kind = PARAMETERS[name]
        if isinstance(given, bool) or not isinstance(given, (int, float) if kind is float else kind):
            raise ProtocolError(f"The parameter '{name}' must be a {'string' if kind is str else 'number'}.")
        if isinstance(given, str) and len(given) > _NAME:  # comparing a long one with the known names would take minutes
            raise ProtocolError(f"The parameter '{name}' is longer than any name.")
        options[name] = given
    classes = predictor.signature.classes
    if "label" in options and options["label"] not in classes:
        raise ProtocolError(
            f"There is no class of that name to explain. It may be: {', '.join(classes) or 'left out, for the model predicts numbers'}."
        )
    for name, bound in (("budget", limits.budget), ("seconds", limits.seconds)):
        if options.get(name, 0) > bound:
            raise ProtocolError(f"The parameter '{name}' is more than this server's {bound:g} for a row.", 413)
    if "width" in options or "seconds" in options:  # which alone could ask for any number of model rows
        options.setdefault("budget", limits.budget)
    rows = {key: item for key, item in value.items() if key != "parameters"}
    return read_request(rows, predictor, max_rows=limits.rows), options


def build_explanation(request: InferenceRequest, explanation: Explanation, predictor: Predictor) -> dict[str, Any]:
    """The response. A withheld attribution is null."""
    rows, players = explanation.values.shape
    table: dict[str, Any] = {"shape": [rows, players], "datatype": "FP64"}
    names = {"players": json.dumps(list(explanation.players), ensure_ascii=False)}
    tensors: list[dict[str, Any]] = [{"name": "attributions", **table, "parameters": names, "data": floats(explanation.values.ravel())}]
    if explanation.errors is not None:
        tensors.append({"name": "half_widths", **table, "parameters": names, "data": floats(explanation.errors.ravel())})
    for name, column in (("base", explanation.base), ("predicted", explanation.predicted), ("residual", explanation.residual)):
        tensors.append({"name": name, "shape": [rows], "datatype": "FP64", "data": floats(column)})
    response: dict[str, Any] = {"model_name": predictor.name, "model_version": str(predictor.version)}
    if request.id is not None:
        response["id"] = request.id
    record = json.dumps(explanation.to_json(), ensure_ascii=False, allow_nan=False)
    return {**response, "parameters": {"explanation": record, "method": explanation.method, "output": explanation.output}, "outputs": tensors}
