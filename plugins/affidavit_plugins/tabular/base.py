"""What the scikit-learn model types share: encoding, targets, weights, answers, and the encoder in the artifact."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits

from affidavit.errors import InvalidInput, Refused, UsageError, nearest
from affidavit.interfaces.columns import numeric_array, text_values
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.infer import class_labels, infer_task
from affidavit.interfaces.model import Model, Predictions, Signature, Task
from affidavit.interfaces.schema import Role, Schema
from affidavit.interfaces.training import Progress, Training, TrainingEngine
from affidavit_plugins.tabular.bins import Bins
from affidavit_plugins.tabular.encoding import Encoder
from affidavit_plugins.tabular.torch_encoding import TableEncoding

ClassWeight = Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None
"""Weights by class label, ``"balanced"`` (each class weighs the same in total), or None."""


class TabularParams(BaseModel):
    """Attributes
    ----------
    max_categories
        The commonest categories of a column that get a matrix column of their own; rarer ones count as unseen. It bounds memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_categories: Annotated[int, Field(ge=1, le=10_000)] = 100


ENCODERS: dict[str, type[TableEncoding] | type[Bins]] = {"columns": TableEncoding, "bins": Bins}
"""Encoders by a key that only their JSON has."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Encoded rows with what they should answer: class positions or numbers, and weights where there are any."""

    matrix: NDArray[np.float64]
    target: NDArray[Any]
    weight: NDArray[np.float64] | None


