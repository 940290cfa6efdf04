"""Masking one file into another, as `affidavit mask` does."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.policy import MaskingPolicy
from affidavit.store import writing
from affidavit_governance.masking.plan import mask_table

_WRITERS = {
    ".parquet": lambda sink, schema: pa.parquet.ParquetWriter(sink, schema),
    ".csv": lambda sink, schema: pa.csv.CSVWriter(sink, schema),
    ".arrow": lambda sink, schema: pa.ipc.new_file(sink, schema),
}


def mask_file(source: Path, target: Path, *, policy: MaskingPolicy, key: bytes, reader: Any) -> dict[str, Any]:
    """Mask `source` into `target`, batch by batch; `target` appears whole or not at all.

    Parameters
    ----------
    key
        The pseudonym key, 16 to 64 bytes.
    reader
        The `affidavit.interfaces.dataset.DatasetSource` that reads `source`.

    Returns
    -------
    dict
        ``rows``, and ``columns``: operator, entity and cells masked by column name. No values.

    Raises
    ------
    UsageError
        `target` has an ending that cannot be written, is the source itself, or the policy names an unknown column.
    InvalidInput
        `source` cannot be read as a table.
    """
    if target.suffix not in _WRITERS:
        raise UsageError(f"A masked file cannot be written as '{target.suffix or target.name}'.", hint=f"Use one of {', '.join(_WRITERS)}.")
    if target.exists() and target.resolve() == source.resolve():
        raise UsageError("The masked file would replace its source.", hint="Name another file.")
    data = Dataset.from_arrow(reader.read(source), name=source.name)
    masked, report = mask_table(data, policy, key)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    rows = 0
    with writing(target):
        try:
            with partial.open("wb") as sink:
                writer = None
                for batch in masked.batches():
                    writer = writer or _WRITERS[target.suffix](sink, batch.schema)
                    writer.write_batch(batch)
                    rows += batch.num_rows
                if writer is not None:
                    writer.close()
                sink.flush()
                os.fsync(sink.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return {"rows": rows, "columns": report.to_json()["columns"]}
