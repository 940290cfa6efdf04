"""The data set interface: an immutable Arrow table with a schema, a fingerprint and a lineage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.schema import Field, Role, Schema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

DEFAULT_BATCH_ROWS = 65_536


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
        source: pa.Table | Callable[[], Iterator[pa.RecordBatch]],
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
        self.lineage = tuple(lineage)
        self._roots = frozenset(roots)
        self._fingerprint: str | None = None
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
        """Make a data set from anything with ``__arrow_c_stream__`` (pandas, Polars, DuckDB, Arrow) or a dict of columns.

        Types and roles are inferred; `fields` overrides them by column, for example ``{"age": {"role": "protected"}}``.

        Raises
        ------
        InvalidInput
            No rows or columns, a repeated column, or a target that is absent or constant.
        UsageError
            `fields` names an unknown column or attribute.
        """
        from affidavit.interfaces.infer import infer_schema

        table = as_table(data)
        if table.num_columns == 0 or table.num_rows == 0:
            raise InvalidInput(f"Data set '{name}' has {table.num_columns} columns and {table.num_rows} rows: there is nothing to work with.")
        return cls(table, infer_schema(table, target=target, fields=fields or {}), name=name)

    # -- values ---------------------------------------------------------------------------------------------------------------------

    @property
    def table(self) -> pa.Table:
        """All rows in memory. For streamed data this reads everything once and keeps it."""
        if self._table is None:
            assert self._stream is not None
            batches = list(self._stream())
            if not batches:
                raise InvalidInput(f"Data set '{self.name}' has no rows.")
            self._table = pa.Table.from_batches(batches)
        return self._table

    @property
    def streamed(self) -> bool:
        """Whether the rows are still outside memory."""
        return self._table is None

    def batches(self, rows: int = DEFAULT_BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The rows as record batches of at most `rows`, without loading streamed data whole."""
        source = self._stream() if self._table is None and self._stream is not None else iter(self.table.to_batches(max_chunksize=rows))
        for batch in source:
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)

    def __len__(self) -> int:
        if self._table is not None:
            return self._table.num_rows
        return sum(batch.num_rows for batch in self.batches())

    def column(self, name: str) -> pa.ChunkedArray:
        """The values of one column. Raises UsageError for an unknown name."""
        self.schema[name]
        return self.table.column(name)

    def to_numpy(self, name: str) -> NDArray[np.float64]:
        """A numeric, boolean or tensor column as float64, missing values as NaN; tensors as rows × shape."""
        from affidavit.interfaces.columns import numeric_array

        return numeric_array(self.column(name), self.schema[name])

    def to_list(self, name: str) -> list[Any]:
        """The values of one column as Python objects, missing ones as None."""
        values: list[Any] = self.column(name).to_pylist()
        return values

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
        return self._roots or frozenset({self.fingerprint})

    def derive(self, table: pa.Table, schema: Schema, operation: str, **parameters: Any) -> Dataset:
        """A data set made from this one: it keeps the roots, so that its training is charged to them."""
        step = Lineage(operation, (self.fingerprint,), parameters)
        return Dataset(table, schema, name=self.name, lineage=(*self.lineage, step), roots=self.roots)

    # -- views ----------------------------------------------------------------------------------------------------------------------

    def select(self, names: Sequence[str]) -> Dataset:
        """The named columns, in the order given."""
        schema = self.schema.select(tuple(names))
        return self.derive(self.table.select(list(names)), schema, "select", columns=list(names))

    def features(self) -> Dataset:
        """The columns that a model may read."""
        return self.select([f.name for f in self.schema.features])

    def take(self, indices: Sequence[int] | NDArray[np.int64], *, operation: str = "take", **parameters: Any) -> Dataset:
        """The rows at `indices`."""
        return self.derive(self.table.take(pa.array(indices, type=pa.int64())), self.schema, operation, rows=len(indices), **parameters)

    def head(self, rows: int = 5) -> Dataset:
        """The first `rows` rows."""
        return self.derive(self.table.slice(0, rows), self.schema, "head", rows=rows)

    def filter(self, keep: Any) -> Dataset:
        """The rows where the boolean array `keep` is true."""
        mask = keep if isinstance(keep, (pa.Array, pa.ChunkedArray)) else pa.array(keep, type=pa.bool_())
        return self.derive(self.table.filter(mask), self.schema, "filter")

    def replace_column(self, name: str, values: Any, **changes: Any) -> Dataset:
        """The same rows with other values in one column; `changes` go to its field."""
        index = self.schema.names.index(self.schema[name].name)
        table = self.table.set_column(index, name, values)
        return self.derive(table, self.schema.change(name, **changes), "replace", column=name)

    def with_schema(self, schema: Schema) -> Dataset:
        """The same rows under other types and roles; the fingerprint stays."""
        changed = Dataset(self._table if self._table is not None else self._stream, schema, name=self.name, lineage=self.lineage, roots=self._roots)  # type: ignore[arg-type]  # one of the two is set
        changed._fingerprint = self._fingerprint
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
    def read(self, source: Any, **options: Any) -> pa.Table | Callable[[], Iterator[pa.RecordBatch]]:
        """Read `source`, whole or as a re-startable stream of batches.

        Raises
        ------
        InvalidInput
            The file is missing, empty, ragged or wrongly encoded. The message never quotes a cell.
        """


def as_table(data: Any) -> pa.Table:
    """An Arrow table from a table, a dict of columns, or anything with ``__arrow_c_stream__``."""
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, Dataset):
        return data.table
    if isinstance(data, Mapping):
        return pa.table(dict(data))
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    raise UsageError(
        f"An object of type {type(data).__name__} is no data set.",
        hint="Pass a path, an Arrow table, a pandas or Polars frame, or a dict of columns.",
    )


__all__ = ["Dataset", "DatasetSource", "Field", "Lineage", "Role", "Schema", "as_table"]
