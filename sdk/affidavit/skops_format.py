"""The skops file format, made reproducible.

skops names arrays by memory address and stamps times, so that one estimator gives other bytes at each save. Here the archive is rewritten in
a canonical form: arrays are named by content, addresses are left out, sets are sorted, times are fixed, unused bytes in records are zero.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from affidavit.errors import IntegrityError, InvalidInput, MissingExtra

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold


def dump(estimator: Any, name: str) -> bytes:
    """Write a scikit-learn estimator as canonical skops bytes. Raises InvalidInput for what skops cannot write."""
    skops = _skops()
    try:
        data: bytes = skops.dumps(estimator)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"'{name}' cannot be written: this {type(estimator).__name__} has parts that skops does not know.") from error
    return _canonical(data)


def load(data: bytes, name: str, trusted: Sequence[str]) -> Any:
    """Build the estimator that `dump` wrote.

    Parameters
    ----------
    trusted
        Types, by full name, that may be built besides those that skops itself holds safe.

    Raises
    ------
    IntegrityError
        It asks for other types (they are named), or is no readable skops file.
    """
    skops = _skops()
    try:
        untrusted = set(skops.get_untrusted_types(data=data)) - set(trusted)
        if not untrusted:
            return skops.loads(data, trusted=list(trusted))
    except Exception as error:  # a broken file fails anywhere in skops, with any type
        raise IntegrityError(f"File '{name}' of the artifact is no readable skops file ({type(error).__name__}).") from None
    raise IntegrityError(
        f"File '{name}' of the artifact asks for types that are not trusted: {', '.join(sorted(untrusted))}.",
        hint="A model type lists the types that it needs when it reads the file; nothing else is built.",
    )


def _skops() -> Any:
    # To list scikit-learn's estimators skops imports all of it, and this one package imports torch, which is no part of the list and takes
    # four fifths of the time. The walk passes over what cannot be imported.
    unwanted = "sklearn.externals.array_api_compat.torch"
    hidden = "skops.io" not in sys.modules and sys.modules.setdefault(unwanted, None) is None  # type: ignore[arg-type]  # as `import` has it
    try:
        import skops.io
    except ImportError:
        raise MissingExtra("A model stored with skops", extra="tabular", library="skops") from None
    finally:
        if hidden:
            sys.modules.pop(unwanted, None)
    return skops.io


def _canonical(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop(_SCHEMA))
    contents = {name: _without_padding(content) if name.endswith(".npy") else content for name, content in members.items()}
    renamed = {name: f"{hashlib.sha256(content).hexdigest()[:32]}.{name.rpartition('.')[2]}" for name, content in contents.items()}
    files = {renamed[name]: content for name, content in contents.items()}
    files[_SCHEMA] = json.dumps(_normal(schema, renamed), separators=(",", ":")).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), files[name])
    return buffer.getvalue()


def _normal(node: Any, renamed: dict[str, str]) -> Any:
    """The state without addresses (skops uses them only to share equal objects) and with the new file names."""
    if isinstance(node, list):
        return [_normal(item, renamed) for item in node]
    if not isinstance(node, dict):
        return node
    loader = node.get("__loader__")
    result = {key: _normal(value, renamed) for key, value in node.items() if not (key == "__id__" and isinstance(value, int))}
    if loader is not None and node.get("file") in renamed:
        result["file"] = renamed[node["file"]]
    if loader == "SetNode":
        result["content"].sort(key=lambda item: json.dumps(item, sort_keys=True))
    return result


def _without_padding(npy: bytes) -> bytes:
    """Zero the bytes between the fields of a structured array, which are whatever memory held."""
    array = np.load(io.BytesIO(npy), allow_pickle=False)
    if array.dtype.names is None:
        return npy
    clean = np.zeros(array.shape, array.dtype)
    for field in array.dtype.names:
        clean[field] = array[field]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()
