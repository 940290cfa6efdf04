"""Checks of a source on files that were cut or changed: it says so or gives rows, and no word of it quotes a cell."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from affidavit.errors import InvalidInput
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.source.subject import SourceSubject
from affidavit.testing.report import Tier

MARK, NUMBER = "Zq7kit", 4815162342
"""What stands in the cells, so that a message that quotes one is found by a part of it."""

FLIPS = 40
"""Bytes changed in each file, one at a time."""


@check("source", Tier.API)
def damaged_files_give_rows_or_are_refused(subject: SourceSubject) -> None:
    """A file cut short, or with a byte changed or left out, gives a sound table or InvalidInput; nothing else is raised."""
    for read in _readings(subject):
        if read.error is not None and not isinstance(read.error, InvalidInput):
            say = f"{read.what} raised {type(read.error).__name__}: catch what the library raises, and raise InvalidInput."
            raise CheckFailed(say) from read.error


@check("source", Tier.API)
def a_refusal_quotes_no_cell(subject: SourceSubject) -> None:
    """What it says of a damaged file, with everything that led there, holds nothing of a cell."""
    for read in _readings(subject):
        if isinstance(read.error, InvalidInput) and _quotes(_told(read.error)):
            raise CheckFailed(f"{read.what}: the error, or one that came before it, quotes a cell: write its message anew, and raise it 'from None'.")


@check("source", Tier.API)
def reading_logs_and_prints_no_cell(subject: SourceSubject) -> None:
    """Neither log records, warnings nor what is printed hold anything of a cell, whether the rows are read or refused."""
    for read in _readings(subject):
        if _quotes(read.heard):
            raise CheckFailed(f"{read.what}: it logs, warns of or prints a cell. Rows are masked after they are read, so tell nobody of them.")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was done to what was written, what reading it raised, and what was logged and printed meanwhile."""

    what: str
    error: Exception | None
    heard: str


@lru_cache(maxsize=1)  # three checks look at the same readings
def _readings(subject: SourceSubject) -> list[_Reading]:
    with subject.written(_marked(subject)) as (source, folder):
        found = [_reading("what was written", subject, source, way) for way in subject.ways]
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            for what, damaged in _damages(content):
                path.write_bytes(damaged)
                found += [_reading(f"'{path.name}' with {what}", subject, source, way) for way in subject.ways]
            path.write_bytes(content)
    return found


def _reading(what: str, subject: SourceSubject, source: Any, way: dict[str, Any]) -> _Reading:
    error = None
    with _listening() as heard:
        try:
            table = subject.read(source, way)
            table.validate(full=True)
            table.to_pylist()
        except CheckFailed:
            raise
        except Exception as raised:
            error = raised
    return _Reading(what, error, "\n".join(heard))


def _damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    size = len(content)
    for length in sorted({0, 1, size // 4, size // 2, 3 * size // 4, size - 1}):
        yield f"only its first {length} bytes", content[:length]
    generator = np.random.default_rng(7)
    # the ends hold what formats say of themselves, and are small beside the rest
    places = {*generator.integers(0, size, FLIPS).tolist(), *generator.integers(0, min(size, 64), 8).tolist()}
    places |= {size - 1 - place for place in generator.integers(0, min(size, 64), 8).tolist()}
    for place in sorted(places):
        for flip in (0xFF, 1 << int(generator.integers(0, 8))):
            yield f"byte {place} changed", content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
    marks = [place for place, byte in enumerate(content) if not chr(byte).isalnum()]  # what separates cells and rows in a text format
    for place in sorted(generator.choice(marks, min(len(marks), 16), replace=False).tolist()):
        yield f"byte {place} left out", content[:place] + content[place + 1 :]


def _marked(subject: SourceSubject) -> pa.Table:
    """The rows, with cells that are easily told in a message."""
    table = subject.table
    rows = range(table.num_rows)
    table = table.append_column("note", pa.array([f"{MARK}-{row}-{MARK}-{MARK}" for row in rows]))
    return table.append_column("account", pa.array([NUMBER * 10 + row for row in rows]))


def _told(error: BaseException) -> str:
    """Everything that a traceback would print of an error."""
    told = [str(error), str(getattr(error, "hint", "")), *getattr(error, "__notes__", [])]
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join([*told, _told(before)] if before is not None else told)


def _quotes(text: str) -> bool:
    return MARK in text or str(NUMBER) in text


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """What the block logs from INFO on, warns of and prints."""
    heard: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: heard.append(f"{record.getMessage()} {record.exc_info or ''}")  # type: ignore[method-assign]  # all that it does
    root, printed = logging.getLogger(), io.StringIO()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            warnings.simplefilter("always")
            yield heard
            heard += [printed.getvalue(), *(str(warning.message) for warning in warned)]
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