class TabularModel(Model):
    """A model of table columns behind an encoder. A subclass gives `_fit_plain`, `_scores`, `_save` and `_load`."""

    params: Any
    _encoder: Encoder | TableEncoding | Bins
    _labels: NDArray[np.str_]

    def fit(self, data: Dataset, training: Training | None = None) -> Self:
        """Learn from the features and the target of `data`; a column with the role `weight` weighs the rows.

        Raises
        ------
        UsageError
            There is no target, the type does not serve the target's task, or a feature is text or a tensor.
        InvalidInput
            Numbers or weights that cannot be used, or rows from which the estimator cannot learn.
        """
        training = training or Training()
        engine = training.engine if training.engine is not None and training.engine.private else None
        if data.schema.target is None:
            raise UsageError(f"Data set '{data.name}' has no target column.", hint="Name one: target='...'.")
        if not data.schema.features:
            raise UsageError(f"Data set '{data.name}' has no feature columns.", hint="Give at least one column the role 'feature'.")
        task = infer_task(data)
        self._check_task(task)
        training.report(Progress(0, 1, "encoding"))
        classes = class_labels(data)[1] if task.classifies else ()
        self._labels = np.array(classes, dtype=np.str_)
        signature = Signature(Schema(data.schema.features), task, data.schema.target.name, classes)
        if engine is None:
            self._fit_plain(data, signature, training)
        else:
            self._fit_private(data, signature, engine)
        self.signature = signature
        training.report(Progress(1, 1, "fitted"))
        return self

    @abstractmethod
    def _fit_plain(self, data: Dataset, signature: Signature, training: Training) -> None:
        """Learn without privacy."""

    def _fit_private(self, data: Dataset, signature: Signature, engine: TrainingEngine) -> None:
        """Learn through `engine` alone; refused here, for types without the capability `private_training`."""
        reason = f"Model type '{self.type}' cannot be trained privately."
        raise Refused(reason, by="privacy", line="privacy", satisfy="Choose a type with the capability private_training.")

    def predict(self, data: Dataset) -> Predictions:
        """Answer each row: class and probabilities, or a number. Safe to call from several threads.

        Raises
        ------
        InvalidInput
            A column is missing, has another type than in training, or holds an infinite number.
        """
        signature = self.fitted
        scores = self._scores(self._encode(signature.conform(data)))
        if signature.task is Task.REGRESSION:
            return Predictions(scores)
        return Predictions(self._labels[scores.argmax(axis=1)], signature.classes, scores)

    def save(self, files: Any) -> None:
        """Write the encoder as JSON, and what the estimator learnt."""
        self.fitted  # noqa: B018  # raises before there is anything to save
        files.json("encoder", self._encoder.to_json())
        self._save(files)

    @classmethod
    def load(cls, files: Any) -> Self:
        """Read what `save` wrote. Raises IntegrityError where the parts do not fit each other."""
        model = cls(**files.params)
        signature: Signature = files.signature
        encoder = files.json("encoder")
        model._encoder = next((kind for key, kind in ENCODERS.items() if key in encoder), Encoder).from_json(encoder)
        model._labels = np.array(signature.classes, dtype=np.str_)
        model._load(files, signature)
        model.signature = signature
        return model

    def _encode(self, data: Dataset) -> NDArray[Any]:
        return self._encoder.transform(data)

    def _check_task(self, task: Task) -> None:
        """Refuse a task or a parameter that does not fit it."""
        if task is Task.REGRESSION and getattr(self.params, "class_weight", None) is not None:
            raise UsageError(f"Model type '{self.type}': 'class_weight' has no meaning for a numeric target.", hint="Leave it out.")

    def _examples(self, data: Dataset, signature: Signature) -> Examples:
        matrix = self._encode(data)
        if signature.task is Task.REGRESSION:
            return Examples(matrix, _numeric_target(data, signature), row_weights(data))
        position = {label: index for index, label in enumerate(signature.classes)}
        # Not class_labels: validation rows may all be of one class, or of one that training does not hold.
        target = np.array([position.get(label or "", -1) for label in text_values(data, signature.target)], dtype=np.intp)
        weight = row_weights(data)
        if self.params.class_weight is not None:
            weight = class_weights(self.params.class_weight, signature.classes, target, weight)
        seen = target >= 0
        return Examples(matrix[seen], target[seen], None if weight is None else weight[seen])

    @abstractmethod
    def _scores(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities (rows × classes), or numbers (rows). The matrix may have no rows."""

    @abstractmethod
    def _save(self, files: Any) -> None:
        """Write what was learnt."""

    @abstractmethod
    def _load(self, files: Any, signature: Signature) -> None:
        """Read what `_save` wrote, and check that it fits the encoder and the signature."""


class ScikitModel(TabularModel):
    """A scikit-learn estimator behind an `Encoder`. A subclass gives `_fit`, `_scores`, `_save` and `_load`."""

    def _fit_plain(self, data: Dataset, signature: Signature, training: Training) -> None:
        self._encoder = Encoder.fit(data, max_categories=self.params.max_categories)
        validation = None if training.validation is None else self._examples(training.validation, signature)
        training.report(Progress(0, 1, "fitting"))
        try:
            # Several threads add the same numbers in another order: the model would depend on the machine's cores.
            with threadpool_limits(1):
                self._fit(self._examples(data, signature), validation, signature.task, training.seed)
        except ValueError:
            # scikit-learn's own message may quote values.
            needs = "Each class needs several rows" if signature.task.classifies else "Some types take positive targets only"
            raise InvalidInput(
                f"scikit-learn could not fit '{self.type}' to the {len(data)} rows of data set '{data.name}'.",
                hint=f"{needs}; early stopping needs more rows.",
            ) from None

    @abstractmethod
    def _fit(self, train: Examples, validation: Examples | None, task: Task, seed: int) -> None:
        """Fit the estimator; class positions count from zero."""


def bounded_target(data: Dataset, signature: Signature) -> NDArray[np.float64]:
    """The numeric target, cut to the field's public bounds where it has any."""
    target, bounds = _numeric_target(data, signature), data.schema[signature.target].bounds
    return target if bounds is None else np.clip(target, *bounds)


def _numeric_target(data: Dataset, signature: Signature) -> NDArray[np.float64]:
    target = numeric_array(data.column(signature.target), data.schema[signature.target])
    if not np.isfinite(target).all():
        count = int((~np.isfinite(target)).sum())
        raise InvalidInput(f"Target column '{signature.target}' is missing or infinite in {count} rows.", hint="Drop those rows first.")
    return target


def row_weights(data: Dataset) -> NDArray[np.float64] | None:
    fields = data.schema.with_role(Role.WEIGHT)
    if not fields:
        return None
    if len(fields) > 1:
        raise UsageError(f"Data set '{data.name}' has {len(fields)} weight columns.", hint="Give the role 'weight' to one column.")
    weight = numeric_array(data.column(fields[0].name), fields[0])
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.sum() > 0):
        raise InvalidInput(f"Weight column '{fields[0].name}' must hold finite numbers from zero up, not all zero.", hint="Correct those rows.")
    return weight


def class_factors(setting: Mapping[str, float], classes: tuple[str, ...]) -> NDArray[np.float64]:
    """The weight of each class, 1 where `setting` names none. Raises UsageError for a class that does not exist."""
    for name in setting:
        if name not in classes:
            raise UsageError(
                f"'class_weight' names the class '{name}', which the target lacks.{nearest(name, classes)}",
                hint=f"Classes: {', '.join(classes)}.",
            )
    return np.array([setting.get(name, 1.0) for name in classes])


def class_weights(
    setting: str | Mapping[str, float],
    classes: tuple[str, ...],
    target: NDArray[Any],
    weight: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Row weights times class weights; "balanced" is n ÷ (k · n_c), King and Zeng 2001, over weighted rows."""
    rows = np.ones(len(target)) if weight is None else weight
    if isinstance(setting, Mapping):
        factors = class_factors(setting, classes)
    else:
        totals = np.bincount(target[target >= 0], weights=rows[target >= 0], minlength=len(classes))
        factors = np.divide(totals.sum(), len(classes) * totals, out=np.zeros(len(classes)), where=totals > 0)
    weighted: NDArray[np.float64] = rows * np.where(target >= 0, factors[target], 0.0)
    return weighted
