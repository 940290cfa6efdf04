"""Generalised additive models: `tabular.additive`, an explainable boosting machine that can be trained privately.

A score is the sum of one shape function a column, each a step function over that column's bins, learnt by cyclic boosting (Lou, Caruana and
Gehrke 2012). In private training the bins and every step come from noisy sums, as in Nori et al. (2021), "Accuracy, interpretability, and
differential privacy via explainable boosting". Unlike there, steps are few and large, and a ridge penalty that grows with the noise holds
bins back of which little is known.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.infer import class_labels
from affidavit.interfaces.model import Capabilities, Signature, Task
from affidavit.interfaces.schema import Role
from affidavit.interfaces.training import Release, Releases, Training, TrainingEngine
from affidavit_plugins.tabular.base import ClassWeight, TabularParams, bounded_target, class_weights, row_weights
from affidavit_plugins.tabular.bins import Bins, merged
from affidavit_plugins.tabular.linear import Coefficients, not_private, probabilities, public_factors
from affidavit_plugins.torch_base.plain import PlainStatistics

HISTOGRAM_SHARE, START_SHARE = 0.1, 0.02
"""Shares of 1/σ² that the bins' counts and the first guess take; the steps take the rest."""

RESIDUAL_BOUND = 2.0
"""Largest residual of a numeric target that counts in full, in standard deviations."""

RIDGE = 1.0
"""Penalty on a shape's values, in standard deviations of the mean of its steps' noise. On Adult 0.3 to 3 do about equally well."""


class AdditiveParams(TabularParams):
    """Parameters of `tabular.additive`.

    Attributes
    ----------
    bins
        Most bins of a numeric column.
    rounds
        Passes over the columns.
    learning_rate
        Share of each step that is taken.
    l2
        Penalty on the values of the shape functions; private training adds to it what its noise needs.
    class_weight
        Weights by class, or ``"balanced"``, which private training refuses: it counts the classes.
    """

    bins: Annotated[int, Field(ge=2, le=256)] = 16
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 25
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    l2: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    class_weight: ClassWeight = None


