"""Asking why: the calls behind `Workspace.explain`, `explain_model` and `counterfactuals`, and the reference rows that they compare with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from affidavit.calls import ExplainCall
from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import Schema

if TYPE_CHECKING:
    from affidavit.interfaces.explanation import ExplanationRecord
    from affidavit.interfaces.model import Model
    from affidavit.workspace import Workspace

BACKGROUND_ROWS = 100
"""Rows of the training data kept as the reference of later explanations: shap's usual size."""


def explain(
    workspace: Workspace,
    model: Model,
    data: Dataset,
    background: Dataset | None,
    method: str | None,
    options: Mapping[str, Any],
    *,
    scope: str = "rows",
) -> ExplanationRecord:
    """Run one governed call; the reference rows are the model's own where none are given."""
    reference = background if background is not None else read_background(workspace, model)
    if reference is None:
        raise UsageError("There is no background for this model here.", hint="Pass background=, some rows of the training data.")
    call = ExplainCall(workspace, workspace.actor, model=model, data=data, background=reference, method=method, options=options, scope=scope)
    record: ExplanationRecord = workspace._pipeline.run(call)
    return record


def read_background(workspace: Workspace, model: Model) -> Dataset | None:
    """The reference rows that were kept when `model` was trained here, or None."""
    name = f"backgrounds/{workspace.model_digest(model)}"
    if not workspace.store.files.exists(name):
        return None
    sealed = workspace.keyring.open(workspace.store.files.read(name), purpose="background", name=name)
    length = int.from_bytes(sealed[:4], "big")
    schema = Schema.from_json(json.loads(sealed[4 : 4 + length]))
    with pa.ipc.open_stream(sealed[4 + length :]) as reader:
        return Dataset(reader.read_all(), schema, name="background")


def keep_background(workspace: Workspace, model: Model, data: Dataset, seed: int) -> None:
    """Keep some training rows, sealed, beside the model's digest."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(data))[:BACKGROUND_ROWS])
    names = [field.name for field in model.fitted.inputs]
    sample = data.table.select(names).take(pa.array(rows)).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, sample.schema) as writer:
        writer.write_table(sample)
    header = json.dumps(data.schema.select(tuple(names)).to_json()).encode()
    name = f"backgrounds/{workspace.model_digest(model)}"
    content = len(header).to_bytes(4, "big") + header + sink.getvalue().to_pybytes()
    workspace.store.files.write(name, workspace.keyring.seal(content, purpose="background", name=name))
