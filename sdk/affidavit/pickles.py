"""Tell whether bytes are a pickle, or hold one. Affidavit never reads a pickle: reading one runs whatever its author wrote into it."""

from __future__ import annotations

import ast
import io
import pickletools
import warnings
import zipfile
import zlib
from pathlib import PurePosixPath

import numpy as np

_SUFFIXES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".dill"}
# What makes a pickle run something: call a function, build an object, set its state.
_CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
_LOOK = 1 << 20  # bytes in which the first call of a pickle is looked for; the rest is not walked, so that large files cost little
_LONGEST_HEADER = 10_000  # what NumPy itself reads of an untrusted file's header


def find_pickle(name: str, data: bytes) -> str | None:
    """Say why `data` counts as a pickle or cannot be told from one, in words; None where it is harmless.

    By the name (``.pkl``, ``.pt``, ``.joblib``…), by the first bytes (protocol 2 and later), by the opcodes (earlier protocols have no mark),
    as a NumPy array of objects, and inside zip archives.
    """
    suffixes = _SUFFIXES & {suffix.lower() for suffix in PurePosixPath(name).suffixes}
    if suffixes:
        return f"files named {suffixes.pop()} are read as pickles"
    if len(data) > 1 and data[0] == 0x80 and data[1] <= 5:
        return f"it begins as a pickle of protocol {data[1]}"
    if data.startswith(b"\x93NUMPY") and _holds_objects(data):
        return "it is a NumPy array of objects, which are stored as pickles"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pickletools decodes escapes of text that it takes for string literals
        pickled = _is_pickle(data)
    if pickled:
        return "its opcodes are those of a pickle"
    return _in_archive(data) if zipfile.is_zipfile(io.BytesIO(data)) else None


def _holds_objects(npy: bytes) -> bool:
    """Whether a NumPy file has objects among its elements, by its header alone: the numbers behind it may hold any bytes."""
    begin = 10 if npy[6:7] == b"\x01" else 12  # of the header, behind its length, which version 1 gives two bytes and later ones four
    length = int.from_bytes(npy[8:begin], "little")
    try:
        header = ast.literal_eval(npy[begin : begin + min(length, _LONGEST_HEADER)].decode("latin-1").strip())
        return bool(np.lib.format.descr_to_dtype(header["descr"]).hasobject)
    except Exception:  # a header that NumPy could not read either, or only after unpickling was allowed
        return True


def _is_pickle(data: bytes) -> bool:
    """Walk the opcodes with a count of the stack, as an unpickler would, up to the first call that has its arguments or to a proper end."""
    stack: list[object] = []
    try:
        for opcode, _, position in pickletools.genops(data[:_LOOK]):
            before, after = opcode.stack_before, opcode.stack_after
            if pickletools.markobject in before:
                while stack.pop() is not pickletools.markobject:
                    pass
                before = before[: before.index(pickletools.markobject)]
            if len(stack) < len(before):
                return False
            if opcode.name in _CALLS:
                return True
            if opcode.name == "STOP":
                return position == len(data) - 1
            del stack[len(stack) - len(before) :]
            stack.extend(after)
    except (ValueError, IndexError):  # no opcode, cut short, or nothing left on the stack: an unpickler stops here as well
        return False
    return False


def _in_archive(data: bytes) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    beginning = file.read(_LOOK)
                found = "it is an archive in an archive" if beginning.startswith(b"PK\x03\x04") else find_pickle(member.filename, beginning)
                if found:
                    return f"it is an archive whose member '{member.filename}' counts as a pickle: {found}"
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, OSError, EOFError, zlib.error):
        return "it is an archive that cannot be looked into"
    return None
