"""What a column was masked with, as signed evidence says: data, schema and lineage are the caller's own words, and are not believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from affidavit.errors import Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import Ledger
from affidavit.policy import MaskingPolicy, Operator

SPANS = "spans"
"""What a schema calls a column of texts in which findings were masked one by one."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One way in which a column, or an entity inside texts, was masked.

    Attributes
    ----------
    field
        The column; empty for tokens inside a text without a table.
    entity
        What the values are: as the policy line names it, or as the ledger recorded for the column.
    line
        The policy line that chose the operator.
    bound
        Whether it is certain that the values are of this column: its own policy line binds them to it by cryptography, or the ledger has
        the column with this line. Values of a line for an entity are bound to the entity, and are the same in every column.
    name, table
        What the values are bound to: the column or the entity, and the data set, where it is a column.
    in_text
        Whether it is about tokens inside texts.
    """

    field: str
    entity: str | None
    line: str
    operator: Operator
    bound: bool
    name: str = ""
    table: str = ""
    in_text: bool = False

    @property
    def namespace(self) -> str | None:
        """What the policy's author has named so that several lines share their values, if anything."""
        return self.operator.settings.get("namespace") or None

    def same(self, other: Origin) -> bool:
        """Whether both masked in the same way."""
        return (self.line, self.name, self.table, self.operator) == (other.line, other.name, other.table, other.operator)


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a column came out of masking when it was loaded: operator, entity, the policy's digest, and what the values were bound to."""

    operator: str
    entity: str | None
    policy: str
    name: str
    table: str


@dataclass(slots=True)
class History:
    """What the ledger says about masking.

    Attributes
    ----------
    table
        The data set that it was read for.
    policies
        The masking sections of all policies that were in force, by the policy's digest, oldest first.
    columns
        Of each column of that data set, oldest first: each time that it was loaded.
    """

    table: str
    policies: dict[str, MaskingPolicy] = field(default_factory=dict)
    columns: dict[str, list[Loaded]] = field(default_factory=dict)

    @classmethod
    def read(cls, ledger: Ledger, table: str) -> History:
        """Read the ledger's evidence about the data set `table`."""
        history = cls(table)
        for evidence in ledger.entries("policy"):
            try:
                masking = MaskingPolicy.model_validate(evidence.predicate["content"]["masking"])
            except ValidationError:
                continue  # of another version of Affidavit, whose masking this one cannot undo
            history.policies[evidence.statement["subject"][0]["digest"]["sha256"]] = masking
        for evidence in ledger.entries("load"):
            predicate = evidence.predicate
            if predicate.get("status") == "done" and evidence.statement["subject"][0]["name"] == f"dataset:{table}":
                done = predicate["stages"].get("masking", {}).get("data", {}).get("columns", {})
                for column in predicate["details"]["schema"]:
                    name = column["name"]
                    if column.get("masked"):
                        to = done.get(name, {}).get("bound", {"table": "", "field": name})
                        loaded = Loaded(column["masked"], column.get("entity"), predicate["policy"], to["field"], to["table"])
                        history.columns.setdefault(name, []).append(loaded)
        return history

    def origins(self, column: str, entity: str | None) -> list[Origin]:
        """The ways in which a column may have been masked, latest first.

        Parameters
        ----------
        entity
            What the caller says that the column holds; looked at only where the ledger says nothing, and proved by cryptography later.
        """
        found: list[Origin] = []
        for loaded in reversed(self.columns.get(column, ())):
            policy = self.policies.get(loaded.policy)
            if policy is not None:
                line, operator = _line(policy, column, loaded.entity)
                if operator.name == loaded.operator:
                    found.append(Origin(column, loaded.entity, line, operator, True, loaded.name, loaded.table))
        if not found:
            for policy in reversed(self.policies.values()):
                line, operator = _line(policy, column, entity)
                if column in policy.fields:
                    # Such values are bound to the column and not to an entity, so what the caller says of that proves nothing.
                    found.append(Origin(column, None, line, operator, True, column, self.table))
                elif entity is not None:
                    found.append(Origin(column, entity, line, operator, False, entity))
        return _distinct(found)

    def entities(self, column: str) -> set[str]:
        """Every entity that the ledger has recorded for a column."""
        return {loaded.entity for loaded in self.columns.get(column, ()) if loaded.entity is not None}

    def in_text(self, column: str, known: Sequence[str]) -> list[Origin]:
        """The ways in which findings inside texts were masked, latest first; `known` are the entities that a default line is for."""
        bound = any(loaded.operator == SPANS for loaded in self.columns.get(column, ()))
        found: dict[tuple[str, str], Origin] = {}
        for policy in reversed(self.policies.values()):
            for made in _by_entity(policy, known):
                found.setdefault(
                    (str(made.entity), made.operator.model_dump_json()), replace(made, field=column, bound=bound, name=str(made.entity), in_text=True)
                )
        return list(found.values())

    def sharing(self, origin: Origin) -> list[Origin]:
        """All policy lines whose values could stand in the place of `origin`'s: those with its operator and its named namespace."""
        if origin.namespace is None:
            return []
        lines: list[Origin] = []
        for policy in self.policies.values():
            lines += [Origin(column, None, f"masking.fields.{column}", operator, True) for column, operator in policy.fields.items()]
            lines += _by_entity(policy, ())
            lines.append(Origin("", None, "masking.default", policy.default, False))
        shared = [line for line in lines if (line.operator.name, line.namespace) == (origin.operator.name, origin.namespace)]
        return list({line.line: line for line in shared if line.line != origin.line}.values())


