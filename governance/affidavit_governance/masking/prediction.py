"""Masking of rows to predict: the same as in training, at the price of one search over the bytes of the batch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.masking import MaskContext, Operator
from affidavit.interfaces.model import Signature
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.cells import CARD_NUMBER_MIN, CellMasker
from affidavit_governance.masking.columns import name_hints
from affidavit_governance.masking.plan import Tools, plan_for
from affidavit_governance.masking.recognizers.base import PatternRecognizer
from affidavit_governance.masking.text import COLONS

FEW_ROWS = 64
"""Up to here one search over the serialised batch is quicker than a kernel for each column."""

_AT = re.compile(rb"@[0-9A-Za-z_\x80-\xff-]")
_DIGITS = re.compile(
    rb"[0-9](?:(?:[ ./()-]{0,3}[0-9]){6}|[0-9]{0,2}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|(?<=[A-Za-z]{2}[0-9])[0-9](?:[ .-]?[0-9A-Za-z]){11})"
)
"""`text.DIGITS` with its first alternatives joined, so that the engine skips to a digit."""
_COLONS = re.compile(COLONS.encode())
_UNUSUAL = re.compile(rb"[\xc2\xd9\xdb\xdf-\xe2\xea\xef\xf0]")
"""First bytes, in UTF-8, of all characters that `text.plain` would change; Chinese characters begin with others."""


@dataclass(slots=True)
class _Layout:
    """Where things stand in batches of one Arrow schema."""

    arrow: pa.Schema
    known: list[str]
    extra: bool
    plain: list[str]
    plain_at: list[int]
    numbers: list[str]
    numbers_at: list[int]
    other: list[str]


class PredictionMasker:
    """Masks batches for one fitted model.

    Columns that the model does not read are left out. A column that was masked for training gets the same operator. Every other cell
    is searched.

    Raises
    ------
    Refused
        The policy no longer says how an input of the model was masked.
    """

    def __init__(self, signature: Signature, policy: MaskingPolicy, key: bytes, tools: Tools) -> None:
        self.signature = signature
        self._policy = policy
        self._context = MaskContext(key)
        self._tools = tools
        self._fields: Mapping[str, Field] = {field.name: field for field in signature.inputs}
        self._operators = self._trained_operators()
        self._slow = any(not isinstance(r, PatternRecognizer) for r in tools.recognizers) and any(
            field.type is FieldType.TEXT for field in signature.inputs
        )
        self._layout: _Layout | None = None

    def _trained_operators(self) -> dict[str, Operator]:
        inputs = self.signature.inputs
        empty = Dataset(pa.table({field.name: pa.nulls(0) for field in inputs}), inputs, name="rows")
        plan = plan_for(empty, self._policy.model_copy(update={"detect": False}), tools=self._tools, trained=inputs)
        return {
            column.name: self._tools.operators[column.operator](**column.settings) for column in plan.columns if column.operator not in (None, "keep")
        }

    def mask(self, data: Dataset) -> tuple[Dataset, dict[str, dict[str, Any]]]:
        """The batch without personal data, `data` itself where there was none, and what was masked by column."""
        table = data.table
        layout = self._layout
        if layout is None or not layout.arrow.equals(table.schema):
            layout = self._layout = self._look(table.schema)
        work = {name: operator for name, operator in self._operators.items() if name in data.schema} if self._operators else {}
        suspect = self._policy.detect and bool(layout.other or self._suspect(data, table, layout))
        if not work and not suspect:
            if not layout.extra:
                return data, {}
            return _fresh(data, table.select(layout.known), data.schema.select(tuple(layout.known))), {}
        return self._masked(data, table, layout, work)

    def _look(self, arrow: pa.Schema) -> _Layout:
        known = [name for name in arrow.names if name in self._fields]
        plain, numbers, other = [], [], []
        for name in known:
            kind = arrow.field(name).type
            kept = self._policy.fields.get(name)
            if name in self._operators or (kept is not None and kept.name == "keep"):
                continue
            if pa.types.is_string(kind) or pa.types.is_large_string(kind):
                plain.append(name)
            elif pa.types.is_int64(kind) or pa.types.is_uint64(kind) or pa.types.is_float64(kind):
                numbers.append(name)
            elif not (pa.types.is_primitive(kind) or pa.types.is_null(kind) or isinstance(kind, pa.FixedShapeTensorType)):
                other.append(name)
        at = {name: arrow.get_field_index(name) for name in known}
        extra = len(known) < len(arrow.names)
        return _Layout(arrow, known, extra, plain, [at[name] for name in plain], numbers, [at[name] for name in numbers], other)

    def _suspect(self, data: Dataset, table: pa.Table, layout: _Layout) -> bool:
        """Whether some cell may hold personal data. May be wrong with a yes, never with a no."""
        if self._slow or table.num_rows > FEW_ROWS:
            return True
        if data.cells is not None:
            return _suspect_cells(data.cells, layout)
        if layout.plain and _suspect_text(table.select(layout.plain_at)):
            return True
        return bool(layout.numbers) and _suspect_numbers(table.select(layout.numbers_at))

    def _clean(self, table: pa.Table, layout: _Layout, name: str) -> bool:
        """Whether one text column of a small batch certainly holds nothing, so that no masker need be made for it."""
        quick = not self._slow and table.num_rows <= FEW_ROWS and name in layout.plain
        return quick and not _suspect_text(table.select([name]))

    def _masked(self, data: Dataset, table: pa.Table, layout: _Layout, work: Mapping[str, Operator]) -> tuple[Dataset, dict[str, dict[str, Any]]]:
        columns, fields, report = [], [], {}
        keep = frozenset(entity for entity, operator in self._policy.entities.items() if operator.name == "keep")
        searched = {*layout.plain, *layout.numbers, *layout.other} if self._policy.detect else set()
        for name in layout.known:
            column, field = table.column(name), data.schema[name]
            if name in work:
                masked = work[name].apply(column, field, self._context)
                if masked is None:
                    raise UsageError(f"The model reads column '{name}', which the policy drops.")
                column, field = masked, work[name].field(field)
                report[name] = {"operator": work[name].name, "cells": len(column) - column.null_count}
            if (name in searched and not self._clean(table, layout, name)) or (name in work and work[name].scan_after):
                masker = CellMasker(
                    name,
                    threshold=self._policy.threshold,
                    recognizers=self._tools.recognizers,
                    text=field.type is FieldType.TEXT,
                    hints=name_hints(name),
                    keep=keep,
                )
                column = masker.mask(column)
                if masker.cells:
                    report[name] = {"operator": "spans", "cells": masker.cells, "findings": dict(masker.entities)}
            columns.append(column)
            fields.append(field)
        if not report and not layout.extra:
            return data, {}
        return _fresh(data, pa.Table.from_arrays(columns, names=layout.known), Schema(tuple(fields))), report


def _fresh(data: Dataset, table: pa.Table, schema: Schema) -> Dataset:
    """A data set without lineage: one that is derived would hold on to the rows as they were."""
    return Dataset(table, schema, name=data.name)


def _suspect_text(table: pa.Table) -> bool:
    for batch in table.to_batches():
        message = bytes(batch.serialize())
        # An encapsulated IPC message: a marker, the size of its metadata, the metadata, and then the values. An at sign alone may be
        # the length 64; a zero byte follows that one.
        body = message[8 + int.from_bytes(message[4:8], "little") :]
        if _suspect_bytes(body):
            return True
    return False


def _suspect_bytes(body: bytes) -> bool:
    return bool((b"@" in body and _AT.search(body)) or _DIGITS.search(body) or _COLONS.search(body) or (not body.isascii() and _UNUSUAL.search(body)))


def _suspect_cells(cells: Sequence[tuple[Any, ...]], layout: _Layout) -> bool:
    try:
        # A line feed stands in no pattern, so that none can reach from one cell into the next.
        text = "\n".join([row[at] for row in cells for at in layout.plain_at if row[at] is not None])
        return _suspect_bytes(text.encode()) or any(row[at] is not None and row[at] >= CARD_NUMBER_MIN for row in cells for at in layout.numbers_at)
    except (TypeError, UnicodeEncodeError):
        return True  # a value of another type than its column's, or a lone surrogate


def _suspect_numbers(table: pa.Table) -> bool:
    try:
        return any(bool((batch.to_tensor(null_to_nan=True).to_numpy() >= CARD_NUMBER_MIN).any()) for batch in table.to_batches())
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return True


def registered_tools(registry: Any) -> Tools:
    """Every recognizer and operator of a registry."""
    recognizers: Sequence[Any] = [registry.get("recognizer", name)() for name in registry.names("recognizer")]
    operators = {name: registry.get("operator", name) for name in registry.names("operator")}
    return Tools(tuple(recognizers), operators)


__all__ = ["FEW_ROWS", "PredictionMasker", "registered_tools"]
