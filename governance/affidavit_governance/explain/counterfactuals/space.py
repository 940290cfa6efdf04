"""What may change in one row: for each field the values it may take, and candidates as places among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import FieldType
from affidavit_governance.explain.counterfactuals.combinations import Combination
from affidavit_governance.explain.counterfactuals.distance import Coordinates, field_distance
from affidavit_governance.explain.counterfactuals.reference import Observed, Reference

SPARSITY = 1.0
"""What each changed field adds to the distance: as much as a category, or a number moved by one robust standard deviation."""

OPTIONS = 16
"""Values of one field that the grid search tries; numbers are brought nearer afterwards."""

NEAR_ENOUGH = 1e-3
"""Share of a field's spread below which a number is not brought nearer."""

Candidates = NDArray[np.int64]
"""Candidates × fields: the place of each value on its field's axis; 0 is the row's own value."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the caller and the policy allow.

    Attributes
    ----------
    units
        Comparable fields that may change, as tuples that move together.
    direction
        1 for fields that may only increase, -1 for those that may only decrease.
    at_most
        Changed fields in one answer.
    """

    units: tuple[tuple[str, ...], ...]
    direction: Mapping[str, int]
    at_most: int


@dataclass(slots=True)
class _Axis:
    """One field: the row's own value, the observed ones, and numbers that were tried between them."""

    seen: Observed
    coordinates: NDArray[np.float64]
    values: list[Any]
    costs: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    pool: Any = field(default=None)

    @property
    def between(self) -> bool:
        """Whether numbers between the observed ones may be tried: not for dates, nor where the row's own number is missing."""
        return self.seen.field.type is FieldType.NUMERIC and bool(np.isfinite(self.coordinates[0]))


