"""What all explainers share: options, the model as a number a row, the reference rows, and the record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Explanation, Model, Predictions
from affidavit.interfaces.training import Progress

BACKGROUND_ROWS = 100
"""Reference rows used at most, shap's usual size: model rows grow with them, and the mean settles long before."""

PROBABILITY_FLOOR = 1e-15
"""Probabilities are clipped here before they become log-odds; closer to 0 and 1 a float64 holds no digits."""

Row = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """What every explainer takes.

    Attributes
    ----------
    label
        The class to explain; None is the last class.
    seed
        Of everything random.
    budget
        Model rows that may be spent on each explained row; None is the method's own default.
    grid
        Regions along each side of an image.
    report
        Called with progress.
    """

    label: str | None = None
    seed: int = 0
    budget: int | None = None
    grid: int = 4
    report: Callable[[Progress], None] = lambda progress: None

    @classmethod
    def read(cls, method: str, given: Mapping[str, Any], *, takes: Sequence[str] = ("label", "seed", "report")) -> Options:
        """Check options by name and kind. Raises UsageError for an unknown or unfit one."""
        for name, value in given.items():
            if name not in takes:
                raise UsageError(f"Explainer '{method}' takes no option '{name}'.{nearest(name, takes)}", hint=f"Options: {', '.join(takes)}.")
            if name in {"seed", "budget", "grid"} and (not isinstance(value, int) or isinstance(value, bool) or value < (0 if name == "seed" else 1)):
                raise UsageError(f"Option '{name}' of explainer '{method}' must be a whole number{'' if name == 'seed' else ' above zero'}.")
        return cls(**given)


class Score:
    """A model as one number a row, the output that is explained; it counts the rows that it asked for.

    Parameters
    ----------
    log_odds
        Explain the log-odds of the class rather than its probability.
    """

    def __init__(self, model: Model, label: str | None, *, log_odds: bool = False) -> None:
        classes = model.fitted.classes
        if label is not None and not classes:
            raise UsageError(f"This {model.type} predicts numbers, so there is no class '{label}' to explain.")
        if label is not None and label not in classes:
            raise UsageError(f"There is no class '{label}'.{nearest(label, classes)}", hint=f"Classes: {', '.join(classes)}.")
        self.model = model
        self.label = label if label is not None else (classes[-1] if classes else None)
        self.output = "value" if self.label is None else f"{'log-odds' if log_odds else 'probability'} of {self.label}"
        self.rows = 0

    def __call__(self, data: Dataset) -> Row:
        self.rows += len(data)
        predictions = self.model.predict(data)
        scores = explained_output(self.output, predictions)
        if scores is None:
            what = f"Model type '{self.model.type}' gives labels only, so there is no number to explain."
            raise InvalidInput(what, hint="Use a type with probabilities.")
        if not np.isfinite(scores).all():
            raise InvalidInput(f"Model type '{self.model.type}' gave {int((~np.isfinite(scores)).sum())} answers that are not finite numbers.")
        return scores


def explained_output(output: str, predictions: Predictions) -> Row | None:
    """The number that `output` names (``"value"``, ``"probability of x"``, ``"log-odds of x"``) for each row; None where there is none."""
    if output == "value":
        return None if predictions.classes else np.asarray(predictions.values, dtype=np.float64)
    kind, _, label = output.partition(" of ")
    if predictions.probabilities is None or label not in predictions.classes or kind not in {"probability", "log-odds"}:
        return None
    column = predictions.classes.index(label)
    probability = np.asarray(predictions.probabilities, dtype=np.float64)
    if kind == "probability":
        return probability[:, column].copy()
    # The other classes' sum keeps the digits that 1 - p loses near one.
    other = np.delete(probability, column, axis=1).sum(axis=1)
    odds: Row = np.log(np.clip(probability[:, column], PROBABILITY_FLOOR, 1)) - np.log(np.clip(other, PROBABILITY_FLOOR, 1))
    return odds


def relative_residual(explanation: Explanation) -> Row:
    """Each row's additivity residual relative to the output's scale, less what float64 cannot hold.

    The scale is the largest of base, prediction and summed attributions; probabilities and log-odds have at least the scale one. A
    log-odds read from a probability has an error of machine epsilon over the smaller probability, and none above the clip can be told.
    """
    spread = abs(explanation.values).sum(axis=1)
    scale = np.maximum.reduce([abs(explanation.base), abs(explanation.predicted), spread])
    residual = explanation.residual
    if explanation.output != "value":
        scale = np.maximum(scale, 1.0)
    if explanation.output.startswith("log-odds"):
        limit = -np.log(PROBABILITY_FLOOR)
        total = explanation.base + explanation.values.sum(axis=1)
        saturated = (abs(explanation.predicted) >= limit - 1e-6) & (explanation.predicted * total > 0) & (abs(total) >= limit - 1e-6)
        resolution = 4 * np.finfo(np.float64).eps * (1 + np.exp(np.minimum(abs(explanation.predicted), limit)))
        residual = np.where(saturated, 0.0, np.maximum(residual - resolution, 0.0))
    relative: Row = residual / np.where(scale > 0, scale, 1.0)
    return relative


@dataclass(frozen=True, slots=True)
class Case:
    """What one call explains: rows and reference rows in the model's own columns, and the model as a number."""

    score: Score
    data: Dataset
    background: Dataset
    options: Options

    @classmethod
    def open(cls, model: Model, data: Dataset, background: Dataset, options: Options, *, log_odds: bool = False) -> Case:
        """Bring rows and reference into the model's columns.

        Raises
        ------
        InvalidInput
            The background lacks a column or has a single row.
        """
        rows, reference = model.fitted.conform(data), model.fitted.conform(background)
        if len(reference) < 2:
            raise InvalidInput(f"The background has {len(reference)} row: an attribution needs several to compare with.", hint="Pass 2 to 100 rows.")
        if len(reference) > BACKGROUND_ROWS:
            chosen = np.sort(np.random.default_rng(options.seed).permutation(len(reference))[:BACKGROUND_ROWS])
            reference = reference.take(chosen)
        return cls(Score(model, options.label, log_odds=log_odds), rows, reference, options)

    def row_seed(self, row: int, method: str) -> int:
        """A seed that depends on the row's values, the model type, the method and the seed, but not on the row's neighbours."""
        key = f"{self.data.take([row]).fingerprint}|{self.score.model.type}|{self.score.label}|{method}|{self.options.seed}"
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")

    def record(
        self,
        method: str,
        players: Sequence[str],
        values: NDArray[np.float64],
        base: Row | float,
        *,
        inputs: list[list[Any]],
        errors: NDArray[np.float64] | None = None,
        exact: bool,
        additive: bool = True,
        details: Mapping[str, Any] | None = None,
    ) -> Explanation:
        """The record of this case; `predicted` is asked from the model anew, so that the residual means something."""
        predicted = self.score(self.data) if len(self.data) else np.empty(0)
        return Explanation(
            method=method,
            output=self.score.output,
            players=tuple(players),
            values=np.asarray(values, dtype=np.float64).reshape(len(self.data), len(players)),
            base=np.broadcast_to(np.asarray(base, dtype=np.float64), (len(self.data),)).copy(),
            predicted=predicted,
            inputs=inputs,
            errors=errors,
            details={
                "exact": exact,
                "additive": additive,
                "label": self.score.label,
                "background": self.background.fingerprint,
                "background_rows": len(self.background),
                "data": self.data.fingerprint,
                "seed": self.options.seed,
                "model_rows": self.score.rows,
                **(details or {}),
            },
        )