def _by_entity(policy: MaskingPolicy, known: Iterable[str]) -> list[Origin]:
    made = [Origin("", entity, f"masking.entities.{entity}", operator, False) for entity, operator in policy.entities.items()]
    return made + [Origin("", entity, "masking.default", policy.default, False) for entity in known if entity not in policy.entities]


def _distinct(origins: Iterable[Origin]) -> list[Origin]:
    found: list[Origin] = []
    for origin in origins:
        if not any(origin.same(other) for other in found):
            found.append(origin)
    return found


def _line(policy: MaskingPolicy, column: str, entity: str | None) -> tuple[str, Operator]:
    """The line that masks a column under a policy, in the order in which masking looks at them."""
    if column in policy.fields:
        return f"masking.fields.{column}", policy.fields[column]
    if entity is not None and entity in policy.entities:
        return f"masking.entities.{entity}", policy.entities[entity]
    return "masking.default", policy.default


def origin_of(history: History, data: Dataset, column: str, entity: str | None) -> Origin:
    """The one way in which a column was masked.

    Raises
    ------
    Refused
        Neither the ledger nor a policy that was in force says how the column was masked.
    UsageError
        They say more than one thing.
    """
    found = history.origins(column, entity)
    said = _latest_step(data, column)
    if said is not None and len(found) > 1:
        found = [each for each in found if each.operator.name == said.get("operator") and each.operator.settings == said.get("settings")] or found
    if not found:
        raise Refused(
            f"Nothing in the ledger says how column '{column}' was masked.",
            by="policy",
            line="masking.fields",
            satisfy="Pass the rows under the name that the data set was loaded with (table=), or name the entity of the column, as the policy's line "
            "does: fields={'column': 'ENTITY'}.",
        )
    if len(found) > 1:
        raise UsageError(
            f"Column '{column}' was masked in {len(found)} ways over time ({', '.join(sorted({each.operator.name for each in found}))}).",
            hint="Pass the Dataset that masking gave: its lineage says in which.",
        )
    return found[0]


def _latest_step(data: Dataset, column: str) -> Mapping[str, Any] | None:
    """Operator and settings of the last masking of a column, by the data set's own word; used only to choose among what the ledger has."""
    for step in reversed(data.lineage):
        columns = step.parameters.get("columns") if step.operation == "mask" else None
        if isinstance(columns, Mapping) and isinstance(columns.get(column), Mapping):
            said: Mapping[str, Any] = columns[column]
            return said
    return None
