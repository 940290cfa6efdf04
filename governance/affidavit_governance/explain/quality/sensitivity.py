"""Sensitivity-max: how much attributions change when a row changes a little (Yeh, Hsieh, Suggala, Inouye, Ravikumar 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.columns import plain_type
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import FieldType

RADIUS = 0.1
"""How far a number moves at most, in standard deviations of the background."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Of one row, in units of the explained output.

    Attributes
    ----------
    change
        The largest Euclidean distance between the row's attributions and those of a neighbour.
    floor
        The mean of the same with the attributions of the row and of each neighbour dealt to the players at random, each for itself.
    size
        The Euclidean length of the row's attributions.
    """

    change: float
    floor: float
    size: float


def sensitivity(values: NDArray[np.float64], around: NDArray[np.float64], deals: int, generator: np.random.Generator) -> Sensitivity:
    """Measure one row from its attributions and those of its neighbours (neighbours × players)."""
    change = np.linalg.norm(around - values, axis=1).max()
    floors = []
    for _ in range(deals):
        mixed = generator.permuted(around, axis=1)
        floors.append(np.linalg.norm(mixed - generator.permutation(values), axis=1).max())
    return Sensitivity(float(change), float(np.mean(floors)), float(np.linalg.norm(values)))


def neighbours(data: Dataset, background: Dataset, seeds: list[int], copies: int, still: frozenset[str] = frozenset()) -> Dataset | None:
    """`copies` rows near each row of `data`, one row's after the other's; None where no input is a number that can move a little.

    Numbers, and each number of a tensor, move uniformly by up to `RADIUS` standard deviations of the background; everything else stays.
    Whole numbers in tensors, such as pixels, stay whole numbers of their type.

    Parameters
    ----------
    data, background
        In the model's own columns.
    seeds
        One a row, so that a row has the same neighbours in any batch.
    still
        Fields that stay as they are, though they are made of numbers: a history of item numbers has no small change.
    """
    moved = [field.name for field in data.schema if field.type in (FieldType.NUMERIC, FieldType.TENSOR) and field.name not in still]
    spreads = {name: _spread(background.to_numpy(name)) for name in moved}
    if not any(spread.any() for spread in spreads.values()):
        return None
    rows = data.take([row for row in range(len(data)) for _ in range(copies)])
    table = rows.table
    generators = [np.random.default_rng(seed) for seed in seeds]
    for name in moved:
        values = rows.to_numpy(name)
        steps = [generator.uniform(-RADIUS, RADIUS, size=(copies, *values.shape[1:])) for generator in generators]
        near = values + np.concatenate(steps) * spreads[name]
        column = _tensors(near, data.column(name).type) if values.ndim > 1 else pa.array(near, from_pandas=True)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return Dataset(table, data.schema, name="neighbours")


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation of each number over the rows that have it; zero where none has."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    spread: NDArray[np.float64] = np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / count)
    return spread


def _tensors(values: NDArray[np.float64], kind: pa.DataType) -> Any:
    """A tensor column with elements of the type that `kind` has."""
    element: Any = plain_type(kind)
    while pa.types.is_fixed_size_list(element) or pa.types.is_list(element):
        element = element.value_type
    dtype = np.dtype(element.to_pandas_dtype())
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(values.astype(dtype, order="C"))
