"""What masking will do to a data set, column by column, and doing it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from affidavit.errors import InvalidInput, Refused, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.masking import MaskContext, Operator, Recognizer
from affidavit.interfaces.schema import Field, FieldType, Role, Schema
from affidavit.policy import MaskingPolicy
from affidavit.policy import Operator as PolicyOperator
from affidavit_governance.masking.cells import CellMasker
from affidavit_governance.masking.columns import name_hints, scan_column
from affidavit_governance.masking.operators.catalogue import BUNDLED, make_operator
from affidavit_governance.masking.recognizers.base import PatternRecognizer
from affidavit_governance.masking.text import PATTERNS, scan_text

PLAN_VERSION = 1
SAMPLE_ROWS = 10_000
"""Rows from which a plan judges a column as a whole. Single cells are searched in all rows, when the plan is applied."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The recognizers and operators that a workspace knows; by default the bundled ones."""

    recognizers: Sequence[Recognizer] = PATTERNS
    operators: Mapping[str, type[Operator]] = field(default_factory=lambda: BUNDLED)

    @property
    def entities(self) -> frozenset[str]:
        """What the recognizers find."""
        return frozenset(entity for recognizer in self.recognizers for entity in recognizer.entities)


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What is done to one column.

    Attributes
    ----------
    operator
        Applied to the column as a whole; None leaves it, but for findings in single cells.
    settings
        Of the operator.
    entity
        What the column holds, declared or found.
    scan
        Whether its cells are searched.
    reason
        The policy line, role or finding that decided.
    """

    name: str
    operator: str | None
    settings: Mapping[str, Any]
    entity: str | None
    scan: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The plan of the column as a JSON object."""
        return {
            "name": self.name,
            "operator": self.operator,
            "settings": dict(self.settings),
            "entity": self.entity,
            "scan": self.scan,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class MaskingPlan:
    """What is done to a data set under a policy; it holds no value of the data."""

    columns: tuple[ColumnPlan, ...]
    threshold: float
    keep: frozenset[str]
    policy: str

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON object, versioned."""
        return {
            "version": PLAN_VERSION,
            "policy": self.policy,
            "threshold": self.threshold,
            "keep": sorted(self.keep),
            "columns": [column.to_json() for column in self.columns],
        }

    @classmethod
    def from_json(cls, value: Any) -> MaskingPlan:
        """Read what `to_json` wrote. Raises InvalidInput for another version or a damaged plan."""
        if not isinstance(value, Mapping) or value.get("version") != PLAN_VERSION:
            raise InvalidInput(f"This masking plan is not of version {PLAN_VERSION}.", hint="Make it again with this version of affidavit.")
        try:
            columns = tuple(ColumnPlan(**{key: column[key] for key in ColumnPlan.__slots__}) for column in value["columns"])
            return cls(columns, float(value["threshold"]), frozenset(value["keep"]), str(value["policy"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"This masking plan cannot be read: {type(error).__name__}.") from None


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


def policy_digest(policy: MaskingPolicy) -> str:
    """Hex SHA-256 of the masking section of a policy."""
    return hashlib.sha256(policy.model_dump_json().encode()).hexdigest()


def key_digest(key: bytes) -> str:
    """A name for a pseudonym key, which tells nothing about it: two data sets with the same one have comparable pseudonyms."""
    return hashlib.blake2b(b"key name", digest_size=8, key=key, person=b"affidavit-kn-1").hexdigest()


# -- planning -------------------------------------------------------------------------------------------------------------------------------


def check_policy(policy: MaskingPolicy, dataset: Dataset, tools: Tools | None = None) -> None:
    """Refuse a policy that asks for what this data set, fresh from its source, cannot give.

    Raises
    ------
    UsageError
        The policy names an unknown column, an entity that nothing finds and no field declares, an unknown operator or setting.
    InvalidInput
        The data set's name or a column's name holds personal data.
    """
    tools = tools or Tools()
    _check_names(dataset, tools)  # before any message lists the columns
    for name in policy.fields:
        if name not in dataset.schema:
            raise UsageError(
                f"Policy line 'masking.fields.{name}': unknown column in the policy, data set '{dataset.name}' has none of that name."
                f"{nearest(name, dataset.schema.names)}",
                hint=f"Columns: {', '.join(dataset.schema.names)}.",
            )
    known = tools.entities | {f.entity for f in dataset.schema if f.entity}
    for entity in policy.entities:
        if entity not in known:
            raise UsageError(
                f"Policy line 'masking.entities.{entity}': no recognizer finds this entity and no field declares it.{nearest(entity, known)}",
                hint=f"Entities: {', '.join(sorted(known))}.",
            )
    check_operators(policy, tools)


def check_operators(policy: MaskingPolicy, tools: Tools | None = None) -> None:
    """Refuse unknown operators and settings, wherever the policy names them."""
    tools = tools or Tools()
    lines = {f"fields.{name}": operator for name, operator in policy.fields.items()}
    lines |= {f"entities.{name}": operator for name, operator in policy.entities.items()} | {"default": policy.default}
    for line, operator in lines.items():
        _make(operator, f"Policy line 'masking.{line}'", tools)


def _make(operator: PolicyOperator, where: str, tools: Tools) -> Operator:
    return make_operator(operator.name, operator.settings, where=where, known=tools.operators)


def plan_for(dataset: Dataset, policy: MaskingPolicy, *, tools: Tools | None = None, trained: Schema | None = None) -> MaskingPlan:
    """Decide what is done to each column.

    A column's own line in the policy decides first, then the line of its entity (declared in the schema, or found), then the role
    ``identifier`` (redact), then `policy.default` for columns that hold an entity. All other columns, target and protected ones
    too, are searched cell by cell.

    Parameters
    ----------
    trained
        The inputs of a trained model: its columns are masked as they were for training, whatever these rows look like.

    Raises
    ------
    InvalidInput
        The data set's name or a column's name holds personal data.
    UsageError
        The policy names an unknown operator or setting.
    Refused
        The policy asks for another operator than the one that the model's inputs had in training.
    """
    tools = tools or Tools()
    _check_names(dataset, tools)
    sample = _sample(dataset) if policy.detect else None
    columns = [_plan_column(f, sample, policy, tools, trained) for f in dataset.schema]
    keep = frozenset(entity for entity, operator in policy.entities.items() if operator.name == "keep")
    return MaskingPlan(tuple(columns), policy.threshold, keep, policy_digest(policy))


def _plan_column(found: Field, sample: pa.Table | None, policy: MaskingPolicy, tools: Tools, trained: Schema | None) -> ColumnPlan:
    entity, evidence = found.entity, "declared" if found.entity else ""
    if trained is not None and found.name in trained:
        then = trained[found.name]
        line = policy.fields.get(found.name)
        if then.masked in (None, "spans"):
            if line is not None and line.name != "keep":
                _refuse_change(found.name, then.masked, line.name)
            return ColumnPlan(found.name, None, {}, entity, policy.detect and line is None, "as in training")
        entity = then.entity or entity
    elif sample is not None and entity is None:
        finding = scan_column(found.name, sample.column(found.name), policy.threshold, recognizers=_fast(tools, found))
        if finding is not None and finding.whole:
            entity, evidence = finding.entity, f"found: {finding.evidence}"
    choice, reason = _choose(found, entity, evidence, policy)
    if trained is not None and found.name in trained and (choice is None or choice.name != trained[found.name].masked):
        _refuse_change(found.name, trained[found.name].masked, choice.name if choice else "nothing")
    if choice is None:
        return ColumnPlan(found.name, None, {}, entity, policy.detect, "searched cell by cell" if policy.detect else "detection is off")
    operator = _make(choice, f"Policy, for column '{found.name}'", tools)
    scan = policy.detect and operator.scan_after
    return ColumnPlan(found.name, operator.name, operator.to_json(), entity, scan, reason)


def _refuse_change(name: str, then: str | None, now: str) -> NoReturn:
    raise Refused(
        f"The model was trained with column '{name}' masked by '{then or 'nothing'}', and the policy now says '{now}'.",
        by="masking",
        line=f"masking.fields.{name}",
        satisfy="Train again under this policy, or put the line back.",
    )


def _choose(found: Field, entity: str | None, evidence: str, policy: MaskingPolicy) -> tuple[PolicyOperator | None, str]:
    if found.name in policy.fields:
        return policy.fields[found.name], f"masking.fields.{found.name}"
    if entity is not None and entity in policy.entities:
        return policy.entities[entity], f"masking.entities.{entity}; {evidence}"
    if found.role is Role.IDENTIFIER:
        default = policy.default if policy.default.name in ("redact", "drop", "pseudonym") else PolicyOperator(name="redact")
        return default, "role identifier"
    if entity is not None:
        return policy.default, f"masking.default; {evidence}"
    return None, ""


def _fast(tools: Tools, found: Field) -> Sequence[Recognizer]:
    if found.type is FieldType.TEXT:
        return tools.recognizers
    return [recognizer for recognizer in tools.recognizers if isinstance(recognizer, PatternRecognizer)]


def _check_names(dataset: Dataset, tools: Tools) -> None:
    """Column names go into schemas, evidence and errors, so none may be personal data. The message does not repeat them."""
    for position, name in enumerate(dataset.schema.names, 1):
        if found := scan_text(name, recognizers=tools.recognizers):
            raise InvalidInput(
                f"The name of column {position} of {len(dataset.schema)} holds personal data ({found[0].entity}).",
                hint="Rename the column; if the first row of a file is data, give the file a header.",
            )
    if found := scan_text(dataset.name, recognizers=tools.recognizers):
        raise InvalidInput(f"The data set's name holds personal data ({found[0].entity}).", hint="Load it with name=….")


def _sample(dataset: Dataset) -> pa.Table:
    """Rows spread over the whole table, or the first ones of a stream."""
    if dataset.streamed:
        return dataset.head(SAMPLE_ROWS).table
    table = dataset.table
    if table.num_rows <= SAMPLE_ROWS:
        return table
    return table.take(pa.array(np.linspace(0, table.num_rows - 1, SAMPLE_ROWS).astype(np.int64)))


# -- applying -------------------------------------------------------------------------------------------------------------------------------


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
        An operator does not fit its column's type, or would drop the target.
    InvalidInput
        A column cannot be searched.
    """
    tools = tools or Tools()
    context = MaskContext(key, table=dataset.name)
    work = [_Column(column, dataset.schema[column.name], plan, context, tools) for column in plan.columns]
    report = Report(plan.policy, counted=not dataset.streamed)
    done = {c.plan.name: {"operator": c.plan.operator, "settings": dict(c.plan.settings)} for c in work if c.plan.operator}
    parameters = {"policy": plan.policy, "key": key_digest(key), "columns": done}
    if dataset.streamed:
        kinds = next(iter(dataset.batches())).schema
        shown = [c for c in work if c.run(pa.chunked_array([], type=kinds.field(c.plan.name).type)) is not None]

        def masked_batches() -> Iterator[pa.RecordBatch]:
            for batch in dataset.batches():
                table = _masked(work, pa.Table.from_batches([batch]))
                yield from table.combine_chunks().to_batches()

        schema = Schema(tuple(c.field_after() for c in shown))
        result = dataset.derive(masked_batches, schema, "mask", **parameters)
    else:
        table = _masked(work, dataset.table)
        schema = Schema(tuple(c.field_after() for c in work if c.plan.name in table.column_names))
        result = dataset.derive(table, schema, "mask", **parameters)
    report.columns = {c.plan.name: entry for c in work if (entry := c.report())}
    # Asking for the roots makes the result let go of the data that it was made from.
    _ = result.roots
    return result, report


def _masked(work: Sequence[_Column], table: pa.Table) -> pa.Table:
    """Made from columns and names alone, because a table's metadata may hold anything."""
    columns = [(c.plan.name, column) for c in work if (column := c.run(table.column(c.plan.name))) is not None]
    if not columns:
        raise InvalidInput("Masking would leave no column at all.", hint="Drop fewer columns.")
    return pa.Table.from_arrays([column for _, column in columns], names=[name for name, _ in columns])


class _Column:
    """One column at work."""

    def __init__(self, plan: ColumnPlan, found: Field, policy: MaskingPlan, context: MaskContext, tools: Tools) -> None:
        self.plan = plan
        self._field = found
        self._context = context
        self._operator = None
        if plan.operator is not None:
            self._operator = make_operator(plan.operator, plan.settings, where=f"Masking plan, column '{plan.name}'", known=tools.operators)
        self._masker = None
        if plan.scan:
            self._masker = CellMasker(
                plan.name,
                threshold=policy.threshold,
                recognizers=tools.recognizers,
                text=found.type is FieldType.TEXT,
                hints=name_hints(plan.name),
                keep=policy.keep,
            )
        self._values = 0

    def run(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        if self._operator is not None:
            if self.plan.operator != "keep":
                self._values += len(column) - column.null_count
            masked = self._operator.apply(column, self._field, self._context)
            if masked is None:
                return None
            column = masked
        return self._masker.mask(column) if self._masker is not None else column

    def field_after(self) -> Field:
        changed = replace(self._field, entity=self.plan.entity or self._field.entity)
        if self._operator is not None:
            return self._operator.field(changed)
        if self._masker is None or not self._masker.cells:
            return changed
        categories = self._field.categories
        if categories is not None:
            masked = self._masker.mask(pa.chunked_array([pa.array(categories, pa.string())]))
            categories = tuple(dict.fromkeys(masked.to_pylist()))
        return replace(changed, masked=changed.masked or "spans", categories=categories)

    def report(self) -> dict[str, Any]:
        found: Counter[str] = self._masker.entities if self._masker is not None else Counter()
        if self._operator is None and not found:
            return {}
        cells = self._values + (self._masker.cells if self._masker is not None else 0)
        return {
            "operator": self.plan.operator or "spans",
            "entity": self.plan.entity,
            "reason": self.plan.reason,
            "cells": cells,
            "findings": dict(found),
        }


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
    if not 16 <= len(key) <= 64:
        raise UsageError(f"A pseudonym key has 16 to 64 bytes, this one has {len(key)}.")
    check_policy(policy, dataset, tools)
    return apply(plan_for(dataset, policy, tools=tools), dataset, key, tools=tools)
