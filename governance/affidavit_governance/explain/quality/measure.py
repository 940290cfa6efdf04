"""How good an explanation is, in numbers with intervals, each against attributions dealt at random on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Metric, Model
from affidavit.interfaces.outputs import LOG_RATIO
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import Case, Options
from affidavit_governance.explain.players.base import Players
from affidavit_governance.explain.players.build import PLAYER_OPTIONS, players_of
from affidavit_governance.explain.players.fields import FieldBlock
from affidavit_governance.explain.quality.curves import MOST_STEPS, Curves, curves, tied_groups
from affidavit_governance.explain.quality.infidelity import Infidelity, infidelity
from affidavit_governance.explain.quality.intervals import ratio_of_means
from affidavit_governance.explain.quality.metrics import LEAST_ROWS, METRICS
from affidavit_governance.explain.quality.sensitivity import Sensitivity, neighbours, sensitivity

BUDGET = 2**20
"""Model rows that measuring may cost where nothing is said: a few seconds for a model of tables."""

MOST_ROWS = 32
"""Rows that are measured at most; the intervals of most models are narrow enough then."""

_DRAWS, _SETS, _DEALS, _NEIGHBOURS = 4, 64, 8, 4
"""Random orders (each taken backwards too), sets of players, random deals and neighbours, for each row."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Measured qualities of an explanation.

    Attributes
    ----------
    metrics
        By name, those of `METRICS` that could be measured, with 95 % intervals over rows.
    missing
        By name, why the others could not.
    rows
        How many of the explained rows were measured.
    model_rows
        Model rows that the measurement cost.
    """

    metrics: Mapping[str, Metric]
    missing: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    model_rows: int = 0

    def to_json(self) -> dict[str, Any]:
        """The qualities as a JSON object."""
        return {
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "missing": dict(self.missing),
            "rows": self.rows,
            "model_rows": self.model_rows,
        }


def measure_quality(
    model: Model,
    explanation: Explanation,
    data: Dataset,
    background: Dataset,
    *,
    explainer: Explainer | None = None,
    options: Mapping[str, Any] | None = None,
    budget: int = BUDGET,
    seed: int = 0,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Quality:
    """Measure an explanation: deletion, insertion, infidelity, sensitivity, each with a random floor (docs/explanation-quality.md).

    Parameters
    ----------
    explanation
        As it was made, before a release withheld anything.
    data, background
        The explained rows, and the reference rows that the explanation used.
    explainer, options
        What made the explanation, to make those of neighbouring rows; without it sensitivity is not measured.
    budget
        Model rows that the measurement may cost, half of them for sensitivity.
    seed
        Of the rows chosen, and of everything random.

    Raises
    ------
    UsageError
        The budget does not reach for five rows.
    """
    given = options or {}
    if len(explanation) < LEAST_ROWS:
        return _nothing(f"{len(explanation)} rows were explained, and it takes {LEAST_ROWS}")
    case = _case(model, explanation, data, background, given)
    places = _played(case, explanation)
    if case.score.output != explanation.output or places is None:
        return _nothing(f"the players or the output of '{explanation.method}' are its own, so its game cannot be played again")
    players, columns = places
    every = 2 ** min(len(columns), 30)
    cost = players.copies * (min(every, _SETS + 1) + min(every, (2 * _DRAWS + 2) * (MOST_STEPS - 1) + 2))
    count = min(len(explanation), MOST_ROWS, budget // 2 // cost)
    if count < LEAST_ROWS:
        raise UsageError(
            f"A budget of {budget} model rows is too small to measure {LEAST_ROWS} rows.", hint=f"Give at least {2 * LEAST_ROWS * cost}."
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(explanation))[:count])
    found = []
    for done, row in enumerate(chosen):
        found.append(_play(case, players, explanation.values[row, columns], int(row)))
        report(Progress(done + 1, count, "measuring the explanation"))
    metrics, missing = _fidelity([each[0] for each in found], [each[1] for each in found])
    asked = case.score.rows
    if explainer is None:
        _miss(missing, "sensitivity", "the explainer is not at hand")
    else:
        telling = [int(row) for row, (drawn, _) in zip(chosen, found, strict=True) if drawn.spread > 0 and tied_groups(explanation.values[row]).any()]
        asked += _sensitivity(case, explanation, telling, budget // 2, explainer, given, metrics, missing)
    return Quality(metrics, missing, count, asked)


def _nothing(why: str) -> Quality:
    return Quality({}, dict.fromkeys(METRICS, why))


def _miss(missing: dict[str, str], name: str, why: str) -> None:
    missing |= {name: why, f"{name}_ratio": why}


def _case(model: Model, explanation: Explanation, data: Dataset, background: Dataset, given: Mapping[str, Any]) -> Case:
    """The case as the explainer opened it."""
    own = {name: given.get(name, default) for name, default in PLAYER_OPTIONS.items()}
    options = Options(
        label=explanation.details.get("label"),
        seed=int(given.get("seed", 0)),
        groups=given.get("groups") or {},
        model_digest=str(given.get("model_digest", "")),
        own=own,
    )
    kind = explanation.output
    return Case.open(model, data, background, options, log_odds=kind.startswith("log-odds"), log_ratio=kind.startswith(LOG_RATIO))


def _played(case: Case, explanation: Explanation) -> tuple[Players, NDArray[np.int64]] | None:
    """Players with the explanation's names, and for each of them its column there; None where there are no such players."""
    fields = Players(case.data.schema, [FieldBlock(case.data, case.background, case.grouping)], len(case.background))
    for players in (players_of(case, method=explanation.method), fields):
        if sorted(players.names) == sorted(explanation.players):
            column = {name: place for place, name in enumerate(explanation.players)}
            return players, np.array([column[name] for name in players.names], dtype=np.int64)
    return None


