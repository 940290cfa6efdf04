"""Encryption of what is too large for one message, in chunks that show tampering, truncation and another order.

The format is Tink's AES-GCM-HKDF streaming AEAD with 32-byte derived keys and HKDF-SHA256
(https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming; analysed by Hoang and Shen, Security of Streaming Encryption in
Google's Tink Library, CCS 2020). The default chunk is that of Tink's template AES256_GCM_HKDF_1MB::

    header: length of the header, 40 (1) | salt (32) | nonce prefix (7)
    chunk i: AES-256-GCM under HKDF-SHA256(key, salt, associated data), nonce = prefix | i (4, big endian) | 1 if it is the last, else 0

Every chunk fills `CHUNK` bytes of ciphertext with its tag (the header counts to the first one), and only the last may be shorter.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from affidavit.errors import AffidavitError, IntegrityError, UsageError

CHUNK = 1 << 20
HEADER_BYTES = 40
TAG_BYTES = 16
MAX_CHUNKS = 1 << 32  # the nonce counts them in four bytes

Progress = Callable[[int], None]
"""Told after each chunk how many bytes of plaintext are done."""


class Source(Protocol):
    """What is read: a file, `io.BytesIO`, a pipe."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the beginning of `buffer`, and say how much; 0 at the end."""
        ...


class Sink(Protocol):
    """What is written to."""

    def write(self, data: memoryview, /) -> int | None:
        """Write `data`, and say how much; keep no reference to it: its memory is used again."""
        ...


