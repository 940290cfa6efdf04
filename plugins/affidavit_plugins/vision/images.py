"""Image columns: fixed-shape tensors in Arrow as batches of channels × height × width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.errors import InvalidInput
from affidavit.interfaces.columns import plain_array, plain_type
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Field, FieldType

CHANNELS = (1, 3, 4)
"""Sizes that a channel axis has: grey, RGB, RGBA."""

MIN_SIDE = 4
"""Images smaller than this have nothing left after two poolings."""


@dataclass(frozen=True, slots=True)
class ImageEncoding:
    """How one column becomes images.

    Attributes
    ----------
    layout
        ``"HW"``, ``"HWC"`` or ``"CHW"``.
    shape
        The shape of one value in the column.
    divisor
        What pixels are divided by: 255 for uint8, 65535 for uint16, 1 for floats. Fixed by the type and never by the values, so that it
        says nothing about the data.
    """

    name: str
    layout: str
    shape: tuple[int, ...]
    divisor: float

    @classmethod
    def learn(cls, data: Dataset) -> ImageEncoding:
        """Find the image column of `data`.

        Raises
        ------
        InvalidInput
            There is not exactly one tensor feature, or its shape or type is none of an image's.
        """
        tensors = [field for field in data.schema if field.type is FieldType.TENSOR]
        others = [field.name for field in data.schema if field.type is not FieldType.TENSOR]
        if len(tensors) != 1 or others:
            raise InvalidInput(
                f"Data set '{data.name}' has {len(tensors)} tensor features and {len(others)} other features; an image model reads one image column.",
                hint="Give the other columns another role than 'feature'.",
            )
        field = tensors[0]
        shape = field.shape or ()
        return cls(field.name, _layout(field, shape), shape, _divisor(field, plain_type(data.column(field.name).type)))

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return {"HW": 1, "HWC": self.shape[-1], "CHW": self.shape[0]}[self.layout]

    def pixels(self, data: Dataset) -> NDArray[Any]:
        """The images, rows × channels × height × width, in the column's own type.

        Raises
        ------
        InvalidInput
            An image is missing, or holds NaN or infinity.
        """
        column = data.column(self.name)
        if column.null_count:
            raise InvalidInput(f"Image column '{self.name}' of data set '{data.name}' is missing in {column.null_count} rows.")
        permutation = column.type.permutation if isinstance(column.type, pa.FixedShapeTensorType) else None
        if permutation is not None and list(permutation) != sorted(permutation):
            images: NDArray[Any] = data.to_numpy(self.name)
        else:
            # Not to_numpy here: it would turn 8-bit images into eight times their size.
            chunks = [_flat(chunk) for chunk in column.chunks]
            images = np.concatenate(chunks).reshape(len(column), *self.shape) if chunks else np.zeros((0, *self.shape))
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            raise InvalidInput(f"Image column '{self.name}' of data set '{data.name}' holds pixels that are missing, infinite or not a number.")
        if self.layout == "HW":
            return images[:, None]
        return images.transpose(0, 3, 1, 2) if self.layout == "HWC" else images

    def to_json(self) -> dict[str, Any]:
        """The encoding as a JSON object."""
        return {"version": 1, "name": self.name, "layout": self.layout, "shape": list(self.shape), "divisor": self.divisor}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageEncoding:
        """Read what `to_json` wrote."""
        if value.get("version") != 1:
            raise InvalidInput(f"This image encoding has version {value.get('version')}; this release reads version 1.")
        return cls(value["name"], value["layout"], tuple(value["shape"]), float(value["divisor"]))


def _layout(field: Field, shape: tuple[int, ...]) -> str:
    layout, sides = "", (0, 0)
    if len(shape) == 2:
        layout, sides = "HW", (shape[0], shape[1])
    elif len(shape) == 3 and shape[-1] in CHANNELS:
        layout, sides = "HWC", (shape[0], shape[1])
    elif len(shape) == 3 and shape[0] in CHANNELS:
        layout, sides = "CHW", (shape[1], shape[2])
    if min(sides) < MIN_SIDE:
        raise InvalidInput(
            f"Column '{field.name}' has values of shape {' × '.join(map(str, shape)) or 'unknown'}, which are no images.",
            hint=f"Use height × width, height × width × channels or channels × height × width, sides from {MIN_SIDE}, 1, 3 or 4 channels.",
        )
    return layout


def _divisor(field: Field, kind: pa.DataType) -> float:
    while pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    if pa.types.is_floating(kind):
        return 1.0
    if kind in (pa.uint8(), pa.uint16()):
        return 255.0 if kind == pa.uint8() else 65535.0
    raise InvalidInput(f"Image column '{field.name}' holds {kind} values.", hint="Use uint8, uint16 or floats between 0 and 1.")


def _flat(chunk: pa.Array) -> NDArray[Any]:
    """All values of one chunk in row order."""
    array = plain_array(chunk)
    while pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values
