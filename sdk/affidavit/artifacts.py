"""The one door through which a model is written or read.

An artifact is a manifest (canonical JSON) and the files that it lists by SHA-256: safetensors, skops, JSON, text, or bytes that are no pickle.
Nothing in it depends on when or where it was written, so the manifest's digest is the model's digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from affidavit import skops_format
from affidavit.errors import IntegrityError, InvalidInput, MissingExtra, PluginError, UsageError, nearest
from affidavit.interfaces.model import Model, Signature
from affidavit.pickles import find_pickle
from affidavit.store.files import check_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from affidavit.store import Objects

FORMAT = 1
MANIFEST = "manifest.json"
_FILE, _MANIFEST = "artifact", "manifest"  # purposes of the stored objects


class ModelTypes(Protocol):
    """Where model types are looked up: the plugin registry."""

    def get(self, kind: str, name: str) -> Any:
        """The class registered under `kind` and `name`."""
        ...


@dataclass(frozen=True, slots=True)
class Artifact:
    """A packaged model.

    Attributes
    ----------
    digest
        Hex SHA-256 of the manifest's bytes; it stands for the whole model.
    model_type
        The registered model type.
    file_digests
        Hex SHA-256 of each file, by name.
    size
        Bytes of all files together.
    manifest
        The manifest, decoded.
    """

    digest: str
    model_type: str
    file_digests: Mapping[str, str]
    size: int
    manifest: Mapping[str, Any] = field(repr=False)


class ArtifactWriter:
    """Takes what `Model.save` writes. Each name may be written once.

    Parameters
    ----------
    sink
        Stores one file's bytes and gives their hex SHA-256.
    """

    def __init__(self, sink: Callable[[bytes], str]) -> None:
        self._sink = sink
        self.files: dict[str, dict[str, Any]] = {}
        self.libraries: set[str] = set()

    def json(self, name: str, value: Any) -> None:
        """Write a JSON value. Raises InvalidInput for what JSON cannot hold, NaN and infinity among it."""
        self._add(_named(name, "json"), canonical_json(value, f"'{name}' of the artifact"), "application/json")

    def tensors(self, name: str, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Write named arrays as safetensors. Raises InvalidInput for arrays of objects or text."""
        save = _safetensors().save
        arrays = {key: np.ascontiguousarray(value).reshape(np.shape(value)) for key, value in tensors.items()}
        try:
            data: bytes = save(arrays)
        except Exception as error:  # safetensors raises its own type for some arrays and KeyError for others
            kinds = sorted({str(array.dtype) for array in arrays.values()})
            raise InvalidInput(f"'{name}' cannot be written as safetensors: its arrays have the types {', '.join(kinds)}.") from error
        self.libraries |= {"numpy", "safetensors"}
        self._add(_named(name, "safetensors"), data, "application/vnd.safetensors")

    def skops(self, name: str, estimator: Any) -> None:
        """Write a scikit-learn estimator. Raises InvalidInput for parts that skops does not know."""
        self.libraries |= {"numpy", "scikit-learn", "skops"}
        self._add(_named(name, "skops"), skops_format.dump(estimator, name), "application/vnd.skops")

    def text(self, name: str, value: str) -> None:
        """Write text as UTF-8."""
        self._add(name, value.encode(), "text/plain; charset=utf-8")

    def _add(self, name: str, data: bytes, media: str) -> None:
        check_name(name)
        if name in self.files or name == MANIFEST:
            raise PluginError(f"A model wrote the file '{name}' of its artifact twice, or under a name that is taken.")
        self.files[name] = {"sha256": self._sink(data), "size": len(data), "media": media}

    def bytes(self, name: str, data: bytes) -> None:
        """Write bytes in a format of their own, such as ONNX.

        Raises
        ------
        InvalidInput
            They are a pickle, or an archive that holds one. There is no switch that allows it.
        """
        _refuse_pickle(name, data)
        self._add(name, data, "application/octet-stream")