def encrypt_stream(
    source: Source,
    sink: Sink,
    key: bytes,
    associated_data: bytes = b"",
    *,
    name: str = "stream",
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> int:
    """Encrypt all of `source`, from where it stands, into `sink`; memory stays at two chunks.

    Parameters
    ----------
    key
        32 bytes or more, uniformly random. AES-GCM does not commit to its key: take one from a sealed envelope, which does.
    associated_data
        Authenticated with every chunk, not stored; decryption needs the same.
    name
        What messages call the stream.
    chunk
        Ciphertext bytes a chunk; decryption needs the same.

    Returns
    -------
    int
        The bytes of plaintext read.

    Raises
    ------
    AffidavitError
        More than 2³² chunks.
    """
    header = bytes([HEADER_BYTES]) + os.urandom(HEADER_BYTES - 1)
    return encrypt_with_header(source, sink, key, associated_data, header, name=name, chunk=chunk, progress=progress)


def encrypt_with_header(
    source: Source, sink: Sink, key: bytes, associated_data: bytes, header: bytes, *, name: str, chunk: int, progress: Progress | None = None
) -> int:
    """`encrypt_stream` with a given header, which must never be used twice with one key: for known-answer tests."""
    cipher = _Cipher(key, header, associated_data, chunk)
    sealed, index, done, last = memoryview(bytearray(chunk)), 0, 0, False
    _write(sink, memoryview(header))
    with _Chunks(source, chunk) as chunks:
        while not last:
            data, last = chunks.take(cipher.rest if index else cipher.first)
            if index >= MAX_CHUNKS:
                raise AffidavitError(f"'{name}' is too long for one encrypted stream: it has more than {MAX_CHUNKS} chunks of {chunk} bytes.")
            written = cipher.encrypt(index, last, data, sealed)
            _write(sink, sealed[:written])
            done, index = done + len(data), index + 1
            if progress is not None:
                progress(done)
    return done


def decrypt_stream(
    source: Source,
    sink: Sink,
    key: bytes,
    associated_data: bytes = b"",
    *,
    name: str = "stream",
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> int:
    """Decrypt what `encrypt_stream` made. A chunk is written only after it was authenticated.

    Truncation shows at the end at the latest, so what was written until an error is genuine but may be only the beginning: throw it away.

    Returns
    -------
    int
        The bytes of plaintext written.

    Raises
    ------
    IntegrityError
        Another key or other associated data, or a chunk was changed, lost, added or moved; names the stream and the chunk, counted from 0.
    """
    header = memoryview(bytearray(HEADER_BYTES))
    if _fill(source, header) < HEADER_BYTES or header[0] != HEADER_BYTES:
        raise IntegrityError(f"'{name}' is cut short in its header or is no encrypted stream.")
    cipher = _Cipher(key, bytes(header), associated_data, chunk)
    plain, index, done, last = memoryview(bytearray(chunk)), 0, 0, False
    with _Chunks(source, chunk) as chunks:
        while not last:
            data, last = chunks.take(chunk if index else chunk - HEADER_BYTES)
            written = cipher.decrypt(index, last, data, plain, name)
            _write(sink, plain[:written])
            done, index = done + written, index + 1
            if progress is not None:
                progress(done)
    return done


class StreamReader(io.RawIOBase):
    """Reads any part of an encrypted stream in a seekable file; each chunk is authenticated before a byte of it is given.

    The last chunk is checked when the reader is made, so that the length is known to be true.

    Parameters
    ----------
    source
        Positioned anywhere; the stream reaches from `start` to the file's end. It is not closed with the reader.

    Raises
    ------
    IntegrityError
        As `decrypt_stream`, when the reader is made and when it reads.
    """

    def __init__(
        self, source: BinaryIO, key: bytes, associated_data: bytes = b"", *, start: int = 0, name: str = "stream", chunk: int = CHUNK
    ) -> None:
        self._source, self._start, self._name, self._chunk = source, start, name, chunk
        body = source.seek(0, os.SEEK_END) - start
        source.seek(start)
        header = source.read(HEADER_BYTES)
        if body < HEADER_BYTES + TAG_BYTES or header[:1] != bytes([HEADER_BYTES]):
            raise IntegrityError(f"'{name}' is cut short or is no encrypted stream.")
        self._cipher = _Cipher(key, header, associated_data, chunk)
        self._body = body
        self._last = (body - 1) // chunk
        self._sealed, self._plain = memoryview(bytearray(chunk)), memoryview(bytearray(chunk))
        self._held, self._held_bytes = -1, 0
        self._position = 0
        self.size = body - HEADER_BYTES - TAG_BYTES * (self._last + 1)
        """Bytes of plaintext."""
        self._load(self._last)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise UsageError(f"A position before the beginning of '{self._name}' was asked for.")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed's name for "any writable buffer" is not importable
        wanted = memoryview(buffer).cast("B")
        done = 0
        while done < len(wanted) and self._position < self.size:
            # The first chunk holds less by the header's length; with it all chunks begin at multiples of `rest`.
            index, within = divmod(self._position + HEADER_BYTES, self._cipher.rest)
            self._load(index)
            within -= HEADER_BYTES if index == 0 else 0
            taken = min(self._held_bytes - within, len(wanted) - done)
            wanted[done : done + taken] = self._plain[within : within + taken]
            done += taken
            self._position += taken
        return done

    def _load(self, index: int) -> None:
        if index == self._held:
            return
        self._held = -1
        begin = max(index * self._chunk, HEADER_BYTES)
        sealed = self._sealed[: min((index + 1) * self._chunk, self._body) - begin]
        self._source.seek(self._start + begin)
        if _fill(self._source, sealed) < len(sealed):  # type: ignore[arg-type]  # BinaryIO lacks readinto in typeshed only
            raise IntegrityError(f"'{self._name}' became shorter while it was read (chunk {index}).")
        self._held_bytes = self._cipher.decrypt(index, index == self._last, sealed, self._plain, self._name)
        self._held = index


class _Cipher:
    """The chunks of one stream."""

    __slots__ = ("_aead", "_prefix", "first", "rest")

    def __init__(self, key: bytes, header: bytes, associated_data: bytes, chunk: int) -> None:
        if len(key) < 32:
            raise UsageError("A stream's key has 32 bytes or more.")
        if not HEADER_BYTES + TAG_BYTES < chunk < 1 << 31:
            raise UsageError(f"A chunk has {HEADER_BYTES + TAG_BYTES + 1} bytes to 2 GiB.")
        salt = header[1:33]
        self._aead = AESGCM(HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=associated_data).derive(key))
        self._prefix = header[33:]
        self.rest = chunk - TAG_BYTES
        self.first = self.rest - HEADER_BYTES

    def encrypt(self, index: int, last: bool, data: memoryview, out: memoryview) -> int:
        return self._aead.encrypt_into(self._nonce(index, last), data, None, out[: len(data) + TAG_BYTES])

    def decrypt(self, index: int, last: bool, data: memoryview, out: memoryview, name: str) -> int:
        # A stream of one chunk may be empty; after that every chunk holds something, so that one plaintext has one form.
        if index >= MAX_CHUNKS or len(data) < TAG_BYTES + (index > 0):
            raise IntegrityError(f"'{name}' is cut short or extended at chunk {index}.")
        if not self._opens(index, last, data, out):
            if self._opens(index, not last, data, out):
                raise IntegrityError(
                    f"'{name}' {'is cut short: its end is missing after' if last else 'is extended: more follows its last'} chunk {index}."
                )
            cause = (
                "another key, other associated data, or it was changed" if index == 0 else "it was changed, cut short, or moved from another place"
            )
            raise IntegrityError(f"Chunk {index} of '{name}' does not open: {cause}.")
        return len(data) - TAG_BYTES

    def _opens(self, index: int, last: bool, data: memoryview, out: memoryview) -> bool:
        try:
            self._aead.decrypt_into(self._nonce(index, last), data, None, out[: len(data) - TAG_BYTES])
        except InvalidTag:
            return False
        return True

    def _nonce(self, index: int, last: bool) -> bytes:
        return self._prefix + index.to_bytes(4, "big") + bytes([last])


class _Chunks:
    """A source in pieces of given sizes, each with whether it is the last: one byte is read ahead to know."""

    __slots__ = ("_ahead", "_buffer", "_given", "_memory", "_size", "_source")

    def __init__(self, source: Source, largest: int) -> None:
        self._source = source
        # What lies in memory already is not copied.
        self._memory = source.getbuffer()[source.tell() :] if type(source) is io.BytesIO else None
        self._buffer = memoryview(bytearray(0 if self._memory is not None else largest + 1))
        self._given = memoryview(b"")
        self._ahead = self._size = 0

    def __enter__(self) -> _Chunks:
        return self

    def __exit__(self, *_: object) -> None:
        # An error's traceback keeps what the functions hold, and `io.BytesIO` refuses to be closed while its memory is held.
        self._given.release()
        if self._memory is not None:
            self._memory.release()

    def take(self, size: int) -> tuple[memoryview, bool]:
        if self._memory is not None:
            self._given, self._memory = self._memory[:size], self._memory[size:]
            return self._given, not self._memory
        if self._ahead:
            self._buffer[0] = self._buffer[self._size]
        filled = self._ahead + _fill(self._source, self._buffer[self._ahead : size + 1])
        self._ahead, self._size = int(filled > size), size
        return self._buffer[: min(filled, size)], filled <= size


def _fill(source: Source, buffer: memoryview) -> int:
    """Read until `buffer` is full or the source ends, whatever pieces it comes in."""
    done = 0
    while done < len(buffer):
        got = source.readinto(buffer[done:])
        if got is None:  # nothing yet, which is not the end: taking it for that would drop what follows
            raise UsageError("A stream is read from a source that waits for its data, and this one is non-blocking.")
        if got == 0:
            break
        done += got
    return done


def _write(sink: Sink, data: memoryview) -> None:
    """Write all of `data`; an unbuffered file may take it in pieces."""
    while data:
        data = data[len(data) if (taken := sink.write(data)) is None else taken :]
