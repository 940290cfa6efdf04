"""Explainers that play the Shapley game of each row: `exact` and `permutation`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.estimators.shapley import Shapley, estimate_mean_shapley, estimate_shapley
from affidavit_governance.explain.players.base import Players
from affidavit_governance.explain.players.build import players_of


class GameExplainer(Explainer):
    """Shapley values of each row's game, one row after the other. Own option: grid (regions along each side of an image)."""

    accepts = ACCEPTS
    sampled: ClassVar[bool] = True
    default_budget: ClassVar[int]

    @abstractmethod
    def smallest(self, players: int, copies: int) -> int:
        """Model rows of the least attempt."""

    @abstractmethod
    def estimate(self, case: Case, players: Players, row: int, rows: int) -> Shapley:
        """The values of row `row` with at most `rows` model rows."""

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options, sampled=self.sampled, own={"grid": 4})
        if not isinstance(read.own["grid"], int) or isinstance(read.own["grid"], bool) or read.own["grid"] < 1:
            raise UsageError(f"Option 'grid' of explainer '{self.type}' must be a whole number above zero.")
        case = Case.open(model, data, background, read)
        players = players_of(case, grid=read.own["grid"])
        rows, count = len(case.data), len(players.names)
        values, errors, base = np.zeros((rows, count)), np.zeros((rows, count)), np.zeros(rows)
        spent: list[int] = []
        exact = True
        for row in range(rows):
            active = players.active(row)
            budget = read.row_budget(row, self.default_budget)
            found, cost = budget.spend(self.smallest(len(active), players.copies), lambda limit, row=row: self.estimate(case, players, row, limit))  # type: ignore[misc]
            spent.append(cost)
            values[row, active], base[row] = found.values, found.base
            if found.errors is not None:
                errors[row, active] = found.errors
                exact = False
            read.report(Progress(row + 1, rows, "explaining"))
        inputs = [players.labels(row) for row in range(rows)]
        details = {"rows_spent": spent}
        return case.record(self.type, players.names, values, base, inputs=inputs, errors=None if exact else errors, exact=exact, details=details)


class Exact(GameExplainer):
    """All 2ⁿ coalitions of the players against every background row; refused where they cost more than the budget."""

    type = "exact"
    sampled = False
    default_budget = 2**24

    def smallest(self, players: int, copies: int) -> int:
        return int(2**players) * copies

    def estimate(self, case: Case, players: Players, row: int, rows: int) -> Shapley:
        game = players.game(row, case.score)
        return estimate_shapley(game, len(players.active(row)), rows // players.copies, seed=case.row_seed(row, self.type))


class Permutation(GameExplainer):
    """Sampled orders of the players, each forwards and backwards, with error bars.

    Every background row gets the same number of orders, its own.
    """

    type = "permutation"
    default_budget = 2**13

    def smallest(self, players: int, copies: int) -> int:
        return (4 * players - 2) * copies

    def estimate(self, case: Case, players: Players, row: int, rows: int) -> Shapley:
        game, seed = players.family(row, case.score), case.row_seed(row, self.type)
        return estimate_mean_shapley(game, len(players.active(row)), players.copies, rows, seed=seed)
