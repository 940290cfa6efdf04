"""The decision that is looked for, and the model asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model, Predictions
from affidavit.interfaces.outputs import PROBABILITY_FLOOR

ANOTHER = "another class"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A class, a range of values, or any class but the row's own.

    Attributes
    ----------
    label
        The class; None with `low` and `high`, or where any other class will do.
    low, high
        The range of values, for models that predict numbers.
    """

    label: str | None = None
    low: float = -np.inf
    high: float = np.inf
    numbers: bool = False

    @classmethod
    def read(cls, given: Any, model: Model) -> Wanted:
        """Check the option `wanted`.

        Raises
        ------
        UsageError
            The class does not exist, or the range is missing, empty or no range.
        """
        classes = model.fitted.classes
        if classes:
            if given is not None and (not isinstance(given, str) or given not in classes):
                suggestion = nearest(given, classes) if isinstance(given, str) else ""
                raise UsageError(f"There is no class of the name given as 'wanted'.{suggestion}", hint=f"Classes: {', '.join(classes)}.")
            return cls(given)
        if not isinstance(given, (list, tuple)) or len(given) != 2 or not all(end is None or _number(end) for end in given):
            raise UsageError(
                f"This {model.type} predicts numbers, so 'wanted' must be a range.", hint="Write wanted=[low, high], with None for an open end."
            )
        low, high = -np.inf if given[0] is None else float(given[0]), np.inf if given[1] is None else float(given[1])
        if not low <= high or (given[0] is None and given[1] is None):
            raise UsageError("The range 'wanted' is empty or holds every number.", hint="Write wanted=[low, high], with None for an open end.")
        return cls(None, low, high, numbers=True)

    @property
    def text(self) -> str:
        """In words."""
        if not self.numbers:
            return self.label or ANOTHER
        low = "" if np.isinf(self.low) else f"at least {self.low:g}"
        high = "" if np.isinf(self.high) else f"at most {self.high:g}"
        return ", ".join(part for part in (low, high) if part)

    def met(self, decided: NDArray[Any], own: Any) -> NDArray[np.bool_]:
        """Whether each decision is the one that is looked for, for a row with the decision `own`."""
        if self.numbers:
            within: NDArray[np.bool_] = (decided >= self.low) & (decided <= self.high)
            return within
        equal: NDArray[np.bool_] = decided != own if self.label is None else decided == self.label
        return np.asarray(equal, dtype=bool)

    def progress(self, answers: Answers, own: Any) -> NDArray[np.float64] | None:
        """How far towards the wanted decision each answer is: log-odds, or minus the distance to the range; None for labels alone."""
        if self.numbers:
            return -np.maximum(np.maximum(self.low - answers.score, answers.score - self.high), 0.0)
        if answers.probabilities is None:
            return None
        label = own if self.label is None else self.label
        share = answers.probabilities[:, answers.classes.index(str(label))]
        odds: NDArray[np.float64] = np.log(np.clip(share, PROBABILITY_FLOOR, 1)) - np.log(np.clip(1 - share, PROBABILITY_FLOOR, 1))
        return -odds if self.label is None else odds


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said.

    Attributes
    ----------
    decided
        A label or a number for each row.
    score
        The number itself, or the decided label's probability; one for a model that gives labels only.
    """

    decided: NDArray[Any]
    score: NDArray[np.float64]
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64] | None

    @classmethod
    def of(cls, predictions: Predictions) -> Answers:
        """From a model's predictions."""
        if not predictions.classes:
            values = np.asarray(predictions.values, dtype=np.float64)
            return cls(values, values, (), None)
        decided = np.asarray(predictions.values, dtype=object)
        if predictions.probabilities is None:
            return cls(decided, np.ones(len(decided)), predictions.classes, None)
        probabilities = np.asarray(predictions.probabilities, dtype=np.float64)
        column = {label: place for place, label in enumerate(predictions.classes)}
        score: NDArray[np.float64] = probabilities[np.arange(len(decided)), [column[str(label)] for label in decided]]
        return cls(decided, score, predictions.classes, probabilities)


class Decisions:
    """A model's decisions; it counts the rows that it asked for."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.rows = 0

    def __call__(self, data: Dataset) -> Answers:
        """What the model says of each row.

        Raises
        ------
        InvalidInput
            An answer is not a finite number.
        """
        self.rows += len(data)
        answers = Answers.of(self._model.predict(data))
        if not np.isfinite(answers.score).all():
            count = int((~np.isfinite(answers.score)).sum())
            raise InvalidInput(f"Model type '{self._model.type}' gave {count} answers that are not finite numbers.")
        return answers

    @property
    def output(self) -> str:
        """What the score is."""
        if not self._model.fitted.classes:
            return "value"
        return "probability of the class decided" if self._model.capabilities.probabilities else "label"


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
