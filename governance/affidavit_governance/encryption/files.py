"""Whole files, sealed under a workspace's keys: a data key for each file, the content as an encrypted stream.

Layout of version 1, in bytes::

    magic "AFDF" (4) | version (1) | file id (16) | length of the sealed data key (2, big endian) | sealed data key | stream

The data key lies in an envelope under a key that the keyring derives for files, so it opens in its workspace only, and the envelope commits
to it. That key stays when the keyring is rotated: nobody knows where all sealed files are, so none may become unreadable. The stream is that
of `affidavit_governance.encryption.stream`, bound to the file id and to what the caller says. The file's name is not bound: it may change.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from affidavit.errors import IntegrityError, UsageError
from affidavit.interfaces.governance import Keyring
from affidavit.store import writing
from affidavit_governance.encryption import envelope
from affidavit_governance.encryption.stream import Progress, StreamReader, decrypt_stream, encrypt_stream

MAGIC = b"AFDF"
VERSION = 1
_FIXED = 23  # bytes before the sealed data key


def seal_file(source: Path, target: Path, keyring: Keyring, *, associated_data: bytes = b"", progress: Progress | None = None) -> int:
    """Encrypt `source` into `target`, which appears whole or not at all; memory stays at a few MiB.

    Parameters
    ----------
    associated_data
        Authenticated, not stored; unsealing needs the same.

    Returns
    -------
    int
        The bytes of plaintext.

    Raises
    ------
    UsageError
        `source` cannot be read, or is `target`.
    AffidavitError
        `target` cannot be written; what was there is unchanged.
    """
    identity, key = os.urandom(16), os.urandom(32)
    with _reading(source) as plain, replacing(target, mode=0o666, source=source) as sink:
        sink.write(_header(identity, key, keyring))
        return encrypt_stream(plain, sink, key, _bound(identity, associated_data), name=source.name, progress=progress)  # type: ignore[arg-type]


def unseal_file(source: Path, target: Path, keyring: Keyring, *, associated_data: bytes = b"", progress: Progress | None = None) -> int:
    """Decrypt what `seal_file` made into `target`, which appears only after every byte was authenticated, readable by its owner alone.

    Returns
    -------
    int
        The bytes of plaintext.

    Raises
    ------
    IntegrityError
        Sealed in another workspace or with other associated data, or changed; names the file and the chunk.
    UsageError, AffidavitError
        As `seal_file`.
    """
    with _reading(source) as sealed, replacing(target, mode=0o600, source=source) as sink:
        identity, key = _read_header(sealed, source.name, keyring)
        return decrypt_stream(sealed, sink, key, _bound(identity, associated_data), name=source.name, progress=progress)  # type: ignore[arg-type]


@contextlib.contextmanager
def open_sealed_file(source: Path, keyring: Keyring, *, associated_data: bytes = b"") -> Iterator[StreamReader]:
    """Read any part of a sealed file without writing it out. Errors as `unseal_file`, when it is opened and when it is read."""
    with _reading(source) as sealed:
        identity, key = _read_header(sealed, source.name, keyring)
        with StreamReader(sealed, key, _bound(identity, associated_data), start=sealed.tell(), name=source.name) as reader:
            yield reader


def _header(identity: bytes, key: bytes, keyring: Keyring) -> bytes:
    sealed = envelope.seal(*_wrapping(keyring), key, _context(identity))
    return MAGIC + bytes([VERSION]) + identity + len(sealed).to_bytes(2, "big") + sealed


def _read_header(file: BinaryIO, name: str, keyring: Keyring) -> tuple[bytes, bytes]:
    fixed = file.read(_FIXED)
    if len(fixed) < _FIXED or fixed[:4] != MAGIC:
        raise IntegrityError(f"'{name}' is cut short or is no sealed file.")
    if fixed[4] != VERSION:
        raise IntegrityError(f"'{name}' is a sealed file of version {fixed[4]}, which this Affidavit cannot read.", hint="Upgrade Affidavit.")
    identity = fixed[5:21]
    sealed = file.read(int.from_bytes(fixed[21:], "big"))
    try:
        return identity, envelope.open_sealed(*_wrapping(keyring), sealed, _context(identity))
    except IntegrityError as error:
        raise IntegrityError(f"'{name}' does not open with this workspace's keys.", hint=error.message) from None


def _wrapping(keyring: Keyring) -> tuple[bytes, bytes]:
    """The key that wraps data keys of files, and its id."""
    return keyring.derive("sealed files"), keyring.derive("sealed files key id", envelope.KEY_ID_BYTES)


def _context(identity: bytes) -> envelope.Context:
    return envelope.Context("", "file", identity.hex())  # the workspace is in the key already


def _bound(identity: bytes, associated_data: bytes) -> bytes:
    return b"affidavit file v1" + identity + associated_data


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[BinaryIO]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise UsageError(f"'{source}' cannot be read: {error.strerror}.", hint="Check the path.") from None
    with file:
        yield file


@contextlib.contextmanager
def replacing(target: Path, *, mode: int, source: Path | None = None) -> Iterator[BinaryIO]:
    """A new file that takes the place of `target` when all went well, and leaves no trace otherwise.

    Raises
    ------
    UsageError
        `target` is `source`, a folder, or a device or the like.
    AffidavitError
        It cannot be written; what was there is unchanged.
    """
    if source is not None and target.exists() and target.samefile(source):
        raise UsageError(f"'{target.name}' would replace its source.", hint="Name another file.")
    with writing(target):
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        try:
            with os.fdopen(_new_file(partial, mode), "wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
                if not partial.exists():
                    _name(sink.fileno(), partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _new_file(path: Path, mode: int) -> int:
    """A file without a name where the system has such (Linux), so that nothing is left of it when the process is killed; else `path`."""
    if Path("/proc/self/fd").is_dir():  # the way to a name later
        with contextlib.suppress(AttributeError, OSError):
            return os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, mode)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)


def _name(descriptor: int, path: Path) -> None:
    """Give a file without a name one (open(2), under O_TMPFILE)."""
    root = os.open("/", os.O_RDONLY)
    try:
        # A folder's descriptor makes Python call linkat, which follows the link; the path is absolute, so the folder itself does not matter.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=root, follow_symlinks=True)
    finally:
        os.close(root)
