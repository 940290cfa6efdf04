"""Dates moved by as many days as their subject says."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field as Setting

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field
from affidavit_governance.masking.operators.arrays import missing, typed
from affidavit_governance.masking.operators.contents import subjects_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TICKS_A_DAY = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31, in days from 1970-01-01: what Python, most databases and ISO 8601's plain form can write."""


class DateShiftSettings(Settings):
    """`subject` names the column that says whose a row is; `days` is the farthest that a date moves, forward or back."""

    subject: str
    days: Annotated[int, Setting(ge=1, le=36_500)] = 365


class DateShift(Operator):
    """Moves all dates of one subject by the same number of whole days, between one and `days`, forward or back.

    The number follows from the workspace's key and the subject (keyed BLAKE2b), so it is the same in every column and table, and the time
    between two dates of one subject stays what it was. Type and time of day stay. Somebody who knows one true date of a subject knows all.
    """

    name = "date_shift"
    Settings = DateShiftSettings
    idempotent = False

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        kind = column.type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_null(value):
            return column  # a column without a single value
        if not (pa.types.is_date(value) or pa.types.is_timestamp(value)):
            raise UsageError(f"Column '{field.name}' has the Arrow type {kind}; 'date_shift' needs dates or times.", hint="Cast it to a date first.")
        absent = missing(column)
        subjects = subjects_of(column, context.subjects, field, self.name)
        shifts = self._shifts(subjects.values.to_pylist(), context)
        rows = pc.fill_null(subjects.positions(len(column)), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        moved = shifts[rows] if len(shifts) else np.zeros(len(column), dtype=np.int64)
        ticks = 1 if pa.types.is_date32(value) else _TICKS_A_DAY["ms"] if pa.types.is_date64(value) else _TICKS_A_DAY[value.unit]
        whole = pa.int32() if pa.types.is_date32(value) else pa.int64()
        plain = column.cast(value).combine_chunks()
        plain = plain.combine_chunks() if isinstance(plain, pa.ChunkedArray) else plain
        numbers = pc.fill_null(plain.cast(whole).cast(pa.int64()), 0)
        try:
            added = pc.add_checked(numbers, pa.array(np.where(absent, 0, moved * ticks))).cast(whole)
        except pa.ArrowInvalid:
            raise InvalidInput(f"Column '{field.name}' holds a date so far away that moving it leaves the type {value}.") from None
        filled = np.where(absent, 0, added.to_numpy(zero_copy_only=False))
        if (_written(filled // ticks) < _written(np.where(absent, 0, numbers.to_numpy(zero_copy_only=False)) // ticks)).any():
            raise InvalidInput(
                f"Column '{field.name}' holds dates at the end of the calendar, which would be moved out of the years 1 to 9999.",
                hint="Such dates often stand for none: make them missing first.",
            )
        # Made anew from the numbers, with zeros under nulls, so that no date stays behind in the buffer.
        return typed(pa.array(filled.astype(whole.to_pandas_dtype()), whole, mask=absent).cast(value), kind)

    def field(self, field: Field) -> Field:
        return replace(super().field(field), bounds=None)

    def _shifts(self, subjects: list[bytes], context: MaskContext) -> NDArray[np.int64]:
        assert isinstance(self.settings, DateShiftSettings)
        days = self.settings.days
        base = hashlib.blake2b(digest_size=16, key=context.derive("date shift"), person=b"affidavit-ds-1")
        shifts = np.empty(len(subjects), dtype=np.int64)
        for i, subject in enumerate(subjects):
            state = base.copy()
            state.update(subject)
            # One of the 2·days numbers that are not zero; 128 bits leave no bias that could be seen.
            chosen = int.from_bytes(state.digest(), "big") % (2 * days)
            shifts[i] = chosen - days if chosen < days else chosen - days + 1
        return shifts


def _written(days: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which days have a date in the calendar that everybody can write."""
    return (days >= _FIRST_DAY) & (days <= _LAST_DAY)
