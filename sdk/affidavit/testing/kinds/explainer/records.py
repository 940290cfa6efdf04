"""What the records of the three scopes must be, and how far two of one scope lie apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.interfaces.explanation import Counterfactuals, Explanation, GlobalExplanation
from affidavit.interfaces.model import Metric
from affidavit.interfaces.outputs import explained_output
from affidavit.testing.checks import CheckFailed
from affidavit.testing.kinds.explainer.subject import ExplainerSubject

ROUNDING = 1e-6
"""How far numbers that should be the same may lie apart, relative to the largest: in other batches single precision adds in another order."""


def whole_explanation(record: Explanation, subject: ExplainerSubject) -> None:
    """Raise CheckFailed where attributions, players or answers are not those of the rows and the model."""
    rows, players = len(subject.rows), len(record.players)
    _players(record.players, subject)
    arrays: list[tuple[str, Any, tuple[int, ...]]] = [
        ("values", record.values, (rows, players)),
        ("base", record.base, (rows,)),
        ("predicted", record.predicted, (rows,)),
        ("errors", record.errors, (rows, players)),
        ("interactions", record.interactions, (rows, players, players)),
    ]
    for name, array, shape in arrays:
        if array is None and name in ("errors", "interactions"):
            continue
        if np.shape(array) != shape:
            raise CheckFailed(f"{name} have the shape {np.shape(array)}; {shape} is due.")
        numbers = np.asarray(array, dtype=np.float64)
        # Errors may be infinite, where nothing is known.
        if not (numbers >= 0 if name == "errors" else np.isfinite(numbers)).all():
            raise CheckFailed(f"{name} hold what is no {'half-width' if name == 'errors' else 'finite number'}.")
    own = explained_output(record.output, subject.model.predict(subject.rows))
    if own is None:
        raise CheckFailed(f"its output is '{record.output}', which the model does not answer: 'value', or 'probability of' a class.")
    if _relative(own, record.predicted) > ROUNDING:
        raise CheckFailed("'predicted' is not what the model answers.")
    if record.inputs and [len(row) for row in record.inputs] != [players] * rows:
        raise CheckFailed("'inputs' must be empty, or one list for each row with one entry for each player.")


def whole_description(record: GlobalExplanation, subject: ExplainerSubject) -> None:
    """Raise CheckFailed where a figure is no finite number, or it is about what the model does not read."""
    if not 0 < record.rows <= len(subject.rows):
        raise CheckFailed(f"it says to rest on {record.rows} rows; it was given {len(subject.rows)}.")
    if not (record.importance or record.curves or record.rules):
        raise CheckFailed("the record says nothing: it has neither importance nor curves nor rules.")
    _players([part for name in record.importance for part in name.split(" × ")], subject)
    _players(list(record.curves), subject)
    for name, metric in (*record.importance.items(), *record.fidelity.items()):
        known = [each for each in (metric.value, metric.low, metric.high) if each is not None] if isinstance(metric, Metric) else [np.nan]
        if not np.isfinite(np.array(known, dtype=np.float64)).all():
            raise CheckFailed(f"the figure of '{name}' is no finite number.")
    for name, curve in record.curves.items():
        lengths = {len(column) for title, column in curve.items() if title != "ice"}
        if len(lengths) != 1:
            raise CheckFailed(f"the columns of the curve of '{name}' have different lengths.")


def whole_changes(record: Counterfactuals, subject: ExplainerSubject) -> None:
    """Raise CheckFailed where rows, figures or fields are not those of the rows and the model."""
    if len(record.changes) != len(subject.rows):
        raise CheckFailed(f"it gave changes for {len(record.changes)} rows; it was given {len(subject.rows)}.")
    if not any(record.changes):
        raise CheckFailed("it found no change for any row; bring a case in which there is one.")
    alternatives = [len(row) for row in record.changes]
    for name, column in (("distances", record.distances), ("predicted", record.predicted), ("plausibility", record.plausibility)):
        if name == "plausibility" and not column:
            continue
        if [len(row) for row in column] != alternatives:
            raise CheckFailed(f"{name} are not in the shape of the changes.")
        if not np.isfinite(np.array([each for row in column for each in row], dtype=np.float64)).all():
            raise CheckFailed(f"{name} hold what is no finite number.")
    _players(sorted({name for row in record.changes for alternative in row for name in alternative}), subject)


SCOPES: Mapping[str, tuple[type, Callable[[Any, ExplainerSubject], None]]] = {
    "rows": (Explanation, whole_explanation),
    "model": (GlobalExplanation, whole_description),
    "changes": (Counterfactuals, whole_changes),
}
"""By scope the record, and what checks that one is whole."""


def difference(first: Any, second: Any, rows: NDArray[np.int64] | None = None) -> float:
    """The largest difference of two records of one scope, relative to their numbers; infinite where they say different things.

    Parameters
    ----------
    rows
        The rows of the first that the second is about, in its order; None for all.
    """
    (said, numbers), (also_said, others) = _content(first, rows), _content(second, None)
    if said != also_said or [each.shape for each in numbers] != [each.shape for each in others]:
        return float("inf")
    return max((_relative(mine, other) for mine, other in zip(numbers, others, strict=True)), default=0.0)


def _content(record: Any, rows: NDArray[np.int64] | None) -> tuple[Any, list[NDArray[np.float64]]]:
    """What a record says in words, and its numbers."""
    if isinstance(record, Explanation):
        arrays = [each for each in (record.values, record.base, record.predicted, record.errors, record.interactions) if each is not None]
        return (record.output, record.players, record.errors is None), [each if rows is None else each[rows] for each in arrays]
    if isinstance(record, GlobalExplanation):
        metrics = [metric for figures in (record.importance, record.fidelity) for metric in figures.values()]
        columns = [column for curve in record.curves.values() for column in curve.values()]
        words = (record.output, record.rows, record.rules, list(record.importance), list(record.fidelity), list(record.curves))
        texts = [column for column in columns if any(isinstance(each, str) for each in column)]
        numbers = [np.array(column, dtype=np.float64) for column in columns if column not in texts]
        return (words, texts), [np.array([[each.value, each.low or 0.0, each.high or 0.0] for each in metrics], dtype=np.float64), *numbers]
    chosen = range(len(record)) if rows is None else rows.tolist()
    changes = [record.changes[row] for row in chosen]
    figures = [[each for row in chosen for each in column[row]] for column in (record.distances, record.predicted)]
    return (record.wanted, changes), [np.array(column, dtype=np.float64) for column in figures]


def _relative(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    scale = max(1.0, float(np.max(abs(first[np.isfinite(first)]), initial=0.0)))
    unequal = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    return float(np.max(abs(first[unequal] - second[unequal]), initial=0.0)) / scale


def _players(names: Sequence[str], subject: ExplainerSubject) -> None:
    inputs = subject.model.fitted.inputs.names
    strange = [name for name in names if name not in inputs and not any(name.startswith(f"{known} [") for known in inputs)]
    if strange:
        raise CheckFailed("it names a player that is no input of the model: players are fields, or 'field [1]' for a part of one.")
    if subject.scope == "rows" and len(set(names)) != len(names):
        raise CheckFailed("it names a player twice.")
