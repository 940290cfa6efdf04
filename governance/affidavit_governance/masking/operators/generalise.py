"""Coarser values."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field as Setting
from pydantic import model_validator

from affidavit.errors import UsageError
from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.masking.cells import is_text
from affidavit_governance.masking.operators.arrays import missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EDGE = re.compile(r"\[(-?[0-9.]+(?:e[+-]?[0-9]+)?), ")


class GeneraliseSettings(Settings):
    """One of `width` (numbers), `unit` (dates) and `prefix` (text).

    `width` bins numbers from `origin` on; the bin is shown as its lower edge, its midpoint, or a label such as ``[30, 35)``.
    `unit` cuts dates and times down; `prefix` keeps the first characters of a text.
    """

    width: Annotated[float, Setting(gt=0, allow_inf_nan=False)] | None = None
    origin: Annotated[float, Setting(allow_inf_nan=False)] = 0.0
    show: Literal["lower", "midpoint", "label"] = "lower"
    unit: Literal["year", "quarter", "month", "week", "day", "hour"] | None = None
    prefix: Annotated[int, Setting(ge=0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> GeneraliseSettings:
        if sum(value is not None for value in (self.width, self.unit, self.prefix)) != 1:
            raise ValueError("give exactly one of width (numbers), unit (dates) and prefix (text)")
        return self


class Generalise(Operator):
    """Makes values coarser: numbers to bins, dates to their year or month, text to its first characters.

    A number is shown by default as the lower edge of its bin, so that a numeric feature stays one and whole numbers stay whole.
    Generalising twice is the same as once.
    """

    name = "generalise"
    Settings = GeneraliseSettings
    scan_after = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        settings = self.settings
        assert isinstance(settings, GeneraliseSettings)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        plain = column.cast(kind) if pa.types.is_dictionary(column.type) else column
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if settings.width is not None and number:
            return _bins(plain, settings)
        if settings.show == "label" and is_text(kind) and _are_labels(plain, settings):
            return plain
        if settings.unit is not None and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            return pc.floor_temporal(plain, unit=settings.unit).cast(kind)
        if settings.prefix is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            longer = pc.greater(pc.utf8_length(plain), settings.prefix)
            start = pc.utf8_slice_codeunits(plain, 0, settings.prefix)
            cut = pc.binary_join_element_wise(start, pa.scalar("*", kind), pa.scalar("", kind))
            return pc.if_else(longer, cut, plain).cast(column.type)
        wants = "numbers" if settings.width is not None else "dates or times" if settings.unit is not None else "text"
        raise UsageError(
            f"Column '{field.name}' has the Arrow type {column.type}; these settings of 'generalise' need {wants}.",
            hint="Use width for numbers, unit for dates, prefix for text.",
        )

    def field(self, field: Field) -> Field:
        settings = self.settings
        assert isinstance(settings, GeneraliseSettings)
        changed = replace(super().field(field), bounds=None)
        if settings.width is None:
            return changed
        if settings.show == "label":
            return replace(changed, type=FieldType.CATEGORICAL)
        if field.bounds is None:
            return changed
        shown = _shown(np.array(field.bounds), settings)
        return replace(changed, bounds=(float(shown[0]), float(shown[1])))


def _bins(column: pa.ChunkedArray, settings: GeneraliseSettings) -> pa.ChunkedArray:
    absent = missing(column)
    filled = pc.fill_null(column.cast(pa.float64(), safe=False), 0.0).to_numpy()
    values = np.where(absent | ~np.isfinite(filled), 0.0, filled)
    lower = _lower(values, settings)
    if settings.show == "label":
        width = settings.width or 1.0
        labels = [None if m else _label(low, width) for low, m in zip(lower, absent, strict=True)]
        return pa.chunked_array([pa.array(labels, pa.string())])
    shown = pa.array(_shown(values, settings), mask=absent)
    steps = (settings.width or 0.0, settings.origin, (settings.width or 0.0) / 2 if settings.show == "midpoint" else 0.0)
    # The type follows from settings and column type, never from the values, so that all batches of a stream agree.
    if pa.types.is_integer(column.type) and all(float(step).is_integer() for step in steps):
        shown = shown.cast(pa.int64())
    elif pa.types.is_floating(column.type):
        shown = shown.cast(column.type, safe=False)
    return pa.chunked_array([shown])


def _label(lower: float, width: float) -> str:
    return f"[{lower:.12g}, {lower + width:.12g})"


def _are_labels(column: pa.ChunkedArray, settings: GeneraliseSettings) -> bool:
    """Whether every text is the label of one of these bins, so that the column is generalised already."""
    for value in pc.unique(column).to_pylist():
        if value is None:
            continue
        edge = _EDGE.match(value)
        if not edge or _label(float(_lower(np.array([float(edge.group(1))]), settings)[0]), settings.width or 1.0) != value:
            return False
    return True


def _lower(values: NDArray[np.float64], settings: GeneraliseSettings) -> NDArray[np.float64]:
    width = settings.width or 1.0
    # The margin absorbs rounding (0.3 / 0.1 is 2.999…), so that a bin's edge stays in its bin when it is generalised again.
    bins: NDArray[np.float64] = np.floor((values - settings.origin) / width + 1e-9) * width + settings.origin
    return bins


def _shown(values: NDArray[np.float64], settings: GeneraliseSettings) -> NDArray[np.float64]:
    lower = _lower(values, settings)
    return lower + (settings.width or 0.0) / 2 if settings.show == "midpoint" else lower
