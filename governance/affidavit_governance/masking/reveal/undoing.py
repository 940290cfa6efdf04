"""Putting originals in the place of what masked them, once POLICY has allowed it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from affidavit.errors import IntegrityError, InvalidInput, Refused, UsageError
from affidavit.interfaces.governance import JSON
from affidavit.interfaces.masking import MaskContext, Operator
from affidavit.interfaces.schema import Field, FieldType
from affidavit.reveal import RevealCall, Revealed
from affidavit_governance.masking.reveal.origins import Origin
from affidavit_governance.masking.reveal.revealing import SHAPED, operator_of
from affidavit_governance.masking.reveal.rules import LINE, Grant
from affidavit_governance.masking.reveal.subjects import Shredded
from affidavit_governance.masking.tools import workspace_tools


def reveal(call: RevealCall) -> Revealed:
    """The service ``reveal``: do what `call.grants` allow.

    A value whose subject's key was destroyed comes out missing, and is counted.

    Raises
    ------
    Refused
        The call did not come through ACCESS and POLICY.
    IntegrityError
        A value was changed, or is of another column, entity or workspace.
    """
    if call.person is None or call.grants is None:
        raise Refused("Originals are shown to nobody outside a governed call.", by="policy", line=LINE, satisfy="Use Workspace.reveal.")
    tools = workspace_tools(call.workspace)
    base = tools.context(call.workspace.keyring.derive("pseudonym"))
    texts: dict[str, list[Grant]] = {}
    columns: list[tuple[Grant, Operator]] = []
    for grant in call.grants:
        operator: Operator = operator_of(grant.origin, tools)
        if grant.origin.in_text:
            texts.setdefault(grant.origin.field or call.data.schema.names[0], []).append(grant)
        else:
            columns.append((grant, operator))
    table, schema = call.data.table, call.data.schema
    said: list[dict[str, JSON]] = []
    unreadable: dict[str, int] = {}
    # A column that says whose the rows are goes first: others need it as it was.
    for grant, operator in sorted(columns, key=lambda pair: pair[1].subject is not None):
        name = grant.origin.field
        context = replace(base, table=grant.origin.table, subjects=table.column(operator.subject) if operator.subject in table.column_names else None)
        found, lost = _reversed(operator, table.column(name), _field(grant.origin, schema[name]), context)
        table = table.set_column(schema.position(name), name, found)
        schema = schema.change(name, masked=None, masked_in=None, categories=None, entity=grant.origin.entity or schema[name].entity)
        said.append({**_record(grant), "values": len(found) - found.null_count, "unreadable": lost})
        if lost:
            unreadable[name] = lost
    for name, grants in texts.items():
        opener = _Texts([(grant, operator_of(grant.origin, tools)) for grant in grants], base)
        values = [None if text is None else opener.open(str(text)) for text in table.column(name).to_pylist()]
        table = table.set_column(schema.position(name), name, pa.chunked_array([pa.array(values, pa.string())]))
        schema = schema.change(name, masked=None, masked_in=None, categories=None)
        said += [{**_record(grant), "values": count, "unreadable": 0} for grant, count in opener.counts() if count]
    names = sorted({*texts, *(grant.origin.field for grant, _ in columns)})
    data = call.data.derive(table, schema, "reveal", columns=names, purpose=call.purpose, call=call.id, unreadable=unreadable)
    return Revealed(data, tuple(said))


def _record(grant: Grant) -> dict[str, JSON]:
    origin = grant.origin
    return {"field": origin.field, "entity": origin.entity, "operator": origin.operator.name, "line": grant.line, "rule": grant.rule}


def _field(origin: Origin, field: Field) -> Field:
    """What the operator was given when it masked: the column, or the entity."""
    return replace(field, name=origin.name)


def _reversed(operator: Operator, column: pa.ChunkedArray, field: Field, context: MaskContext) -> tuple[pa.ChunkedArray, int]:
    """The originals, missing where the subject's key was destroyed, and how many those are."""
    try:
        return operator.reverse(column, field, context), 0
    except Shredded:
        if len(column) <= 1:
            return pa.chunked_array([pa.nulls(len(column), pa.string())]), len(column)
    # Few subjects are shredded, so halves that need no second look are soon found.
    middle, parts, lost = len(column) // 2, [], 0
    for start, end in ((0, middle), (middle, len(column))):
        subjects = None if context.subjects is None else context.subjects.slice(start, end - start)
        found, count = _reversed(operator, column.slice(start, end - start), field, replace(context, subjects=subjects))
        parts += found.cast(pa.string()).chunks
        lost += count
    return pa.chunked_array(parts, type=pa.string()), lost


class _Texts:
    """Opens the tokens inside texts."""

    def __init__(self, grants: Sequence[tuple[Grant, Operator]], base: MaskContext) -> None:
        self._grants = list(grants)
        self._base = base
        self._counts: dict[int, int] = {}

    def open(self, text: str) -> str:
        """The text with originals in the place of the tokens that open; everything else stays."""
        return SHAPED.sub(self._replace, text)

    def counts(self) -> list[tuple[Grant, int]]:
        """How many tokens each grant has opened."""
        return [(grant, self._counts.get(id(grant), 0)) for grant, _ in self._grants]

    def _replace(self, found: re.Match[str]) -> str:
        written = found.group()
        for place, (grant, operator) in enumerate(self._grants):
            original = self._opened(written, grant.origin, operator)
            if original is not None:
                self._counts[id(grant)] = self._counts.get(id(grant), 0) + 1
                # The next token is most likely of the same kind.
                self._grants.insert(0, self._grants.pop(place))
                return original
        return written

    def _opened(self, written: str, origin: Origin, operator: Operator) -> str | None:
        try:
            found = operator.reverse(pa.chunked_array([pa.array([written])]), Field(origin.name, FieldType.TEXT, entity=origin.entity), self._base)
        except (IntegrityError, InvalidInput, UsageError):
            return None  # no token, or one of another entity or workspace
        return str(found[0].as_py())
