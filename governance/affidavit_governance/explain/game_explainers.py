"""Explainers that play the Shapley game through a masker: `exact`, `permutation`, `words`, `regions`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.model import Explanation, Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.base import Case, Options
from affidavit_governance.explain.maskers import FieldMasker, Masker, RegionMasker, WordMasker
from affidavit_governance.explain.shapley import Shapley, estimate_mean_shapley, estimate_shapley


class _GameExplainer(Explainer):
    """Shapley values of each row's game, one row after the other."""

    takes: ClassVar[tuple[str, ...]] = ("label", "seed", "budget", "report")
    default_budget: ClassVar[int]

    @abstractmethod
    def masker(self, case: Case) -> Masker:
        """The players of `case`."""

    def coalitions(self, masker: Masker, options: Options) -> int:
        """How many coalitions the budget of model rows pays for."""
        return (self.default_budget if options.budget is None else options.budget) // masker.copies

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options, takes=self.takes)
        case = Case.open(model, data, background, read)
        masker = self.masker(case)
        count = len(masker.players)
        values, errors, base = np.zeros((len(case.data), count)), np.zeros((len(case.data), count)), np.zeros(len(case.data))
        exact = True
        for row in range(len(case.data)):
            active = masker.active(row)
            found = self._one(case, masker, row, len(active))
            values[row, active], base[row] = found.values, found.base
            if found.errors is not None:
                errors[row, active] = found.errors
                exact = False
            read.report(Progress(row + 1, len(case.data), "explaining"))
        inputs = [masker.labels(row) for row in range(len(case.data))]
        return case.record(self.type, masker.players, values, base, inputs=inputs, errors=None if exact else errors, exact=exact)

    def _one(self, case: Case, masker: Masker, row: int, players: int) -> Shapley:
        budget = self.coalitions(masker, case.options)
        return estimate_shapley(masker.game(row, case.score), players, budget, seed=case.row_seed(row, self.type))


class Exact(_GameExplainer):
    """All 2ⁿ coalitions of the fields against every background row. Options: label, seed, report."""

    type = "exact"
    takes = ("label", "seed", "report")

    def masker(self, case: Case) -> Masker:
        return FieldMasker(case.data, case.background)

    def coalitions(self, masker: Masker, options: Options) -> int:
        return int(2 ** len(masker.players))


class Permutation(_GameExplainer):
    """Sampled orders of the fields, each forwards and backwards, with error bars. Options: label, seed, budget (model rows a row), report.

    Every background row gets the same number of orders, its own.
    """

    type = "permutation"
    default_budget = 2**13

    def masker(self, case: Case) -> FieldMasker:
        return FieldMasker(case.data, case.background)

    def _one(self, case: Case, masker: Masker, row: int, players: int) -> Shapley:
        assert isinstance(masker, FieldMasker)
        budget = self.default_budget if case.options.budget is None else case.options.budget
        game, seed = masker.single_game(row, case.score), case.row_seed(row, self.type)
        return estimate_mean_shapley(game, players, len(case.background), budget, seed=seed)


class Words(_GameExplainer):
    """Words of the text fields, present or left out. Options: label, seed, budget (model rows a row), report."""

    type = "words"
    default_budget = 2**8  # a transformer answers some hundred texts a second

    def masker(self, case: Case) -> Masker:
        return WordMasker(case.data)


class Regions(_GameExplainer):
    """Cells of a grid over images or segments of sound, shown or replaced by the background's mean. Options: the same, and grid."""

    type = "regions"
    takes = ("label", "seed", "budget", "grid", "report")
    default_budget = 2**10

    def masker(self, case: Case) -> Masker:
        return RegionMasker(case.data, case.background, case.options.grid)