class ArtifactReader:
    """Gives `Model.load` what `Model.save` wrote; every byte has been checked against the manifest.

    Attributes
    ----------
    params, signature
        The model's parameters and signature, from the manifest.
    names
        The names of the files.
    """

    def __init__(self, manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
        self.params: dict[str, Any] = dict(manifest["params"])
        self.signature = Signature.from_json(manifest["signature"])
        self._contents = contents

    @property
    def names(self) -> tuple[str, ...]:
        """The files that there are."""
        return tuple(self._contents)

    def json(self, name: str) -> Any:
        """A JSON value."""
        return json.loads(self.bytes(_named(name, "json")))

    def tensors(self, name: str) -> dict[str, NDArray[Any]]:
        """Named arrays. They may be read-only: copy what is to be changed."""
        try:
            arrays: dict[str, NDArray[Any]] = _safetensors().load(self.bytes(_named(name, "safetensors")))
        except (UsageError, MissingExtra):
            raise
        except Exception as error:  # safetensors raises its own type, which is not public
            raise IntegrityError(f"File '{name}' of the artifact is no readable safetensors file ({type(error).__name__}).") from None
        return arrays

    def skops(self, name: str, *, trusted: Sequence[str] = ()) -> Any:
        """A scikit-learn estimator.

        Parameters
        ----------
        trusted
            Full names of the types that the model type needs beyond those that skops itself holds safe. Name them one by one, in code:
            never take them from the file.

        Raises
        ------
        IntegrityError
            The file asks for other types; they are named.
        """
        return skops_format.load(self.bytes(_named(name, "skops")), name, trusted)

    def text(self, name: str) -> str:
        """Text."""
        return self.bytes(name).decode()

    def bytes(self, name: str) -> bytes:
        """The bytes of one file. Raises UsageError for an unknown name."""
        if name not in self._contents:
            raise UsageError(f"The artifact has no file '{name}'.{nearest(name, self._contents)}", hint=f"Files: {', '.join(self._contents)}.")
        return self._contents[name]


def package(model: Model, objects: Objects) -> Artifact:
    """Store a fitted model: its files first and its manifest last, so that a manifest never names what is not there.

    Raises
    ------
    UsageError
        The model is not fitted.
    InvalidInput
        The model holds what no safe format can carry.
    """
    manifest = _manifest(model, lambda data: objects.put(data, purpose=_FILE))
    data = canonical_json(manifest, "The manifest")
    return _artifact(objects.put(data, purpose=_MANIFEST), manifest)


def model_digest(model: Model) -> str:
    """Hex SHA-256 that `package` would give the model, without storing anything."""
    manifest = _manifest(model, lambda data: hashlib.sha256(data).hexdigest())
    return hashlib.sha256(canonical_json(manifest, "The manifest")).hexdigest()


def saved_in_memory(model: Model) -> tuple[ArtifactReader, dict[str, bytes]]:
    """What `load` would be given for `model`, and the content of each file by name: for tools that try a model type without a workspace."""
    contents: dict[str, bytes] = {}

    def keep(content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        contents[digest] = content
        return digest

    manifest = _manifest(model, keep)
    named = {name: contents[str(entry["sha256"])] for name, entry in manifest["files"].items()}
    return ArtifactReader(manifest, named), named


def read_artifact(digest: str, objects: Objects) -> Artifact:
    """Describe a stored artifact from its manifest.

    Raises
    ------
    UsageError
        There is none.
    IntegrityError
        The manifest has changed.
    InvalidInput
        A newer Affidavit wrote it.
    """
    data = objects.get(digest, purpose=_MANIFEST)
    try:
        manifest = json.loads(data)
        version = manifest["format"]
        if version in _READERS:
            return _artifact(digest, _READERS[version](manifest))
    except (KeyError, TypeError, ValueError):
        raise IntegrityError(f"The manifest of artifact {digest[:12]}… is malformed.") from None
    raise InvalidInput(f"Artifact {digest[:12]}… has format {version}; this Affidavit reads up to {FORMAT}.", hint="pip install -U affidavit")


def load_model(digest: str, objects: Objects, registry: ModelTypes) -> Model:
    """Read a stored model; the manifest and every file are checked before anything is built from them.

    Raises
    ------
    UsageError
        There is no such artifact, or its model type is not installed.
    IntegrityError
        The manifest or a file has changed; the message names it.
    PluginError
        The model type gave something else than what the manifest describes.
    """
    artifact = read_artifact(digest, objects)
    contents = {name: _content(name, entry, artifact, objects) for name, entry in sorted(artifact.manifest["files"].items())}
    cls = registry.get("model", artifact.model_type)
    reader = ArtifactReader(artifact.manifest, contents)
    model = cls.load(reader)
    if not isinstance(model, Model) or model.type != artifact.model_type:
        raise PluginError(f"Model type '{artifact.model_type}' loaded a {type(model).__name__} instead of itself.")
    if model.signature is not None and model.signature != reader.signature:
        raise PluginError(f"Model type '{artifact.model_type}' loaded with another signature than its artifact {digest[:12]}… has.")
    model.signature = reader.signature
    return model


def canonical_json(value: Any, what: str) -> bytes:
    """One byte string for one JSON value: sorted keys, no spaces, UTF-8. Raises InvalidInput for what JSON cannot hold."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        hint = "Use text, finite numbers, booleans, lists and objects with text keys."
        raise InvalidInput(f"{what} cannot be written as JSON.", hint=hint) from None


def _manifest(model: Model, sink: Callable[[bytes], str]) -> dict[str, Any]:
    signature = model.fitted
    writer = ArtifactWriter(sink)
    model.save(writer)
    if not writer.files:
        raise PluginError(f"Model type '{model.type}' saved nothing.")
    libraries = writer.libraries | ({"torch"} if model.capabilities.torch_module else set())
    return {
        "format": FORMAT,
        "type": model.type,
        "params": model.params.model_dump(mode="json"),
        "signature": signature.to_json(),
        "files": writer.files,
        "libraries": {name: metadata.version(name) for name in libraries},
    }


def _artifact(digest: str, manifest: Mapping[str, Any]) -> Artifact:
    files = dict(sorted(manifest["files"].items()))
    digests = {name: str(entry["sha256"]) for name, entry in files.items()}
    return Artifact(digest, str(manifest["type"]), digests, sum(int(entry["size"]) for entry in files.values()), manifest)


def _content(name: str, entry: Mapping[str, Any], artifact: Artifact, objects: Objects) -> bytes:
    whose = f"File '{name}' of artifact {artifact.digest[:12]}… ({artifact.model_type})"
    try:
        data = objects.get(str(entry["sha256"]), purpose=_FILE)
    except IntegrityError as error:
        raise IntegrityError(f"{whose} has changed.", hint=error.message) from None
    except UsageError:
        raise IntegrityError(f"{whose} is missing from the workspace.", hint="Restore the workspace from a backup.") from None
    if entry["media"] == "application/octet-stream":
        _refuse_pickle(name, data)
    return data


def _read_format_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Check that everything that readers use is there and of its type."""
    for entry in dict(manifest["files"]).values():
        if not (isinstance(entry["sha256"], str) and isinstance(entry["size"], int) and isinstance(entry["media"], str)):
            raise TypeError("a file entry")
    if not (isinstance(manifest["type"], str) and isinstance(manifest["params"], dict) and isinstance(manifest["signature"], dict)):
        raise TypeError("a member")
    return manifest


_READERS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _read_format_1}
"""By format version: checks a manifest and gives it in today's form."""


def _named(name: str, suffix: str) -> str:
    return name if name.endswith(f".{suffix}") else f"{name}.{suffix}"


def _refuse_pickle(name: str, data: bytes) -> None:
    reason = find_pickle(name, data)
    if reason:
        raise InvalidInput(
            f"File '{name}' of the artifact is refused: {reason}, and reading a pickle runs whatever its author wrote into it.",
            hint="Write weights with .tensors (safetensors), estimators with .skops, settings with .json.",
        )


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise MissingExtra("A model stored as safetensors", extra="torch", library="safetensors") from None
    return safetensors.numpy
