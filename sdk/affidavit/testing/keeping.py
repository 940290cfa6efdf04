"""Kept artifacts: a model as one version wrote it, with rows and the answers that it gave, for every later version to read.

A kept artifact is a ZIP file: ``kept.json`` says what it holds, ``rows.arrow`` the rows, ``answers.json`` the answers, and ``objects/`` the
manifest and the files of the artifact by their SHA-256, as a workspace stores them.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import affidavit
from affidavit.artifacts import canonical_json, load_model, package
from affidavit.errors import IntegrityError, InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model, Predictions
from affidavit.store import Objects

FORMAT = 1
_WHEN = (1980, 1, 1, 0, 0, 0)  # the first date of a ZIP file: the same model gives the same file


@dataclass(frozen=True, slots=True)
class Kept:
    """What a kept artifact holds.

    Attributes
    ----------
    version
        The Affidavit that wrote it.
    model_type
        The registered model type.
    rows
        What was predicted.
    answers
        What was answered: probabilities, rows × classes, or values; None where there were labels only.
    labels
        The predicted classes; empty for a regression.
    """

    version: str
    model_type: str
    digest: str
    rows: Dataset
    answers: NDArray[np.float64] | None
    labels: tuple[str, ...]
    box: Box

    def load(self, cls: type[Model]) -> Model:
        """The model, read by today's `cls` through the same door as a workspace's artifacts."""

        class Only:
            def get(self, kind: str, name: str) -> Any:
                return cls

        return load_model(self.digest, cast(Objects, self.box), Only())


class Box:
    """Objects by their SHA-256, in memory: of `affidavit.store.Objects` what packaging and loading need."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def put(self, data: bytes, *, purpose: str) -> str:
        """Keep bytes, and give their hex SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        self.contents[digest] = data
        return digest

    def get(self, digest: str, *, purpose: str) -> bytes:
        """The bytes of that digest."""
        if digest not in self.contents:
            raise UsageError(f"The kept artifact has no object {digest[:12]}….")
        if hashlib.sha256(self.contents[digest]).hexdigest() != digest:
            raise IntegrityError(f"Object {digest[:12]}… of the kept artifact has changed.")
        return self.contents[digest]


def keep_artifact(model: Model, rows: Dataset, path: Path | str) -> Path:
    """Write `model` with a few `rows` and its answers into one file, which later versions must still be able to read.

    Put the file beside the plugin's tests, and name it in its `ModelCase`: ``kept=[Path("kept/acme.centroid-1.0.zip")]``. The rows are in the file as
    they are: keep made-up ones.

    Raises
    ------
    UsageError
        The model is not fitted, or there is such a file already: what was kept is never written again.
    """
    path = Path(path)
    if path.exists():
        raise UsageError(f"'{path}' is there already.", hint="A kept artifact shows what an older version wrote: keep another beside it.")
    box, rows = Box(), model.fitted.conform(rows)
    artifact = package(model, cast(Objects, box))
    predictions = model.predict(rows)
    head = {"format": FORMAT, "affidavit": affidavit.__version__, "type": model.type, "digest": artifact.digest}
    contents = {
        "kept.json": canonical_json(head, "What is kept"),
        "rows.arrow": _stream(rows.table),
        "answers.json": canonical_json(_answers(predictions), "The answers"),
        **{f"objects/{digest}": content for digest, content in sorted(box.contents.items())},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _WHEN), content, zipfile.ZIP_DEFLATED)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return path


def read_kept(path: Path | str) -> Kept:
    """Read what `keep_artifact` wrote. Raises InvalidInput where the file is none, or one of a later format."""
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        head = json.loads(contents["kept.json"])
        if head["format"] != FORMAT:
            raise InvalidInput(f"'{path}' has format {head['format']}; this Affidavit reads {FORMAT}.", hint="pip install -U affidavit")
        answers = json.loads(contents["answers.json"])
        box = Box()
        box.contents = {name.removeprefix("objects/"): content for name, content in contents.items() if name.startswith("objects/")}
        manifest = json.loads(box.get(head["digest"], purpose="manifest"))
        inputs = _inputs(manifest, pa.ipc.open_stream(contents["rows.arrow"]).read_all())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"'{path}' is no kept artifact ({type(error).__name__}).", hint="affidavit.testing.keep_artifact writes one.") from None
    numbers = None if answers["numbers"] is None else np.array(answers["numbers"], dtype=np.float64)
    return Kept(str(head["affidavit"]), str(head["type"]), str(head["digest"]), inputs, numbers, tuple(answers["labels"]), box)


def _inputs(manifest: dict[str, Any], table: pa.Table) -> Dataset:
    from affidavit.interfaces.model import Signature

    return Dataset(table, Signature.from_json(manifest["signature"]).inputs, name="kept")


def _answers(predictions: Predictions) -> dict[str, Any]:
    numbers = predictions.probabilities if predictions.classes else predictions.values
    return {
        "labels": [str(value) for value in predictions.values] if predictions.classes else [],
        "numbers": None if numbers is None else np.asarray(numbers, dtype=np.float64).tolist(),
    }


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