class Additive(Coefficients):
    """A sum of one shape function a column; classes by log-odds, numbers directly."""

    type = "tabular.additive"
    Params = AdditiveParams
    capabilities = Capabilities(private_training=True, probabilities=True, linear=True, onnx=True)
    _encoder: Bins

    def _fit_plain(self, data: Dataset, signature: Signature, training: Training) -> None:
        weight = row_weights(data)
        if self.params.class_weight is not None:
            weight = class_weights(self.params.class_weight, signature.classes, _places(data, signature), weight)
        self._learn(data, signature, PlainStatistics(), np.ones(len(data)) if weight is None else weight / weight.max())

    def _fit_private(self, data: Dataset, signature: Signature, engine: TrainingEngine) -> None:
        if data.schema.with_role(Role.WEIGHT):
            raise not_private(self.type, "a weight column says how much one record counts", "Give it another role.")
        weight = np.ones(len(data))
        if signature.task.classifies:
            factors = public_factors(self.type, self.params.class_weight, signature.classes)
            weight = (factors / factors.max())[_places(data, signature)]
        self._learn(data, signature, engine, weight)

    def _learn(self, data: Dataset, signature: Signature, engine: TrainingEngine | PlainStatistics, weight: NDArray[np.float64]) -> None:
        """Learn bins and shapes; weights are between 0 and 1, and so bound what one record adds."""
        center, scale, target = self._target(data, signature, engine)
        features = signature.conform(data)
        grid = Bins.grid(features, engine)
        columns, steps = len(grid.columns), self.params.rounds * len(grid.columns)
        start = START_SHARE if signature.task.classifies else 0.0
        plan: list[Release] = [("sums", HISTOGRAM_SHARE / columns)] * columns
        plan += [("sums", start)] * (start > 0)
        plan += [("sums", (1 - HISTOGRAM_SHARE - start) / steps)] * steps
        releases = engine.releases(plan)
        counted = []
        for column in grid.columns:
            count, deviation = releases.sums(weight[:, None], bound=1.0, groups=column.codes(features), number=column.size)
            counted.append(merged(column, count[:, 0], deviation, self.params.bins))
        self._encoder = bins = Bins(tuple(column for column, _ in counted))
        counts = [np.maximum(count, 0.0) for _, count in counted]
        intercept = self._start(releases, target, weight, signature.task)
        shapes = self._boost(releases, bins.codes(features), target, weight, counts, intercept, signature.task)
        # Shapes of mean zero over the training rows; what they had in common goes to the intercept.
        for shape, count in zip(shapes, counts, strict=True):
            mean = (count @ shape) / max(float(count.sum()), 1.0)
            shape -= mean
            intercept = intercept + mean
        self._keep(np.concatenate(shapes).T * scale, intercept * scale + center)

    def _target(self, data: Dataset, signature: Signature, engine: TrainingEngine | PlainStatistics) -> tuple[float, float, NDArray[np.float64]]:
        """Centre, scale, and rows × scores: standardised numbers, or what each score should be, 0 or 1."""
        if signature.task is Task.REGRESSION:
            values = bounded_target(data, signature)
            center, scale = engine.center_and_scale(values[:, None])
            return float(center[0]), float(scale[0]), (values[:, None] - center) / scale
        chosen = np.eye(len(signature.classes))[_places(data, signature)]
        return 0.0, 1.0, chosen if signature.task is Task.MULTICLASS else chosen[:, 1:]

    def _start(self, releases: Releases, target: NDArray[np.float64], weight: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
        """The scores that fit all rows alike: the shares of the classes; a standardised number is around zero already."""
        if task is Task.REGRESSION:
            return np.zeros(1)
        both = target if task is Task.MULTICLASS else np.concatenate([1.0 - target, target], axis=1)
        totals = np.maximum(releases.sums(both * weight[:, None], bound=1.0)[0][0], 1.0)
        logs = np.log(totals / totals.sum())
        return np.asarray(logs if task is Task.MULTICLASS else logs[1:] - logs[:1])

    def _boost(
        self,
        releases: Releases,
        codes: NDArray[np.int64],
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
        counts: list[NDArray[np.float64]],
        intercept: NDArray[np.float64],
        task: Task,
    ) -> list[NDArray[np.float64]]:
        """The shape function of each column, bins × scores: the mean of what it was after each round of the second half.

        Each step forgets a part of the ones before it, and so of what their noisy sums cost; the mean brings it back (Polyak and Juditsky 1992).
        """
        sums = [np.zeros((len(count), target.shape[1])) for count in counts]
        shapes = [np.zeros((len(count), target.shape[1])) for count in counts]
        scores = np.repeat(intercept[None, :], len(target), axis=0)
        # The curvature of the log loss is at most a quarter, that of half the squared error one.
        curvature, bound = (1.0, RESIDUAL_BOUND) if task is Task.REGRESSION else (0.25, 1.0 if task is Task.BINARY else 2.0**0.5)
        first = self.params.rounds // 2
        for number in range(self.params.rounds):
            for place, (shape, count) in enumerate(zip(shapes, counts, strict=True)):
                answer = scores if task is Task.REGRESSION else _answers(scores)
                total, deviation = releases.sums((target - answer) * weight[:, None], bound=bound, groups=codes[:, place], number=len(count))
                ridge = self.params.l2 + RIDGE * deviation / self.params.rounds**0.5
                step = (total - ridge * shape) / (curvature * count[:, None] + ridge) * self.params.learning_rate
                shape += step
                scores += step[codes[:, place]]
                if number >= first:
                    sums[place] += shape
        return [total / (self.params.rounds - first) for total in sums]

    def shapes(self) -> list[dict[str, Any]]:
        """What the model says of each column: ``field``, the ``bins`` in words, and the ``values`` that they add to each score (bins × scores).

        Explanations add up to exactly these.
        """
        self.fitted  # noqa: B018  # raises before there is anything to tell
        columns = self._encoder.columns
        parts = np.split(self._coefficients.T, self._encoder.starts[1:])
        return [{"field": column.name, "bins": column.labels(), "values": part.tolist()} for column, part in zip(columns, parts, strict=True)]

    def _encode(self, data: Dataset) -> NDArray[Any]:
        return self._encoder.codes(data) + self._encoder.starts

    def _scores(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        scores = np.repeat(self._intercept[None, :], len(matrix), axis=0)
        for places in matrix.T:
            scores += self._coefficients.T[places]
        return self._answers(scores)


def _places(data: Dataset, signature: Signature) -> NDArray[np.intp]:
    """The place of each row's class."""
    place = {label: index for index, label in enumerate(signature.classes)}
    return np.array([place[label] for label in class_labels(data)[0]], dtype=np.intp)


def _answers(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    found = probabilities(scores)
    return found[:, 1:] if scores.shape[1] == 1 else found
