"""Which columns of a table hold personal data: values vote first, each distinct one once, then the column's name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.frames import as_table
from affidavit.interfaces.masking import Finding, Recognizer
from affidavit_governance.masking.operators.arrays import is_bytes, is_text
from affidavit_governance.masking.recognizers.base import DEFAULT_THRESHOLD, NO_THRESHOLDS, PatternRecognizer
from affidavit_governance.masking.recognizers.catalogue import patterns
from affidavit_governance.masking.text import scan_values

WHOLE_SHARE = 0.5
"""A column most of whose values are one entity is masked whole: the rest are most likely the same in a form that nothing recognised."""
_COVERED = 0.9
_NUMBER_SHARE = 0.9
_NUMBER_DISTINCT = 5
_NUMBER_SCORE = 0.9
"""A number of another kind is believed without its column's name only where its check leaves nothing to chance."""

_BIRTH = "DATE_OF_BIRTH"
_BIRTH_SCORE = 0.85
"""As sure as a date in a text after words such as "born"."""
_NUMERIC_HINT = re.compile(r"\b((tele)?phone|mobile|cell|tel|fax|msisdn|ssn)( (no|nr|num|number|home|work|[0-9]+))?$")
"""Numbers are believed to be telephone or security numbers only where the name ends so: `phone_minutes` holds amounts."""


@dataclass(frozen=True, slots=True)
class ColumnFinding:
    """Personal data in one column.

    Attributes
    ----------
    entity
        What most of its findings are.
    score
        Mean score of that entity's findings.
    share
        Share of the values present that are this entity as a whole.
    whole
        The column is this entity; otherwise findings stand in single cells or inside longer texts.
    cells
        How many cells hold a finding.
    entities
        Cells by entity.
    evidence
        What spoke for it: the validator, the column's name.
    """

    column: str
    entity: str
    score: float
    share: float
    whole: bool
    cells: int
    entities: dict[str, int] = field(default_factory=dict)
    evidence: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object; it holds no value."""
        return {name: getattr(self, name) for name in ("column", "entity", "score", "share", "whole", "cells", "entities", "evidence")}


def name_hints(name: str, recognizers: Sequence[Recognizer] | None = None) -> frozenset[str]:
    """The entities that a column's name speaks for, by what `recognizers` (the bundled ones by default) say of such names."""
    return _hints(_words(name), None if recognizers is None else tuple(recognizers))


@lru_cache(maxsize=4096)
def _hints(words: str, recognizers: tuple[Recognizer, ...] | None) -> frozenset[str]:
    return frozenset(entity for entity, pattern in _name_patterns(recognizers) if pattern.search(words))


@lru_cache(maxsize=16)
def _name_patterns(recognizers: tuple[Recognizer, ...] | None) -> list[tuple[str, re.Pattern[str]]]:
    used = patterns() if recognizers is None else recognizers
    return [(r.entity, re.compile(r.column_words)) for r in used if isinstance(r, PatternRecognizer) and r.column_words is not None]


def _words(name: str) -> str:
    return re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).strip().lower()


def scan_table(
    dataset: Dataset | Any,
    threshold: float = DEFAULT_THRESHOLD,
    *,
    thresholds: Mapping[str, float] = NO_THRESHOLDS,
    recognizers: Sequence[Recognizer] | None = None,
) -> dict[str, ColumnFinding]:
    """Find the columns of a table that hold personal data.

    Parameters
    ----------
    dataset
        A `Dataset`, or anything that Arrow can read.
    threshold, thresholds
        Score from which a finding counts: of any entity, of single ones.
    recognizers
        What to look with; default: the bundled ones.

    Returns
    -------
    dict
        A `ColumnFinding` by column name; columns without findings are absent.
    """
    table = dataset.table if isinstance(dataset, Dataset) else as_table(dataset)
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if finding := scan_column(name, column, threshold, thresholds=thresholds, recognizers=recognizers):
            found[name] = finding
    return found


def scan_column(
    name: str,
    column: pa.ChunkedArray,
    threshold: float,
    *,
    thresholds: Mapping[str, float] = NO_THRESHOLDS,
    recognizers: Sequence[Recognizer] | None = None,
) -> ColumnFinding | None:
    """Find personal data in one column; None where there is none.

    The values vote, each as its recognizer scores it; the column's name raises the scores of what it speaks for, and of numbers decides
    which kind they are believed to be.
    """
    hints = name_hints(name, recognizers)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return _dated(name, column, thresholds.get(_BIRTH, threshold)) if _BIRTH in hints else None
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    counts = _number_counts(column) if numeric else _text_counts(column.chunks)
    if not counts:
        return None
    values = list(counts)
    leaned = hints | {"PHONE_NUMBER"} if numeric else hints
    found = scan_values(values, threshold=threshold, thresholds=thresholds, recognizers=recognizers, hints=leaned)
    tally = _Tally()
    for value, findings in zip(values, found, strict=True):
        tally.add(value, findings, counts[value])
    if not tally.cells:
        return None
    # A nested value is never an entity as a whole, so only its leaves are masked.
    present = len(column) - column.null_count if not pa.types.is_nested(column.type) else 0
    return _numeric(name, tally, present, hints) if numeric else tally.column(name, present, hints)


