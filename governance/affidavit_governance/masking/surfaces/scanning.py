"""What personal data stand where: a report for people and for machines, without any of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.frames import as_table
from affidavit.interfaces.masking import Finding
from affidavit.interfaces.schema import FieldType
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.columns import _text_counts, name_hints, scan_column
from affidavit_governance.masking.operators.arrays import is_number
from affidavit_governance.masking.plan import check_entities
from affidavit_governance.masking.surfaces.files import Rows
from affidavit_governance.masking.surfaces.shapes import shape
from affidavit_governance.masking.surfaces.sql import is_url
from affidavit_governance.masking.surfaces.texts import Pieces, is_text_file
from affidavit_governance.masking.text import scan_values
from affidavit_governance.masking.tools import Tools, reads, tools_for

REPORT_VERSION = 1
EXAMPLES = 3


@dataclass(slots=True)
class Found:
    """One entity in one column, or in a text.

    Attributes
    ----------
    count
        Cells that hold it; in a text, how often it stands there.
    total
        Cells that are there; in a text, characters.
    scores
        Sum of its findings' scores.
    """

    column: str | None
    entity: str
    count: int = 0
    total: int = 0
    findings: int = 0
    scores: float = 0.0
    evidence: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, finding: Finding, value: str, times: int) -> None:
        """Count one finding that stands in so many cells."""
        self.findings += times
        self.scores += finding.score * times
        self.evidence[finding.evidence] += times
        if len(self.examples) < EXAMPLES:
            shown = shape(value[finding.start : finding.end])
            if shown not in self.examples:
                self.examples.append(shown)

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object; `share` is of the cells that are there, and absent for texts."""
        value: dict[str, Any] = {"entity": self.entity, "count": self.count}
        if self.column is not None:
            value = {"column": self.column, **value, "share": round(self.count / self.total, 4) if self.total else 0.0}
        evidence = [name for name, _ in self.evidence.most_common(3) if name]
        return {**value, "score": round(self.scores / max(1, self.findings), 3), "evidence": evidence, "examples": self.examples}


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What was found where: counts, scores, evidence and shapes, never a value.

    Attributes
    ----------
    source
        What was searched, as its name says.
    rows
        How many; None for a text.
    found
        One entry for each entity in each column, commonest first within a column.
    """

    source: str
    rows: int | None
    characters: int | None
    found: tuple[Found, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, versioned."""
        size = {"rows": self.rows} if self.characters is None else {"characters": self.characters}
        totals: Counter[str] = Counter()
        for each in self.found:
            totals[each.entity] += each.count
        found = [each.to_json() for each in self.found]
        return {"version": REPORT_VERSION, "source": self.source, **size, "found": found, "totals": dict(sorted(totals.items()))}


def scan_source(
    source: Any,
    *,
    policy: MaskingPolicy | None = None,
    tools: Tools | None = None,
    query: str | None = None,
    registry: Any = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> ScanReport:
    """Say what personal data stand in a file, a database's query, or a table.

    Parameters
    ----------
    source
        A path, a database's URL, a `Dataset`, or anything that Arrow can read.
    policy
        Says what counts, and what to look with.
    query
        What to read, where `source` is a database.
    progress
        Gets rows (of a text: bytes) done and the total, where that is known.

    Raises
    ------
    UsageError, InvalidInput
        The source cannot be read, or the policy names an unknown recognizer or entity.
    """
    policy = (policy or MaskingPolicy()).model_copy(update={"detect": True})  # who scans wants to know, whatever masking does
    tools = tools or tools_for(policy)
    tell = progress or (lambda done, total: None)
    if isinstance(source, (str, Path)):
        if not is_url(source) and is_text_file(source):
            return _scan_text_file(Path(source), policy, tools, tell)
        rows = Rows(source, query=query, registry=registry)
        name = "query" if is_url(source) else Path(source).name
        return _scan_batches(name, rows.sample, rows.batches(), rows.total, policy, tools, tell)
    data = source if isinstance(source, Dataset) else Dataset.from_arrow(as_table(source))
    total = None if data.streamed else len(data)
    return _scan_batches(data.name, data, data.batches(), total, policy, tools, tell)


def _scan_batches(
    name: str,
    data: Dataset,
    batches: Iterable[pa.RecordBatch],
    total: int | None,
    policy: MaskingPolicy,
    tools: Tools,
    tell: Callable[[int, int | None], None],
) -> ScanReport:
    check_entities(policy, tools, {f.entity for f in data.schema if f.entity})
    columns = {f.name: _Column(f.name, f.type is FieldType.TEXT, policy, tools) for f in data.schema}
    rows = 0
    for batch in batches:
        for column_name, values in zip(batch.schema.names, batch.columns, strict=True):
            columns[column_name].add(pa.chunked_array([values]))
        rows += batch.num_rows
        tell(rows, total)
    return ScanReport(name, rows, None, tuple(found for column in columns.values() for found in column.found()))


class _Column:
    """The findings of one column over all batches."""

    def __init__(self, name: str, text: bool, policy: MaskingPolicy, tools: Tools) -> None:
        self._name = name
        self._policy = policy
        self._recognizers = [recognizer for recognizer in tools.recognizers if reads(recognizer, text=text)]
        self._hints = name_hints(name)
        self._present = 0
        self._found: dict[str, Found] = {}

    def add(self, column: pa.ChunkedArray) -> None:
        self._present += len(column) - column.null_count
        kind = column.type
        if is_number(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            self._add_whole(column)
            return
        counts = _text_counts(column.chunks)
        values = list(counts)
        policy = self._policy
        searched = scan_values(values, threshold=policy.threshold, thresholds=policy.thresholds, recognizers=self._recognizers, hints=self._hints)
        for value, findings in zip(values, searched, strict=True):
            for entity in {finding.entity for finding in findings}:
                self._entry(entity).count += counts[value]
            for finding in findings:
                self._entry(finding.entity).add(finding, value, counts[value])

    def _add_whole(self, column: pa.ChunkedArray) -> None:
        """Numbers and dates are judged as a column, because too many would pass a check by chance."""
        policy = self._policy
        finding = scan_column(self._name, column, policy.threshold, thresholds=policy.thresholds, recognizers=self._recognizers)
        if finding is None:
            return
        for entity, count in finding.entities.items():
            entry = self._entry(entity)
            entry.count += count
            entry.findings += count
            entry.scores += finding.score * count
            entry.evidence[finding.evidence] += count

    def _entry(self, entity: str) -> Found:
        return self._found.setdefault(entity, Found(self._name, entity))

    def found(self) -> Sequence[Found]:
        for each in self._found.values():
            each.total = self._present
        return sorted(self._found.values(), key=lambda each: (-each.count, each.entity))


def _scan_text_file(source: Path, policy: MaskingPolicy, tools: Tools, tell: Callable[[int, int | None], None]) -> ScanReport:
    check_entities(policy, tools)
    found: dict[str, Found] = {}
    characters = 0
    with Pieces(source, tools.recognizers, policy) as pieces:
        for text, findings in pieces:
            characters += len(text)
            for finding in findings:
                entry = found.setdefault(finding.entity, Found(None, finding.entity))
                entry.count += 1
                entry.add(finding, text, 1)
            tell(pieces.done, pieces.size)
    return ScanReport(source.name, None, characters, tuple(sorted(found.values(), key=lambda each: (-each.count, each.entity))))
