"""The target `onnx`: a registered version as a graph in a folder, for runtimes that know nothing of this library."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affidavit.artifacts import canonical_json, load_model
from affidavit.errors import AffidavitError, IntegrityError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.deployment import Deployment, HandedOver, Predictor
from affidavit.interfaces.model import Model, OnnxView
from affidavit.onnx_format import deviation
from affidavit.predictor import GovernedPredictor
from affidavit.store import write_atomic, writing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from affidavit.registry import Version

FORMAT = 1
GRAPH, SIGNATURE = "model.onnx", "signature.json"

DEVIATION = 1e-5
"""How far the graph's answers may be from the model's, of the largest number: what single precision rounds."""


class Onnx(Deployment):
    """Hands a model over as a graph: ``deploy("credit-risk@production", target="onnx", folder="out/credit-risk")``.

    As with every target, the policy's gates and approvals come first. The ledger records the digests of the files.
    """

    type: ClassVar[str] = "onnx"

    def deploy(self, predictor: Predictor, *, folder: str | Path | None = None, **options: Any) -> ExportedModel:
        """Write the folder; the endpoint that comes back asks the model that stayed, inside governance.

        The graph is run by onnxruntime on the rows that were kept when the model was trained, before anything is written.

        Raises
        ------
        UsageError
            No folder is named, it is there already, the model is not registered, or its type has no ONNX graph.
        MissingExtra
            onnx or onnxruntime is not installed.
        IntegrityError
            The graph answers otherwise than the model; nothing is written.
        """
        if not isinstance(folder, str | Path) or options:
            raise UsageError("The target 'onnx' takes one option: folder, the folder to write.")
        workspace, version = predictor.registered if isinstance(predictor, GovernedPredictor) else (None, None)
        if workspace is None or version is None:
            raise UsageError("Only a registered version can be handed over.", hint="Register the model, and promote the version.")
        target = Path(folder)
        if os.path.lexists(target):
            raise UsageError(f"'{target}' is there already.", hint="Name a folder that is not.")
        # Read again from its artifact: what is handed over is what was registered, and comparing it is no prediction for anybody.
        model = load_model(version.artifact, workspace.objects, workspace.registry)
        if not model.capabilities.onnx:
            types = ", ".join(workspace.registry.names("model", capability="onnx"))
            raise UsageError(f"Model type '{model.type}' cannot be exported to ONNX.", hint=f"These can: {types}. Or use the target 'signed-folder'.")
        rows = workspace.background(model)
        if rows is None or not len(rows):
            raise UsageError(f"{version} has no rows in this workspace to compare its graph on.", hint="Train it here with Workspace.train.")
        view = model.onnx_view()
        compare(model, view, rows)
        files = {GRAPH: view.graph, SIGNATURE: canonical_json(describe(model, view, version), "The signature of the graph")}
        write_folder(target, files)
        return ExportedModel(predictor, target, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


class ExportedModel(HandedOver):
    """A model that was handed over as a graph; `predict` asks the one that stayed.

    The graph itself does not answer here: the journal says which registered artifact answered, and the graph is another program.

    Attributes
    ----------
    files
        The SHA-256 of each, by name.
    """

    def __init__(self, predictor: Predictor, folder: Path, files: dict[str, str]) -> None:
        super().__init__(predictor, folder)
        self.files = files

    def intact(self) -> bool:
        try:
            return all(hashlib.sha256((self.folder / name).read_bytes()).hexdigest() == digest for name, digest in self.files.items())
        except OSError:
            return False


def compare(model: Model, view: OnnxView, rows: Dataset) -> None:
    """Raise IntegrityError where the graph's answers for `rows` differ from the model's by more than `DEVIATION`."""
    data = model.fitted.conform(rows)
    found = model.predict(data)
    numbers: NDArray[Any] | None = found.probabilities if found.classes else found.values
    if numbers is None:
        raise AffidavitError(f"This {model.type} gives labels only, so its graph cannot be compared with it.")
    apart = deviation(view, data, np.asarray(numbers, dtype=np.float64))
    if not apart <= DEVIATION:
        raise IntegrityError(
            f"The ONNX graph of this {model.type} answers otherwise than the model: by {apart:.2g} of the largest number, {DEVIATION:g} is allowed.",
            hint="Nothing was written. Report this to whoever wrote the model type.",
        )


def describe(model: Model, view: OnnxView, version: Version) -> dict[str, Any]:
    """What whoever runs the graph has to know. How far it was off is not said: that was measured on training rows."""
    signature = model.fitted
    return {
        "format": FORMAT,
        "version": str(version),
        "artifact": version.artifact,
        "graph": {"file": GRAPH, "sha256": hashlib.sha256(view.graph).hexdigest(), "output": "probabilities" if signature.classes else "values"},
        "type": model.type,
        **signature.to_json(),
        "encoding": view.encoding,
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write a new folder, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    with writing(folder):
        try:
            for name, content in files.items():
                write_atomic(partial / name, content)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
