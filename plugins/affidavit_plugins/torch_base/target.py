"""The target of a torch model: class indices or standardised numbers on the way in, predictions on the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.infer import class_labels, infer_task
from affidavit.interfaces.model import Predictions, Task
from affidavit.interfaces.schema import Field
from affidavit.interfaces.training import TrainingEngine


@dataclass(frozen=True, slots=True)
class Target:
    """How one target column is learnt.

    Attributes
    ----------
    classes
        Labels in the order of the module's outputs; empty for regression. The set of labels is taken to be public, in private training too.
    center, scale
        The module's output for regression is ``(value - center) / scale``.
    """

    field: Field
    task: Task
    classes: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0

    @classmethod
    def learn(cls, data: Dataset, engine: TrainingEngine) -> Target:
        """Read task, classes or scale from training rows.

        Raises
        ------
        UsageError
            The data set has no target.
        InvalidInput
            The target is missing in some rows, infinite or constant.
        """
        field = data.schema.target
        if field is None:
            raise UsageError(f"Data set '{data.name}' has no target to learn.", hint="Name one: load(..., target='column').")
        task = infer_task(data)
        if task.classifies:
            return cls(field, task, tuple(class_labels(data)[1]))
        center, scale = engine.center_and_scale(_numbers(data, field)[:, None])
        if not (np.isfinite(center[0]) and np.isfinite(scale[0])):
            raise InvalidInput(f"The target '{field.name}' holds numbers too large to use.", hint="Correct those rows, or give the target bounds.")
        return cls(field, task, center=float(center[0]), scale=float(scale[0]))

    @property
    def outputs(self) -> int:
        """How many numbers the module gives a row."""
        return len(self.classes) or 1

    def encode(self, data: Dataset) -> Tensor:
        """The rows' targets: class indices (int64) or standardised numbers (float32), shape rows.

        Raises
        ------
        InvalidInput
            A label that training did not have, or a missing or infinite value.
        """
        if data.schema.target is None or data.schema.target.name != self.field.name:
            raise InvalidInput(f"Data set '{data.name}' has no target '{self.field.name}'.")
        if not self.task.classifies:
            return torch.from_numpy((_numbers(data, self.field) - self.center) / self.scale).float()
        labels = np.asarray(class_labels(data)[0])
        known = np.asarray(self.classes)
        order = np.argsort(known)
        positions = order[np.minimum(np.searchsorted(known, labels, sorter=order), len(known) - 1)]
        unknown = int((known[positions] != labels).sum())
        if unknown:
            raise InvalidInput(f"Target '{self.field.name}' of data set '{data.name}' has {unknown} rows with a class that training did not have.")
        return torch.from_numpy(positions.astype(np.int64))

    def losses(self, output: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row: cross-entropy, or squared error of the standardised value. Shapes rows × outputs, rows; gives rows."""
        if self.task.classifies:
            return functional.cross_entropy(output, targets, reduction="none")
        return functional.mse_loss(output.squeeze(-1), targets, reduction="none")

    def answers(self, output: Tensor) -> Tensor:
        """What `predict` answers for module outputs, rows × outputs: probabilities (rows × classes) or values. Double precision, differentiable."""
        if not self.task.classifies:
            return output[:, 0].double() * self.scale + self.center
        return torch.softmax(output.double(), dim=1)

    def array(self, output: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same in numpy, class by class: sums over a short axis are slow."""
        if not self.task.classifies:
            return output[:, 0] * self.scale + self.center
        by_class = np.ascontiguousarray(output.T)
        powers = np.exp(by_class - by_class.max(axis=0))
        return np.asarray((powers / powers.sum(axis=0)).T)

    def predictions(self, output: Tensor) -> Predictions:
        """The answer for module outputs, shape rows × outputs."""
        answers = self.answers(output).numpy()
        if not self.task.classifies:
            return Predictions(answers)
        return Predictions(np.asarray(self.classes)[answers.argmax(axis=1)], self.classes, answers)

    def to_json(self) -> dict[str, Any]:
        """What the signature does not hold."""
        return {"center": self.center, "scale": self.scale, "field": self.field.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, task: Task, classes: tuple[str, ...]) -> Target:
        """Read what `to_json` wrote."""
        return cls(Field.from_json(value["field"]), task, classes, float(value["center"]), float(value["scale"]))


def _numbers(data: Dataset, field: Field) -> NDArray[np.float64]:
    """The target's values, clipped to its public bounds."""
    values = data.to_numpy(field.name)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise InvalidInput(f"Target '{field.name}' of data set '{data.name}' is missing or infinite in {bad} rows.", hint="Drop those rows first.")
    return values if field.bounds is None else np.clip(values, *field.bounds)
