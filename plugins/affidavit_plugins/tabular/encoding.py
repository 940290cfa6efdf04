"""From raw columns to a matrix of numbers: small, fast on one row, and open to explanation.

Numbers, booleans and dates are standardised, a missing one stands at the mean; categories are one-hot, one unseen in training is all
zeros. A field that had gaps in training also gets a column that says where they are. Every matrix column belongs to one field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.columns import numeric_array, text_array, text_values
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType

_NUMBERS = frozenset({FieldType.NUMERIC, FieldType.BOOLEAN, FieldType.DATETIME})
_CELLS: dict[FieldType, frozenset[type]] = {
    FieldType.NUMERIC: frozenset({int, float, type(None)}),
    FieldType.BOOLEAN: frozenset({bool, type(None)}),
    FieldType.DATETIME: frozenset(),
}
"""Python values that need no converting."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A number, boolean or date (seconds since 1970) as ``(x − center) / scale``."""

    field: str
    type: FieldType
    center: float
    scale: float
    missing: bool


@dataclass(frozen=True, slots=True)
class CategoryColumns:
    """One column of zeros and ones for each category, commonest categories only where there are very many."""

    field: str
    categories: tuple[str, ...]
    missing: bool


class Encoder:
    """Encodes the feature columns of a conforming data set.

    The matrix holds the standardised numbers, then their missing-value columns, then the categories field by field.

    Parameters
    ----------
    numbers, categories
        What was learnt of each field in training.
    """

    def __init__(self, numbers: tuple[NumberColumn, ...], categories: tuple[CategoryColumns, ...]) -> None:
        self.numbers = numbers
        self.categories = categories
        self._fields = [Field(column.field, column.type) for column in numbers]
        self._center = np.array([column.center for column in numbers])
        self._scale = np.array([column.scale for column in numbers])
        self._gaps = np.array([index for index, column in enumerate(numbers) if column.missing], dtype=np.intp)
        players = [column.field for column in numbers] + [numbers[index].field for index in self._gaps]
        self._lookups: list[tuple[str, dict[str | None, int]]] = []
        for group in categories:
            known: tuple[str | None, ...] = (*group.categories, None) if group.missing else group.categories
            self._lookups.append((group.field, {value: len(players) + index for index, value in enumerate(known)}))
            players += [group.field] * len(known)
        self.players = tuple(players)

    @classmethod
    def fit(cls, data: Dataset, *, max_categories: int) -> Encoder:
        """Learn the encoding of the features of `data`.

        Raises
        ------
        UsageError
            A feature is text or a tensor.
        InvalidInput
            A number is infinite, or so large that its spread is not finite.
        """
        numbers: list[NumberColumn] = []
        categories: list[CategoryColumns] = []
        for field in data.schema.features:
            if field.type in _NUMBERS:
                numbers.append(_learn_number(data, field))
            elif field.type is FieldType.CATEGORICAL:
                categories.append(_learn_categories(data, field, max_categories))
            else:
                raise UsageError(
                    f"Column '{field.name}' is of type {field.type}, which a tabular model cannot read.",
                    hint=f"Leave it out, fields={{'{field.name}': {{'role': 'identifier'}}}}, or declare another type for it.",
                )
        return cls(tuple(numbers), tuple(categories))

    def transform(self, data: Dataset) -> NDArray[np.float64]:
        """Encode the rows of `data`, which must hold the trained columns in their trained types.

        Returns
        -------
        Rows × ``len(players)``, float64, all finite.

        Raises
        ------
        InvalidInput
            A number is infinite; the message names its column.
        """
        rows = data.table.num_rows
        matrix = np.zeros((rows, len(self.players)))
        count = len(self.numbers)
        if count:
            raw = np.empty((rows, count))
            for index, field in enumerate(self._fields):
                raw[:, index] = _numbers(data, field)
            scaled = (raw - self._center) / self._scale
            gaps = np.isnan(raw)
            scaled[gaps] = 0.0
            if not np.isfinite(scaled).all():
                index = int(np.flatnonzero(~np.isfinite(scaled).all(axis=0))[0])
                name = self.numbers[index].field
                raise InvalidInput(f"Column '{name}' holds an infinite number, or one too large to use.", hint="Correct or clear it.")
            matrix[:, :count] = scaled
            matrix[:, count : count + len(self._gaps)] = gaps[:, self._gaps]
        if self._lookups:
            places = np.array([[lookup.get(value, -1) for value in _labels(data, name)] for name, lookup in self._lookups], dtype=np.intp)
            group, row = np.nonzero(places >= 0)
            matrix[row, places[group, row]] = 1.0
        return matrix

    def to_json(self) -> dict[str, Any]:
        """The encoder as a JSON object; floats survive exactly."""
        return {"version": FORMAT, "numbers": [asdict(column) for column in self.numbers], "categories": [asdict(group) for group in self.categories]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Encoder:
        """Read what `to_json` wrote. Raises InvalidInput for another format version."""
        if value.get("version") != FORMAT:
            raise InvalidInput("The encoder of this artifact has a format that this version cannot read.", hint="Install a newer affidavit.")
        numbers = (
            NumberColumn(str(item["field"]), FieldType(item["type"]), float(item["center"]), float(item["scale"]), bool(item["missing"]))
            for item in value["numbers"]
        )
        groups = (CategoryColumns(str(item["field"]), tuple(map(str, item["categories"])), bool(item["missing"])) for item in value["categories"])
        return cls(tuple(numbers), tuple(groups))


def _numbers(data: Dataset, field: Field) -> NDArray[np.float64] | list[float]:
    """The values as float64, missing ones as NaN."""
    cells = data.cells
    if cells is not None:
        at, known = data.schema.position(field.name), _CELLS[field.type]
        values = [row[at] for row in cells]
        if all(type(value) in known for value in values):
            return [math.nan if value is None else value for value in values]
    column = data.table.column(field.name)
    if pa.types.is_float64(column.type):  # the general road takes fifteen times as long on one row
        array: NDArray[np.float64] = column.to_numpy()
        return array
    return numeric_array(column, field)


def _labels(data: Dataset, name: str) -> list[str | None]:
    """The values as text, missing ones as None."""
    cells = data.cells
    if cells is not None:
        at = data.schema.position(name)
        known: list[str | None] = [row[at] for row in cells]
        if all(value is None or type(value) is str for value in known):
            return known
    column = data.table.column(name)
    if pa.types.is_string(column.type):  # already text: the general road takes ten times as long on one row
        values: list[str | None] = column.to_pylist()
        return values
    return text_values(data, name)


def _learn_number(data: Dataset, field: Field) -> NumberColumn:
    values = numeric_array(data.column(field.name), field)
    present = values[~np.isnan(values)]
    with np.errstate(over="ignore", invalid="ignore"):
        center = float(present.mean()) if len(present) else 0.0
        scale = float(present.std()) if len(present) else 1.0
    if not (np.isfinite(center) and np.isfinite(scale)):
        raise InvalidInput(f"Column '{field.name}' holds an infinite number, or numbers too large to use.", hint="Correct or clear them.")
    # The spread of a constant is rounding error, never exactly zero: measure it against the constant's own size.
    constant = scale <= 1e-12 * abs(center)
    return NumberColumn(field.name, field.type, center, 1.0 if constant or scale == 0.0 else scale, len(present) < len(values))


def _learn_categories(data: Dataset, field: Field, max_categories: int) -> CategoryColumns:
    text = text_array(data.column(field.name), field)
    values, totals = text.value_counts().flatten()
    counts: dict[str | None, int] = dict(zip(values.to_pylist(), totals.to_numpy().tolist(), strict=True))
    missing = counts.pop(None, 0) > 0
    # Ties are broken by name, so that the order of rows never matters.
    commonest = sorted((name for name in counts if name is not None), key=lambda name: (-counts[name], name))[:max_categories]
    return CategoryColumns(field.name, tuple(sorted(commonest)), missing)
