"""A small model of the kit's own, in numpy alone, for what needs a model to be tried with: deployment targets and explainers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from affidavit.artifacts import ArtifactReader, ArtifactWriter
from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.infer import class_labels
from affidavit.interfaces.model import Capabilities, Model, OnnxView, Predictions, Signature, Task
from affidavit.interfaces.schema import Field, FieldType
from affidavit.interfaces.training import Progress, Training
from affidavit.onnx_format import INPUT, Graph

MOST_CATEGORIES = 20
"""Values of a field that have a column each, commonest first."""

_RIDGE = 1e-3
_NUMBERS = (FieldType.NUMERIC, FieldType.DATETIME)


class Params(BaseModel):
    """Attributes
    ----------
    ignore
        Inputs that the model is given and does not use: whoever explains it must find that they do nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    ignore: tuple[str, ...] = ()


class Reference(Model):
    """Ridge regression on the number, or on one indicator a class with a softmax over the scores.

    Numbers and dates are standardised, with zero for a gap; of other fields each common value is a column. Sums run in one order whatever
    the batch, so that a row's answer has the same last bit alone and among others.
    """

    type = "kit.reference"
    Params = Params
    capabilities = Capabilities(probabilities=True, onnx=True)

    def fit(self, data: Dataset, training: Training | None = None) -> Self:
        """Learn in closed form. Raises InvalidInput where a feature is a tensor."""
        training = training or Training()
        target = data.schema.target
        if target is None:
            raise InvalidInput("The kit's reference model needs a target.")
        inputs = data.schema.select(tuple(field.name for field in data.schema.features))
        self.columns: list[dict[str, Any]] = [_column(data, field) for field in inputs]
        matrix = self._matrix(data)
        classes: tuple[str, ...] = ()
        if target.type is FieldType.NUMERIC:
            wanted = data.to_numpy(target.name)[:, None]
        else:
            labels, classes = class_labels(data)
            wanted = 4.0 * (labels[:, None] == np.array(classes)[None])
        training.report(Progress(0, 1, "fitting"))
        self.intercept = wanted.mean(axis=0)
        self.weights = np.linalg.solve(matrix.T @ matrix + _RIDGE * len(matrix) * np.eye(matrix.shape[1]), matrix.T @ (wanted - self.intercept))
        task = Task.REGRESSION if not classes else Task.BINARY if len(classes) == 2 else Task.MULTICLASS
        self.signature = Signature(inputs, task, target.name, classes)
        return self

    def predict(self, data: Dataset) -> Predictions:
        """Answer each row."""
        signature = self.fitted
        matrix = self._matrix(signature.conform(data))
        scores = self.intercept + (matrix[:, :, None] * self.weights[None]).sum(axis=1)
        if not signature.classes:
            return Predictions(scores[:, 0])
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        return Predictions(np.array(signature.classes, dtype=np.str_)[probabilities.argmax(axis=1)], signature.classes, probabilities)

    def onnx_view(self) -> OnnxView:
        """The scores as one matrix product, which reads the encoded rows."""
        graph = Graph((len(self.weights),), np.float64)
        scores = graph.add("Gemm", INPUT, self.weights, self.intercept)
        written = graph.probabilities(scores, len(self.intercept)) if self.fitted.classes else graph.values(scores)
        return OnnxView(written, lambda data: {INPUT: self._matrix(data)}, {"columns": self.columns})

    def save(self, files: ArtifactWriter) -> None:
        """Write everything as JSON."""
        files.json("weights", {"columns": self.columns, "weights": self.weights.tolist(), "intercept": self.intercept.tolist()})

    @classmethod
    def load(cls, files: ArtifactReader) -> Self:
        """Read what `save` wrote."""
        written = files.json("weights")
        model = cls(**files.params)
        model.columns = written["columns"]
        model.weights, model.intercept = np.array(written["weights"]), np.array(written["intercept"])
        model.signature = files.signature
        return model

    def _matrix(self, data: Dataset) -> NDArray[np.float64]:
        found: list[NDArray[np.float64]] = [np.empty((len(data), 0))]
        ignored = self.params.model_dump()["ignore"]
        for column in self.columns:
            name = column["field"]
            if name in ignored:
                continue
            if "mean" in column:
                found.append(np.nan_to_num((data.to_numpy(name) - column["mean"]) / column["deviation"])[:, None])
            else:
                texts = np.array(["" if text is None else text for text in data.to_text(name)], dtype=np.str_)
                found.append((texts[:, None] == np.array(column["values"], dtype=np.str_)[None]).astype(np.float64))
        return np.concatenate(found, axis=1)


def _column(data: Dataset, field: Field) -> dict[str, Any]:
    """What is kept of one field: mean and deviation, or its commonest values."""
    if field.type is FieldType.TENSOR:
        raise InvalidInput(f"The kit's reference model reads no tensors, and '{field.name}' is one.")
    if field.type in _NUMBERS:
        numbers = data.to_numpy(field.name)
        known = numbers[~np.isnan(numbers)]
        deviation = float(known.std()) if len(known) else 0.0
        return {"field": field.name, "mean": float(known.mean()) if len(known) else 0.0, "deviation": deviation if deviation > 0 else 1.0}
    values, counts = np.unique([text for text in data.to_text(field.name) if text is not None], return_counts=True)
    return {"field": field.name, "values": [str(value) for value in values[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES]]}