def _dated(name: str, column: pa.ChunkedArray, threshold: float) -> ColumnFinding | None:
    """A column of dates whose name speaks for dates of birth."""
    cells = len(column) - column.null_count
    if cells == 0 or threshold > _BIRTH_SCORE:
        return None
    return ColumnFinding(name, _BIRTH, _BIRTH_SCORE, 1.0, True, cells, {_BIRTH: cells}, "type of date, column name")


class _Tally:
    def __init__(self) -> None:
        self.cells = 0
        self.entities: Counter[str] = Counter()
        self.whole: Counter[str] = Counter()
        self.distinct: Counter[str] = Counter()
        self.scores: Counter[str] = Counter()
        self.evidence: dict[str, str] = {}

    def add(self, value: str, findings: list[Finding], count: int) -> None:
        if not findings:
            return
        self.cells += count
        for entity in {finding.entity for finding in findings}:
            self.entities[entity] += count
        size = len(value.strip())
        for finding in findings:
            self.evidence.setdefault(finding.entity, finding.evidence)
            if finding.end - finding.start >= _COVERED * size:
                self.whole[finding.entity] += count
                self.distinct[finding.entity] += 1
            self.scores[finding.entity] += finding.score * count  # type: ignore[assignment]  # a Counter adds floats as well

    def column(self, name: str, present: int, hints: Iterable[str] = ()) -> ColumnFinding:
        entity = max(self.entities, key=lambda e: (self.whole[e], self.entities[e], e))
        share = self.whole[entity] / present if present else 0.0
        score = min(1.0, self.scores[entity] / self.entities[entity])
        evidence = self.evidence[entity] + (", column name" if entity in hints else "")
        return ColumnFinding(name, entity, round(score, 3), round(share, 4), share > WHOLE_SHARE, self.cells, dict(self.entities), evidence)


def _numeric(name: str, tally: _Tally, present: int, hints: frozenset[str]) -> ColumnFinding | None:
    """Judge a numeric column: cards by themselves, all else only as a whole column that is named or shaped so."""
    finding = tally.column(name, present, hints)
    if finding.entity in ("PHONE_NUMBER", "US_SSN"):
        named = _NUMERIC_HINT.search(_words(name)) is not None
        sure = "numbering plan" in finding.evidence or "Chinese mobile" in finding.evidence
    else:
        named = finding.entity in hints
        sure = finding.score >= _NUMBER_SCORE
    shaped = sure and finding.share >= _NUMBER_SHARE and tally.distinct[finding.entity] >= _NUMBER_DISTINCT
    if finding.entity == "CREDIT_CARD" or shaped or (named and finding.share > WHOLE_SHARE):
        return finding
    tally.entities = Counter({entity: n for entity, n in tally.entities.items() if entity == "CREDIT_CARD"})
    return tally.column(name, present, hints) if tally.entities else None


def _number_counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Whole numbers of nine to nineteen digits as text, with how often each stands there."""
    if pa.types.is_decimal(column.type):
        numbers = np.array([float(value) for value in column.drop_null().to_pylist()], dtype=np.float64)
    else:
        numbers = column.drop_null().to_numpy()
    large = numbers[(numbers >= 10**8) & (numbers < 10**19)]
    if large.dtype.kind == "f":
        large = large[large == np.floor(large)]
    values, counts = np.unique(large, return_counts=True)
    return {str(int(value)): int(count) for value, count in zip(values, counts, strict=True)}


def _text_counts(chunks: Iterable[pa.Array]) -> dict[str, int]:
    """The texts in a column's leaves, with how often each stands there."""
    total: Counter[str] = Counter()
    for chunk in chunks:
        for leaf in _leaves(chunk):
            for entry in pc.value_counts(leaf).to_pylist():
                value = entry["values"]
                if isinstance(value, bytes):
                    try:
                        value = value.decode()
                    except UnicodeDecodeError:
                        continue
                if value:
                    total[value] += entry["counts"]
    return total


def _leaves(array: pa.Array) -> Iterable[pa.Array]:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        yield from _leaves(array.storage)
    elif pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary_decode())
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(kind):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(array.flatten())
    elif is_text(kind) or is_bytes(kind):
        yield array.cast(pa.large_binary())
