"""Masking from one place to another, as `affidavit mask` does: files of rows, files of text, and databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.frames import contiguous_stream, first_rows
from affidavit.interfaces.infer import infer_types
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.plugins import bundled_registry, source_for
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.applying import Masker
from affidavit_governance.masking.plan import SAMPLE_ROWS, check_policy, plan_for
from affidavit_governance.masking.spans import check_key
from affidavit_governance.masking.surfaces.sql import is_url, table_writer
from affidavit_governance.masking.surfaces.texts import is_text_file, mask_text_file
from affidavit_governance.masking.surfaces.writers import Writer, check_target, file_writer
from affidavit_governance.masking.tools import Tools, tools_for

Progress = Callable[[int, int | None], None]
"""Gets what is done and the total, where that is known: rows, or bytes of a text."""

COLUMNAR = (".parquet", ".pq", ".arrow", ".ipc", ".feather")
"""Files whose types are written in them, so that they can be read in pieces; others are read whole up to a size, for their types' sake."""


def mask_file(
    source: str | Path,
    target: str | Path,
    *,
    policy: MaskingPolicy,
    key: bytes,
    tools: Tools | None = None,
    query: str | None = None,
    table: str | None = None,
    replace: bool = False,
    anonymise: bool = False,
    registry: Any = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Mask `source` into `target`, batch by batch; `target` appears whole or not at all.

    Parameters
    ----------
    source
        A file (Parquet, Arrow, CSV, JSON lines), a database's URL, or a text file (``.txt``, ``.md``, ``.log``) where `target` is one too.
    target
        A file of any of these formats, or a database's URL.
    key
        The pseudonym key, 16 to 64 bytes.
    query
        What to read, where `source` is a database.
    table
        Where to write, where `target` is a database.
    replace
        Let the new table take the place of one that is there.
    anonymise
        Make the quasi-identifiers coarser until the policy's release rule holds. All masked rows are then in memory.
    registry
        Where sources are registered; default: the bundled ones.
    progress
        Told after each batch.

    Returns
    -------
    dict
        ``rows``, and ``columns``: operator, entity and cells masked by column name; where the policy has a release rule, ``release``: what was
        measured. For text ``lines`` and ``findings`` by entity. No values.

    Raises
    ------
    UsageError
        `target` has an ending that cannot be written, is the source itself, or the policy names an unknown column.
    InvalidInput
        `source` cannot be read as a table, or is no UTF-8 text.
    Refused
        The masked rows miss the policy's release rule; nothing is written.
    """
    check_key(key)
    tools = tools or tools_for(policy)
    tell = progress or (lambda done, total: None)
    if not is_url(target) and not is_url(source):
        _refuse_same(Path(source), Path(target))
        if is_text_file(source) and is_text_file(target):
            if anonymise:
                raise UsageError("Free text has no columns that could be made coarser.", hint="Leave anonymise out.")
            return mask_text_file(Path(source), Path(target), policy=policy, key=key, tools=tools, progress=tell)
    if is_url(target):
        if not table:
            raise UsageError("A database takes the masked rows in a table, and none is named.", hint="Pass table=…, on the command line --table.")
    else:
        check_target(Path(target))
        if table or replace:
            raise UsageError("'table' and 'replace' are for a database, and the target is a file.", hint="Leave them out.")
    rows = Rows(source, query=query, registry=registry)
    check_policy(policy, rows.sample, tools)
    plan = plan_for(rows.sample, policy, tools=tools, key=key)
    masker = Masker(plan, rows.sample.schema, key, table=rows.sample.name, tools=tools)
    out = _out(policy, anonymise)
    done = 0
    with _writer(target, table, source=source, replace=replace, compression=rows.compression) as writer:
        for batch in rows.batches():
            out.write(masker.table(pa.Table.from_batches([batch])), writer)
            done += batch.num_rows
            tell(done, rows.total)
        release = out.close(writer)  # before the writer lets anything out
    return {"rows": done, "columns": masker.report()} | release


class _Out:
    """Hands masked rows on as they come."""

    def write(self, masked: pa.Table, writer: Writer) -> None:
        writer.write(masked)

    def close(self, writer: Writer) -> dict[str, Any]:
        """What the report says of the release."""
        return {}


class _Gated(_Out):
    """Hands masked rows on as they come, and refuses at the end where they miss the policy's release rule."""

    def __init__(self, policy: MaskingPolicy) -> None:
        from affidavit_governance.masking.anonymity.release import ReleaseGate  # most policies do without

        self._gate = ReleaseGate(policy)

    def write(self, masked: pa.Table, writer: Writer) -> None:
        writer.write(masked)
        self._gate.add(masked)

    def close(self, writer: Writer) -> dict[str, Any]:
        report = self._gate.check()
        return {} if report is None else {"release": report.to_json()}


class _Anonymised(_Out):
    """Keeps all masked rows in memory, and hands them on with quasi-identifiers coarse enough for the policy's release rule."""

    def __init__(self, policy: MaskingPolicy) -> None:
        self._policy = policy
        self._rows: list[pa.Table] = []

    def write(self, masked: pa.Table, writer: Writer) -> None:
        self._rows.append(masked)

    def close(self, writer: Writer) -> dict[str, Any]:
        from affidavit_governance.masking.anonymity.release import anonymise_for_release, check_release

        made = anonymise_for_release(pa.concat_tables(self._rows), self._policy)
        report = check_release(made.data, self._policy)
        assert report is not None
        writer.write(made.data)
        return {"release": report.to_json() | {"loss": made.loss, "loss_of": dict(made.loss_of)}}


def _out(policy: MaskingPolicy, anonymise: bool) -> _Out:
    if anonymise and policy.release is None:
        raise UsageError("The policy does not say how anonymous the rows must be.", hint="Add masking.release, for example {k: 5}.")
    return _Anonymised(policy) if anonymise else _Gated(policy) if policy.release is not None else _Out()


def _writer(target: str | Path, table: str | None, *, source: str | Path, replace: bool, compression: str) -> AbstractContextManager[Writer]:
    if is_url(target):
        return table_writer(str(target), table or "", replace=replace, reading=str(source))
    return file_writer(Path(target), compression)


def _refuse_same(source: Path, target: Path) -> None:
    if target.exists() and target.resolve() == source.resolve():
        raise UsageError("The masked file would replace its source.", hint="Name another file.")


class Rows:
    """The rows of a file or a query, read once and in batches.

    Attributes
    ----------
    sample
        The first rows, with the types and roles that were inferred from them.
    total
        How many rows there are, where that is known beforehand.
    compression
        Parquet's codec: the source's own, else Zstandard.
    """

    def __init__(self, source: str | Path, *, query: str | None = None, registry: Any = None) -> None:
        reader = source_for(source, registry or bundled_registry())
        options: dict[str, Any] = {"query": query} if query is not None else {}
        if is_url(source) or str(source).lower().endswith(COLUMNAR):
            options["stream"] = True
        read = reader.read(source, **options)
        self.total: int | None = None
        self.compression = "zstd"
        if not callable(read):
            self.total = read.num_rows
            whole = read
            read = lambda: iter(whole.to_batches(max_chunksize=1 << 16))  # noqa: E731  # as short as it is clear
        elif str(source).lower().endswith((".parquet", ".pq")):
            self._look_at(Path(source))
        self._rest = contiguous_stream(read)()
        self._first = _first_batches(self._rest)
        table = first_rows(self._first, SAMPLE_ROWS)
        if not self._first or table.num_columns == 0:
            raise InvalidInput(f"'{_label(source)}' has no rows.")
        self.sample = Dataset(table, _types(table), name=_label(source))

    def _look_at(self, path: Path) -> None:
        with pa.parquet.ParquetFile(path) as file:
            self.total = file.metadata.num_rows
            codec = file.metadata.row_group(0).column(0).compression.lower() if file.metadata.num_row_groups and file.metadata.num_columns else ""
        self.compression = codec if codec in ("snappy", "gzip", "brotli", "lz4", "zstd") else "none" if codec == "uncompressed" else "zstd"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, once."""
        first, self._first = self._first, []
        while first:
            yield first.pop(0)
        yield from self._rest


def _first_batches(batches: Iterator[pa.RecordBatch]) -> list[pa.RecordBatch]:
    found, rows = [], 0
    for batch in batches:
        found.append(batch)
        rows += batch.num_rows
        if rows >= SAMPLE_ROWS:
            break
    return found if rows else []


def _label(source: str | Path) -> str:
    """What the data set is called: as `Workspace.load` would, so that tokens which are bound to it are the same."""
    return "data" if is_url(source) else Path(source).name.split(".")[0]


def _types(sample: pa.Table) -> Schema:
    """Types and roles of each column. What no field type stands for, lists and structs, is searched as text."""
    fields: list[Field] = []
    for name, column in zip(sample.column_names, sample.columns, strict=True):
        try:
            fields += infer_types(pa.Table.from_arrays([column], names=[name]), target=None, fields={}).fields
        except InvalidInput:
            fields.append(Field(name, FieldType.TEXT))
    return Schema(tuple(fields))
