"""Explainers that play the Shapley game of each row: `exact`, `leverage` and `permutation`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.estimators import leverage, permutation
from affidavit_governance.explain.estimators.blas import one_blas_thread
from affidavit_governance.explain.estimators.enumeration import enumerated_mean, fits
from affidavit_governance.explain.estimators.games import Family, Shapley
from affidavit_governance.explain.estimators.interactions import Interactions, estimate_interactions, smallest_interaction_budget
from affidavit_governance.explain.estimators.stability import Stability, as_details, stability
from affidavit_governance.explain.players.base import Players
from affidavit_governance.explain.players.build import PLAYER_OPTIONS, players_of
from affidavit_governance.explain.players.encoded import side_by_side


@dataclass(frozen=True, slots=True)
class Solved:
    """A row's game with what was found in it: values, and interactions where they were asked for."""

    values: Shapley
    pairs: Interactions | None = None

    @property
    def errors(self) -> NDArray[np.float64] | None:
        """Half-widths of the values' 95 % intervals; None where they are exact."""
        return self.values.errors


class GameExplainer(Explainer):
    """Values of each row's game. Own options: `own`."""

    accepts = ACCEPTS
    own: ClassVar[Mapping[str, Any]] = PLAYER_OPTIONS
    default_budget: ClassVar[int]

    @abstractmethod
    def solve(self, case: Case, players: Players, row: int) -> tuple[Solved, int]:
        """What is found in the game of one row, and the budget that gives the same again."""

    def details(self, case: Case, players: Players) -> Mapping[str, Any]:
        """What else the record says."""
        return {}

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        with one_blas_thread():
            return self._explain(model, data, background, options)

    def _explain(self, model: Model, data: Dataset, background: Dataset, options: Mapping[str, Any]) -> Explanation:
        read = Options.read(self.type, options, sampled=True, own=self.own)
        case = Case.open(model, data, background, read)
        players = players_of(case, method=self.type)
        rows, count = len(case.data), len(players.names)
        values, errors, base = np.zeros((rows, count)), np.zeros((rows, count)), np.zeros(rows)
        interactions = np.zeros((rows, count, count)) if read.own.get("interactions") else None
        uncertain: list[float] = []
        spent: list[int] = []
        judged: list[Stability] = []
        names: list[list[str]] = []
        exact = True
        for row, (solved, cost) in enumerate(self._solved(case, players)):
            active = players.active(row)
            found = solved.values
            spent.append(cost)
            values[row, active], base[row] = found.values, found.base
            if found.errors is not None:
                errors[row, active] = found.errors
                exact = False
            if interactions is not None and solved.pairs is not None:
                interactions[row][np.ix_(active, active)] = solved.pairs.matrix(found.values)
                uncertain.append(0.0 if solved.pairs.errors is None else float(solved.pairs.errors.max(initial=0.0)))
            judged.append(stability(found.values, found.covariance))
            names.append([players.names[place] for place in active])
            read.report(Progress(row + 1, rows, "explaining"))
        inputs = [players.labels(row) for row in range(rows)]
        details = {"rows_spent": spent, "stability": as_details(judged, names), **players.details, **self.details(case, players)}
        if interactions is not None:
            details["interaction_error"] = uncertain
        return case.record(
            self.type,
            players.names,
            values,
            base,
            inputs=inputs,
            errors=None if exact else errors,
            interactions=interactions,
            exact=exact,
            details=details,
        )

    def _solved(self, case: Case, players: Players) -> Iterator[tuple[Solved, int]]:
        """What is found in the game of each row, in order."""
        rows = range(len(case.data))
        # Seconds are each row's own: another thread's work would count as its.
        if case.options.seconds is None and players.rows_in_threads(case.score):
            return side_by_side(lambda row: self.solve(case, players, row), rows)
        return (self.solve(case, players, row) for row in rows)


class ShapleyExplainer(GameExplainer):
    """Shapley values of each row's game, and its interactions of order two with the own option `interactions`, for which half of the budget goes."""

    own: ClassVar[Mapping[str, Any]] = {**PLAYER_OPTIONS, "interactions": False}

    @abstractmethod
    def smallest(self, players: int, games: int) -> int:
        """Model rows of the least attempt that is worth making, where there is time or a width to spend."""

    @abstractmethod
    def sampled(self, game: Family, players: int, games: int, rows: int, *, seed: int) -> Shapley:
        """The values of the mean game, from at most `rows` model rows, which do not pay for all coalitions."""

    def solve(self, case: Case, players: Players, row: int) -> tuple[Solved, int]:
        wanted = case.options.own["interactions"]
        if not isinstance(wanted, bool):
            raise UsageError(f"Option 'interactions' of explainer '{self.type}' must be true or false.")
        count, games = len(players.active(row)), players.copies
        game, seed = players.family(row, case.score), case.row_seed(row, self.type)

        def values(limit: int) -> Shapley:
            if fits(count, games, limit):
                return enumerated_mean(game, count, games)
            return self.sampled(players.family(row, case.score, estimate=True), count, games, limit, seed=seed)

        def attempt(limit: int) -> Solved:
            if not wanted:
                return Solved(values(limit))
            return Solved(values(limit // 2), estimate_interactions(game, count, games, limit // 2, seed=seed))

        smallest = min(self.smallest(count, games), games * 2**count)
        if wanted:
            smallest = 2 * max(smallest, smallest_interaction_budget(count, games))
        found, cost = case.options.row_budget(row, self.default_budget).spend(smallest, attempt)
        return found, found.values.evaluations if found.errors is None and not wanted else cost


class Exact(ShapleyExplainer):
    """All 2ⁿ coalitions of the players against every background row; refused where they cost more than the budget."""

    type = "exact"
    default_budget = 2**24

    def smallest(self, players: int, games: int) -> int:
        return int(2**players) * games

    def sampled(self, game: Family, players: int, games: int, rows: int, *, seed: int) -> Shapley:
        raise UsageError(
            f"A budget of {rows} model rows is too small for all coalitions of {players} players.",
            hint=f"They take {self.smallest(players, games)} rows. Give that many, or ask for method 'leverage', which samples.",
        )


class Leverage(ShapleyExplainer):
    """Regression on pairs of coalitions drawn by leverage score, with a surrogate of higher orders and error bars.

    The most exact of the sampled methods at equal model rows. With few rows each coalition stands against some of the background only.
    """

    type = "leverage"
    default_budget = 2**14

    def smallest(self, players: int, games: int) -> int:
        # Four pairs a player: the least budget leaves two degrees of freedom, and intervals too wide to be worth an attempt.
        return max(leverage.least_budget(players, games), 2 * games + 8 * players)

    def sampled(self, game: Family, players: int, games: int, rows: int, *, seed: int) -> Shapley:
        return leverage.by_leverage(game, players, games, rows, seed=seed)


class Permutation(ShapleyExplainer):
    """Sampled orders of the players, each forwards and backwards, with error bars.

    Every background row gets the same number of orders, its own.
    """

    type = "permutation"
    default_budget = 2**13

    def smallest(self, players: int, games: int) -> int:
        return max(1, 4 * players - 2) * games

    def sampled(self, game: Family, players: int, games: int, rows: int, *, seed: int) -> Shapley:
        return permutation.by_permutations(game, players, games, rows, seed=seed)
