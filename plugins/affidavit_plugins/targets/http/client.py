"""A client of the Open Inference Protocol for one model: data sets out, predictions back."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pyarrow as pa

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.interfaces.columns import conform, text_values
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.deployment import Predictor
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Predictions
from affidavit.interfaces.schema import Field, FieldType
from affidavit_plugins.targets.http.protocol import DATATYPES, accepted_fields

ANSWER_SECONDS = 120


class Client:
    """Asks the server at `url` for the answers of `predictor`'s model.

    Parameters
    ----------
    predictor
        Gives name, version, columns and classes; its `predict` is not used.
    """

    def __init__(self, url: str, predictor: Predictor, api_key: str | None) -> None:
        self.url = url
        self._signature = predictor.signature
        self._accepted = accepted_fields(predictor)
        self._model = f"/v2/models/{quote(predictor.name, safe='')}/versions/{predictor.version}"
        headers = {} if api_key is None else {"X-Api-Key": api_key}
        # trust_env off: a proxy from the environment must not see the rows.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=ANSWER_SECONDS, trust_env=False)

    def predict(self, data: Dataset) -> Predictions:
        """Send the rows and read the answer; columns that the server does not take stay here."""
        return self._predictions(self._ask("infer", data, {}))

    def explain(self, data: Dataset, *, method: str | None = None, **options: Any) -> Explanation:
        """Send the rows with the method and its options, and read the record."""
        asked = {name: value for name, value in {"method": method, **options}.items() if value is not None}
        return Explanation.from_json(json.loads(self._ask("explain", data, asked)["parameters"]["explanation"]))

    def _ask(self, what: str, data: Dataset, parameters: dict[str, Any]) -> dict[str, Any]:
        schema = self._accepted.select(tuple(field.name for field in self._accepted if field.name in data.schema))
        rows = conform(data, schema)
        request: dict[str, Any] = {"inputs": [_tensor(rows, field) for field in schema]}
        if parameters:
            request["parameters"] = parameters
        try:
            body = json.dumps(request, allow_nan=False)
        except TypeError:
            raise UsageError(f"An option to {what} is no JSON value.", hint="Give numbers and texts of Python's own types.") from None
        except ValueError:
            raise InvalidInput("A number in the rows is infinite, which JSON cannot say.", hint="Leave it empty where it is not known.") from None
        try:
            response = self._http.post(f"{self._model}/{what}", content=body, headers={"Content-Type": "application/json"})
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client was closed
            raise AffidavitError(f"The endpoint at {self.url} does not answer ({type(error).__name__}).", hint="Was it stopped?") from None
        try:
            answer: dict[str, Any] = response.json()
        except ValueError:
            raise AffidavitError(f"What answers at {self.url} does not speak the Open Inference Protocol.") from None
        if response.status_code != 200:
            kind = InvalidInput if response.status_code in (400, 413) else AffidavitError
            raise kind(str(answer["error"]))
        return answer

    def healthy(self) -> bool:
        """Whether server and model say that they are ready."""
        try:
            return all(self._http.get(path).status_code == 200 for path in ("/v2/health/live", "/v2/health/ready", f"{self._model}/ready"))
        except (httpx.HTTPError, RuntimeError):
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _predictions(self, answer: dict[str, Any]) -> Predictions:
        outputs = {tensor["name"]: tensor for tensor in answer["outputs"]}
        record = answer.get("parameters", {}).get("explanation")
        explanation = None if record is None else Explanation.from_json(json.loads(record))
        if "value" in outputs:
            return Predictions(np.array(outputs["value"]["data"], dtype=np.float64), explanations=explanation)
        labels = np.array(outputs["label"]["data"], dtype=np.str_)
        probabilities = outputs.get("probabilities")
        table = None if probabilities is None else np.array(probabilities["data"], dtype=np.float64).reshape(probabilities["shape"])
        return Predictions(labels, self._signature.classes, table, explanation)


def _tensor(data: Dataset, field: Field) -> dict[str, Any]:
    values: list[Any]
    if field.type is FieldType.TENSOR:
        values = data.to_numpy(field.name).ravel().tolist()
    elif field.type is FieldType.NUMERIC:
        values = [None if value != value else value for value in data.to_numpy(field.name).tolist()]  # only NaN differs from itself
    elif field.type is FieldType.BOOLEAN:
        values = data.column(field.name).to_pylist()
    elif field.type is FieldType.DATETIME:
        moments = data.column(field.name).cast(pa.timestamp("us")).to_pylist()
        values = [None if moment is None else moment.isoformat() for moment in moments]
    else:
        values = text_values(data, field.name)
    return {"name": field.name, "datatype": DATATYPES[field.type][0], "shape": [len(data), *(field.shape or ())], "data": values}
