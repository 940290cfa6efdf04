"""Regions of a tensor as players: cells of an image, segments of sound or of a series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.interfaces.columns import plain_type
from affidavit.interfaces.dataset import Dataset
from affidavit_governance.explain.players.base import Block, Coalitions


class RegionBlock(Block):
    """Players are the cells of a grid over one tensor field; an absent cell shows the background's mean there.

    A tensor with one long axis (sound, a series) is cut into ``grid²`` segments, one with two or three (an image) into ``grid × grid`` cells.
    """

    def __init__(self, data: Dataset, background: Dataset, field: str, grid: int) -> None:
        self.fields = (field,)
        self._type = data.column(field).type
        self._values: NDArray[np.float64] = data.to_numpy(field)
        self._mean = np.nanmean(background.to_numpy(field), axis=0)
        self._cells = _cells(self._values.shape[1:], grid)
        self.players = tuple(f"{field} {place}" for place in _places(self._values.shape[1:], grid))

    def columns(self, row: int, coalitions: Coalitions, reference: NDArray[np.int64]) -> Mapping[str, Any]:
        mixed = np.where(coalitions[:, self._cells], self._values[row], self._mean)
        return {self.fields[0]: _tensor_column(mixed, self._type)}

    def labels(self, row: int) -> list[Any]:
        return [None] * len(self.players)


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    """The axes to cut: all that are longer than a colour channel, the first two at most."""
    return ([axis for axis, length in enumerate(shape) if length > 4] or list(range(len(shape))))[:2]


def _sides(shape: tuple[int, ...], grid: int) -> list[tuple[int, int]]:
    axes = _long_axes(shape)
    return [(axis, min(shape[axis], grid if len(axes) == 2 else grid**2)) for axis in axes]


def _cells(shape: tuple[int, ...], grid: int) -> NDArray[np.int64]:
    """The cell number of each element of a tensor."""
    number = np.zeros(shape, dtype=np.int64)
    for axis, parts in _sides(shape, grid):
        place = np.arange(shape[axis]) * parts // shape[axis]
        number = number * parts + place.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return number


def _places(shape: tuple[int, ...], grid: int) -> list[str]:
    parts = [count for _, count in _sides(shape, grid)]
    return [f"[{', '.join(str(i + 1) for i in np.unravel_index(cell, parts))}]" for cell in range(int(np.prod(parts)))]


def _tensor_column(values: NDArray[np.float64], kind: pa.DataType) -> Any:
    """A tensor column from rows × shape, with the elements of `kind`; whole-number pixels are rounded."""
    element: Any = plain_type(kind)
    while pa.types.is_fixed_size_list(element):
        element = element.value_type
    whole = pa.types.is_integer(element)
    return pa.FixedShapeTensorArray.from_numpy_ndarray((np.rint(values) if whole else values).astype(element.to_pandas_dtype(), order="C"))
