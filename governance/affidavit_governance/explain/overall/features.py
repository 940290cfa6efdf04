"""Raw fields as columns that rules can ask about: a number, a day, or whether a field has a certain category or a gap."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affidavit.interfaces.columns import plain_type
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.explain.overall.grids import DAY, category_names

MOST_CATEGORIES = 20
"""Categories of a field that rules may name, commonest first: rarer ones stand for few rows."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Column:
    """One question's column.

    Attributes
    ----------
    kind
        ``"number"`` or ``"day"`` (asked with a threshold), ``"category"`` or ``"gap"`` (zero or one).
    category
        The category's name, as the record may tell it.
    whole
        Whether the numbers are integers, so that a threshold between two of them needs no fraction.
    fill
        What stands for a missing number, if some are; the condition that it meets says that it holds for missing ones too.
    """

    field: str
    kind: str
    category: str = ""
    whole: bool = False
    fill: float | None = None

    def words(self, threshold: float, *, above: bool) -> str:
        """The condition in words."""
        if self.kind == "gap":
            return f"{self.field} is {'missing' if above else 'known'}"
        if self.kind == "category":
            return f"{self.field} is {'' if above else 'not '}{self.category}"
        shown = f"{datetime.fromtimestamp(threshold, UTC):%Y-%m-%d}" if self.kind == "day" else f"{threshold:.12g}"
        missing = " or missing" if self.fill is not None and (self.fill > threshold) == above else ""
        return f"{self.field} {'>' if above else '≤'} {shown}{missing}"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows × columns, with what each column is. A missing number is filled with the median; whether it was missing is a column of its own."""

    columns: tuple[Column, ...]
    values: Floats


def table_of(data: Dataset, hidden: Collection[str]) -> tuple[Table, dict[str, str]]:
    """The columns of all fields that rules may tell of, and why the others are left out."""
    columns: list[Column] = []
    values: list[Floats] = []
    left_out: dict[str, str] = {}
    for field in data.schema:
        if field.name in hidden:
            left_out[field.name] = "is masked, or one player with masked fields"
        elif field.type in (FieldType.TEXT, FieldType.TENSOR):
            left_out[field.name] = f"is {field.type}"
        else:
            for column, numbers in _columns(data, field):
                columns.append(column)
                values.append(numbers)
    return Table(tuple(columns), np.stack(values, axis=1) if values else np.empty((len(data), 0))), left_out


def _columns(data: Dataset, field: Field) -> list[tuple[Column, Floats]]:
    gap = pc.is_null(data.column(field.name), nan_is_null=True).to_numpy().astype(np.float64)
    found = [(Column(field.name, "gap"), gap)] if 0 < gap.mean() < 1 else []
    if field.type in (FieldType.NUMERIC, FieldType.DATETIME):
        numbers = data.to_numpy(field.name)
        if gap.all():
            return found
        fill = float(np.median(numbers[gap == 0]))
        filled = np.where(gap > 0, fill, numbers)
        integer = _is_whole(data.column(field.name).type)
        kind = "day" if field.type is FieldType.DATETIME else "number"
        return [(Column(field.name, kind, whole=integer, fill=fill if found else None), filled), *found]
    return [*_categories(data, field), *found]


def _is_whole(kind: Any) -> bool:
    return bool(pa.types.is_integer(plain_type(kind)))


def _categories(data: Dataset, field: Field) -> list[tuple[Column, Floats]]:
    texts = np.array(data.to_text(field.name), dtype=object)
    known, counts = np.unique([text for text in texts if text is not None], return_counts=True)
    places = np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]
    common = [str(known[place]) for place in places]
    if field.type is FieldType.BOOLEAN:
        return [(Column(field.name, "category", "true"), (texts == "true").astype(np.float64))]
    names = category_names(field, common, [int(counts[place]) for place in places])
    return [(Column(field.name, "category", name), (texts == text).astype(np.float64)) for text, name in zip(common, names, strict=True)]


def threshold_between(low: float, high: float, column: Column) -> float:
    """The roundest number from `low` up to, and without, `high`, so that a rule neither repeats a row's value nor more digits than it needs."""
    if column.kind in ("category", "gap"):
        return 0.5
    unit = DAY if column.kind == "day" else 1.0
    if column.whole and high - low == 1:
        return low  # nothing stands between two neighbouring integers
    scale = unit * 10.0 ** np.ceil(np.log10(max((high - low) / unit, 1e-300)))
    middle = (low + high) / 2
    for _ in range(20):
        found = float(f"{np.round(middle / scale) * scale:.15g}")
        if low < found < high:
            return found
        scale /= 10 if scale > unit or column.kind == "number" else 2
    return float(middle)
