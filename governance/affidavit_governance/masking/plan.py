"""What masking will do to a data set, column by column."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from affidavit.errors import InvalidInput, Refused, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.masking import Operator
from affidavit.interfaces.schema import Field, FieldType, Role, Schema
from affidavit.policy import MaskingPolicy
from affidavit.policy import Operator as PolicyOperator
from affidavit_governance.masking.columns import scan_column
from affidavit_governance.masking.history import Masked, masked_before
from affidavit_governance.masking.operators.catalogue import make_operator
from affidavit_governance.masking.spans import Spans
from affidavit_governance.masking.text import scan_text
from affidavit_governance.masking.tools import Tools, reads, tools_for

PLAN_VERSION = 2
SAMPLE_ROWS = 10_000
"""Rows from which a plan judges a column as a whole. Single cells are searched in all rows, when the plan is applied."""


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
    by_entity
        Whether the operator is the entity's rather than the column's: a value then gets the same token in every table and text.
    table
        The table that the tokens of a column's own operator are bound to: the one that a model was trained with, if any.
    """

    name: str
    operator: str | None
    settings: Mapping[str, Any]
    entity: str | None
    scan: bool
    reason: str
    by_entity: bool = False
    table: str = ""

    @property
    def line(self) -> str:
        """The policy line that decided, for errors."""
        return f"Policy line '{self.reason.partition(';')[0]}'" if self.reason.startswith("masking.") else "The policy"

    def to_json(self) -> dict[str, Any]:
        """The plan of the column as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__} | {"settings": dict(self.settings)}


@dataclass(frozen=True, slots=True)
class MaskingPlan:
    """What is done to a data set under a policy; it holds no value of the data.

    Attributes
    ----------
    columns
        One plan each.
    threshold, thresholds
        From which score a finding counts; the latter by entity.
    entities, default
        What becomes of findings in single cells, by entity and otherwise.
    policy
        Digest of the policy's masking section.
    """

    columns: tuple[ColumnPlan, ...]
    threshold: float
    thresholds: Mapping[str, float]
    entities: Mapping[str, PolicyOperator]
    default: PolicyOperator
    policy: str

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON object, versioned."""
        return {
            "version": PLAN_VERSION,
            "policy": self.policy,
            "threshold": self.threshold,
            "thresholds": dict(self.thresholds),
            "entities": {entity: operator.model_dump(mode="json") for entity, operator in self.entities.items()},
            "default": self.default.model_dump(mode="json"),
            "columns": [column.to_json() for column in self.columns],
        }

    @classmethod
    def from_json(cls, value: Any) -> MaskingPlan:
        """Read what `to_json` wrote, also in version 1. Raises InvalidInput for another version or a damaged plan."""
        if not isinstance(value, Mapping) or value.get("version") not in (1, PLAN_VERSION):
            raise InvalidInput(f"This masking plan is of no version up to {PLAN_VERSION}.", hint="Make it again with this version of affidavit.")
        try:
            if value["version"] == 1:  # which named the entities that stay, and left placeholders for all others
                keep = {entity: {"name": "keep"} for entity in value["keep"]}
                columns = [{**column, "by_entity": False, "table": ""} for column in value["columns"]]
                value = {**value, "thresholds": {}, "entities": keep, "default": {"name": "redact"}, "columns": columns}
            return cls(
                tuple(ColumnPlan(**{key: column[key] for key in ColumnPlan.__slots__}) for column in value["columns"]),
                float(value["threshold"]),
                {entity: float(score) for entity, score in value["thresholds"].items()},
                {entity: PolicyOperator.model_validate(operator) for entity, operator in value["entities"].items()},
                PolicyOperator.model_validate(value["default"]),
                str(value["policy"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"This masking plan cannot be read: {type(error).__name__}.") from None

    def spans(self, tools: Tools, key: bytes) -> Spans:
        """What becomes of findings in single cells."""
        lines = MaskingPolicy(entities=dict(self.entities), default=self.default)
        return Spans.of(lines, tools, key)


def policy_digest(policy: MaskingPolicy) -> str:
    """Hex SHA-256 of the masking section of a policy."""
    return hashlib.sha256(policy.model_dump_json().encode()).hexdigest()


# -- checking the policy ----------------------------------------------------------------------------------------------------------------------


def check_policy(policy: MaskingPolicy, dataset: Dataset, tools: Tools | None = None) -> None:
    """Refuse a policy that asks for what this data set, fresh from its source, cannot give.

    Raises
    ------
    UsageError
        The policy names an unknown column, an entity that nothing finds and no field declares, an unknown operator or setting.
    InvalidInput
        The data set's name or a column's name holds personal data.
    """
    tools = tools or tools_for(policy)
    _check_names(dataset, policy, tools)  # before any message lists the columns
    for name in policy.fields:
        if name not in dataset.schema:
            raise UsageError(
                f"Policy line 'masking.fields.{name}': unknown column in the policy, data set '{dataset.name}' has none of that name."
                f"{nearest(name, dataset.schema.names)}",
                hint=f"Columns: {', '.join(dataset.schema.names)}.",
            )
    check_entities(policy, tools, {f.entity for f in dataset.schema if f.entity})
    check_operators(policy, tools)


def check_entities(policy: MaskingPolicy, tools: Tools, declared: set[str] | frozenset[str] = frozenset()) -> None:
    """Refuse a policy with a line for an entity that nothing finds and that is not `declared`."""
    known = tools.entities | declared
    for section in ("entities", "thresholds"):
        for entity in getattr(policy, section):
            if entity not in known:
                raise UsageError(
                    f"Policy line 'masking.{section}.{entity}': no recognizer finds this entity and no field declares it.{nearest(entity, known)}",
                    hint=f"Entities: {', '.join(sorted(known))}.",
                )


def check_operators(policy: MaskingPolicy, tools: Tools | None = None) -> None:
    """Refuse unknown operators and settings, wherever the policy names them."""
    tools = tools or tools_for(policy)
    lines = {f"fields.{name}": operator for name, operator in policy.fields.items()}
    lines |= {f"entities.{name}": operator for name, operator in policy.entities.items()} | {"default": policy.default}
    for line, operator in lines.items():
        _make(operator, f"Policy line 'masking.{line}'", tools)


def _make(operator: PolicyOperator, where: str, tools: Tools) -> Operator:
    return make_operator(operator.name, operator.settings, where=where, known=tools.operators)


# -- planning ---------------------------------------------------------------------------------------------------------------------------------


def plan_for(
    dataset: Dataset, policy: MaskingPolicy, *, tools: Tools | None = None, trained: Schema | None = None, key: bytes | None = None
) -> MaskingPlan:
    """Decide what is done to each column.

    A column's own line in the policy decides first, then the line of its entity (declared in the schema, or found), then the role
    ``identifier`` (redact), then `policy.default` for columns that hold an entity. All other columns, target and protected ones
    too, are searched cell by cell.

    Parameters
    ----------
    trained
        The inputs of a trained model: its columns are masked as they were for training, whatever these rows look like.
    key
        The masking key. With it, what an operator that cannot tell its own values masked before, in a step of this data set, is left alone.

    Raises
    ------
    InvalidInput
        The data set's name or a column's name holds personal data.
    UsageError
        The policy names an unknown operator or setting.
    Refused
        The policy asks for another operator than the one that the model's inputs had in training.
    """
    tools = tools or tools_for(policy)
    _check_names(dataset, policy, tools)
    sample = _sample(dataset) if policy.detect else None
    columns = [_plan_column(f, sample, policy, tools, trained, dataset.name) for f in dataset.schema]
    if key is not None:
        spans = Spans.of(policy, tools, key)
        remember = _Remembered(dataset, tools, spans, policy_digest(policy), key)
        columns = [remember.leave(column) for column in columns]
    return MaskingPlan(tuple(columns), policy.threshold, dict(policy.thresholds), dict(policy.entities), policy.default, policy_digest(policy))


def _plan_column(found: Field, sample: pa.Table | None, policy: MaskingPolicy, tools: Tools, trained: Schema | None, table: str) -> ColumnPlan:
    entity, evidence = found.entity, "declared" if found.entity else ""
    table = (found.masked_in if found.masked else None) or table
    if trained is not None and found.name in trained:
        then = trained[found.name]
        line = policy.fields.get(found.name)
        if then.masked in (None, "spans"):
            if line is not None and line.name != "keep":
                _refuse_change(found.name, then.masked, line.name)
            return ColumnPlan(found.name, None, {}, entity, policy.detect and line is None, "as in training")
        entity = then.entity or entity
        table = then.masked_in or table
    elif sample is not None and entity is None:
        used = [recognizer for recognizer in tools.recognizers if reads(recognizer, text=found.type is FieldType.TEXT)]
        finding = scan_column(found.name, sample.column(found.name), policy.threshold, thresholds=policy.thresholds, recognizers=used)
        if finding is not None and finding.whole:
            entity, evidence = finding.entity, f"found: {finding.evidence}"
    choice, reason, by_entity = _choose(found, entity, evidence, policy, tools)
    if trained is not None and found.name in trained and (choice is None or choice.name != trained[found.name].masked):
        _refuse_change(found.name, trained[found.name].masked, choice.name if choice else "nothing")
    if choice is None:
        return ColumnPlan(found.name, None, {}, entity, policy.detect, "searched cell by cell" if policy.detect else "detection is off")
    operator = _make(choice, f"Policy, for column '{found.name}'", tools)
    scan = policy.detect and operator.scan_after
    return ColumnPlan(found.name, operator.name, operator.to_json(), entity, scan, reason, by_entity, "" if by_entity else table)


def _refuse_change(name: str, then: str | None, now: str) -> NoReturn:
    raise Refused(
        f"The model was trained with column '{name}' masked by '{then or 'nothing'}', and the policy now says '{now}'.",
        by="masking",
        line=f"masking.fields.{name}",
        satisfy="Train again under this policy, or put the line back.",
    )


def _choose(found: Field, entity: str | None, evidence: str, policy: MaskingPolicy, tools: Tools) -> tuple[PolicyOperator | None, str, bool]:
    """The operator, the reason, and whether it is the entity's."""
    if found.name in policy.fields:
        return policy.fields[found.name], f"masking.fields.{found.name}", False
    if entity is not None and entity in policy.entities:
        return policy.entities[entity], f"masking.entities.{entity}; {evidence}", True
    if found.role is Role.IDENTIFIER:
        default = policy.default
        if default.name not in ("redact", "drop", "pseudonym") and not getattr(tools.operators.get(default.name), "reversible", False):
            return PolicyOperator(name="redact"), "role identifier", False
        return default, "role identifier", entity is not None
    if entity is not None:
        return policy.default, f"masking.default; {evidence}", True
    return None, "", False


class _Remembered:
    """Columns that need nothing more, because steps of the data set say that they were masked; the steps are looked at only where it matters."""

    def __init__(self, dataset: Dataset, tools: Tools, spans: Spans, policy: str, key: bytes) -> None:
        self._tools = tools
        self._tokens = spans.tokens
        self._policy = policy
        self._steps: Callable[[], Masked] = lambda: masked_before(dataset, tools.context(key))
        self._masked: Masked | None = None

    def leave(self, column: ColumnPlan) -> ColumnPlan:
        """The plan of the column, or one that leaves it."""
        # What knows its values by their subject's key cannot tell them any more when the subject is masked, too.
        by_subject = column.settings.get("subject") is not None
        once = column.operator is not None and (by_subject or not self._tools.operators[column.operator].idempotent)
        tokens = column.scan and self._tokens
        if not once and not tokens:
            return column
        if self._masked is None:
            self._masked = self._steps()
        searched = self._masked.searched.get(column.name) == self._policy
        # An operator that knows its own values does not know the tokens that were put among them afterwards.
        if column.operator is not None and self._masked.holds(column) and (searched or not tokens):
            return ColumnPlan(column.name, None, {}, column.entity, False, f"masked before by '{column.operator}'")
        if column.operator is None and searched:
            return ColumnPlan(column.name, None, {}, column.entity, False, "searched before")
        return column


def _check_names(dataset: Dataset, policy: MaskingPolicy, tools: Tools) -> None:
    """Column names go into schemas, evidence and errors, so none may be personal data. The message does not repeat them."""
    # A model for names guesses: without a sentence around it, "note" may pass for one.
    used = [recognizer for recognizer in tools.recognizers if reads(recognizer, text=False)]
    for position, name in enumerate(dataset.schema.names, 1):
        if found := scan_text(name, recognizers=used):
            raise InvalidInput(
                f"The name of column {position} of {len(dataset.schema)} holds personal data ({found[0].entity}).",
                hint="Rename the column; if the first row of a file is data, give the file a header.",
            )
    for position, (name, kind) in enumerate(_kinds(dataset), 1):
        # Such as the keys of a JSON object, which become the names of a struct's fields.
        dropped = name in policy.fields and policy.fields[name].name == "drop"
        if found := [] if dropped else [hit for inner in _names_inside(kind) for hit in scan_text(inner, recognizers=used)]:
            raise InvalidInput(
                f"A name inside column {position} of {len(dataset.schema)} holds personal data ({found[0].entity}), and names are not masked.",
                hint="Write names as values, in a list of keys and values, or have the policy drop the column.",
            )
    for position, field in enumerate(dataset.schema, 1):
        if field.entity and scan_text(field.entity, recognizers=used):
            raise InvalidInput(f"The entity declared for column {position} holds personal data.", hint="Declare a name, such as EMAIL_ADDRESS.")
    if found := scan_text(dataset.name, recognizers=used):
        raise InvalidInput(f"The data set's name holds personal data ({found[0].entity}).", hint="Load it with name=….")


def _kinds(dataset: Dataset) -> list[tuple[str, pa.DataType]]:
    """The Arrow type of each column; none of streamed data, whose columns have no names inside."""
    return [] if dataset.streamed else [(field.name, field.type) for field in dataset.table.schema]


def _names_inside(kind: pa.DataType) -> list[str]:
    """The names of all fields inside a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _names_inside(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _names_inside(kind.value_type)
    inner = [kind.field(i) for i in range(kind.num_fields)]
    return [name for each in inner for name in (each.name, *_names_inside(each.type))]


def _sample(dataset: Dataset) -> pa.Table:
    """Rows spread over the whole table, or the first ones of a stream."""
    if dataset.streamed:
        return dataset.head(SAMPLE_ROWS).table
    table = dataset.table
    if table.num_rows <= SAMPLE_ROWS:
        return table
    return table.take(pa.array(np.linspace(0, table.num_rows - 1, SAMPLE_ROWS).astype(np.int64)))
