"""The records of explanations: attributions of rows, what a model does as a whole, and the nearest changes that flip a decision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from affidavit.errors import InvalidInput
from affidavit.interfaces.model import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from affidavit.interfaces.dataset import Dataset
    from affidavit.policy import ReasonPolicy

RECORD_VERSION = 2
"""Of the JSON form of `Explanation`; version 1 had no interactions, and its residual was never needed to be read."""


class ExplanationRecord(Protocol):
    """What every explainer gives back."""

    scope: ClassVar[str]
    """``"rows"``, ``"model"`` or ``"changes"``: what is explained."""

    @property
    def method(self) -> str:
        """The explainer's registered name."""
        ...

    @property
    def details(self) -> Mapping[str, Any]:
        """Background digest, seed, model rows used, why the method was chosen…"""
        ...

    @property
    def signed(self) -> bytes | None:
        """The record as the workspace signed it."""
        ...

    def __len__(self) -> int: ...

    def to_json(self) -> dict[str, Any]:
        """The whole record, without input values."""
        ...

    def summary(self) -> dict[str, Any]:
        """What stands in the evidence."""
        ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """Attributions of a batch of rows to players: the model's input fields, groups of them, words, regions.

    Attributes
    ----------
    method
        ``tree``, ``linear``, ``kernel``, ``lime``, ``exact``…
    output
        What is explained: ``"probability of good"``, ``"log-odds of good"``, ``"centred log-ratio of good"`` (the logarithm of its probability over
        the geometric mean of all classes') or ``"value"``.
    players
        One attribution each.
    values
        Rows × players. NaN where the policy's release withholds a value.
    base
        Shape rows: the output for no known player. ``base + values.sum(1)`` should be `predicted`.
    predicted
        Shape rows: the model's own output, from its `predict`.
    inputs
        The masked values that were explained, one list a row, for labels on plots; they are not part of the record.
    errors
        Half-width of the 95 % interval of each attribution, rows × players; None for exact methods.
    interactions
        Rows × players × players, symmetric: an interaction of two players is shared between both places, and the diagonal holds what is
        left of each player's value, so that a row of the matrix sums to its value. None where they were not asked for.
    residuals
        The additivity residuals where they cannot be computed from what is released; None: they follow from the other members.
    details
        Background digest, seed, model rows used, why the method was chosen, stability of the order.
    signed
        The record as the workspace signed it (a DSSE envelope); None outside a workspace.
    """

    scope: ClassVar[str] = "rows"
    method: str
    output: str
    players: tuple[str, ...]
    values: NDArray[np.float64]
    base: NDArray[np.float64]
    predicted: NDArray[np.float64]
    inputs: list[list[Any]] = field(default_factory=list)
    errors: NDArray[np.float64] | None = None
    interactions: NDArray[np.float64] | None = None
    residuals: NDArray[np.float64] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    signed: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def residual(self) -> NDArray[np.float64]:
        """Additivity residual of each row: how far base plus attributions is from the model's own output."""
        if self.residuals is not None:
            return self.residuals
        residual: NDArray[np.float64] = abs(self.base + self.values.sum(axis=1) - self.predicted)
        return residual

    @property
    def exact(self) -> bool:
        """Whether the attributions are exact rather than estimated."""
        return bool(self.details.get("exact", self.errors is None))

    def __len__(self) -> int:
        return len(self.values)

    def plot(self, path: str, *, row: int = 0, kind: str = "waterfall", **options: Any) -> None:
        """Draw to a PNG, SVG or HTML file (needs the extra `explain`; docs/explanation-pictures.md lists the kinds)."""
        from affidavit.plugins import load_service

        load_service("plot_explanation")(self, path, row=row, kind=kind, **options)

    def save(self, path: str | Path) -> Path:
        """Write the record as JSON: signed where a workspace gave it. `affidavit replay` and `Workspace.replay` read it."""
        return save_record(self, path)

    def reasons(self, policy: ReasonPolicy | None = None, *, decisions: Sequence[Any] | None = None, background: Dataset | None = None) -> Any:
        """The reasons for each adverse decision, by a policy's ``explain.reasons`` (docs/reason-codes.md)."""
        from affidavit.plugins import load_service

        return load_service("reason_codes")(self, policy, decisions=decisions, background=background)

    def cohorts(self, data: Dataset, by: Any, *, bins: Sequence[float] | None = None, seed: int = 0) -> Any:
        """Mean attributions by groups of the explained rows, and which group differs most (docs/counterfactuals.md#cohorts)."""
        from affidavit.plugins import load_service

        return load_service("cohorts")(self, data, by, bins=bins, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """The record that can be replayed, without the input values; a withheld value is null."""
        return {
            "version": RECORD_VERSION,
            "method": self.method,
            "output": self.output,
            "players": list(self.players),
            "values": _plain(self.values),
            "base": _plain(self.base),
            "predicted": _plain(self.predicted),
            "residual": _plain(self.residual),
            "errors": None if self.errors is None else _plain(self.errors),
            "interactions": None if self.interactions is None else _plain(self.interactions),
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Explanation:
        """Read what `to_json` wrote, in version 1 or 2. Raises InvalidInput where it is no such record."""
        version = value.get("version")
        if version not in (1, RECORD_VERSION):
            raise InvalidInput(f"This explanation record has version {version!r}.", hint=f"This release reads versions 1 and {RECORD_VERSION}.")
        if "values" not in value and ("importance" in value or "changed" in value):
            what = "describes a model as a whole" if "importance" in value else "holds changes that flip a decision"
            raise InvalidInput(f"This record {what}; only records of explained rows are read.")
        try:
            values = _array(value["values"], 2)
            found = cls(
                method=str(value["method"]),
                output=str(value["output"]),
                players=tuple(str(player) for player in value["players"]),
                values=values,
                base=_array(value["base"], 1),
                predicted=_array(value["predicted"], 1),
                inputs=[],
                errors=None if value["errors"] is None else _array(value["errors"], 2),
                interactions=None if value.get("interactions") is None else _array(value["interactions"], 3),
                residuals=_array(value["residual"], 1),
                details=dict(value["details"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"This explanation record cannot be read: {type(error).__name__} in its content.") from None
        shapes = [found.values.shape == (len(found.base), len(found.players)), len(found.base) == len(found.predicted) == len(found.residual)]
        shapes += [found.errors is None or found.errors.shape == found.values.shape]
        shapes += [found.interactions is None or found.interactions.shape == (*found.values.shape, len(found.players))]
        if not all(shapes):
            raise InvalidInput("This explanation record has arrays of sizes that do not fit each other.")
        return found

    def summary(self) -> dict[str, Any]:
        """What stands in the evidence: method, players, mean |φ| and the largest residual, no row's values."""
        return {
            "method": self.method,
            "output": self.output,
            "rows": len(self),
            "players": list(self.players),
            "mean_absolute": _plain(_mean_of_known(abs(self.values))),
            "max_residual": float(self.residual.max(initial=0.0)),
            "settings": _without_rows(dict(self.details), len(self)),
        }

    def _repr_html_(self) -> str:
        from affidavit.plugins import load_service

        page: str = load_service("explanation_html")(self)
        return page


@dataclass(frozen=True, slots=True)
class GlobalExplanation:
    """What a model does as a whole, over a data set.

    Attributes
    ----------
    method
        ``permutation-importance``, ``partial-dependence``, ``surrogate-tree``, ``rule-list``…
    output
        What is explained, as in `Explanation`.
    rows
        How many rows it rests on.
    importance
        One number a field with its 95 % interval.
    curves
        Columns of numbers or labels to draw, by field: ``{"age": {"value": […], "mean": […], "low": […], "high": […]}}``.
    rules
        A surrogate's rules in words, in order.
    fidelity
        How well a surrogate follows the model, with 95 % intervals.
    details
        As in `Explanation`.
    """

    scope: ClassVar[str] = "model"
    method: str
    output: str
    rows: int
    importance: Mapping[str, Metric] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    fidelity: Mapping[str, Metric] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    signed: bytes | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.rows

    def plot(self, path: str, **options: Any) -> None:
        """Draw to a PNG, SVG or HTML file (needs the extra `explain`)."""
        from affidavit.plugins import load_service

        load_service("plot_global_explanation")(self, path, **options)

    def save(self, path: str | Path) -> Path:
        """Write the record as JSON: signed where a workspace gave it."""
        return save_record(self, path)

    def to_json(self) -> dict[str, Any]:
        """The whole record."""
        curves = {name: dict(curve) for name, curve in self.curves.items()}
        return {"version": RECORD_VERSION, **self.summary(), "curves": curves, "settings": dict(self.details)}

    def summary(self) -> dict[str, Any]:
        """What stands in the evidence: everything but the curves and figures of single rows."""
        return {
            "method": self.method,
            "output": self.output,
            "rows": self.rows,
            "importance": {name: metric.to_json() for name, metric in self.importance.items()},
            "rules": list(self.rules),
            "fidelity": {name: metric.to_json() for name, metric in self.fidelity.items()},
            "settings": _without_rows(dict(self.details), self.rows),
        }


@dataclass(frozen=True, slots=True)
class Counterfactuals:
    """For each row the nearest plausible changes that flip the decision.

    Attributes
    ----------
    method
        The explainer's name.
    wanted
        The class, or the range of values, that was looked for.
    changes
        For each row a list of alternatives, nearest first, each ``{field: (value now, value then)}``; an empty list where none was found.
    distances
        In the same shape, one number each.
    predicted
        In the same shape, the model's own score of the alternative.
    plausibility
        In the same shape, how near the alternative lies to the data: a share between 0 and 1 (docs/counterfactuals.md).
    details
        As in `Explanation`; why none was found stands here.
    """

    scope: ClassVar[str] = "changes"
    method: str
    wanted: str
    changes: list[list[dict[str, tuple[Any, Any]]]]
    distances: list[list[float]]
    predicted: list[list[float]]
    plausibility: list[list[float]] = field(default_factory=list)
    details: Mapping[str, Any] = field(default_factory=dict)
    signed: bytes | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.changes)

    def save(self, path: str | Path) -> Path:
        """Write the record as JSON: signed where a workspace gave it."""
        return save_record(self, path)

    def to_json(self) -> dict[str, Any]:
        """The record without values: which fields change, how far, with which score."""
        return {
            "version": RECORD_VERSION,
            **self.summary(),
            "settings": dict(self.details),
            "changed": [[sorted(alternative) for alternative in row] for row in self.changes],
            "distances": self.distances,
            "predicted": self.predicted,
            "plausibility": self.plausibility,
        }

    def summary(self) -> dict[str, Any]:
        """What stands in the evidence: how many rows have an answer, how often each field changes, and nothing of single rows."""
        fields: dict[str, int] = {}
        for row in self.changes:
            for name in row[0] if row else ():
                fields[name] = fields.get(name, 0) + 1
        return {
            "method": self.method,
            "wanted": self.wanted,
            "rows": len(self),
            "found": sum(1 for row in self.changes if row),
            "changed": dict(sorted(fields.items())),
            "settings": {name: value for name, value in self.details.items() if not (isinstance(value, list) and len(value) == len(self))},
        }


def save_record(record: ExplanationRecord, path: str | Path) -> Path:
    """Write a record as JSON, signed where it has been signed, whole or not at all."""
    from affidavit.store import write_atomic

    content = record.signed if record.signed is not None else json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False).encode()
    write_atomic(Path(path), content)
    return Path(path)


def _without_rows(value: Any, rows: int) -> Any:
    """`value` without lists of figures for each row: the evidence says what was done, the record what came out."""
    if not isinstance(value, Mapping):
        return value
    return {key: _without_rows(item, rows) for key, item in value.items() if not _is_by_row(item, rows)}


def _is_by_row(value: Any, rows: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == rows and not any(isinstance(item, str) for item in value)


def _plain(array: NDArray[np.float64]) -> list[Any]:
    """Nested lists, with None for what JSON has no number for."""
    plain: list[Any] = array.tolist()
    if not np.isfinite(array).all():
        objects = array.astype(object)
        objects[~np.isfinite(array)] = None
        plain = objects.tolist()
    return plain


def _array(value: Any, dimensions: int) -> NDArray[np.float64]:
    array = np.array(value, dtype=np.float64)  # None becomes NaN
    if array.ndim != dimensions and array.size:
        raise ValueError(f"{dimensions} dimensions were due")
    return array if array.ndim == dimensions else np.empty((0,) * dimensions)


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    mean: NDArray[np.float64] = np.where(known, values, 0.0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    return mean
