"""The records of explanations: attributions of rows, what a model does as a whole, and the nearest changes that flip a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from affidavit.errors import InvalidInput
from affidavit.interfaces.model import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        What is explained: ``"probability of good"``, ``"log-odds of good"`` or ``"value"``.
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
    envelope
        The record signed by the workspace (a DSSE envelope as JSON); None outside one.
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
    envelope: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

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
        if not all(shapes) or (found.errors is not None and found.errors.shape != found.values.shape):
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
            "settings": dict(self.details),
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
    envelope: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.rows

    def plot(self, path: str, **options: Any) -> None:
        """Draw to a PNG, SVG or HTML file (needs the extra `explain`)."""
        from affidavit.plugins import load_service

        load_service("plot_global_explanation")(self, path, **options)

    def to_json(self) -> dict[str, Any]:
        """The whole record."""
        return {"version": RECORD_VERSION, **self.summary(), "curves": {name: dict(curve) for name, curve in self.curves.items()}}

    def summary(self) -> dict[str, Any]:
        """What stands in the evidence: everything but the curves."""
        return {
            "method": self.method,
            "output": self.output,
            "rows": self.rows,
            "importance": {name: metric.to_json() for name, metric in self.importance.items()},
            "rules": list(self.rules),
            "fidelity": {name: metric.to_json() for name, metric in self.fidelity.items()},
            "settings": dict(self.details),
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
    details
        As in `Explanation`; why none was found stands here.
    """

    scope: ClassVar[str] = "changes"
    method: str
    wanted: str
    changes: list[list[dict[str, tuple[Any, Any]]]]
    distances: list[list[float]]
    predicted: list[list[float]]
    details: Mapping[str, Any] = field(default_factory=dict)
    envelope: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.changes)

    def to_json(self) -> dict[str, Any]:
        """The record without values: which fields change, how far, with which score."""
        return {
            "version": RECORD_VERSION,
            **self.summary(),
            "changed": [[sorted(alternative) for alternative in row] for row in self.changes],
            "distances": self.distances,
            "predicted": self.predicted,
        }

    def summary(self) -> dict[str, Any]:
        """What stands in the evidence: how many rows have an answer, and how often each field changes."""
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
            "settings": dict(self.details),
        }


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
