"""How a tensor is cut into regions: a grid, superpixels, or segments along its longest axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit_governance.explain.players.options import PlayerOptions
from affidavit_governance.explain.players.segments import equal_cuts, quiet_cuts
from affidavit_governance.explain.players.superpixels import superpixels


@dataclass(frozen=True, slots=True)
class Cut:
    """Regions of a tensor field.

    Attributes
    ----------
    maps
        The region of each number: rows × shape, or 1 × shape where all rows are cut alike.
    names
        Of the regions. A row can have fewer.
    labels
        For each row and region what a picture may say of it, such as its seconds; empty where there is nothing to say.
    """

    maps: NDArray[np.int64]
    names: tuple[str, ...]
    labels: Sequence[Sequence[Any]] = ()


def cut(values: NDArray[np.float64], field: str, kind: str, options: PlayerOptions) -> Cut:
    """Cut rows × shape into regions of the wanted kind. Raises UsageError where the shape is no image."""
    shape = values.shape[1:]
    if kind == "regions":
        return Cut(grid_map(shape, options.grid)[None], tuple(f"{field} {place}" for place in _places(shape, options.grid)))
    if kind == "superpixels":
        return _superpixels(values, field, options)
    return _segments(values, field, options)


def long_axes(shape: tuple[int, ...]) -> list[int]:
    """The axes to cut: all that are longer than a colour channel, the first two at most."""
    return ([axis for axis, length in enumerate(shape) if length > 4] or list(range(len(shape))))[:2]


def grid_map(shape: tuple[int, ...], grid: int) -> NDArray[np.int64]:
    """The cell of each number of a tensor: ``grid × grid`` cells of an image, ``grid²`` segments where one axis alone is long."""
    number = np.zeros(shape, dtype=np.int64)
    for axis, parts in _sides(shape, grid):
        place = np.arange(shape[axis]) * parts // shape[axis]
        number = number * parts + _along(place, axis, len(shape))
    return number


def _sides(shape: tuple[int, ...], grid: int) -> list[tuple[int, int]]:
    axes = long_axes(shape)
    return [(axis, min(shape[axis], grid if len(axes) == 2 else grid**2)) for axis in axes]


def _places(shape: tuple[int, ...], grid: int) -> list[str]:
    parts = [count for _, count in _sides(shape, grid)]
    return [f"[{', '.join(str(i + 1) for i in np.unravel_index(cell, parts))}]" for cell in range(int(np.prod(parts)))]


def _along(place: NDArray[np.int64], axis: int, axes: int) -> NDArray[np.int64]:
    return place.reshape([-1 if a == axis else 1 for a in range(axes)])


def _superpixels(values: NDArray[np.float64], field: str, options: PlayerOptions) -> Cut:
    shape = values.shape[1:]
    axes = long_axes(shape)
    if len(axes) != 2 or len(shape) > 3:
        raise UsageError(f"'{field}' of shape {'×'.join(map(str, shape))} is no image, so it has no superpixels.", hint="Use regions or segments.")
    maps = np.zeros(values.shape, dtype=np.int64)
    for row, picture in enumerate(values):
        # Missing pixels are no edge; the model's answer tells what it makes of them.
        pixels = np.moveaxis(np.nan_to_num(picture), axes, (0, 1)).reshape(shape[axes[0]], shape[axes[1]], -1)
        found = superpixels(pixels, options.grid**2)
        maps[row] = found.reshape([shape[axis] if axis in axes else 1 for axis in range(len(shape))])
    return Cut(maps, tuple(f"{field} [{number + 1}]" for number in range(int(maps.max(initial=0)) + 1)))


def _segments(values: NDArray[np.float64], field: str, options: PlayerOptions) -> Cut:
    shape = values.shape[1:]
    axis = int(np.argmax(shape))
    length = shape[axis]
    count = min(length, options.grid**2)
    if options.cuts == "equal":
        starts = equal_cuts(length, count)
        return Cut(_segment_map(starts, axis, shape)[None], tuple(f"{field} {span}" for span in _spans(starts, length, options.rate)))
    energy = np.moveaxis(np.nan_to_num(values) ** 2, axis + 1, -1).reshape(len(values), -1, length).sum(axis=1)
    rows = [quiet_cuts(each, count) for each in energy]
    maps = np.stack([_segment_map(starts, axis, shape) for starts in rows]) if rows else np.zeros(values.shape, dtype=np.int64)
    labels = [_spans(starts, length, options.rate) for starts in rows]
    return Cut(maps, tuple(f"{field} [{number + 1}]" for number in range(count)), labels)


def _segment_map(starts: NDArray[np.int64], axis: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    place = np.searchsorted(starts, np.arange(shape[axis]), side="right") - 1
    return np.broadcast_to(_along(place, axis, len(shape)), shape)


def _spans(starts: NDArray[np.int64], length: int, rate: float | None) -> list[str]:
    """Each segment in seconds where the rate is known, else in places counted from one."""
    ends = np.append(starts[1:], length)
    if rate is None:
        return [f"[{start + 1}–{end}]" for start, end in zip(starts, ends, strict=True)]
    digits = max(2, int(np.ceil(-np.log10(max(np.diff(np.append(starts, length)).min() / rate, 1e-9)))) + 1)
    return [f"{start / rate:.{digits}f}–{end / rate:.{digits}f} s" for start, end in zip(starts, ends, strict=True)]
