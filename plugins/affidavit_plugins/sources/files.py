"""What all file sources share: finding the file, checking options and text, and errors that never quote a row."""

from __future__ import annotations

import codecs
import gzip
import inspect
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

import pyarrow as pa

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.dataset import BatchStream, DatasetSource

STREAM_BYTES = 256 * 1024**2
GZIP_STREAM_BYTES = 64 * 1024**2
BLOCK_BYTES = 1024**2
_BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class FileSource(DatasetSource):
    """A source that reads one file, told by its suffix.

    Files up to 256 MB (64 MB where gzipped) are read whole; larger ones stream. The option ``stream`` decides otherwise.
    """

    suffixes: ClassVar[tuple[str, ...]]
    compressible: ClassVar[bool] = False

    def accepts(self, source: Any) -> bool:
        if not isinstance(source, (str, Path)) or "://" in str(source):
            return False
        name = Path(source).name.lower()
        return name.endswith(self.suffixes) or (self.compressible and name.endswith(tuple(f"{suffix}.gz" for suffix in self.suffixes)))

    def read(self, source: Any, *, stream: bool | None = None, **options: Any) -> pa.Table | BatchStream:
        check_options(self, self.open, options, also=("stream",))
        path = find_file(source)
        if stream is None:
            stream = path.stat().st_size > (GZIP_STREAM_BYTES if is_gzip(path) else STREAM_BYTES)
        return self.open(path, stream=bool(stream), **options)

    def open(self, path: Path, *, stream: bool) -> pa.Table | BatchStream:
        """Read `path`, which exists and is not empty; subclasses add their options as keywords."""
        raise NotImplementedError


def check_options(source: DatasetSource, method: Callable[..., Any], options: dict[str, Any], *, also: tuple[str, ...] = ()) -> None:
    """Refuse an option that `method` does not take. Raises UsageError with the nearest name."""
    keywords = [name for name, parameter in inspect.signature(method).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    known = sorted({*keywords, *also})
    for name in options:
        if name not in known:
            hint = f"Options: {', '.join(known)}." if known else "It takes no options."
            raise UsageError(f"The {source.type} source has no option '{name}'.{nearest(name, known)}", hint=hint)


def find_file(source: Any) -> Path:
    """The file behind a path. Raises InvalidInput where it is missing, a folder, unreadable or empty."""
    path = Path(source)
    try:
        if path.is_dir():
            raise InvalidInput(f"'{path}' is a folder, not a file.", hint="Name one file.")
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise InvalidInput(f"There is no file '{path}'.", hint="Check the path.") from None
    except OSError as error:
        raise InvalidInput(f"'{path}' cannot be read: {error.strerror}.", hint="Check the path and its permissions.") from None
    if empty:
        raise InvalidInput(f"'{path}' is empty.")
    return path


def is_gzip(path: Path) -> bool:
    """Whether the file's name says that it is gzipped."""
    return path.suffix.lower() == ".gz"


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, uncompressed."""
    return gzip.open(path, "rb") if is_gzip(path) else path.open("rb")  # type: ignore[return-value]  # GzipFile reads like a binary file


def read_bytes(path: Path) -> bytes:
    """All bytes, uncompressed. Raises InvalidInput where the compression is damaged or nothing is inside."""
    try:
        with open_bytes(path) as file:
            content = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise damaged(path, "gzip") from None
    if not content:
        raise InvalidInput(f"'{path}' is empty.")
    return content


def damaged(path: Path, kind: str) -> InvalidInput:
    """The error for a file that is no whole file of its kind."""
    return InvalidInput(f"'{path}' is no {kind} file, or it is damaged or cut short.", hint="Check how it was written or copied.")


def check_encoding(path: Path, encoding: str) -> str:
    """Refuse text that is not in `encoding`, saying where; reads the file once in blocks. Gives the last character before the final line break.

    Raises
    ------
    UsageError
        There is no such encoding.
    InvalidInput
        A byte cannot be decoded.
    """
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise UsageError(f"There is no encoding '{encoding}'.", hint="For example: utf-8, latin-1, cp1252, utf-16.") from None
    offset, last = 0, ""
    try:
        with open_bytes(path) as file:
            while block := file.read(BLOCK_BYTES):
                if offset == 0:
                    _check_start(path, block, encoding)
                pending = len(decoder.getstate()[0])
                try:
                    last = decoder.decode(block).rstrip("\r\n")[-1:] or last
                except UnicodeDecodeError as error:
                    raise _undecodable(path, encoding, offset - pending + error.start) from None
                offset += len(block)
        return decoder.decode(b"", final=True).rstrip("\r\n")[-1:] or last
    except UnicodeDecodeError:
        raise _undecodable(path, encoding, offset) from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise damaged(path, "gzip") from None


def _check_start(path: Path, block: bytes, encoding: str) -> None:
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return
    for mark, name in _BYTE_ORDER_MARKS.items():
        if block.startswith(mark):
            raise InvalidInput(f"'{path}' is {name} text.", hint=f"Pass encoding='{name}'.")
    if (zero := block.find(b"\0")) >= 0:
        raise InvalidInput(
            f"'{path}' is no {encoding} text: byte {zero} is zero.", hint="Name its encoding, for example encoding='utf-16', or its format."
        )


def _undecodable(path: Path, encoding: str, offset: int) -> InvalidInput:
    return InvalidInput(
        f"'{path}' is no {encoding} text: byte {offset} cannot be decoded.", hint="Pass its encoding, for example encoding='latin-1'."
    )
