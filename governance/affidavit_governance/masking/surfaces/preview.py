"""Before and after, for people: what masking would do to some rows, without showing the personal data in them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.applying import Masker
from affidavit_governance.masking.cells import CellMasker
from affidavit_governance.masking.columns import name_hints
from affidavit_governance.masking.plan import ColumnPlan, check_policy, plan_for
from affidavit_governance.masking.spans import Spans, check_key
from affidavit_governance.masking.surfaces.shapes import Shape, shape
from affidavit_governance.masking.tools import Tools, tools_for

if TYPE_CHECKING:
    from rich.table import Table

ROWS = 5
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class PreviewColumn:
    """One column of a preview.

    Attributes
    ----------
    operator
        What masks it; ``spans`` where only findings inside its cells change; None where nothing does.
    reason
        The policy line, role or finding that decided.
    before, after
        What some cells are and become, as text. Personal data are shown as shapes.
    changed
        Which of the cells change.
    """

    name: str
    entity: str | None
    operator: str | None
    reason: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    changed: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What masking would do to some rows. A notebook draws it as a table, and ``rich`` prints it as one."""

    name: str
    columns: tuple[PreviewColumn, ...]

    def __repr__(self) -> str:
        changing = sum(any(column.changed) for column in self.columns)
        return f"Preview({self.name!r}, {changing} of {len(self.columns)} columns change)"

    def to_json(self) -> dict[str, Any]:
        """The preview as a JSON object."""
        return {"name": self.name, "columns": [{key: getattr(column, key) for key in PreviewColumn.__slots__} for column in self.columns]}

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        rows = max((len(column.before) for column in self.columns), default=0)
        table = Table(title=Text(repr(self)), title_justify="left")
        for heading in ("column", "masked by", "why", *(f"row {row + 1}" for row in range(rows))):
            table.add_column(heading)
        for column in self.columns:
            cells = [
                Text(f"{before}\n→ {after}" if changed else after)
                for before, after, changed in zip(column.before, column.after, column.changed, strict=True)
            ]
            table.add_row(Text(column.name), Text(column.operator or ""), Text(column.reason), *cells)
        return table

    def _repr_html_(self) -> str:
        rows = max((len(column.before) for column in self.columns), default=0)
        names = ("column", "masked by", "why", *(f"row {row + 1}" for row in range(rows)))
        heads = "".join(f"<th scope='col' style='{_CELL}'>{name}</th>" for name in names)
        body = "".join(_html_row(column) for column in self.columns)
        return (
            f"<table style='border-collapse:collapse;font-size:90%'><caption style='text-align:left;padding:4px 0'>{escape(repr(self))}</caption>"
            f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        )


_CELL = "border:1px solid #8888;padding:4px 8px;text-align:left;vertical-align:top"
_OLD, _NEW = "text-decoration:none;opacity:.7", "text-decoration:none;font-weight:600"


def _html_row(column: PreviewColumn) -> str:
    cells = []
    for before, after, changed in zip(column.before, column.after, column.changed, strict=True):
        new = f"<del style='{_OLD}'>{escape(before)}</del><br><ins style='{_NEW}'>{escape(after)}</ins>" if changed else escape(after)
        cells.append(f"<td style='{_CELL}'>{new}</td>")
    head = f"<th scope='row' style='{_CELL}'>{escape(column.name)}</th>"
    why = "".join(f"<td style='{_CELL}'>{escape(part)}</td>" for part in (column.operator or "", column.reason))
    return f"<tr>{head}{why}{''.join(cells)}</tr>"


def preview(data: Any, policy: MaskingPolicy | None = None, key: bytes | None = None, *, rows: int = ROWS, tools: Tools | None = None) -> Preview:
    """Show what a policy would do to the first rows of a table.

    Personal data are not shown: before masking they appear as shapes (``j***@e******.com``), afterwards as the policy makes them, and as shapes
    again where it keeps them.

    Parameters
    ----------
    data
        A `Dataset`, or anything that Arrow can read. The plan is made from all of it.
    policy
        Default: detect and redact.
    key
        The pseudonym key, 16 to 64 bytes; without one, pseudonyms are made with a key of this preview only.
    rows
        How many rows to show, at least one.

    Raises
    ------
    UsageError, InvalidInput
        As `mask_table`.
    """
    import secrets

    if rows < 1:
        raise UsageError(f"A preview shows at least one row, not {rows}.")
    policy = policy or MaskingPolicy()
    used = check_key(key) if key is not None else secrets.token_bytes(32)
    tools = tools or tools_for(policy)
    dataset = data if isinstance(data, Dataset) else Dataset.from_arrow(data)
    check_policy(policy, dataset, tools)
    plan = plan_for(dataset, policy, tools=tools, key=used)
    first = dataset.head(rows).table
    masker = Masker(plan, dataset.schema, used, table=dataset.name, tools=tools)
    masked = masker.table(first)
    hide = Spans(default=Shape(), context=tools.context(used))
    columns = [_column(column, first, masked, policy, tools, hide) for column in plan.columns]
    return Preview(dataset.name, tuple(columns))


def _column(plan: ColumnPlan, first: pa.Table, masked: pa.Table, policy: MaskingPolicy, tools: Tools, hide: Spans) -> PreviewColumn:
    before = first.column(plan.name)
    dropped = plan.name not in masked.column_names
    after = None if dropped else masked.column(plan.name)
    raw = before.to_pylist()
    became = [None] * len(raw) if after is None else after.to_pylist()
    changed = tuple(dropped or repr(old) != repr(new) for old, new in zip(raw, became, strict=True))
    if plan.operator is not None:
        shown = [_hidden(value) for value in raw]
        results = shown if plan.operator == "keep" else ["(left out)" if dropped else _text(value) for value in became]
    else:
        shown = _shapes(plan, before, policy, tools, hide)
        keeps = any(line.name == "keep" for line in (*policy.entities.values(), policy.default))
        # What the policy keeps inside a cell stays there, and is not to be shown either.
        new = _shapes(plan, after, policy, tools, hide) if keeps else [_text(value) for value in became]
        results = [there if differs else old for old, there, differs in zip(shown, new, changed, strict=True)]
    operator = plan.operator or ("spans" if any(changed) else None)
    return PreviewColumn(plan.name, plan.entity, operator, plan.reason, tuple(shown), tuple(results), changed)


def _shapes(plan: ColumnPlan, column: pa.ChunkedArray, policy: MaskingPolicy, tools: Tools, hide: Spans) -> list[str]:
    """The cells with shapes in the place of findings, also of those that the policy keeps or does not look for."""
    masker = CellMasker(
        plan.name,
        threshold=policy.threshold,
        thresholds=policy.thresholds,
        recognizers=tools.recognizers,
        text=True,
        hints=name_hints(plan.name),
        spans=hide,
    )
    hidden = masker.mask(column).to_pylist()
    return [_hidden(old) if new is None and old is not None else _text(new) for old, new in zip(column.to_pylist(), hidden, strict=True)]


def _hidden(value: Any) -> str:
    return "" if value is None else shape(str(value))


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
