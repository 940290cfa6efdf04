"""From raw columns to bins, for additive models: what each bin holds can be said to a person, and one noisy histogram a column makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType
from affidavit.interfaces.training import TrainingEngine
from affidavit_plugins.tabular.torch_encoding import MAX_VOCABULARY, bucket, distinct, numbers
from affidavit_plugins.torch_base.plain import PlainStatistics

FINE = 256
"""Equal cells of a numeric column from which its bins are put together."""

REACH = 4.0
"""Standard deviations on each side of the centre that the cells cover; values beyond count in the end bins."""

STANDS_OUT = 4.0
"""Standard deviations of noise that a bin's rows must outnumber."""

BUCKETS = 128
"""Bins of a column whose categories are not public: 15 categories share a bin with a chance of about one half, in one or two pairs."""


@dataclass(frozen=True, slots=True)
class BinColumn:
    """How one column falls into bins. Bin 0 is for missing values.

    Attributes
    ----------
    kind
        ``"number"`` (bins 1 to ``len(edges) + 1``, between ascending edges), ``"boolean"`` (false, true), ``"categories"`` (in their order, and
        a last bin for unseen ones) or ``"hashed"`` (128 bins).
    """

    name: str
    kind: str
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of bins."""
        return {"number": len(self.edges) + 2, "boolean": 3, "categories": len(self.categories) + 2, "hashed": BUCKETS + 1}[self.kind]

    def codes(self, data: Dataset) -> NDArray[np.int64]:
        """The bin of each row."""
        field = data.schema[self.name]
        if self.kind in ("number", "boolean"):
            values = numbers(data, field)
            found = np.searchsorted(self.edges, values, side="right") + 1 if self.kind == "number" else (values > 0.5) + 1
            return np.where(np.isnan(values), 0, found).astype(np.int64)
        names, codes = distinct(data, field)
        if self.kind == "categories":
            position = {category: index + 1 for index, category in enumerate(self.categories)}
            bins = [position.get(name, self.size - 1) for name in names]
        else:
            bins = [1 + bucket(self.name, 0, name, BUCKETS) for name in names]
        return np.array([*bins, 0], dtype=np.int64)[codes]

    def labels(self) -> list[str]:
        """What each bin holds, in words."""
        if self.kind == "number":
            ends = ["−∞", *(f"{edge:.6g}" for edge in self.edges), "∞"]
            return ["missing", *(f"{low} to {high}" for low, high in pairwise(ends))]
        if self.kind == "boolean":
            return ["missing", "false", "true"]
        return ["missing", *(self.categories if self.kind == "categories" else (f"group {n + 1}" for n in range(BUCKETS)))] + (
            ["other"] if self.kind == "categories" else []
        )


@dataclass(frozen=True, slots=True)
class Bins:
    """How the columns of a table fall into bins."""

    columns: tuple[BinColumn, ...]

    @classmethod
    def grid(cls, data: Dataset, engine: TrainingEngine | PlainStatistics) -> Bins:
        """Fine cells for numbers, and the final bins for everything else, asking `engine` for what is not public.

        Raises
        ------
        InvalidInput
            A column of free text or tensors, or of infinite numbers.
        """
        numeric = [field for field in data.schema if field.type in (FieldType.NUMERIC, FieldType.DATETIME)]
        unbounded = [field for field in numeric if field.bounds is None]
        center, scale = (
            engine.center_and_scale(np.stack([numbers(data, field) for field in unbounded], axis=1)) if unbounded else (np.zeros(0), np.ones(0))
        )
        ranges = {field.name: field.bounds for field in numeric if field.bounds is not None}
        ranges |= {field.name: (c - REACH * s, c + REACH * s) for field, c, s in zip(unbounded, center, scale, strict=True)}
        return cls(tuple(_start(data, field, engine, ranges) for field in data.schema))

    def codes(self, data: Dataset) -> NDArray[np.int64]:
        """The bins of each row, rows × columns."""
        return np.stack([column.codes(data) for column in self.columns], axis=1)

    @property
    def players(self) -> tuple[str, ...]:
        """The field that each bin belongs to."""
        return tuple(column.name for column in self.columns for _ in range(column.size))

    @property
    def starts(self) -> NDArray[np.int64]:
        """The place of each column's first bin among all bins."""
        return np.concatenate([[0], np.cumsum([column.size for column in self.columns])])[:-1].astype(np.int64)

    def transform(self, data: Dataset) -> NDArray[np.float64]:
        """One column for each bin: one where the row falls into it, else zero."""
        matrix = np.zeros((len(data), len(self.players)))
        np.put_along_axis(matrix, self.codes(data) + self.starts, 1.0, axis=1)
        return matrix

    def to_json(self) -> dict[str, Any]:
        """The bins as a JSON object."""
        return {"version": 1, "bins": [asdict(column) for column in self.columns]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Bins:
        """Read what `to_json` wrote. Raises InvalidInput for another format version."""
        if value.get("version") != 1:
            raise InvalidInput(f"These bins have version {value.get('version')}; this release reads version 1.")
        return cls(
            tuple(
                BinColumn(str(item["name"]), str(item["kind"]), tuple(map(float, item["edges"])), tuple(map(str, item["categories"])))
                for item in value["bins"]
            )
        )


def _start(data: Dataset, field: Field, engine: TrainingEngine | PlainStatistics, ranges: Mapping[str, tuple[float, float]]) -> BinColumn:
    if field.name in ranges:
        low, high = ranges[field.name]
        if not np.isfinite(high - low):
            raise InvalidInput(f"Column '{field.name}' holds numbers too large to use.", hint="Correct or clear them, or give the field bounds.")
        return BinColumn(field.name, "number", tuple(np.linspace(low, high, FINE + 1)[1:-1].tolist()))
    if field.type is FieldType.BOOLEAN:
        return BinColumn(field.name, "boolean")
    if field.type is not FieldType.CATEGORICAL:
        raise InvalidInput(f"Column '{field.name}' is of type {field.type}, which a table model cannot read.", hint="Give it the role 'identifier'.")
    categories = field.categories
    if categories is None:
        values, codes = distinct(data, field)
        categories = engine.vocabulary([values[code] if code >= 0 else None for code in codes])
    if categories is None or len(categories) > MAX_VOCABULARY:
        return BinColumn(field.name, "hashed")
    return BinColumn(field.name, "categories", categories=tuple(categories))


def merged(column: BinColumn, counts: NDArray[np.float64], deviation: float, bins: int) -> tuple[BinColumn, NDArray[np.float64]]:
    """A number's fine cells, put together from the left until each bin holds its part of the rows; with the counts of the new bins.

    A cell that alone holds more than its part, such as the zeros of a rarely filled column, stands for itself, and the others share the rest.

    Parameters
    ----------
    counts
        Rows in each cell of `column`, noisy where training is private.
    deviation
        Standard deviation of their noise: a bin has no fewer rows than four times that.
    bins
        How many bins there should be at most.
    """
    if column.kind != "number":
        return column, counts
    cells = np.maximum(counts[1:], 0.0)
    heavy = cells > cells.sum() / bins
    wanted = max(float(cells[~heavy].sum()) / max(bins - int(heavy.sum()), 1), STANDS_OUT * deviation, 1.0)
    edges: list[float] = []
    totals, held = [float(counts[0])], 0.0
    for cell, edge in enumerate(column.edges):
        held += float(counts[cell + 1])
        if held >= wanted or (heavy[cell + 1] and held >= wanted / 2):
            edges.append(edge)
            totals.append(held)
            held = 0.0
    held += float(counts[-1])
    if edges and held < wanted / 2:  # too little for a bin of its own
        edges.pop()
        held += totals.pop()
    return replace(column, edges=tuple(edges)), np.array([*totals, held])
