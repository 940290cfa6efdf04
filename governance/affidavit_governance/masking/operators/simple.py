"""Operators that look at no value: redact, replace, keep and drop."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pyarrow as pa
from pydantic import StrictBool, StrictFloat, StrictInt, StrictStr

from affidavit.errors import UsageError
from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field, Role
from affidavit_governance.masking.operators.arrays import is_text, missing

REDACTED = "[REDACTED]"


class Redact(Operator):
    """Puts ``[REDACTED]`` in place of every text, and nothing in place of every other value. The Arrow type stays.

    What is left tells nothing, so a feature becomes an identifier and reaches no model.
    """

    name = "redact"

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        kind = column.type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not is_text(value):
            return pa.chunked_array([pa.nulls(len(column), kind)], type=kind)
        plain = pa.large_string() if pa.types.is_large_string(value) else pa.string()
        masked = pa.array([REDACTED], type=plain).take(pa.array(np.zeros(len(column), dtype=np.int8), mask=missing(column)))
        return pa.chunked_array([masked.cast(kind)], type=kind)

    def field(self, field: Field) -> Field:
        role = Role.IDENTIFIER if field.role is Role.FEATURE else field.role
        return replace(super().field(field), role=role, bounds=None)


class ReplaceSettings(Settings):
    """`value` stands in place of every value."""

    value: StrictBool | StrictInt | StrictFloat | StrictStr


class Replace(Operator):
    """Puts one fixed value in place of every value. The Arrow type stays, so the value must fit it; a date is written ``2000-01-01``.

    What is left tells nothing but which values are missing, so a feature becomes an identifier and reaches no model.
    """

    name = "replace"
    Settings = ReplaceSettings
    spans = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        assert isinstance(self.settings, ReplaceSettings)
        kind = column.type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_null(value):
            return column  # a column without a single value
        one = _fitting(self.settings.value, pa.large_string() if pa.types.is_string_view(value) else value)
        if one is None:
            raise UsageError(
                f"Column '{field.name}' has the Arrow type {kind}, which the value of 'replace' does not fit.",
                hint="Give a value of the column's type, or use redact.",
            )
        indices = pa.array(np.zeros(len(column), dtype=np.int8), mask=missing(column))
        if pa.types.is_dictionary(kind):
            return pa.chunked_array([pa.DictionaryArray.from_arrays(indices.cast(kind.index_type), one)], type=kind)
        return pa.chunked_array([one.take(indices).cast(kind)], type=kind)

    def field(self, field: Field) -> Field:
        role = Role.IDENTIFIER if field.role is Role.FEATURE else field.role
        return replace(super().field(field), role=role, bounds=None)


def _fitting(given: bool | int | float | str, kind: pa.DataType) -> pa.Array | None:
    """An array of the one value, or None where `kind` has no such value."""
    if isinstance(given, bool) is not bool(pa.types.is_boolean(kind)) or (is_text(kind) and not isinstance(given, str)):
        return None
    try:
        if pa.types.is_decimal(kind):
            return pa.array([Decimal(str(given))], kind)
        one = pa.array([given]).cast(kind)
    except (pa.ArrowException, ArithmeticError, ValueError):
        return None
    return one if isinstance(given, str) or pa.types.is_floating(kind) or one[0].as_py() == given else None


class Keep(Operator):
    """Leaves the column as it is, unsearched: the policy's explicit word."""

    name = "keep"

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        return column

    def field(self, field: Field) -> Field:
        return field


class Drop(Operator):
    """Leaves the column out."""

    name = "drop"

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> None:
        if field.role is Role.TARGET:
            raise UsageError(f"Column '{field.name}' is the target and cannot be dropped by masking.", hint="Use keep, redact or generalise.")
