"""Asking why: the calls behind `Workspace.explain`, `explain_model`, `counterfactuals` and `replay`, and the reference rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from affidavit.calls import ExplainCall
from affidavit.errors import IntegrityError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Counterfactuals, Explanation, GlobalExplanation
from affidavit.interfaces.schema import Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class Replay:
    """How an explanation made again compares with its record.

    Attributes
    ----------
    bit_equal
        Every number of the record came out again to the last bit.
    largest_deviation
        The largest absolute difference of any attribution, base or prediction, in units of the explained output.
    relative_deviation
        The same over the largest of all these numbers.
    rows, method
        What was replayed.
    """

    bit_equal: bool
    largest_deviation: float
    relative_deviation: float
    rows: int
    method: str

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON object; a deviation is null where one of two numbers is withheld and the other is not."""
        return {name: None if value == float("inf") else value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        what = f"{self.rows} row{'' if self.rows == 1 else 's'} by {self.method}"
        if self.bit_equal:
            return f"{what}: bit-equal"
        return f"{what}: largest deviation {self.largest_deviation:.3g} ({self.relative_deviation:.1e} of the largest number)"


def replay(workspace: Workspace, record: Explanation | str | Path, data: Dataset, *, model: Model | None, background: Dataset | None) -> Replay:
    """Explain the rows of a record again, as the record says that it was done, and compare.

    A record in a file must carry this workspace's signature.

    Raises
    ------
    IntegrityError
        The signature does not hold, or the record is of other rows, another background or another model than those at hand.
    UsageError
        The record names no model that is registered here, and none was passed.
    """
    if isinstance(record, (GlobalExplanation, Counterfactuals)):
        raise UsageError("Only explanations of rows are replayed.", hint="Make the call again with the record's details['options'].")
    known = record if isinstance(record, Explanation) else workspace.service("read_explanation")(record, workspace.verifier_key)
    chosen = model if model is not None else model_of(workspace, known)
    if len(data) != len(known):
        raise IntegrityError(f"This record is of other rows: it has {len(known)}, and {len(data)} are at hand.", hint="Pass the explained rows.")
    _same("another model", known.details.get("model"), workspace.model_digest(chosen))
    options = dict(known.details.get("options") or {})
    if "rows_spent" in known.details:
        options = {name: value for name, value in options.items() if name not in ("budget", "seconds", "width")}
        options["budget"] = list(known.details["rows_spent"])
    again: Any = explain(workspace, chosen, data, background, known.method, options)
    _same_release(known, again)
    for name in ("data", "background"):
        _same({"data": "other rows", "background": "another background"}[name], known.details.get(name), again.details.get(name))
    return _compared(known, again)


def model_of(workspace: Workspace, record: Explanation) -> Model:
    """The registered model that a record explains. Raises UsageError where it is not registered here."""
    digest = record.details.get("model")
    for version in workspace.versions.list():
        if version.artifact == digest:
            return workspace.model(version)
    raise UsageError("The model of this record is not registered here.", hint="Pass model=.")


def _same(what: str, recorded: object, found: object) -> None:
    if recorded != found:
        shown = recorded[:12] if isinstance(recorded, str) else "none"
        raise IntegrityError(
            f"This record is of {what}: it names {shown}, and what is at hand is {str(found)[:12]}.", hint="Pass what it was made of."
        )


def _same_release(known: Explanation, again: Explanation) -> None:
    """Raises UsageError where the policy now releases something else of an explanation than the record has."""
    recorded, now = (_release(each) for each in (known, again))
    if recorded != now:
        raise UsageError(
            f"This record was released as {recorded}, and the policy now releases {now}, so their numbers cannot be compared.",
            hint="Replay it under the policy that it was made under (explain.release, top_k, levels).",
        )


def _release(explanation: Explanation) -> str:
    said = explanation.details.get("release")
    said = said if isinstance(said, Mapping) else {"mode": "full"}
    return " ".join([str(said.get("mode")), *(f"{name}={said[name]}" for name in ("k", "levels") if name in said)])


def _compared(known: Explanation, again: Explanation) -> Replay:
    if known.players != again.players or known.values.shape != again.values.shape:
        raise IntegrityError(
            "The explanation came out with other players than the record's.",
            hint="Was it made under other groups (explain.groups), or by another release?",
        )
    pairs = [(known.values, again.values), (known.base, again.base), (known.predicted, again.predicted)]
    if known.errors is not None and again.errors is not None:
        pairs.append((known.errors, again.errors))
    equal = (known.errors is None) == (again.errors is None) and all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    deviation = max(float("inf") if (np.isnan(a) != np.isnan(b)).any() else _largest(a - b) for a, b in pairs)
    scale = max(_largest(a) for a, _ in pairs)
    return Replay(equal, deviation, deviation / scale if scale else deviation, len(known), known.method)


def _largest(values: NDArray[np.float64]) -> float:
    """The largest absolute value, without those that were withheld."""
    return float(np.fmax.reduce(abs(values), axis=None, initial=0.0))


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
