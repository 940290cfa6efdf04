"""Masking of rows to predict: the same as in training, at the price of looking up its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.masking import Recognizer
from affidavit.interfaces.model import Signature
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.applying import BoundOperator
from affidavit_governance.masking.cells import CARD_NUMBER_MIN, CellMasker
from affidavit_governance.masking.columns import name_hints
from affidavit_governance.masking.history import Masked, masked_before
from affidavit_governance.masking.plan import plan_for, policy_digest
from affidavit_governance.masking.recognizers.base import PatternRecognizer
from affidavit_governance.masking.spans import Spans
from affidavit_governance.masking.suspects import CleanCells
from affidavit_governance.masking.tools import Tools, reads

FEW_ROWS = 64
"""Up to here looking up single cells is quicker than a kernel for each column."""


@dataclass(slots=True)
class _Layout:
    """Where things stand in batches of one Arrow schema."""

    arrow: pa.Schema
    known: list[str]
    extra: bool
    plain: dict[str, CleanCells]
    plain_at: list[tuple[CleanCells, list[int]]]
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
        self._digest = policy_digest(policy)
        self._key = key
        self._tools = tools
        self._spans = Spans.of(policy, tools, key)
        self._fields: Mapping[str, Field] = {field.name: field for field in signature.inputs}
        self._operators = self._trained_operators()
        # What cannot tell its own values has to ask the rows where they come from; all other batches are spared that.
        # So has an operator that knows its own values, but not the tokens that a search put among them.
        self._searched = {name for name, bound in self._operators.items() if bound.operator.scan_after and self._spans.tokens}
        own = {name for name, bound in self._operators.items() if bound.operator.subject is not None or not bound.operator.idempotent}
        self._once = own | self._searched
        self._ask = bool(self._once) or self._spans.tokens
        self._slow = any(not isinstance(r, PatternRecognizer) and _reads_any(r, signature.inputs) for r in tools.recognizers)
        self._layout: _Layout | None = None
        self._known: dict[frozenset[str], CleanCells] = {}

    def _trained_operators(self) -> dict[str, BoundOperator]:
        inputs = self.signature.inputs
        empty = Dataset(pa.table({field.name: pa.nulls(0) for field in inputs}), inputs, name="rows")
        plan = plan_for(empty, self._policy.model_copy(update={"detect": False}), tools=self._tools, trained=inputs)
        return {
            column.name: BoundOperator(column, inputs[column.name], self._key, self._tools)
            for column in plan.columns
            if column.operator not in (None, "keep")
        }

    def mask(self, data: Dataset) -> tuple[Dataset, dict[str, dict[str, Any]]]:
        """The batch without personal data, `data` itself where there was none, and what was masked by column."""
        table = data.table
        layout = self._layout
        if layout is None or not layout.arrow.equals(table.schema):
            layout = self._layout = self._look(table.schema)
        work = {name: bound for name, bound in self._operators.items() if name in data.schema} if self._operators else {}
        before = masked_before(data, self._tools.context(self._key)) if self._ask and data.lineage else None
        if before is not None:
            work = {name: bound for name, bound in work.items() if not self._done(before, name, bound)}
        suspect = self._policy.detect and bool(layout.other or self._suspect(data, table, layout))
        if not work and not suspect:
            if not layout.extra:
                return data, {}
            return _fresh(data, table.select(layout.known), data.schema.select(tuple(layout.known))), {}
        return self._masked(data, table, layout, work, before)

    def _done(self, before: Masked, name: str, bound: BoundOperator) -> bool:
        """Whether the rows come from masked data, and must not be masked again."""
        searched = name not in self._searched or before.searched.get(name) == self._digest
        return name in self._once and before.holds(bound.plan) and searched

    def _look(self, arrow: pa.Schema) -> _Layout:
        known = [name for name in arrow.names if name in self._fields]
        plain: dict[str, CleanCells] = {}
        numbers, other = [], []
        for name in known:
            kind = arrow.field(name).type
            kept = self._policy.fields.get(name)
            if name in self._operators or (kept is not None and kept.name == "keep"):
                continue
            if pa.types.is_string(kind) or pa.types.is_large_string(kind):
                plain[name] = self._cells(name)
            elif pa.types.is_int64(kind) or pa.types.is_uint64(kind) or pa.types.is_float64(kind):
                numbers.append(name)
            elif not (pa.types.is_primitive(kind) or pa.types.is_null(kind) or isinstance(kind, pa.FixedShapeTensorType)):
                other.append(name)
        at = {name: arrow.get_field_index(name) for name in known}
        extra = len(known) < len(arrow.names)
        plain_at: dict[CleanCells, list[int]] = {}
        for name, cells in plain.items():
            plain_at.setdefault(cells, []).append(at[name])
        return _Layout(arrow, known, extra, plain, list(plain_at.items()), numbers, [at[name] for name in numbers], other)

    def _cells(self, name: str) -> CleanCells:
        """What remembers the cells of a column; one for all columns whose names speak for the same."""
        hints = name_hints(name)
        if hints not in self._known:
            self._known[hints] = CleanCells(
                threshold=self._policy.threshold, thresholds=self._policy.thresholds, recognizers=self._tools.recognizers, hints=hints
            )
        return self._known[hints]

    def _suspect(self, data: Dataset, table: pa.Table, layout: _Layout) -> bool:
        """Whether some cell may hold personal data. May be wrong with a yes, never with a no."""
        if self._slow or table.num_rows > FEW_ROWS:
            return True
        if data.cells is not None:
            return _suspect_cells(data.cells, layout)
        if any(cells.suspect(_values(table, at)) for cells, at in layout.plain_at):
            return True
        return bool(layout.numbers) and _suspect_numbers(table.select(layout.numbers_at))

    def _clean(self, table: pa.Table, layout: _Layout, name: str) -> bool:
        """Whether one text column of a small batch certainly holds nothing, so that no masker need be made for it."""
        quick = not self._slow and table.num_rows <= FEW_ROWS and name in layout.plain
        return quick and not layout.plain[name].suspect(_values(table, [layout.arrow.get_field_index(name)]))

    def _masked(
        self, data: Dataset, table: pa.Table, layout: _Layout, work: Mapping[str, BoundOperator], before: Masked | None
    ) -> tuple[Dataset, dict[str, dict[str, Any]]]:
        columns, fields, report = [], [], {}
        searched = {*layout.plain, *layout.numbers, *layout.other} if self._policy.detect else set()
        if before is not None:
            searched = {name for name in searched if before.searched.get(name) != self._digest}
        for name in layout.known:
            column, field = table.column(name), data.schema[name]
            if name in work:
                bound = work[name]
                bound.check_subject(data.schema.names, data.name)
                masked = bound.apply(column, table)
                if masked is None:
                    raise UsageError(f"The model reads column '{name}', which the policy drops.")
                column, field = masked, bound.field(field)
                report[name] = {"operator": bound.operator.name, "cells": len(column) - column.null_count}
            if (name in searched and not self._clean(table, layout, name)) or (name in work and work[name].operator.scan_after):
                masker = CellMasker(
                    name,
                    threshold=self._policy.threshold,
                    thresholds=self._policy.thresholds,
                    recognizers=self._tools.recognizers,
                    text=field.type is FieldType.TEXT,
                    hints=frozenset() if name in work else name_hints(name),
                    spans=self._spans,
                )
                column = masker.mask(column)
                if masker.cells:
                    report[name] = {"operator": "spans", "cells": masker.cells, "findings": dict(masker.entities)}
            columns.append(column)
            fields.append(field)
        if not report and not layout.extra:
            return data, {}
        return _fresh(data, pa.Table.from_arrays(columns, names=layout.known), Schema(tuple(fields))), report


def _reads_any(recognizer: Recognizer, inputs: Schema) -> bool:
    kinds = {field.type for field in inputs}
    return FieldType.TEXT in kinds or (FieldType.CATEGORICAL in kinds and reads(recognizer, text=False))


def _fresh(data: Dataset, table: pa.Table, schema: Schema) -> Dataset:
    """A data set without lineage: one that is derived would hold on to the rows as they were."""
    return Dataset(table, schema, name=data.name)


def _values(table: pa.Table, at: Sequence[int]) -> list[Any]:
    try:
        return [value for i in at for value in table.column(i).to_pylist()]
    except UnicodeDecodeError:
        return [b""]  # no text, which is suspect


def _suspect_cells(rows: Sequence[tuple[Any, ...]], layout: _Layout) -> bool:
    if any(cells.suspect([row[i] for row in rows for i in at]) for cells, at in layout.plain_at):
        return True
    try:
        return any(row[at] is not None and row[at] >= CARD_NUMBER_MIN for row in rows for at in layout.numbers_at)
    except TypeError:
        return True  # a value of another type than its column's


def _suspect_numbers(table: pa.Table) -> bool:
    try:
        return any(bool((batch.to_tensor(null_to_nan=True).to_numpy() >= CARD_NUMBER_MIN).any()) for batch in table.to_batches())
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return True
