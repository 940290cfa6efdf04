"""Turns table columns into one float matrix for a torch module, reading statistics only through the training engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affidavit.errors import InvalidInput
from affidavit.interfaces.columns import text_array
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType
from affidavit.interfaces.training import TrainingEngine

CLIP = 5.0
"""Standardised numbers are cut at ±5: one outlier, or a scale that privacy's noise made too small, would otherwise outweigh every other
column of its row, and in private training the row's whole clipping bound would go to it."""

HASH_BUCKETS = 32
"""Buckets of each of the two hashes. Two hashes of 32 tell 1024 values apart with 64 inputs; a table-long vocabulary would not fit."""

MAX_VOCABULARY = 256
"""A column with more categories than this is hashed without privacy too: most of its categories have too few rows to learn from."""


@dataclass(frozen=True, slots=True)
class ColumnEncoding:
    """How one column becomes numbers.

    Attributes
    ----------
    kind
        ``"number"`` (standardised value, missing flag), ``"boolean"`` (0 or 1, missing flag), ``"categories"`` (one column for each,
        missing flag; an unseen category is all zeros) or ``"hashed"`` (two one-hot blocks of 32, missing flag).
    """

    name: str
    kind: str
    center: float = 0.0
    scale: float = 1.0
    bounds: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Matrix columns that this column takes."""
        return {"number": 1, "boolean": 1, "categories": len(self.categories), "hashed": 2 * HASH_BUCKETS}[self.kind] + 1

    def fill(self, data: Dataset, out: NDArray[np.float64]) -> None:
        """Write the column's values into `out`, rows × width of zeros."""
        if self.kind in ("number", "boolean"):
            value = numbers(data, data.schema[self.name])
            missing = np.isnan(value)
            if self.kind == "number":
                clipped = value if self.bounds is None else np.clip(value, *self.bounds)
                value = np.clip((clipped - self.center) / self.scale, -CLIP, CLIP)
            out[:, 0] = np.where(missing, 0.0, value)
            out[:, 1] = missing
            return
        values, codes = distinct(data, data.schema[self.name])
        present = np.flatnonzero(codes >= 0)
        out[codes < 0, -1] = 1.0
        for position in self._positions(values):
            hot = position[codes[present]]
            known = hot >= 0
            out[present[known], hot[known]] = 1.0

    def _positions(self, values: list[str]) -> list[NDArray[np.int64]]:
        """For each distinct value the matrix columns to set, -1 for none: one array for categories, two for hashes."""
        if self.kind == "categories":
            index = {category: position for position, category in enumerate(self.categories)}
            return [np.array([index.get(value, -1) for value in values], dtype=np.int64)]
        return [np.array([bucket(self.name, block, value) for value in values], dtype=np.int64) for block in (0, 1)]

    def to_json(self) -> dict[str, Any]:
        """The column's encoding as a JSON object."""
        bounds = None if self.bounds is None else list(self.bounds)
        numbers = {"center": self.center, "scale": self.scale, "bounds": bounds}
        return {"name": self.name, "kind": self.kind, **numbers, "categories": list(self.categories)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ColumnEncoding:
        """Read what `to_json` wrote."""
        bounds = None if value["bounds"] is None else (float(value["bounds"][0]), float(value["bounds"][1]))
        return cls(value["name"], value["kind"], float(value["center"]), float(value["scale"]), bounds, tuple(value["categories"]))


@dataclass(frozen=True, slots=True)
class TableEncoding:
    """How the columns of a table become one matrix."""

    columns: tuple[ColumnEncoding, ...]

    @classmethod
    def learn(cls, data: Dataset, engine: TrainingEngine) -> TableEncoding:
        """Learn centres, scales and categories of the feature columns of `data`.

        Public knowledge is used before the data are asked: numbers are clipped to `Field.bounds`, and `Field.categories` are the
        vocabulary. Everything else is asked of `engine`, all numeric columns in one question.

        Raises
        ------
        InvalidInput
            A column of free text or tensors, or infinite numbers.
        """
        for field in data.schema:
            if field.type in (FieldType.TEXT, FieldType.TENSOR):
                raise InvalidInput(
                    f"Column '{field.name}' holds {'free text' if field.type is FieldType.TEXT else 'tensors'}, which a table model cannot read.",
                    hint="Give it the role 'identifier', the type 'categorical', or use a model type for it.",
                )
        numeric = [field for field in data.schema if field.type in (FieldType.NUMERIC, FieldType.DATETIME)]
        matrix = [numbers(data, field) if field.bounds is None else np.clip(numbers(data, field), *field.bounds) for field in numeric]
        center, scale = engine.center_and_scale(np.stack(matrix, axis=1)) if numeric else (np.zeros(0), np.ones(0))
        for field, c, s in zip(numeric, center, scale, strict=True):
            if not (np.isfinite(c) and np.isfinite(s)):
                raise InvalidInput(f"Column '{field.name}' holds numbers too large to use.", hint="Correct or clear them, or give the field bounds.")
        moments = {field.name: (float(c), float(s)) for field, c, s in zip(numeric, center, scale, strict=True)}
        return cls(tuple(_learn_column(data, field, engine, moments) for field in data.schema))

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return sum(column.width for column in self.columns)

    @property
    def players(self) -> tuple[str, ...]:
        """The field that each column of the matrix belongs to."""
        return tuple(column.name for column in self.columns for _ in range(column.width))

    def transform(self, data: Dataset) -> NDArray[np.float64]:
        """The rows as a matrix, rows × width. Missing numbers are 0 after scaling (the centre) with their flag set."""
        out = np.zeros((len(data), self.width))
        start = 0
        for column in self.columns:
            column.fill(data, out[:, start : start + column.width])
            start += column.width
        return out

    def to_json(self) -> dict[str, Any]:
        """The encoding as a JSON object."""
        return {"version": 1, "columns": [column.to_json() for column in self.columns]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TableEncoding:
        """Read what `to_json` wrote."""
        if value.get("version") != 1:
            raise InvalidInput(f"This table encoding has version {value.get('version')}; this release reads version 1.")
        return cls(tuple(ColumnEncoding.from_json(column) for column in value["columns"]))


def _learn_column(data: Dataset, field: Field, engine: TrainingEngine, moments: Mapping[str, tuple[float, float]]) -> ColumnEncoding:
    if field.name in moments:
        center, scale = moments[field.name]
        return ColumnEncoding(field.name, "number", center, scale, field.bounds)
    if field.type is FieldType.BOOLEAN:
        return ColumnEncoding(field.name, "boolean")
    if field.categories is not None:
        return ColumnEncoding(field.name, "categories", categories=field.categories)
    values, codes = distinct(data, field)
    vocabulary = engine.vocabulary([values[code] if code >= 0 else None for code in codes])
    if vocabulary is None or len(vocabulary) > MAX_VOCABULARY:
        return ColumnEncoding(field.name, "hashed")
    return ColumnEncoding(field.name, "categories", categories=vocabulary)


def bucket(column: str, block: int, value: str, buckets: int = HASH_BUCKETS) -> int:
    """The matrix column of `value` in one hash block: the same on every machine, and independent between blocks and columns.

    The salt cannot be forged by a column's name, because the name is length-prefixed.
    """
    name = column.encode()
    digest = hashlib.blake2b(len(name).to_bytes(4, "big") + name + value.encode(), digest_size=8, salt=bytes([block])).digest()
    return block * buckets + int.from_bytes(digest, "big") % buckets


def numbers(data: Dataset, field: Field) -> NDArray[np.float64]:
    """A numeric, boolean or datetime column as float64, missing as NaN."""
    values = data.to_numpy(field.name)
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise InvalidInput(f"Column '{field.name}' of data set '{data.name}' has infinite values in {infinite} rows.")
    return values


def distinct(data: Dataset, field: Field) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct values of a column as text, and for each row the position of its value, -1 where it is missing."""
    encoded = text_array(data.column(field.name), field).combine_chunks().dictionary_encode()
    codes: NDArray[np.int64] = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return encoded.dictionary.to_pylist(), codes
