"""The bundle's container: a ZIP file of which each byte is determined by the files in it.

Files are stored without compression, in the order of their names, with a fixed date. Reading takes only what writing would have written,
so that no byte of the file can change unseen and nothing can be hidden between the parts; there is nothing to decompress, hence no bomb.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping

from affidavit.errors import IntegrityError, UsageError

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION, _MADE_BY, _DATE = 20, 0x0314, 0x0021  # ZIP 2.0; made on Unix; 1 January 1980, the first day that ZIP knows
_ATTRIBUTES = 0o100644 << 16
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_MAX_NAME = 200
MAX_FILES = 0xFFFF
MAX_BYTES = 0x7FFFFFFF


def encode(files: Mapping[str, bytes]) -> bytes:
    """The container of `files`. Raises UsageError for a name that is no plain relative path, or more than ZIP without extensions can hold."""
    if len(files) > MAX_FILES or sum(len(data) + 2 * len(name) + 76 for name, data in files.items()) + _END.size > MAX_BYTES:
        raise UsageError(f"A bundle holds at most {MAX_FILES} files and {MAX_BYTES} bytes.")
    parts, central, offset = [], [], 0
    for name, data in sorted(files.items()):
        if not is_name(name):
            raise UsageError(f"'{name}' is no file name for a bundle.")
        encoded = name.encode()
        common = (0, 0, 0, _DATE, zlib.crc32(data), len(data), len(data), len(encoded), 0)
        parts += [_LOCAL.pack(_LOCAL_MARK, _VERSION, *common), encoded, data]
        central += [_CENTRAL.pack(_CENTRAL_MARK, _MADE_BY, _VERSION, *common, 0, 0, 0, _ATTRIBUTES, offset), encoded]
        offset += _LOCAL.size + len(encoded) + len(data)
    directory = b"".join(central)
    end = _END.pack(_END_MARK, 0, 0, len(files), len(files), len(directory), offset, 0)
    return b"".join([*parts, directory, end])


def decode(data: bytes) -> dict[str, bytes]:
    """The files of a container, in order. What follows them is not read: compare with `encode` of the result.

    Raises
    ------
    IntegrityError
        It is no container that `encode` could have made.
    """
    files: dict[str, bytes] = {}
    position = 0
    while data[position : position + 4] == _LOCAL_MARK:
        if len(data) < position + _LOCAL.size:
            raise IntegrityError("The bundle's container is cut short.")
        *_, size, name_length, extra_length = _LOCAL.unpack_from(data, position)
        start = position + _LOCAL.size + name_length
        position = start + size
        name = data[start - name_length : start].decode("ascii", "replace")
        if extra_length or position > len(data) or not is_name(name):
            raise IntegrityError("The bundle's container is damaged, or holds a name that is no plain relative path.")
        if name in files:
            raise IntegrityError(f"The bundle's container holds '{name}' twice.")
        files[name] = data[start:position]
    if not files:
        raise IntegrityError("This is no bundle: the container is not one that Affidavit writes.")
    if data[position : position + 4] != _CENTRAL_MARK:
        raise IntegrityError("The bundle's container is damaged: its parts do not follow each other.")
    return files


def is_name(name: str) -> bool:
    """Whether `name` is a plain relative path: no part is empty or begins with a dot."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None
