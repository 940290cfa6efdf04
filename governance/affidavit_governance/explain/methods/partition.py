"""Owen values over a hierarchy of the players: phrases of a text, halves of an image, groups of fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from affidavit.errors import UsageError
from affidavit_governance.explain.case import Case
from affidavit_governance.explain.estimators.partition import estimate_owen, smallest_budget
from affidavit_governance.explain.methods.sampled import GameExplainer, Solved
from affidavit_governance.explain.players.base import Players
from affidavit_governance.explain.players.build import PLAYER_OPTIONS
from affidavit_governance.explain.players.structure import Structure


class Partition(GameExplainer):
    """Owen values of each row's game (Owen 1977; Winter 1989): players of one group arrive together, at every level of the hierarchy.

    They differ from Shapley values where players of different groups interact, and take about ⅔ n² coalitions rather than 2ⁿ: exact for texts
    and images within the default budget. Without groups, fields are all on one level, where Owen values are Shapley values.

    Own options: `PLAYER_OPTIONS`, and hierarchy, from a group's name to its fields or to groups within it. These fields stay players; `groups`
    are one player each.
    """

    type = "partition"
    own: ClassVar[Mapping[str, Any]] = {**PLAYER_OPTIONS, "hierarchy": {}}
    default_budget = 2**15

    def solve(self, case: Case, players: Players, row: int) -> tuple[Solved, int]:
        structure = Structure(case.options.own["hierarchy"], players, case.grouping, method=self.type)
        hierarchy, copies = structure.hierarchy(players, row), players.copies
        game, seed = players.game(row, case.score), case.row_seed(row, self.type)
        budget, least = case.options.row_budget(row, self.default_budget), smallest_budget(hierarchy) * copies
        if budget.rows < least:
            what = f"A budget of {budget.rows} model rows is too small for {len(players.active(row))} players in this hierarchy."
            raise UsageError(what, hint=f"Give at least {least}.")
        found, cost = budget.spend(least, lambda limit: Solved(estimate_owen(game, hierarchy, limit // copies, seed=seed)))
        return found, found.values.evaluations * copies if found.errors is None else cost

    def details(self, case: Case, players: Players) -> Mapping[str, Any]:
        return {"values": "Owen", "hierarchy": case.options.own["hierarchy"]}
