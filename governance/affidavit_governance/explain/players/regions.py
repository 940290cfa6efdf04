"""Regions of a tensor as players: cells of an image, superpixels, segments of sound or of a series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.errors import InvalidInput
from affidavit.interfaces.columns import plain_type
from affidavit.interfaces.dataset import Dataset
from affidavit_governance.explain.estimators.partition import Hierarchy
from affidavit_governance.explain.players.base import Block, Coalitions
from affidavit_governance.explain.players.blur import blurred
from affidavit_governance.explain.players.cutting import Cut, long_axes
from affidavit_governance.explain.players.nesting import halves


class RegionBlock(Block):
    """Players are the regions of one tensor field; an absent one shows the fill there.

    A region that looks like its fill already, such as the padding of a short recording, moves no answer whoever else is in: it is no player of
    that row, and its attribution is exactly zero.

    Attributes
    ----------
    maps
        Rows × shape: the region of each number.
    fill
        Rows × shape: what absent regions show.
    """

    def __init__(self, data: Dataset, background: Dataset, field: str, regions: Cut, fill: str | float = "mean") -> None:
        self.fields = (field,)
        self._type = data.column(field).type
        self._values: NDArray[np.float64] = data.to_numpy(field)
        self.players = regions.names
        self.maps = np.broadcast_to(regions.maps, self._values.shape)
        self.fill = np.broadcast_to(self._fill(background, fill), self._values.shape)
        self.width = int(np.prod(self._values.shape[1:]))
        self._labels = regions.labels

    def _fill(self, background: Dataset, fill: str | float) -> NDArray[np.float64]:
        if fill == "blur":
            shown = blurred(self._values, long_axes(self._values.shape[1:]))
        elif fill == "mean":
            known = background.to_numpy(self.fields[0])
            present = np.isfinite(known)
            if not present.any(axis=0).all():
                raise InvalidInput(f"No background row has a value of '{self.fields[0]}' everywhere, so absent regions have no mean to show.")
            shown = np.where(present, known, 0.0).sum(axis=0) / present.sum(axis=0)
        else:
            shown = np.array(fill, dtype=np.float64)
        return _in_elements(shown, self._type).astype(np.float64)

    def active(self, row: int) -> NDArray[np.int64]:
        return np.unique(self.maps[row][self._values[row] != self.fill[row]])

    def hierarchy(self, row: int) -> Hierarchy:
        """Halves of the picture, and halves of those, by the middles of the regions."""
        regions, shape = self.maps[row], self.maps.shape[1:]
        sizes = np.maximum(np.bincount(regions.ravel(), minlength=len(self.players)), 1)
        places = np.indices(shape).reshape(len(shape), -1)
        centres = [np.bincount(regions.ravel(), weights=places[axis], minlength=len(self.players)) / sizes for axis in long_axes(shape)]
        return halves(np.stack(centres, axis=1)[self.active(row)])

    def columns(self, row: int, coalitions: Coalitions, reference: NDArray[np.int64]) -> Mapping[str, Any]:
        mixed = np.where(coalitions[:, self.maps[row]], self._values[row], self.fill[row])
        return {self.fields[0]: tensor_column(mixed, self._type)}

    def labels(self, row: int) -> list[Any]:
        return list(self._labels[row]) if self._labels else [None] * len(self.players)


def tensor_column(values: NDArray[np.float64], kind: pa.DataType) -> Any:
    """A tensor column from rows × shape, with the elements of `kind`; whole-number pixels are rounded."""
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(_in_elements(values, kind)))


def _in_elements(values: NDArray[np.float64], kind: pa.DataType) -> NDArray[Any]:
    element: Any = plain_type(kind)
    while pa.types.is_fixed_size_list(element):
        element = element.value_type
    if not pa.types.is_integer(element):
        return values.astype(element.to_pandas_dtype())
    limits = np.iinfo(element.to_pandas_dtype())
    return np.clip(np.rint(values), limits.min, limits.max).astype(element.to_pandas_dtype())
