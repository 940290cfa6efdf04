"""Where a field is looked at: values that stand for its range without being those of a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affidavit.errors import InvalidInput
from affidavit.interfaces.columns import plain_array, plain_type
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType

TAILS = (0.05, 0.95)
"""Quantiles between which a number is looked at: beyond them few rows stand, and scikit-learn looks no further either."""

_DIGITS = 2
"""Significant digits of the distance between two values of a grid; the grid starts at a multiple of it, so no value is that of a row."""

_MOST_CATEGORIES = 20

NAMED_ROWS = 10
"""Rows that must share a category for a record to name it: the usual threshold of output checking in official statistics (ESSnet guidelines for
the checking of output, 2010)."""

DAY = 86_400.0

_ORDERED = frozenset({FieldType.NUMERIC, FieldType.DATETIME})


@dataclass(frozen=True, slots=True)
class Grid:
    """The values of a field that are tried.

    Attributes
    ----------
    shown
        How the record names them: numbers, days, or names of categories.
    values
        An Arrow array in the column's own type.
    """

    shown: list[Any]
    values: Any


def grid_of(data: Dataset, field: Field, points: int) -> Grid:
    """The values at which `field` is looked at: evenly spaced round numbers or days, or its commonest categories.

    Raises
    ------
    InvalidInput
        The field has one value at most, or is text or a tensor.
    """
    why = no_curve(data, field)
    if why is not None:
        raise InvalidInput(f"Field '{field.name}' {why}, so it has no curve.", hint="Name the fields to look at: fields=[…].")
    return _ordered(data, field, points) if field.type in _ORDERED else _categories(data, field)


def no_curve(data: Dataset, field: Field) -> str | None:
    """Why `field` cannot be looked at, if it cannot."""
    if field.type in (FieldType.TEXT, FieldType.TENSOR):
        return f"is {field.type}"
    column = _flat(data.column(field.name))
    different = pc.count_distinct(column.filter(pc.is_valid(pc.if_else(pc.is_null(column, nan_is_null=True), None, True)))).as_py()
    return ("has no value in any row", "has the same value in all rows")[different] if different < 2 else None


def round_steps(low: float, high: float, points: int, *, unit: float = 0.0) -> NDArray[np.float64]:
    """Evenly spaced round numbers from about `low` to about `high`, in multiples of `unit` at least; one number where they are equal."""
    if high <= low:
        return np.array([low])
    step = _rounded_up((high - low) / (points - 1))
    if unit:
        step = max(unit, np.ceil(step / unit) * unit)
    first = np.round(low / step)
    return np.unique((first + np.arange(max(2, int(np.round((high - low) / step)) + 1))) * step)


def _rounded_up(step: float) -> float:
    scale = 10.0 ** (np.floor(np.log10(step)) - _DIGITS + 1)
    return float(np.ceil(step / scale - 1e-9) * scale)


def _ordered(data: Dataset, field: Field, points: int) -> Grid:
    numbers = data.to_numpy(field.name)
    known = numbers[np.isfinite(numbers)]
    kind = plain_type(data.column(field.name).type)
    low, high = np.quantile(known, TAILS)
    if high <= low:
        low, high = known.min(), known.max()
    if field.type is FieldType.DATETIME:
        steps = round_steps(low, high, points, unit=DAY)
        moments = [datetime.fromtimestamp(float(np.round(step / DAY) * DAY), UTC) for step in steps]
        return Grid([f"{moment:%Y-%m-%d}" for moment in moments], pa.array([m.replace(tzinfo=None) for m in moments], pa.timestamp("us")).cast(kind))
    steps = round_steps(low, high, points, unit=1.0 if pa.types.is_integer(kind) else 0.0)
    shown = [float(f"{step:.12g}") for step in steps]
    return Grid(shown, pa.array(shown, pa.float64()).cast(kind, safe=False))


def _categories(data: Dataset, field: Field) -> Grid:
    column = _flat(data.column(field.name))
    counts = pc.value_counts(column.drop_null()).to_pylist()
    common = sorted(counts, key=lambda each: (-each["counts"], str(each["values"])))[:_MOST_CATEGORIES]
    values = [each["values"] for each in common]
    return Grid(category_names(field, values, [each["counts"] for each in common]), pa.array(values, column.type))


def category_names(field: Field, values: list[Any], counts: list[int]) -> list[str]:
    """How a record names categories, commonest first: by name where the trained schema tells it or enough rows share it, else by their place.

    A category of a few rows may be a person's own words.
    """
    if field.type is FieldType.BOOLEAN:
        return [str(value).lower() for value in values]
    known = set(field.categories or ())
    told = [str(value) in known or count >= NAMED_ROWS for value, count in zip(values, counts, strict=True)]
    return [str(value) if named else f"category {place + 1}" for place, (value, named) in enumerate(zip(values, told, strict=True))]


def _flat(column: Any) -> Any:
    return plain_array(column.combine_chunks())