class Space:
    """The candidates of one explained row.

    Parameters
    ----------
    row
        Its place in `data`.
    """

    def __init__(self, reference: Reference, data: Dataset, row: int, rules: Rules) -> None:
        self._reference = reference
        self._own = data.take([row])
        self._places = {name: place for place, name in enumerate(reference.fields)}
        self.at_most = rules.at_most
        self.units = [np.array([self._places[name] for name in unit], dtype=np.int64) for unit in rules.units]
        self._axes = [
            _axis(seen, self._own, float(reference.rows[row, place]), rules.direction.get(seen.field.name, 0))
            for place, seen in enumerate(reference.observed)
        ]

    @property
    def own(self) -> Dataset:
        """The row itself."""
        return self._own

    def unchanged(self) -> NDArray[np.int64]:
        """The candidate that changes nothing."""
        return np.zeros(len(self._axes), dtype=np.int64)

    def coordinates(self, candidates: Candidates) -> Coordinates:
        """Candidates × fields."""
        return np.stack([axis.coordinates[candidates[:, place]] for place, axis in enumerate(self._axes)], axis=1)

    def cost(self, candidates: Candidates) -> NDArray[np.float64]:
        """The distance of each candidate from the row: over the changed fields, how far each moves plus `SPARSITY`."""
        total = np.zeros(len(candidates))
        for place, axis in enumerate(self._axes):
            total += axis.costs[candidates[:, place]]
        return total

    def changed(self, candidates: Candidates) -> NDArray[np.int64]:
        """Fields that each candidate changes."""
        counts: NDArray[np.int64] = (candidates != 0).sum(axis=1)
        return counts

    def dataset(self, candidates: Candidates) -> Dataset:
        """The candidates as rows of the model's input."""
        columns: dict[str, Any] = {}
        for name in self._own.schema.names:
            place = self._places.get(name)
            if place is None:
                columns[name] = self._own.column(name).take(pa.array(np.zeros(len(candidates), dtype=np.int64)))
                continue
            axis = self._axes[place]
            if axis.pool is None:
                axis.pool = pa.array(axis.values, type=axis.seen.kind)
            columns[name] = axis.pool.take(pa.array(candidates[:, place]))
        return Dataset(pa.table(columns), self._own.schema, name="candidates")

    def changes(self, candidate: NDArray[np.int64]) -> dict[str, tuple[Any, Any]]:
        """The changed fields with their values now and then."""
        return {axis.seen.field.name: (axis.values[0], axis.values[place]) for axis, place in zip(self._axes, candidate, strict=True) if place}

    def donors(self) -> Candidates:
        """For each reference row the row with as many of its values as may be taken over; a unit's fields come together or not at all."""
        donors = np.zeros((len(self._reference.background), len(self._axes)), dtype=np.int64)
        for unit in self.units:
            taken = np.stack([self._axes[place].seen.places + 1 for place in unit], axis=1)
            same = np.stack([self._axes[place].costs[taken[:, i]] == 0 for i, place in enumerate(unit)], axis=1)
            fits = np.stack([self._axes[place].allowed[taken[:, i]] for i, place in enumerate(unit)], axis=1) | same
            donors[:, unit] = np.where(fits.all(axis=1, keepdims=True) & ~same, taken, 0)
        return donors

    def options(self) -> tuple[list[list[float]], list[Candidates]]:
        """For each unit its options on the grid, cheapest first: their costs, and the places of the unit's fields (options × fields)."""
        costs: list[list[float]] = []
        places: list[Candidates] = []
        donors = self.donors()
        for unit in self.units:
            found = self._single(int(unit[0])) if len(unit) == 1 else np.unique(donors[:, unit], axis=0)
            found = found[(found != 0).any(axis=1)]
            price = np.sum([self._axes[place].costs[found[:, i]] for i, place in enumerate(unit)], axis=0)
            order = np.argsort(price, kind="stable")
            if len(unit) > 1:
                order = order[: OPTIONS**2]  # joint values of several fields: the nearest ones
            costs.append([float(value) for value in price[order]])
            places.append(found[order])
        return costs, places

    def combine(self, combination: Combination, places: list[Candidates]) -> NDArray[np.int64]:
        """The candidate of one combination of options."""
        candidate = self.unchanged()
        for unit, option in combination:
            candidate[self.units[unit]] = places[unit][option]
        return candidate

    def _single(self, place: int) -> Candidates:
        """The options of one field: all values where they are few, else numbers at equal ranks, and the commonest categories."""
        axis = self._axes[place]
        found = np.flatnonzero(axis.allowed)
        if len(found) > OPTIONS:
            if axis.seen.ordered:
                found = found[np.unique(np.rint(np.linspace(0, len(found) - 1, OPTIONS)).astype(np.int64))]
            else:
                counts = np.bincount(axis.seen.places[axis.seen.places >= 0] + 1, minlength=len(axis.values))[found]
                found = np.sort(found[np.argsort(-counts, kind="stable")[:OPTIONS]])
        return found[:, None]

    # -- numbers between the observed ones ----------------------------------------------------------------------------------------------

    def movable(self, candidate: NDArray[np.int64]) -> list[int]:
        """The changed fields whose number may come nearer to the row's own, the farthest first."""
        single = [int(unit[0]) for unit in self.units if len(unit) == 1]
        found = [place for place in single if candidate[place] and self._axes[place].between]
        return sorted(found, key=lambda place: (-self._axes[place].costs[candidate[place]], place))

    def nearest_number(self, place: int) -> float:
        """The number of field `place` in the range of the data that is nearest to the row's own."""
        axis = self._axes[place]
        return float(np.clip(axis.coordinates[0], axis.seen.low, axis.seen.high))

    def number(self, place: int, position: int) -> float:
        """The number at a place on a field's axis."""
        return float(self._axes[place].coordinates[position])

    def between(self, place: int, near: float, far: float, count: int, *, closed: bool) -> list[int]:
        """Places of at most `count` numbers between two, in the field's own resolution, ordered from `near` to `far`; with `closed`, `near` too."""
        axis = self._axes[place]
        decimals = axis.seen.decimals
        finest = max(0.0 if decimals is None else 10.0**-decimals, NEAR_ENOUGH * (axis.seen.scale or 1.0))
        if abs(far - near) <= finest:
            return []
        numbers = np.linspace(near, far, count + 2)[1:-1]
        if closed:
            numbers = np.concatenate([[near], numbers])
        if decimals is not None:
            numbers = np.round(numbers, decimals)
        numbers = numbers.astype(axis.seen.kind.to_pandas_dtype()).astype(np.float64)
        inside = (numbers >= min(near, far)) & (numbers <= max(near, far)) & (numbers != far) & (numbers != axis.coordinates[0])
        inside &= closed | (numbers != near)
        return [self._place_of(axis, number) for number in dict.fromkeys(numbers[inside].tolist())]

    def _place_of(self, axis: _Axis, number: float) -> int:
        known = np.flatnonzero(axis.coordinates[1:] == number)
        if len(known):
            return int(known[0]) + 1
        axis.coordinates = np.append(axis.coordinates, number)
        axis.values.append(int(number) if pa.types.is_integer(axis.seen.kind) else number)
        axis.costs = np.append(axis.costs, SPARSITY + field_distance(axis.coordinates[:1], axis.coordinates[-1:], axis.seen.scale))
        axis.allowed = np.append(axis.allowed, False)  # no option of the grid
        axis.pool = None
        return len(axis.values) - 1


def _axis(seen: Observed, own: Dataset, coordinate: float, direction: int) -> _Axis:
    coordinates = np.concatenate([[coordinate], seen.coordinates])
    moved = field_distance(np.full(len(coordinates), coordinate), coordinates, seen.scale)
    moved[0] = 0.0
    same = (moved == 0) & (coordinates == coordinate)
    costs = np.where(same, 0.0, moved + SPARSITY)
    costs[0] = 0.0
    allowed = np.concatenate([[False], seen.allowed()]) & (costs > 0)
    if direction:
        allowed &= (coordinates - coordinate) * direction > 0
    value = own.to_text(seen.field.name)[0] if _as_text(seen) else own.to_list(seen.field.name)[0]
    return _Axis(seen, coordinates, [value, *seen.values], costs, allowed)


def _as_text(seen: Observed) -> bool:
    return not seen.ordered and (pa.types.is_string(seen.kind) or pa.types.is_large_string(seen.kind))
