"""A model type under check: how it is made, what it learns from, and one fitted model that the checks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from affidavit.errors import AffidavitError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model, Predictions
from affidavit.interfaces.training import Training
from affidavit.testing.checks import CheckFailed, Skip
from affidavit.testing.samples import SAMPLES
from affidavit.testing.subjects import Case, Subject, once


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCase(Case):
    """How a model type is tried.

    Attributes
    ----------
    params
        With which it is made: what keeps its training short.
    data
        Rows that it learns from; None tries the kit's samples.
    kept
        Files of `keep_artifact` that earlier versions wrote, which must still load.
    """

    kind: ClassVar[str] = "model"
    params: Mapping[str, Any] = field(default_factory=dict)
    data: Dataset | None = None
    kept: Sequence[Path] = ()


class ModelSubject(Subject[ModelCase]):
    """One model type."""

    kind = "model"
    Case = ModelCase

    @property
    def model(self) -> type[Model]:
        """The class."""
        return self.value  # type: ignore[no-any-return]  # what a plugin registers may be anything; a check says so

    @property
    def params(self) -> Mapping[str, Any]:
        """With which it is made."""
        return self.case.params

    def make(self) -> Model:
        """An unfitted model."""
        return self.model(**self.params)

    def fit(self, data: Dataset | None = None, **training: Any) -> Model:
        """A model fitted on `data`, default the sample."""
        model = self.make()
        fitted = model.fit(self.data if data is None else data, Training(**training))
        return fitted if isinstance(fitted, Model) else model

    @once
    def data(self) -> Dataset:
        """The data set that it learns from. Raises CheckFailed where it learns from none of the kit's."""
        if self.case.data is not None:
            return read_only(self.case.data)
        reasons = []
        for sample in SAMPLES:
            data = read_only(sample())
            try:
                self.make().fit(data, Training())
            except AffidavitError as error:
                reasons.append(f"{data.name}: {error}")
                continue
            except Exception as error:  # it should have said InvalidInput, and may learn from another
                reasons.append(f"{data.name}: {type(error).__name__}: {error}")
                continue
            return data
        raise CheckFailed(f"it learns from none of the kit's samples; pass one of its own. {' '.join(reasons)}")

    @property
    def fitted(self) -> Model:
        """One fitted model; checks must not change it. Raises Skip where `predict` gives no Predictions, which one check tells of."""
        model, answered = self._fitted
        if answered is not None and not isinstance(answered, Predictions):
            raise Skip("predict gives no Predictions")
        return model

    @once
    def _fitted(self) -> tuple[Model, Any]:
        model = self.fit()
        try:
            return model, model.predict(self.data.head(2))
        except Exception:  # of which the checks tell that predict
            return model, None

    @once
    def rows(self) -> Dataset:
        """Rows to predict."""
        return self.data.head(24)


def read_only(data: Dataset) -> Dataset:
    """The same rows in buffers that nobody can write to, so that one check's careless model does not spoil the next check."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.table.schema) as writer:
        writer.write_table(data.table)
    with pa.ipc.open_stream(sink.getvalue().to_pybytes()) as reader:
        return Dataset(reader.read_all(), data.schema, name=data.name)


def writable(data: Dataset) -> Dataset:
    """The same rows in buffers of their own, which a careless model may write to."""
    return Dataset(data.table.take(pa.array(np.arange(len(data)))), data.schema, name=data.name)


def answers(predictions: Predictions) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Predictions as numbers, rows × columns: probabilities, values, or which class was named. Raises Skip for what are no Predictions."""
    if not isinstance(predictions, Predictions):
        raise Skip("predict gives no Predictions")
    if predictions.probabilities is not None:
        return np.asarray(predictions.probabilities, dtype=np.float64)
    if predictions.classes:
        return np.array([[predictions.classes.index(str(value))] for value in predictions.values], dtype=np.float64)
    return np.asarray(predictions.values, dtype=np.float64).reshape(len(predictions), -1)


def apart(first: Predictions, second: Predictions) -> float:
    """The largest difference of two answers, of the largest answer where that is above one; infinite where they are of other shapes."""
    return difference(answers(first), answers(second))


def difference(first: Any, second: Any) -> float:
    """The same of two arrays."""
    return float("inf") if first.shape != second.shape else float(np.max(abs(first - second), initial=0.0) / np.max(abs(first), initial=1.0))
