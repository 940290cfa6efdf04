"""The data set interface: an immutable Arrow table with a schema, a fingerprint and a lineage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.frames import as_table, contiguous_stream, first_rows, refuse_empty
from affidavit.interfaces.schema import Schema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd  # type: ignore[import-untyped]  # pandas ships no types
    from numpy.typing import NDArray

DEFAULT_BATCH_ROWS = 65_536
SAMPLE_ROWS = 100_000

BatchStream = Callable[[], Iterator[pa.RecordBatch]]
"""Gives a fresh iterator over the same record batches each time it is called; how data larger than memory is held."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """One step that made a data set from others.

    Attributes
    ----------
    operation
        ``split``, ``filter``, ``clean``, ``mask``, ``select``…
    parents
        Fingerprints of what it was made from.
    parameters
        What was done, JSON values only.
    """

    operation: str
    parents: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a data set came from, until somebody asks for its roots."""

    parent: Dataset
    operation: str
    parameters: Mapping[str, Any]


class Dataset:
    """An immutable Arrow table with a `Schema`.

    Parameters
    ----------
    source
        A table, or a function that gives a fresh iterator of record batches each time it is called (for data larger than memory).
    schema
        One field for each column, in the same order.
    name
        What people call it.
    lineage
        The steps that led here, oldest first.
    roots
        Fingerprints of the data sets that everything here came from; privacy budgets are charged to them. Empty means: this is a root.
    """

    def __init__(
        self,
        source: pa.Table | BatchStream,
        schema: Schema,
        *,
        name: str = "data",
        lineage: Sequence[Lineage] = (),
        roots: Iterable[str] = (),
    ) -> None:
        self._table = source if isinstance(source, pa.Table) else None
        self._stream = None if isinstance(source, pa.Table) else source
        self.schema = schema
        self.name = name
        self._lineage = tuple(lineage)
        self._roots = frozenset(roots)
        self._origin: _Origin | None = None
        self._fingerprint: str | None = None
        self._rows: int | None = None
        self._cells: Sequence[tuple[Any, ...]] | bool | None = None
        if self._table is not None and tuple(self._table.column_names) != schema.names:
            raise InvalidInput(f"Data set '{name}': the schema names other columns than the table has.")

    @classmethod
    def from_arrow(
        cls,
        data: Any,
        *,
        name: str = "data",
        target: str | None = None,
        fields: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Dataset:
        """Make a data set from anything with ``__arrow_c_stream__`` (pandas, Polars, DuckDB, Arrow), a dict of columns, or a `BatchStream`.

        Types and roles are inferred; `fields` overrides them by column, for example ``{"age": {"role": "protected"}}``. The rules are those
        of `affidavit.interfaces.infer.infer_schema`. A stream's types are inferred from its first 100,000 rows, its values checked in all.
        A `Dataset` keeps its rows, lineage and what is known of personal data in it, and gets the new target and fields.

        Raises
        ------
        InvalidInput
            No rows or columns, a repeated column, infinity in a number, or a target that is constant or missing somewhere.
        UsageError
            `target` or `fields` names an unknown column or attribute.
        """
        from affidavit.interfaces.infer import check_values, infer_schema, infer_types

        if callable(data):
            data = contiguous_stream(data)
            sample = first_rows(data(), SAMPLE_ROWS)
            refuse_empty(sample, name)
            schema = infer_types(sample, target=target, fields=fields or {})
            made = cls(data, schema, name=name)
            made._rows = check_values(data(), schema)
            return made
        table = data.table if isinstance(data, Dataset) else as_table(data)
        refuse_empty(table, name)
        schema = infer_schema(table, target=target, fields=fields)
        if isinstance(data, Dataset):
            for known in data.schema:
                schema = schema.change(known.name, entity=schema[known.name].entity or known.entity, masked=known.masked, masked_in=known.masked_in)
            return data.with_schema(schema)
        return cls(table, schema, name=name)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]], schema: Schema, *, name: str = "rows") -> Dataset:
        """Make a prediction batch from a list of rows, or a dict of columns, of Python values in the columns of `schema`.

        The quick way into a model (``Dataset.from_rows([row], model.fitted.inputs)``): nothing is inferred, extra keys are left out.

        Raises
        ------
        InvalidInput
            A column is missing, or a value does not fit its field; the message names column and row, never the value.
        """
        from affidavit.interfaces.columns import plain_cells, table_from_rows

        data = cls(table_from_rows(rows, schema), schema, name=name)
        data._cells = plain_cells(rows, schema) or False
        return data

    # -- values ---------------------------------------------------------------------------------------------------------------------

    @property
    def table(self) -> pa.Table:
        """All rows in memory. For streamed data this reads everything once and keeps it."""
        if self._table is None:
            self._table = pa.Table.from_batches(self._source_batches())
        return self._table

    @property
    def cells(self) -> Sequence[tuple[Any, ...]] | None:
        """The rows as plain Python values in the order of the schema: of a batch of few rows without tensors and dates, else None.

        Read once for all who look at each cell of a row, which is several times as quick as asking Arrow for one cell after the other.
        """
        if self._cells is None:
            from affidavit.interfaces.columns import table_cells

            self._cells = (table_cells(self._table, self.schema) if self._table is not None else None) or False
        return self._cells or None  # type: ignore[return-value]  # never True

    @property
    def streamed(self) -> bool:
        """Whether the rows are still outside memory."""
        return self._table is None

    def batches(self, rows: int = DEFAULT_BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The rows as record batches of at most `rows`, without loading streamed data whole."""
        source = self._source_batches() if self._table is None else self._table.to_batches(max_chunksize=rows)
        empty = True
        for batch in source:
            if batch.num_rows <= rows:
                empty = False
                yield batch
                continue
            for start in range(0, batch.num_rows, rows):
                empty = False
                yield batch.slice(start, rows)
        if empty and self._table is not None:
            yield pa.RecordBatch.from_pylist([], schema=self._table.schema)

    def _source_batches(self) -> Iterator[pa.RecordBatch]:
        assert self._stream is not None
        empty = True
        for batch in self._stream():
            empty = False
            yield batch
        if empty:
            raise InvalidInput(f"Data set '{self.name}' has no rows.")

    def __len__(self) -> int:
        if self._rows is None:
            self._rows = self._table.num_rows if self._table is not None else sum(batch.num_rows for batch in self._source_batches())
        return self._rows

    def column(self, name: str) -> pa.ChunkedArray:
        """The values of one column; of streamed data this keeps only that column in memory. Raises UsageError for an unknown name."""
        position = self.schema.position(name)
        if self._table is not None:
            return self._table.column(position)
        return pa.chunked_array([batch.column(position) for batch in self._source_batches()])

    def to_numpy(self, name: str) -> NDArray[np.float64]:
        """A numeric, boolean, date or tensor column as float64, missing values as NaN; tensors as rows × shape."""
        from affidavit.interfaces.columns import numeric_array

        return numeric_array(self.column(name), self.schema[name])

    def to_list(self, name: str) -> list[Any]:
        """The values of one column as Python objects, missing ones as None."""
        values: list[Any] = self.column(name).to_pylist()
        return values

    def to_text(self, name: str) -> list[str | None]:
        """The values of one column as text (``true``, ``1``, ISO 8601 dates), missing ones as None; the form in which categories are looked up."""
        from affidavit.interfaces.columns import text_values

        return text_values(self, name)

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame (needs pandas)."""
        return self.table.to_pandas()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        rows = "streamed" if self.streamed else f"{len(self)} rows"
        return f"Dataset({self.name!r}, {rows} × {len(self.schema)} columns)"

    # -- identity -------------------------------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of names, types and values; independent of chunks, row groups and dictionary encoding."""
        if self._fingerprint is None:
            from affidavit.interfaces.fingerprint import fingerprint

            self._fingerprint = fingerprint(self.batches())
        return self._fingerprint

    @property
    def roots(self) -> frozenset[str]:
        """Fingerprints of the data sets that this one came from, itself if it came from none."""
        self._settle()
        return self._roots or frozenset({self.fingerprint})

    @property
    def lineage(self) -> tuple[Lineage, ...]:
        """The steps that led here, oldest first."""
        self._settle()
        return self._lineage

    def _settle(self) -> None:
        """Put the parent's fingerprint, lineage and roots in the place of the parent, and let it go."""
        if self._origin is not None:
            parent = self._origin.parent
            self._lineage = (*parent.lineage, Lineage(self._origin.operation, (parent.fingerprint,), self._origin.parameters))
            self._roots = parent.roots
            self._origin = None

    def derive(self, source: pa.Table | BatchStream, schema: Schema, operation: str, **parameters: Any) -> Dataset:
        """A data set made from this one: it keeps the roots, so that its training is charged to them.

        Nothing is hashed yet, so that one-row batches stay quick: the result holds on to this data set until its `roots` or `lineage` are
        asked for the first time.
        """
        derived = Dataset(source, schema, name=self.name)
        derived._origin = _Origin(self, operation, parameters)
        return derived

    def declare(self, roots: Iterable[str]) -> Dataset:
        """The same rows, said to come from the data sets with the fingerprints `roots`: their training is charged to those as well."""
        source = self._table if self._table is not None else self._stream
        assert source is not None
        parents = tuple(sorted(roots))
        said = Lineage("declare", parents)
        declared = Dataset(source, self.schema, name=self.name, lineage=(*self.lineage, said), roots=self.roots.union(parents))
        declared._fingerprint, declared._rows = self._fingerprint, self._rows
        return declared

    # -- views ----------------------------------------------------------------------------------------------------------------------

    def select(self, names: Sequence[str]) -> Dataset:
        """The named columns, in the order given; streamed data stays streamed."""
        columns = list(names)
        schema = self.schema.select(tuple(columns))
        if self._table is None:
            return self.derive(lambda: (batch.select(columns) for batch in self._source_batches()), schema, "select", columns=columns)
        return self.derive(self._table.select(columns), schema, "select", columns=columns)

    def features(self) -> Dataset:
        """The columns that a model may read."""
        return self.select([f.name for f in self.schema.features])

    def take(self, indices: Sequence[int] | NDArray[np.int64], *, operation: str = "take", **parameters: Any) -> Dataset:
        """The rows at `indices`."""
        return self.derive(self.table.take(pa.array(indices, type=pa.int64())), self.schema, operation, rows=len(indices), **parameters)

    def head(self, rows: int = 5) -> Dataset:
        """The first `rows` rows."""
        table = self._table if self._table is not None else first_rows(self._source_batches(), rows)
        return self.derive(table.slice(0, rows), self.schema, "head", rows=rows)

    def filter(self, keep: Any, *, operation: str = "filter", **parameters: Any) -> Dataset:
        """The rows where the boolean array `keep`, one value a row, is true; streamed data stays streamed."""
        mask = keep if isinstance(keep, (pa.Array, pa.ChunkedArray)) else pa.array(keep, type=pa.bool_())
        if len(mask) != len(self):
            raise UsageError(f"The filter has {len(mask)} values for {len(self)} rows.")
        if self._table is not None:
            return self.derive(self._table.filter(mask), self.schema, operation, **parameters)

        def kept() -> Iterator[pa.RecordBatch]:
            start = 0
            for batch in self._source_batches():
                yield batch.filter(mask.slice(start, batch.num_rows))
                start += batch.num_rows

        return self.derive(kept, self.schema, operation, **parameters)

    def replace_column(self, name: str, values: Any, **changes: Any) -> Dataset:
        """The same rows with other values in one column; `changes` go to its field."""
        table = self.table.set_column(self.schema.position(name), name, values)
        return self.derive(table, self.schema.change(name, **changes), "replace", column=name)

    def with_schema(self, schema: Schema) -> Dataset:
        """The same rows under other types and roles; the fingerprint stays."""
        source = self._table if self._table is not None else self._stream
        assert source is not None
        changed = Dataset(source, schema, name=self.name, lineage=self._lineage, roots=self._roots)
        changed._fingerprint = self._fingerprint
        changed._origin = self._origin
        changed._rows = self._rows
        return changed

    def clean(self, *, duplicates: bool = True, missing: str = "keep") -> Dataset:
        """Drop repeated rows and treat missing values.

        Parameters
        ----------
        missing
            ``"keep"``, ``"drop"`` (rows with any missing feature or target) or ``"fill"`` (median of numbers, commonest category).
        """
        from affidavit.interfaces.rows import clean

        return clean(self, duplicates=duplicates, missing=missing)

    def split(
        self,
        test: float = 0.25,
        *,
        seed: int = 0,
        stratify: bool = False,
        group: str | None = None,
        time: str | None = None,
    ) -> tuple[Dataset, Dataset]:
        """Split into train and test rows.

        Parameters
        ----------
        test
            Share of rows to test on, between 0 and 1.
        seed
            The same seed gives the same split on every machine.
        stratify
            Keep the target's class shares in both parts.
        group
            A column whose equal values never stand on both sides.
        time
            A column to order by: the test rows are the latest.
        """
        from affidavit.interfaces.rows import split

        return split(self, test=test, seed=seed, stratify=stratify, group=group, time=time)


class DatasetSource(ABC):
    """A place that data sets come from, registered under a name such as ``"csv"``."""

    type: ClassVar[str]

    @abstractmethod
    def accepts(self, source: Any) -> bool:
        """Say whether this source can read `source` (a path, a URL, an object) without reading it."""

    @abstractmethod
    def read(self, source: Any, **options: Any) -> pa.Table | BatchStream:
        """Read `source`, whole or as a re-startable stream of batches.

        Raises
        ------
        InvalidInput
            The file is missing, empty, ragged or wrongly encoded. The message never quotes a cell.
        """
