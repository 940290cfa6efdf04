"""Neighbour replay of models that learn from private sums and minimisers instead of gradient steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import PluginError
from affidavit.interfaces.training import Releases

Floats = NDArray[np.float64]

TOLERANCE = 1e-9
"""Relative difference that double precision may make in another row's numbers, and in a sum's order."""


@dataclass(frozen=True, slots=True)
class Call:
    """One release of a run: what it was asked with, row by row and in settings, and its answer."""

    kind: str
    settings: dict[str, object]
    arrays: dict[str, NDArray[Any]]
    answer: Floats


class RecordedReleases:
    """Forwards to private releases and keeps the calls: the run with the record, whose row is the last."""

    def __init__(self, inner: Releases, calls: list[Call]) -> None:
        self._inner, self._calls = inner, calls

    def sums(self, rows: Floats, *, bound: float, groups: NDArray[np.int64] | None = None, number: int = 1) -> tuple[Floats, float]:
        """The inner answer, kept."""
        answer, deviation = self._inner.sums(rows, bound=bound, groups=groups, number=number)
        settings: dict[str, object] = {"bound": bound, "number": number, "deviation": deviation}
        return self._keep(Call("sums", settings, _present(rows=rows, groups=groups), answer)), deviation

    def minimise(self, rows: Floats, targets: Floats, *, loss: Any, bound: float, l2: float = 0.0, weights: Floats | None = None) -> Floats:
        """The inner answer, kept."""
        answer = self._inner.minimise(rows, targets, loss=loss, bound=bound, l2=l2, weights=weights)
        arrays = _present(rows=rows, targets=targets, weights=weights)
        return self._keep(Call("minimise", {"loss": loss, "bound": bound, "l2": l2}, arrays, answer))

    def _keep(self, call: Call) -> Floats:
        self._calls.append(call)
        return call.answer


class ComparedReleases(RecordedReleases):
    """The run without the record: compares each call with the first run's, and gives that run's answer.

    An answer is released with noise of its own, so that what follows is compared given it.

    Attributes
    ----------
    changes
        For each release that the record took part in: by how much it moved the sums, over their bound; None for a minimiser.
    faults
        By kind, what is wrong.
    """

    def __init__(self, inner: Releases, first: list[Call], faults: dict[str, str]) -> None:
        super().__init__(inner, [])
        self._first = first
        self.changes: list[float | None] = []
        self.faults = faults

    @property
    def made(self) -> int:
        """Releases of this run."""
        return len(self._calls)

    def _keep(self, call: Call) -> Floats:
        number = len(self._calls)
        super()._keep(call)
        if number >= len(self._first):
            raise PluginError("The number of releases depends on the record.")
        past = self._first[number]
        if (past.kind, past.settings, past.arrays.keys()) != (call.kind, call.settings, call.arrays.keys()):
            self._fault("settings", number, "its kind or its settings depend on the record")
            return past.answer
        for name, found in call.arrays.items():
            if not _same(past.arrays[name][: len(found)], found):
                self._fault("rows", number, f"the {name} of other rows depend on the record")
        if len(past.arrays["rows"]) == len(call.arrays["rows"]) + 1:
            self.changes.append(self._change(number, past, call) if call.kind == "sums" else None)
        elif len(past.arrays["rows"]) != len(call.arrays["rows"]):
            self._fault("count", number, "the record takes other rows with it")
        return past.answer

    def _change(self, number: int, past: Call, call: Call) -> float:
        """What the record did to a sum, over the sum's bound."""
        bound = float(str(call.settings["bound"]))
        change = float(np.linalg.norm(past.answer - call.answer)) / bound
        if change > 1 + TOLERANCE * (1 + float(np.abs(past.answer).max(initial=0.0)) / bound):
            self._fault("bound", number, f"the record moved the sums by {change:.3g} times their bound")
        return change

    def _fault(self, kind: str, number: int, text: str) -> None:
        self.faults.setdefault(kind, f"Release {number + 1}: {text}.")


def _present(**arrays: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(array) for name, array in arrays.items() if array is not None}


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=TOLERANCE, atol=1e-12, equal_nan=True))
