"""Doing what a masking plan says: to a data set, or to its batches one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import BatchStream, Dataset
from affidavit.interfaces.masking import Operator
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.cells import CellMasker
from affidavit_governance.masking.columns import name_hints
from affidavit_governance.masking.history import sealed_step
from affidavit_governance.masking.operators.catalogue import make_operator
from affidavit_governance.masking.operators.token import Token
from affidavit_governance.masking.plan import PLAN_VERSION, ColumnPlan, MaskingPlan, check_policy, plan_for
from affidavit_governance.masking.spans import Spans, check_key
from affidavit_governance.masking.tools import Tools, tools_for


@dataclass(slots=True)
class Report:
    """What was masked: counts, never values.

    Attributes
    ----------
    columns
        By name: operator, entity, reason, cells masked, and findings in single cells by entity.
    counted
        False for streamed data, whose cells are masked as they are read, so that counts are not known yet.
    """

    policy: str
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    counted: bool = True

    @property
    def cells(self) -> int:
        """Cells that were changed."""
        return sum(column.get("cells", 0) for column in self.columns.values())

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {"version": PLAN_VERSION, "policy": self.policy, "counted": self.counted, "cells": self.cells, "columns": self.columns}


class BoundOperator:
    """An operator with the column that it masks and what its tokens are bound to.

    The operator of a column's own policy line is bound to table and column. That of an entity is bound to the entity alone, so that a
    value gets one token in every column, table and text.

    Raises
    ------
    UsageError
        The column that says whose each row is is not in the data.
    """

    def __init__(self, plan: ColumnPlan, found: Field, key: bytes, tools: Tools) -> None:
        assert plan.operator is not None
        self.plan = plan
        self.operator: Operator = make_operator(plan.operator, plan.settings, where=f"Masking plan, column '{plan.name}'", known=tools.operators)
        entity = plan.entity or found.entity
        self._field = replace(found, name=entity if plan.by_entity and entity else found.name, entity=entity)
        self._context = tools.context(key, plan.table)

    @property
    def bound(self) -> dict[str, str]:
        """What tokens are bound to."""
        return {"table": self._context.table, "field": self._field.name}

    def field(self, found: Field) -> Field:
        """How the schema describes the masked column."""
        changed = self.operator.field(found)
        return changed if changed.masked is None or self.operator.name == "keep" else replace(changed, masked_in=self.plan.table or None)

    def check_subject(self, names: tuple[str, ...], table: str) -> None:
        """Refuse data without the column that says whose each row is, and a token that hides the very name that its key is found by."""
        subject = self.operator.subject
        if subject is not None and subject not in names:
            raise UsageError(
                f"{self.plan.line}: the subject of column '{self.plan.name}' is the column '{subject}', which data set '{table}' does not have."
                f"{nearest(subject, names)}",
                hint="Name a column of the data, and let the rows bring it along.",
            )
        if subject == self.plan.name and isinstance(self.operator, Token):
            raise UsageError(
                f"{self.plan.line}: column '{subject}' says whose key seals it, so once it is masked by 'token' nobody could turn it back.",
                hint="Use vault with this subject, or token without one.",
            )

    def apply(self, column: pa.ChunkedArray, rows: pa.Table) -> pa.ChunkedArray | None:
        """The masked column; `rows` are as they were before masking."""
        context = self._context
        if self.operator.subject is not None:
            context = replace(context, subjects=rows.column(self.operator.subject))
        try:
            return self.operator.apply(column, self._field, context)
        except UsageError as error:
            if not self.plan.by_entity:
                raise
            raise UsageError(f"Column '{self.plan.name}', masked as {self.plan.entity}: {error.message}", hint=error.hint) from None


class Masker:
    """A plan at work on tables of one schema, whole or batch by batch.

    Raises
    ------
    UsageError
        The plan names an unknown operator, or an operator's subject is not a column.
    """

    def __init__(self, plan: MaskingPlan, schema: Schema, key: bytes, *, table: str, tools: Tools) -> None:
        self.plan = plan
        spans = plan.spans(tools, key)
        self._columns = [_Column(column, schema[column.name], plan, spans, BoundTo(schema, key, table, tools)) for column in plan.columns]

    def table(self, table: pa.Table) -> pa.Table:
        """The masked rows. Made from columns and names alone, because a table's metadata may hold anything.

        Raises
        ------
        UsageError
            An operator does not fit its column's type, or would drop the target.
        InvalidInput
            A column cannot be searched, or none would be left.
        """
        columns = [(c.plan.name, column) for c in self._columns if (column := c.run(table.column(c.plan.name), table)) is not None]
        if not columns:
            raise InvalidInput("Masking would leave no column at all.", hint="Drop fewer columns.")
        return pa.Table.from_arrays([_bare_column(column) for _, column in columns], names=[name for name, _ in columns])

    def schema(self, names: tuple[str, ...] | list[str]) -> Schema:
        """The schema of masked rows with the columns `names`."""
        return Schema(tuple(c.field_after() for c in self._columns if c.plan.name in names))

    def step(self) -> tuple[dict[str, Any], list[str]]:
        """Operator, settings and binding by column, and the columns that were searched."""
        done = {
            c.plan.name: {"operator": c.plan.operator, "settings": dict(c.plan.settings), "bound": c.operator.bound}
            for c in self._columns
            if c.operator is not None
        }
        return done, [c.plan.name for c in self._columns if c.plan.scan]

    def report(self) -> dict[str, dict[str, Any]]:
        """What was done so far by column; columns without anything are absent."""
        return {c.plan.name: entry for c in self._columns if (entry := c.report())}


def _bare_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_nested(column.type):
        return column
    bare = _bare(column.type)
    return column if column.type.equals(bare, check_metadata=True) else column.cast(bare)


def _bare(kind: pa.DataType) -> pa.DataType:
    """The type without the metadata of the fields inside it."""
    if isinstance(kind, pa.BaseExtensionType) or not pa.types.is_nested(kind):
        return kind
    if pa.types.is_map(kind):
        return pa.map_(_bare_field(kind.key_field), _bare_field(kind.item_field), keys_sorted=kind.keys_sorted)
    if pa.types.is_struct(kind):
        return pa.struct([_bare_field(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_bare_field(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_bare_field(kind.value_field))
    return pa.list_(_bare_field(kind.value_field)) if pa.types.is_list(kind) else kind


def _bare_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, _bare(field.type), field.nullable)


@dataclass(frozen=True, slots=True)
class BoundTo:
    """What all columns of one table share."""

    schema: Schema
    key: bytes
    table: str
    tools: Tools


class _Column:
    """One column at work."""

    def __init__(self, plan: ColumnPlan, found: Field, whole: MaskingPlan, spans: Spans, to: BoundTo) -> None:
        self.plan = plan
        self._field = found
        self.operator: BoundOperator | None = None
        if plan.operator is not None:
            self.operator = BoundOperator(plan, found, to.key, to.tools)
            self.operator.check_subject(to.schema.names, to.table)
        self._masker = None
        if plan.scan:
            self._masker = CellMasker(
                plan.name,
                threshold=whole.threshold,
                thresholds=whole.thresholds,
                recognizers=to.tools.recognizers,
                text=found.type is FieldType.TEXT,
                # The name speaks for what stood there before the operator: three digits of a postal code are none any more.
                hints=name_hints(plan.name) if self.operator is None else frozenset(),
                spans=spans,
            )
        self._values = 0

    def run(self, column: pa.ChunkedArray, rows: pa.Table) -> pa.ChunkedArray | None:
        if self.operator is not None:
            if self.plan.operator != "keep":
                self._values += len(column) - column.null_count
            masked = self.operator.apply(column, rows)
            if masked is None:
                return None
            column = masked
        return self._masker.mask(column) if self._masker is not None else column

    def field_after(self) -> Field:
        changed = replace(self._field, entity=self.plan.entity or self._field.entity)
        if self.operator is not None:
            return self.operator.field(changed)
        if self._masker is None:
            return changed
        masked = changed.masked or ("spans" if self._masker.cells else None)
        return replace(changed, masked=masked, categories=self._masked_categories(self._masker))

    def _masked_categories(self, masker: CellMasker) -> tuple[str, ...] | None:
        """The declared categories without personal data: also where no row has such a one, because a schema goes into evidence."""
        if self._field.categories is None:
            return None
        cells, entities = masker.cells, masker.entities.copy()
        masked = masker.mask(pa.chunked_array([pa.array(self._field.categories, pa.string())]))
        masker.cells, masker.entities = cells, entities  # which count rows
        return tuple(dict.fromkeys(masked.to_pylist()))

    def report(self) -> dict[str, Any]:
        found: Counter[str] = self._masker.entities if self._masker is not None else Counter()
        if self.operator is None and not found:
            return {}
        cells = self._values + (self._masker.cells if self._masker is not None else 0)
        entry = {
            "operator": self.plan.operator or "spans",
            "entity": self.plan.entity,
            "reason": self.plan.reason,
            "cells": cells,
            "findings": dict(found),
        }
        return entry | ({"bound": self.operator.bound} if self.operator is not None else {})


def apply(plan: MaskingPlan, dataset: Dataset, key: bytes, *, tools: Tools | None = None) -> tuple[Dataset, Report]:
    """Mask a data set; the one given is not changed.

    Masking masked data again gives them back as they are. Streamed data stay streamed.

    Returns
    -------
    Dataset
        With a lineage step ``mask``. Its schema says by `Field.masked` and `Field.entity` what was done.
    Report
        Counts by column and entity.

    Raises
    ------
    UsageError
        An operator does not fit its column's type, or would drop the target; or the column that it takes subjects from is absent.
    InvalidInput
        A column cannot be searched.
    """
    tools = tools or Tools()
    masker = Masker(plan, dataset.schema, key, table=dataset.name, tools=tools)
    report = Report(plan.policy, counted=not dataset.streamed)
    source: pa.Table | BatchStream
    if dataset.streamed:
        kinds = next(iter(dataset.batches())).schema
        shown = masker.table(kinds.empty_table()).column_names

        def masked_batches() -> Iterator[pa.RecordBatch]:
            for batch in dataset.batches():
                yield from masker.table(pa.Table.from_batches([batch])).combine_chunks().to_batches()

        source, schema = masked_batches, masker.schema(shown)
    else:
        source = masker.table(dataset.table)
        schema = masker.schema(source.column_names)
    result = dataset.derive(source, schema, "mask", **sealed_step(dataset.fingerprint, tools.context(key), plan.policy, *masker.step()))
    report.columns = masker.report()
    # Asking for the roots makes the result let go of the data that it was made from.
    _ = result.roots
    return result, report


def mask_table(dataset: Dataset, policy: MaskingPolicy, key: bytes, *, tools: Tools | None = None) -> tuple[Dataset, Report]:
    """Mask a data set under a policy, outside a workspace.

    Parameters
    ----------
    key
        The pseudonym key, 16 to 64 bytes; the same key gives the same pseudonyms.

    Returns
    -------
    Dataset, Report
        As `apply`.

    Raises
    ------
    UsageError, InvalidInput
        As `check_policy`, `plan_for` and `apply`; and for a key of another length.
    """
    tools = tools or tools_for(policy)
    check_policy(policy, dataset, tools)
    return apply(plan_for(dataset, policy, tools=tools, key=check_key(key)), dataset, key, tools=tools)
