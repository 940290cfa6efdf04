"""Partial dependence (Friedman 2001) with individual curves (Goldstein and others 2015) and the strength of interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affidavit.errors import UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import GlobalExplanation
from affidavit.interfaces.model import Metric, Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Options
from affidavit_governance.explain.estimators.intervals import student_95
from affidavit_governance.explain.overall.grids import Grid, grid_of, no_curve
from affidavit_governance.explain.overall.interaction import interaction_strength
from affidavit_governance.explain.overall.opening import LEAST_ROWS, Whole

INTERACTION_ROWS = 50
"""Rows on which the strength of interactions rests: each dependence in it costs their square in model rows."""

_OWN: Mapping[str, Any] = {"fields": None, "points": 20, "ice": 0, "centred": False, "interactions": ()}

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curves:
    """Individual curves of each field, rows × values, and the half-widths of the intervals of all means, one after the other."""

    individual: Mapping[str, Floats]
    errors: Floats | None


def mean_curve(individual: Floats) -> tuple[Floats, Floats]:
    """The mean of individual curves (rows × values), and the half-widths of its 95 % intervals over rows."""
    rows = len(individual)
    return individual.mean(axis=0), student_95(rows - 1) * individual.std(axis=0, ddof=1) / np.sqrt(rows)


class PartialDependence(Explainer):
    """The mean answer over the rows where a field has a given value in all of them, value by value.

    Numbers are looked at between their 5 % and 95 % quantiles at evenly spaced round values, dates at days, categories one by one, commonest
    first. No value of the grid is read off a row, and a category is named only where the trained schema names it (``categories`` of a field)
    or ten rows share it. Masked fields, and fields in a group, have no curve. Where fields depend on each other, some of the rows asked for do not
    exist in the world; the curve is about the model, not about the world.

    Options besides the common ones: ``fields`` (default: all that have a curve), ``points`` of a grid, ``ice`` (how many rows' own curves stand
    in the record; each tells of one row's answers), ``centred`` (each row's curve less its first value), ``interactions`` (pairs of players
    whose Friedman's H is wanted), and ``budget``, ``seconds``, ``width`` for the model as a whole.
    """

    type = "partial-dependence"
    scope = "model"
    accepts = ACCEPTS
    default_budget = 2**17

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> GlobalExplanation:
        read = Options.read(self.type, options, sampled=True, own=_OWN)
        _check(read.own)
        whole = Whole.open(model, data, read, self.type)
        names, left_out = _fields(whole)
        pairs = _pairs(whole)
        grids = {name: grid_of(whole.data, whole.data.schema[name], read.own["points"]) for name in names}
        order = whole.generator("rows").permutation(len(whole.data))
        points = sum(len(grid.shown) for grid in grids.values())
        for_pairs = (len(pairs) + len({player for pair in pairs for player in pair})) * min(len(order), INTERACTION_ROWS) ** 2
        smallest = LEAST_ROWS * points + for_pairs
        read.check_listed(1)
        budget = read.row_budget(0, max(self.default_budget, smallest))
        if budget.rows < smallest:
            hint = f"Give at least {smallest}, or name fewer fields or points."
            raise UsageError(f"A budget of {budget.rows} model rows is too small for {points} values.", hint=hint)

        def attempt(limit: int) -> Curves:
            rows = np.sort(order[: (limit - for_pairs) // max(1, points)])
            individual = {}
            for place, (name, grid) in enumerate(grids.items()):
                individual[name] = _individual(whole, name, grid, rows, centred=read.own["centred"])
                read.report(Progress(place + 1, len(grids), "tracing"))
            return Curves(individual, np.concatenate([mean_curve(curve)[1] for curve in individual.values()] or [np.zeros(0)]))

        everything = len(order) * points + for_pairs
        found, cost = budget.spend(smallest, attempt, most=everything)
        curves = {name: _column(grids[name], individual, read.own["ice"]) for name, individual in found.individual.items()}
        importance, undefined = _interactions(whole, pairs, order[:INTERACTION_ROWS])
        details: dict[str, Any] = {"rows_spent": [cost], "centred": read.own["centred"], "left_out": left_out}
        if pairs:
            details |= {"importance": "Friedman's H", "interaction_rows": min(len(order), INTERACTION_ROWS), "undefined": undefined}
        rows = len(next(iter(found.individual.values()))) if names else len(order[:INTERACTION_ROWS])
        return whole.record(rows, curves=curves, importance=importance, details=details)


def _check(own: Mapping[str, Any]) -> None:
    def wrong(name: str, what: str) -> UsageError:
        return UsageError(f"Option '{name}' of explainer 'partial-dependence' must be {what}.")

    for name, least in (("points", 2), ("ice", 0)):
        if not isinstance(own[name], int) or isinstance(own[name], bool) or own[name] < least:
            raise wrong(name, f"a whole number, {least} at least")
    if not isinstance(own["centred"], bool):
        raise wrong("centred", "true or false")
    if own["fields"] is not None and (isinstance(own["fields"], str) or not isinstance(own["fields"], Sequence)):
        raise wrong("fields", "a list of fields")
    pairs = own["interactions"]
    if isinstance(pairs, str) or not isinstance(pairs, Sequence) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise wrong("interactions", "a list of pairs of players")


def _fields(whole: Whole) -> tuple[list[str], dict[str, str]]:
    """The fields to look at, and why the others are not."""
    reasons: dict[str, str] = {}
    for field in whole.data.schema:
        together = whole.grouping.names[whole.grouping.player_of(field.name)]
        if field.name in whole.hidden:
            reasons[field.name] = "is masked, or one player with masked fields"
        elif len(whole.grouping.members[together]) > 1:
            reasons[field.name] = f"is one player together with others, '{together}'"
        elif (why := no_curve(whole.data, field)) is not None:
            reasons[field.name] = why
    asked = whole.options.own["fields"]
    if asked is None:
        return [name for name in whole.data.schema.names if name not in reasons], reasons
    for name in asked:
        if name not in whole.data.schema:
            known = whole.data.schema.names
            raise UsageError(f"There is no input '{name}'.{nearest(str(name), known)}", hint=f"Inputs: {', '.join(known)}.")
        if name in reasons:
            raise UsageError(f"Field '{name}' {reasons[name]}, so it has no curve.", hint="Name other fields.")
    return list(dict.fromkeys(asked)), {}


def _individual(whole: Whole, name: str, grid: Grid, rows: NDArray[np.int64], *, centred: bool) -> Floats:
    """Rows × values: each row's answers with `name` set to each value."""
    table = whole.data.table
    others = pa.array(np.tile(rows, len(grid.shown)))
    tried = grid.values.take(pa.array(np.repeat(np.arange(len(grid.shown)), len(rows))))
    mixed = pa.table({column: tried if column == name else table.column(column).take(others) for column in table.column_names})
    curves = whole.answers(Dataset(mixed, whole.data.schema)).reshape(len(grid.shown), len(rows)).T
    return curves - curves[:, :1] if centred else curves


def _column(grid: Grid, individual: Floats, ice: int) -> dict[str, list[Any]]:
    mean, half = mean_curve(individual)
    column = {"value": grid.shown, "mean": mean.tolist(), "low": (mean - half).tolist(), "high": (mean + half).tolist()}
    return column | {"ice": individual[:ice].tolist()} if ice else column


def _pairs(whole: Whole) -> list[tuple[int, int]]:
    names = whole.grouping.names
    for name in (each for pair in whole.options.own["interactions"] for each in pair):
        if name not in names:
            raise UsageError(f"There is no player '{name}'.{nearest(str(name), names)}", hint=f"Players: {', '.join(names)}.")
    return [(names.index(first), names.index(second)) for first, second in whole.options.own["interactions"]]


def _interactions(whole: Whole, pairs: list[tuple[int, int]], rows: NDArray[np.int64]) -> tuple[dict[str, Metric], list[str]]:
    """Friedman's H of each pair, and the pairs that have no effect at all, for which there is none."""
    table, count = whole.data.table, len(rows)
    own, others = pa.array(np.repeat(rows, count)), pa.array(np.tile(rows, count))
    known: dict[tuple[int, ...], Floats] = {}

    def dependence(players: tuple[int, ...]) -> Floats:
        if players not in known:
            fields = {name for player in players for name in whole.grouping.members[whole.grouping.names[player]]}
            mixed = pa.table({name: table.column(name).take(own if name in fields else others) for name in table.column_names})
            known[players] = whole.answers(Dataset(mixed, whole.data.schema)).reshape(count, count).mean(axis=1)
        return known[players]

    found: dict[str, Metric] = {}
    undefined = []
    for first, second in pairs:
        name = f"{whole.grouping.names[first]} × {whole.grouping.names[second]}"
        strength = interaction_strength(dependence, first, second)
        if strength is None:
            undefined.append(name)
        else:
            found[name] = strength
    return found, undefined
