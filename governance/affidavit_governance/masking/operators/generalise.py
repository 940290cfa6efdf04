"""Coarser values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field as Setting
from pydantic import model_validator

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.masking.operators.arrays import is_number, is_text, missing
from affidavit_governance.masking.operators.contents import in_rows
from affidavit_governance.masking.operators.simple import REDACTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EDGE = re.compile(r"\[(-?[0-9.]+(?:e[+-]?[0-9]+)?), ")


class GeneraliseSettings(Settings):
    """One of `width` (numbers), `unit` (dates), `prefix` (text) and `hierarchy` (named values).

    `width` bins numbers from `origin` on; the bin is shown as its lower edge, its midpoint, or a label such as ``[30, 35)``.
    `unit` cuts dates and times down; `prefix` keeps the first characters of a text, such as a postal code.
    `hierarchy` gives the parent of each value, parents of parents included; values rise to `level`, where the lowest ones are on level 0
    and a parent is one above its highest child. `unknown` says what becomes of values that it does not name.
    """

    width: Annotated[float, Setting(gt=0, allow_inf_nan=False)] | None = None
    origin: Annotated[float, Setting(allow_inf_nan=False)] = 0.0
    show: Literal["lower", "midpoint", "label"] = "lower"
    unit: Literal["year", "quarter", "month", "week", "day", "hour"] | None = None
    prefix: Annotated[int, Setting(ge=0)] | None = None
    hierarchy: dict[str, str] | None = None
    level: Annotated[int, Setting(ge=1)] = 1
    unknown: Literal["refuse", "redact"] = "refuse"

    @model_validator(mode="after")
    def _one(self) -> GeneraliseSettings:
        if sum(value is not None for value in (self.width, self.unit, self.prefix, self.hierarchy)) != 1:
            raise ValueError("give exactly one of width (numbers), unit (dates), prefix (text) and hierarchy (named values)")
        if self.hierarchy is not None:
            risen(self.hierarchy, self.level)
        return self


class Generalise(Operator):
    """Makes values coarser: numbers to bins, dates to their year or month, text to its first characters, named values to their parents.

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
        if pa.types.is_null(kind):
            return column  # a column without a single value
        if settings.width is not None and is_number(kind):
            return _bins(plain, settings, field)
        if settings.show == "label" and is_text(kind) and _are_labels(plain, settings):
            return plain
        if settings.unit is not None and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            return pc.floor_temporal(plain, unit=settings.unit).cast(kind)
        if settings.prefix is not None and is_text(kind):
            return in_rows(column, field, "a prefix", _prefix(settings.prefix))
        if settings.hierarchy is not None and (is_text(kind) or is_number(kind)):
            return in_rows(column, field, "a hierarchy", _ancestors(settings, field))
        wants = "numbers" if settings.width is not None else "dates or times" if settings.unit is not None else "text"
        raise UsageError(
            f"Column '{field.name}' has the Arrow type {column.type}; these settings of 'generalise' need {wants}.",
            hint="Use width for numbers, unit for dates, prefix for text, hierarchy for text or numbers.",
        )

    def field(self, field: Field) -> Field:
        settings = self.settings
        assert isinstance(settings, GeneraliseSettings)
        changed = replace(super().field(field), bounds=None)
        if settings.hierarchy is not None:
            shown = set(risen(settings.hierarchy, settings.level).values()) | ({REDACTED} if settings.unknown == "redact" else set())
            return replace(changed, type=FieldType.CATEGORICAL, categories=tuple(sorted(shown)))
        if settings.width is None:
            return changed
        if settings.show == "label":
            return replace(changed, type=FieldType.CATEGORICAL)
        if field.bounds is None:
            return changed
        edges = _shown(np.array(field.bounds), settings)
        return replace(changed, bounds=(float(edges[0]), float(edges[1])))


def risen(hierarchy: Mapping[str, str], level: int) -> dict[str, str]:
    """What each named value becomes on `level`: itself where it is as high already, or its last ancestor where the hierarchy ends below.

    Raises
    ------
    ValueError
        A value is its own ancestor.
    """
    parents = set(hierarchy.values())
    heights = dict.fromkeys([*hierarchy, *parents], 0)
    # Every leaf lifts its ancestors; the longest way counts.
    for leaf in [name for name in hierarchy if name not in parents] or list(hierarchy)[:1]:
        height, name = 0, leaf
        while name in hierarchy:
            height, name = height + 1, hierarchy[name]
            if height > len(heights):
                raise ValueError("the hierarchy has a value that is its own ancestor")
            heights[name] = max(heights[name], height)
    if any(heights[name] == 0 for name in parents):
        raise ValueError("the hierarchy has a value that is its own ancestor")
    result = {}
    for name in heights:
        at = name
        while heights[at] < level and at in hierarchy:
            at = hierarchy[at]
        result[name] = at
    return result


def _ancestors(settings: GeneraliseSettings, field: Field) -> Callable[[pa.Array], pa.Array]:
    known = risen(settings.hierarchy or {}, settings.level)
    if settings.unknown == "redact":
        known.setdefault(REDACTED, REDACTED)
    names, results = pa.array(list(known), pa.large_string()), pa.array(list(known.values()), pa.large_string())

    def change(texts: pa.Array) -> pa.Array:
        found = results.take(pc.index_in(texts, value_set=names))
        if found.null_count and settings.unknown == "refuse":
            raise InvalidInput(
                f"Column '{field.name}': {found.null_count} distinct values are not in the hierarchy of 'generalise'.",
                hint="Add them, or set unknown: redact.",
            )
        return pc.fill_null(found, REDACTED)

    return change


def _prefix(length: int) -> Callable[[pa.Array], pa.Array]:
    def change(texts: pa.Array) -> pa.Array:
        start = pc.utf8_slice_codeunits(texts, 0, length)
        marked = pc.binary_join_element_wise(start, pa.scalar("*", texts.type), pa.scalar("", texts.type))
        # What ends in the mark behind the prefix is a prefix already.
        return pc.if_else(pc.or_(pc.less_equal(pc.utf8_length(texts), length), pc.equal(texts, marked)), texts, marked)

    return change


def _bins(column: pa.ChunkedArray, settings: GeneraliseSettings, field: Field) -> pa.ChunkedArray:
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
        try:
            shown = shown.cast(pa.int64())
        except pa.ArrowInvalid:
            raise UsageError(f"Column '{field.name}' holds whole numbers beyond 2⁶³, which have no bin.", hint="Use another operator.") from None
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
