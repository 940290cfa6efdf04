"""Parquet files whose columns are encrypted under a workspace's keys, by Parquet's modular encryption (apache/parquet-format, Encryption.md).

Footer and every column are encrypted with AES-256-GCM, each with a data key of its own; Parquet binds each part to its file, column and place,
so that parts cannot be exchanged. The data keys lie in the file, each in an envelope under a key that the keyring derives for Parquet files,
bound to what it is for. That key stays when the keyring is rotated, as for sealed files.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from affidavit.errors import AffidavitError, IntegrityError, InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import DEFAULT_BATCH_ROWS, BatchStream
from affidavit.interfaces.governance import Keyring
from affidavit_governance.encryption import envelope
from affidavit_governance.encryption.files import replacing

if TYPE_CHECKING:
    from pyarrow.parquet import encryption

FOOTER, REST = "footer", "columns"


def write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, target: Path, keyring: Keyring, *, columns: Sequence[str] = ()) -> int:
    """Write an encrypted Parquet file batch by batch; it appears whole or not at all.

    Parameters
    ----------
    columns
        Those with a data key of their own; the others share one, and none is left in the clear.

    Returns
    -------
    int
        The rows written.

    Raises
    ------
    UsageError
        `columns` names an unknown column, or a name in the table is there twice or cannot stand in a list of Parquet columns.
    InvalidInput
        A batch has another schema.
    AffidavitError
        The file cannot be written; what was there is unchanged.
    """
    rows = 0
    properties = encryption_properties(schema, keyring, columns)
    with replacing(target, mode=0o666) as sink:
        try:
            with pq.ParquetWriter(sink, schema, encryption_properties=properties) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
        except (pa.ArrowInvalid, ValueError):  # Arrow's own message may quote a value
            raise InvalidInput(
                f"The rows cannot be written to '{target.name}': a batch has another schema than the first, or a type is unknown."
            ) from None
    return rows


def read_parquet(source: Path, keyring: Keyring, *, columns: Sequence[str] | None = None) -> BatchStream:
    """The rows of an encrypted Parquet file, as a stream that can be started again (`Dataset.from_arrow` takes it).

    Only the data keys of the `columns` that are read are opened. The footer is checked at once, each column as it is read.

    Raises
    ------
    UsageError
        The file cannot be read, or lacks one of `columns`.
    IntegrityError
        Another workspace's keys, or the file was changed or cut short; names it.
    InvalidInput
        It is no Parquet file, or an unencrypted one.
    """
    with _refusing(source):
        names = _open(source, keyring).schema_arrow.names
    for name in columns or ():
        if name not in names:
            raise UsageError(f"'{source.name}' has no column '{name}'.{nearest(name, names)}")

    def stream() -> Iterator[pa.RecordBatch]:
        with _refusing(source), _open(source, keyring) as file:
            yield from file.iter_batches(DEFAULT_BATCH_ROWS, columns=None if columns is None else list(columns))

    return stream


def encryption_properties(schema: pa.Schema, keyring: Keyring, columns: Sequence[str] = ()) -> Any:
    """What `pyarrow.parquet.ParquetWriter` takes to encrypt one file of `schema`. Parameters and errors as in `write_parquet`."""
    from pyarrow.parquet import encryption

    for name in columns:
        if name not in schema.names:
            raise UsageError(f"There is no column '{name}' to encrypt.{nearest(name, schema.names)}")
    settings: dict[str, Any] = {"uniform_encryption": True}
    if columns:
        settings = {"column_keys": _column_keys(schema, columns)}
    configuration = encryption.EncryptionConfiguration(
        FOOTER, encryption_algorithm="AES_GCM_V1", plaintext_footer=False, double_wrapping=False, data_key_length_bits=256, **settings
    )
    # A factory of its own for each file: it caches keys, and they must not outlive the call.
    return _factory(keyring).file_encryption_properties(encryption.KmsConnectionConfig(), configuration)


def decryption_properties(keyring: Keyring) -> Any:
    """What `pyarrow.parquet.ParquetFile` takes to read what was encrypted under the same keyring."""
    from pyarrow.parquet import encryption

    return _factory(keyring).file_decryption_properties(encryption.KmsConnectionConfig(), encryption.DecryptionConfiguration())


def _column_keys(schema: pa.Schema, columns: Sequence[str]) -> dict[str, list[str]]:
    """Which key each leaf column is under. Parquet leaves columns that are not listed in the clear, so all are."""
    empty = io.BytesIO()
    pq.ParquetWriter(empty, schema).close()
    leaves = pq.ParquetFile(empty).schema
    keys: dict[str, list[str]] = {}
    for position in range(len(leaves)):
        path = leaves.column(position).path
        # The list is one text, with these as its marks.
        if any(mark in path for mark in ",;:") or path != path.strip():
            raise UsageError(
                f"Column '{path}' cannot have a key of its own beside others: its name holds one of ,;: or outer spaces.", hint="Rename it."
            )
        if any(path in paths for paths in keys.values()):
            raise UsageError(f"Two columns are called '{path}' in the file, so none can have a key of its own.", hint="Rename one of them.")
        owner = next((name for name in columns if path == name or path.startswith(f"{name}.")), None)
        keys.setdefault(REST if owner is None else f"column-{schema.names.index(owner)}", []).append(path)
    return keys


def _factory(keyring: Keyring) -> encryption.CryptoFactory:
    from pyarrow.parquet import encryption

    key, key_id = keyring.derive("encrypted parquet"), keyring.derive("encrypted parquet key id", envelope.KEY_ID_BYTES)

    class Client(encryption.KmsClient):  # type: ignore[misc]  # pyarrow ships no types
        """Wraps Parquet's data keys in envelopes."""

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
            return base64.b64encode(envelope.seal(key, key_id, key_bytes, _context(master_key_identifier)))

        def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
            try:
                sealed = base64.b64decode(wrapped_key, validate=True)
            except binascii.Error:
                raise IntegrityError("A data key was changed.") from None
            return envelope.open_sealed(key, key_id, sealed, _context(master_key_identifier))

    return encryption.CryptoFactory(lambda configuration: Client())


def _context(identifier: str) -> envelope.Context:
    return envelope.Context("", "parquet", identifier)  # the workspace is in the key already


def _open(source: Path, keyring: Keyring) -> pq.ParquetFile:
    return pq.ParquetFile(source, decryption_properties=decryption_properties(keyring))


class _refusing:
    """Turns what Arrow says of a file into one clear error of ours; its messages may quote what they read."""

    def __init__(self, source: Path) -> None:
        self._source = source

    def __enter__(self) -> None:
        try:
            with self._source.open("rb") as file:
                beginning = file.read(4)
        except OSError as error:
            raise UsageError(f"'{self._source}' cannot be read: {error.strerror}.", hint="Check the path.") from None
        if beginning != b"PARE":
            kind = "is a Parquet file that is not encrypted" if beginning == b"PAR1" else "is no encrypted Parquet file"
            raise InvalidInput(f"'{self._source.name}' {kind}.")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, IntegrityError):
            raise IntegrityError(f"'{self._source.name}' does not open with this workspace's keys.", hint=error.message) from None
        if isinstance(error, (OSError, pa.ArrowException, ValueError)) and not isinstance(error, AffidavitError):
            raise IntegrityError(f"'{self._source.name}' was changed or cut short: a part of it does not open.") from None