def _play(case: Case, players: Players, values: NDArray[np.float64], row: int) -> tuple[Curves, Infidelity]:
    """Measure the row's own players, and those to which the explanation gives something though the row does not have them."""
    active = players.active(row)
    taking = np.union1d(active, np.flatnonzero(values))
    if len(taking) == 0:
        return Curves(0.0, 0.0, 0.0, 0.0), Infidelity(0.0, 0.0)
    played, place = players.game(row, case.score), np.searchsorted(taking, active)

    def game(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        return played(coalitions[:, place])

    generator, own = np.random.default_rng(case.row_seed(row, "quality")), values[taking]
    return curves(game, own, _DRAWS, generator), infidelity(game, own, _SETS, _DEALS, generator)


def _fidelity(drawn: list[Curves], infidelities: list[Infidelity]) -> tuple[dict[str, Metric], dict[str, str]]:
    """Curves and infidelity over rows; a model whose answers do not change says nothing about its explanation."""
    metrics: dict[str, Metric] = {}
    missing: dict[str, str] = {}
    spread = [each.spread for each in drawn]
    still = "the model's answers do not change when players leave"
    if sum(spread) > 0:
        metrics["deletion"] = ratio_of_means([each.deletion for each in drawn])
        metrics["insertion"] = ratio_of_means([each.insertion for each in drawn])
        metrics["deletion_gap"] = ratio_of_means([each.deletion_gap for each in drawn], spread)
        metrics["insertion_gap"] = ratio_of_means([each.insertion_gap for each in drawn], spread)
        metrics["infidelity"] = ratio_of_means([each.value for each in infidelities])
    else:
        missing |= dict.fromkeys(("deletion", "insertion", "deletion_gap", "insertion_gap", "infidelity", "infidelity_ratio"), still)
        return metrics, missing
    floor = [each.floor for each in infidelities]
    if sum(floor) > 0:
        metrics["infidelity_ratio"] = ratio_of_means([each.value for each in infidelities], floor)
    else:
        missing["infidelity_ratio"] = "random attributions do as well: every deal of them fits"
    return metrics, missing


def _sensitivity(
    case: Case,
    explanation: Explanation,
    telling: list[int],
    budget: int,
    explainer: Explainer,
    given: Mapping[str, Any],
    metrics: dict[str, Metric],
    missing: dict[str, str],
) -> int:
    """Explain neighbours of the rows whose attributions tell of something, add what was found, and say how many model rows that cost."""
    if len(telling) < LEAST_ROWS:
        _miss(missing, "sensitivity", "the attributions of a row are all equal, so that nothing could change in them")
        return 0
    each = max(1, int(explanation.details.get("model_rows", 0)) // len(explanation)) * _NEIGHBOURS
    rows = telling[: budget // each]
    if len(rows) < LEAST_ROWS:
        _miss(missing, "sensitivity", f"explaining the neighbours of a row costs {each} model rows, and {budget} were left")
        return 0
    still = frozenset(name for name, kind in (explanation.details.get("players") or {}).items() if kind == "items")
    seeds = [case.row_seed(row, "sensitivity") for row in rows]
    near = neighbours(case.data.take(rows), case.background, seeds, _NEIGHBOURS, still)
    if near is None:
        _miss(missing, "sensitivity", "no input is a number that can change a little")
        return 0
    again = explainer.explain(case.score.model, near, case.background, **_for_neighbours(given, rows))
    if not isinstance(again, Explanation) or again.players != explanation.players:
        _miss(missing, "sensitivity", "the neighbours of a row have other players")
        return 0
    around = again.values.reshape(len(rows), _NEIGHBOURS, -1)
    found = [_row_sensitivity(explanation.values[row], around[place], seeds[place]) for place, row in enumerate(rows)]
    size, change, floor = [e.size for e in found], [e.change for e in found], [e.floor for e in found]
    metrics["sensitivity"] = ratio_of_means(change, size)
    if sum(floor) > 0:
        metrics["sensitivity_ratio"] = ratio_of_means(change, floor)
    return int(again.details.get("model_rows", 0))


def _row_sensitivity(values: NDArray[np.float64], around: NDArray[np.float64], seed: int) -> Sensitivity:
    return sensitivity(values, around, _DEALS, np.random.default_rng([seed, 1]))


def _for_neighbours(given: Mapping[str, Any], rows: list[int]) -> dict[str, Any]:
    """The explainer's options; a budget that lists the explained rows lists their neighbours instead."""
    budget = given.get("budget")
    changed = {"budget": [budget[row] for row in rows for _ in range(_NEIGHBOURS)]} if isinstance(budget, (list, tuple)) else {}
    return {name: value for name, value in {**given, **changed}.items() if name != "report"}
