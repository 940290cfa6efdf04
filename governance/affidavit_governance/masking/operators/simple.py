"""Operators that need no key: redact, keep and drop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from affidavit.errors import UsageError
from affidavit.interfaces.masking import MaskContext, Operator
from affidavit.interfaces.schema import Field, Role
from affidavit_governance.masking.cells import is_text
from affidavit_governance.masking.operators.arrays import missing

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
