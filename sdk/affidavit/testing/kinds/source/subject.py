"""A source under check: how rows get to where it reads, and how it is read."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import BatchStream, Dataset, DatasetSource
from affidavit.testing.checks import CheckFailed, Skip
from affidavit.testing.subjects import Case, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCase(Case):
    """How a place that data sets come from is tried.

    Attributes
    ----------
    write
        Puts a table where the source can read it, in the empty folder that it is given or in memory, and returns what a user would pass to
        `Workspace.load`. It raises `Skip`, with the reason, for a table that the format cannot hold.
    options
        With which the source reads what was written.
    stream
        Options with which it streams; None where it never does.
    table
        Rows to write, where the kit's own (numbers, text, codes and booleans with gaps) do not fit the format.
    """

    kind: ClassVar[str] = "source"
    write: Callable[[pa.Table, Path], Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: Mapping[str, Any] | None = None
    table: pa.Table | None = None


class SourceSubject(Subject[SourceCase]):
    """A place that data sets come from."""

    kind = "source"
    Case = SourceCase

    def make(self) -> DatasetSource:
        """The source, made as a workspace makes it."""
        made: DatasetSource = self.value()
        return made

    @property
    def table(self) -> pa.Table:
        """Rows to write."""
        return sample() if self.case.table is None else self.case.table

    @property
    def ways(self) -> list[dict[str, Any]]:
        """The options of each way in which it reads: whole, and as a stream where it can."""
        ways = [dict(self.case.options)]
        return ways if self.case.stream is None else [*ways, {**self.case.options, **self.case.stream}]

    @contextmanager
    def written(self, table: pa.Table) -> Iterator[tuple[Any, Path]]:
        """What a user passes to read `table`, and the folder that was given to write in. Raises Skip without a case."""
        if self.case.write is None:
            raise Skip("nobody says how rows get to where it reads: see the check 'what_was_written_is_read_back'")
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made).resolve()
            yield self.case.write(table, folder), folder

    def open(self, source: Any, way: Mapping[str, Any], reader: DatasetSource | None = None) -> pa.Table | BatchStream:
        """What `read` of `reader`, or of a new one, gives. It gets options of its own, so that it does not change ours."""
        return (reader or self.make()).read(source, **copy.deepcopy(dict(way)))

    def read(self, source: Any, way: Mapping[str, Any]) -> pa.Table:
        """All rows, as a data set holds them."""
        return whole(self.open(source, way))


def sample() -> pa.Table:
    """A few rows of what any format can hold: numbers, text, codes that only look like numbers, and booleans, each with a gap."""
    return pa.table(
        {
            "whole": pa.array([3, -1, None, 9_007_199_254_740_991, 0, 12], pa.int64()),
            "number": pa.array([0.1, -2.5, 1e-7, None, 0.30000000000000004, 123456.75]),
            "text": pa.array(["plain words", None, "more of them", "München, 上海", "the last but one", "end"]),
            "code": pa.array(["01307", "00700", "10115", "04229", None, "99084"]),
            "flag": pa.array([True, False, None, True, True, False]),
        }
    )


def whole(made: Any) -> pa.Table:
    """A table of what `read` gave. Raises CheckFailed where that is neither a table nor a function that gives batches."""
    if isinstance(made, pa.Table):
        return Dataset.from_arrow(made).table if made.num_rows else made
    if not callable(made):
        raise CheckFailed(f"read gave {type(made).__name__}: give a pyarrow.Table, or a function that gives record batches each time it is called.")
    batches = list(made())
    if not batches:
        raise InvalidInput("The stream has no rows.")  # what a data set says of it
    return pa.Table.from_batches(batches)


def fingerprint(table: pa.Table) -> str:
    """The fingerprint of the rows as a data set."""
    return Dataset.from_arrow(table).fingerprint
