"""The reference rows as coordinates: the scale, range, resolution and observed values of each field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.columns import plain_type
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.explain.counterfactuals.distance import Coordinates, robust_spread

_ORDERED = frozenset({FieldType.NUMERIC, FieldType.DATETIME})
_DIGITS = 6
"""Decimals looked for in the values of a number; one with more counts as continuous."""

_GAP, _UNSEEN = -1.0, -2.0
"""Codes of a missing category and of one that no reference row has."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One field in the reference rows.

    Attributes
    ----------
    kind
        The Arrow type in which values of this field are given to the model.
    scale
        The robust spread of an ordered field; None for categories, and for an ordered field that does not vary.
    coordinates
        Of the distinct known values, in ascending order.
    values
        The same as Python values.
    places
        For each reference row the place of its value among them, -1 where it is missing.
    low, high
        Of an ordered field: the range that the rows and the schema's bounds leave.
    decimals
        With how many the numbers are written (0: whole ones); None where they have more than `_DIGITS`.
    """

    field: Field
    kind: pa.DataType
    scale: float | None
    coordinates: NDArray[np.float64]
    values: list[Any]
    places: NDArray[np.int64]
    low: float = -np.inf
    high: float = np.inf
    decimals: int | None = None

    @property
    def ordered(self) -> bool:
        """Whether its values have an order, so that directions and bounds mean something."""
        return self.field.type in _ORDERED

    def allowed(self) -> NDArray[np.bool_]:
        """The observed values that the schema's bounds and categories leave."""
        if self.ordered:
            return (self.coordinates >= self.low) & (self.coordinates <= self.high)
        if self.field.categories is None:
            return np.ones(len(self.values), dtype=bool)
        return np.array([str(value) in self.field.categories for value in self.values], dtype=bool)


class Reference:
    """The comparable fields (all but texts and tensors) of the reference rows and of the rows to explain.

    Attributes
    ----------
    observed
        One entry a field.
    rows, background
        Coordinates of the rows to explain and of the reference rows, rows × fields.
    """

    def __init__(self, background: Dataset, data: Dataset) -> None:
        self.observed: list[Observed] = []
        own: list[NDArray[np.float64]] = []
        for field in data.schema:
            if field.type not in (FieldType.TEXT, FieldType.TENSOR):
                read = _ordered if field.type in _ORDERED else _category
                seen, coordinates = read(field, background, data)
                self.observed.append(seen)
                own.append(coordinates)
        self.fields = tuple(seen.field.name for seen in self.observed)
        self.scales = [seen.scale for seen in self.observed]
        self.rows: Coordinates = np.stack(own, axis=1) if own else np.zeros((len(data), 0))
        others = [_background_coordinates(seen) for seen in self.observed]
        self.background: Coordinates = np.stack(others, axis=1) if others else np.zeros((len(background), 0))


def _ordered(field: Field, background: Dataset, data: Dataset) -> tuple[Observed, NDArray[np.float64]]:
    numbers, known = background.to_numpy(field.name), background.to_list(field.name)
    distinct, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    count = int(np.isfinite(distinct).sum())
    coordinates = distinct[:count]
    low, high = field.bounds if field.bounds is not None else (-np.inf, np.inf)
    if count:
        low, high = max(low, float(coordinates[0])), min(high, float(coordinates[-1]))
    seen = Observed(
        field=field,
        kind=_common_type(field, background.column(field.name).type, data.column(field.name).type),
        scale=robust_spread(numbers) or None,
        coordinates=coordinates,
        values=[known[place] for place in first[:count]],
        places=np.where(np.isfinite(numbers), inverse, -1),
        low=low,
        high=high,
        decimals=_decimals(coordinates),
    )
    return seen, np.asarray(data.to_numpy(field.name), dtype=np.float64)


def _category(field: Field, background: Dataset, data: Dataset) -> tuple[Observed, NDArray[np.float64]]:
    texts, known = background.to_text(field.name), background.to_list(field.name)
    names = sorted({text for text in texts if text is not None})
    code = {name: place for place, name in enumerate(names)}
    kind = _common_type(field, background.column(field.name).type, data.column(field.name).type)
    as_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    seen = Observed(
        field=field,
        kind=kind,
        scale=None,
        coordinates=np.arange(len(names), dtype=np.float64),
        values=list(names) if as_text else [known[texts.index(name)] for name in names],
        places=np.array([-1 if text is None else code[text] for text in texts], dtype=np.int64),
    )
    own = [_GAP if text is None else code.get(text, _UNSEEN) for text in data.to_text(field.name)]
    return seen, np.array(own, dtype=np.float64)


def _background_coordinates(seen: Observed) -> NDArray[np.float64]:
    missing = np.nan if seen.ordered else _GAP
    if not len(seen.coordinates):
        return np.full(len(seen.places), missing)
    return np.where(seen.places < 0, missing, seen.coordinates[seen.places])


def _common_type(field: Field, background: pa.DataType, rows: pa.DataType) -> pa.DataType:
    """The type that holds both columns' values, which need not be the same: whole numbers may stand beside fractions."""
    first, second = plain_type(background), plain_type(rows)
    if field.type is FieldType.NUMERIC:
        if first == second and not pa.types.is_decimal(first):
            return first
        whole = pa.types.is_integer(first) and pa.types.is_integer(second)
        return pa.int64() if whole else pa.float64()
    if first == second:
        return first
    return pa.timestamp("us") if field.type is FieldType.DATETIME else pa.string()


def _decimals(values: NDArray[np.float64]) -> int | None:
    for digits in range(_DIGITS + 1):
        scaled = values * 10.0**digits
        if (abs(scaled - np.rint(scaled)) <= 1e-9 * np.maximum(1.0, abs(scaled))).all():
            return digits
    return None
