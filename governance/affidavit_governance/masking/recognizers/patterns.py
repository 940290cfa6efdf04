"""A policy's own patterns, on an engine that cannot backtrack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from affidavit.errors import UsageError
from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.recognizers.base import CONTEXT_BONUS, near
from affidavit_governance.masking.recognizers.plain import plain

_OPEN, _CLOSE, _OTHER = "\ufdd0", "\ufdd1", "\ufdd2"
"""Unicode noncharacters, which stand in no text that is meant to be exchanged (Unicode 16, section 23.7)."""
_OURS = str.maketrans({_OPEN: _OTHER, _CLOSE: _OTHER})
_ENTITY = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_LONGEST = 1000


class _Pattern(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: Annotated[str, Field(min_length=1, max_length=_LONGEST)]
    score: Annotated[float, Field(gt=0, le=1)] = 0.7
    context: tuple[str, ...] = ()


class Patterns:
    r"""Finds what a policy's own regular expressions match, in every column and text.

    ``masking: {recognizers: {patterns: {STAFF_ID: {pattern: 'E-[0-9]{6}', score: 0.9, context: [badge, staff]}}}}``. Each word of `context`
    that stands nearby adds 0.35 to the score, once.

    The expressions have RE2's syntax and run on RE2, through Arrow: the time grows with the text's length whatever the expression is, because
    look-around and back-references, which would need backtracking, do not exist there. They read text in which full-width and other
    scripts' digits are ASCII already.

    Raises
    ------
    UsageError
        An expression is none of RE2's or matches the empty text, or a setting is wrong.
    """

    every_column = True

    def __init__(self, **patterns: Any) -> None:
        self._patterns: dict[str, tuple[str, float, re.Pattern[str] | None]] = {}
        if not patterns:
            raise UsageError("Recognizer 'patterns' has no pattern.", hint="Write ENTITY: {pattern: '…'}.")
        for entity, settings in patterns.items():
            self._patterns[entity] = _read(entity, settings)

    @property
    def entities(self) -> Sequence[str]:
        """What the policy named."""
        return tuple(self._patterns)

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        """All matches in each text."""
        read = [plain(text).translate(_OURS).encode("utf-8", "replace").decode() for text in texts]
        column = pa.array(read, pa.large_string())
        found: list[list[Finding]] = [[] for _ in texts]
        for entity, (pattern, score, words) in self._patterns.items():
            hit = pc.match_substring_regex(column, pattern)
            rows = pc.indices_nonzero(hit).to_pylist()
            marked = pc.replace_substring_regex(column.filter(hit), f"({pattern})", rf"{_OPEN}\1{_CLOSE}").to_pylist()
            for row, text in zip(rows, marked, strict=True):
                for start, end in _matches(text):
                    close = words is not None and near(words, read[row], start, end)
                    evidence = "pattern of the policy" + (", words nearby" if close else "")
                    found[row].append(Finding(entity, start, end, min(1.0, score + CONTEXT_BONUS * close), evidence))
        return found


def _read(entity: str, settings: Any) -> tuple[str, float, re.Pattern[str] | None]:
    whose = f"Recognizer 'patterns', entity '{entity[:64]}'"
    if not _ENTITY.fullmatch(entity):
        raise UsageError(f"{whose}: an entity's name has capital letters, digits and underscores.", hint="For example STAFF_ID.")
    value = {"pattern": settings} if isinstance(settings, str) else settings
    try:
        read = TypeAdapter(_Pattern).validate_python(dict(value) if isinstance(value, Mapping) else value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UsageError(f"{whose}: {'.'.join(map(str, first['loc'])) or 'its settings'}: {first['msg']}.") from None
    try:
        empty = pc.match_substring_regex(pa.array([""]), read.pattern)[0].as_py()
    except pa.ArrowInvalid:
        hint = "RE2 knows no look-around and no back-references: they could take forever on a long text."
        raise UsageError(f"{whose}: the pattern is no regular expression of RE2's.", hint=hint) from None
    if empty:
        raise UsageError(f"{whose}: the pattern matches the empty text, so it would match everywhere.", hint="Have it ask for a character.")
    words = re.compile("|".join(map(re.escape, read.context)), re.IGNORECASE) if read.context else None
    return read.pattern, read.score, words


def _matches(marked: str) -> Iterator[tuple[int, int]]:
    """Start and end of each match, in the text without marks."""
    for number, piece in enumerate(re.finditer(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}", marked)):
        start = piece.start() - 2 * number
        if piece.group(1):
            yield start, start + len(piece.group(1))
