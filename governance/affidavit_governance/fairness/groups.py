"""Which group each row belongs to, from a protected column of any type."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.columns import numeric_array, text_array
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import FieldType

MISSING = "missing"
MAX_GROUPS = 200
"""A column with more values than this tells people apart rather than groups, and its labels would carry personal data into evidence."""


def group_labels(data: Dataset, name: str, edges: Sequence[float] | None) -> list[str]:
    """The group of each row by protected column `name`: categories as they are, numbers and years of dates in bins.

    Raises
    ------
    UsageError
        The column is a tensor or free text, or has bins though it holds no numbers.
    InvalidInput
        There are more than 200 groups.
    """
    field, column = data.schema[name], data.column(name)
    if field.type in (FieldType.NUMERIC, FieldType.DATETIME):
        if field.type is FieldType.DATETIME:
            values = np.asarray(pc.year(column).cast(pa.float64()).to_numpy(), dtype=np.float64)
        else:
            values = numeric_array(column, field)
        return bin_labels(values, name, edges)
    if field.type not in (FieldType.CATEGORICAL, FieldType.BOOLEAN):
        raise UsageError(f"The protected column '{name}' is of type {field.type}, which has no groups.", hint="Protect a category, number or date.")
    if edges:
        raise UsageError(f"fairness.bins names '{name}', which holds no numbers.", hint="Its values are the groups; remove the line.")
    labels = [MISSING if label is None else str(label) for label in text_array(column, field).to_pylist()]
    count = len(set(labels))
    if count > MAX_GROUPS:
        raise InvalidInput(f"The protected column '{name}' has {count} different values, more than {MAX_GROUPS}.", hint="Generalise it first.")
    return labels


def bin_labels(values: NDArray[np.float64], name: str, edges: Sequence[float] | None = None) -> list[str]:
    """Label each number with its bin: ``"age ≤ 26"``, ``"26 < age ≤ 60"``, ``"age > 60"``; NaN is ``"missing"``.

    Parameters
    ----------
    edges
        Upper ends of all bins but the last, rising. Default: the median, or the next lower value where nothing is above it.

    Raises
    ------
    UsageError
        The edges are not finite and rising.
    """
    if edges is None:
        edges = _middle(values[~np.isnan(values)])
    bounds = np.asarray(edges, dtype=np.float64)
    if not (np.isfinite(bounds).all() and (np.diff(bounds) > 0).all()):
        raise UsageError(f"fairness.bins: the edges of '{name}' must be finite numbers in rising order.")
    text = [f"{edge:g}" for edge in bounds]
    if len(set(text)) < len(text):  # six digits are not enough to tell the edges apart
        text = [repr(float(edge)) for edge in bounds]
    if not text:
        labels = [f"any {name}"]
    else:
        between = [f"{low} < {name} ≤ {high}" for low, high in pairwise(text)]
        labels = [f"{name} ≤ {text[0]}", *between, f"{name} > {text[-1]}"]
    places = np.searchsorted(bounds, values, side="left")
    return [MISSING if missing else labels[place] for missing, place in zip(np.isnan(values), places, strict=True)]


def _middle(present: NDArray[np.float64]) -> tuple[float, ...]:
    if len(present) == 0 or present.min() == present.max():
        return ()
    median = float(np.median(present))
    return (median,) if median < present.max() else (float(present[present < median].max()),)
