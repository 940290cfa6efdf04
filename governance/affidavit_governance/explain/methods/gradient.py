"""Gradients averaged along the paths from the background rows: `gradient`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.outputs import relative_residual
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.estimators.intervals import student_95
from affidavit_governance.explain.gradients.paths import NODES, path_integrals
from affidavit_governance.explain.gradients.torch_score import TorchScore
from affidavit_governance.explain.planner import torch_unfit
from affidavit_governance.explain.players.build import PLAYER_OPTIONS, players_of

TOLERANCE = 1e-8
"""How far the integrals may be off the model's answer, relative to it, before paths are cut finer."""

ADDS_UP = 1e-6
"""Relative residual up to which attributions count as adding up, as for the exact methods."""

GAME = "Aumann-Shapley values on the model's encoded input, mean over the background rows (expected gradients)"

_COST = 2 * NODES + 1
"""Model rows of one path that is not cut: forwards and backwards at each point, and forwards at its start."""


class Gradient(Explainer):
    """Expected gradients (Erion and others 2021): integrated gradients (Sundararajan, Taly and Yan 2017) from each background row.

    They are the Aumann-Shapley values of the model as a function of its encoded numbers, not the Shapley values of fields that are there or not:
    both add up to the same total, and on a linear model they are equal. Categories move from one to the other through values between them.
    Paths are cut finer where the integral does not add up, until it does or the budget is spent; the record's residual says what is left. A
    budget too small for all background rows draws some of them; the base is then the mean over these.

    A row's cost counts forwards and backwards as one model row each. Options: label, seed, budget, seconds, width, groups, and who the players of
    tensors are.
    """

    type = "gradient"
    accepts = ACCEPTS
    default_budget = 2**14

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        reason = torch_unfit(model)
        if reason:
            raise UsageError(f"Method '{self.type}' does not fit this {model.type}: {reason}.")
        read = Options.read(self.type, options, sampled=True, own=PLAYER_OPTIONS)
        case = Case.open(model, data, background, read)
        players = players_of(case, method=self.type)
        score = TorchScore.open(case, players, self.type)
        starts = score.values(score.background)
        rows, count = len(case.data), len(players.names)
        values, errors, base, spent = np.zeros((rows, count)), np.zeros((rows, count)), np.zeros(rows), [0] * rows
        for row in range(rows):
            budget = read.row_budget(row, self.default_budget)
            if budget.rows < 2 * _COST:
                raise UsageError(f"A budget of {budget.rows} model rows is too small for gradients.", hint=f"Give at least {2 * _COST}.")
            end = float(score.values(score.rows[row : row + 1])[0])  # on its own: in a batch it has other last bits
            attempt = partial(_estimate, score, starts, end, row, count, case.row_seed(row, self.type))
            found, spent[row] = budget.spend(2 * _COST, attempt)
            values[row], errors[row], base[row] = found.values, found.errors, found.base
            case.score.rows += found.rows
            read.report(Progress(row + 1, rows, "explaining"))
        inputs = [players.labels(row) for row in range(rows)]
        details = {"rows_spent": spent, "game": GAME, **players.details}
        record = case.record(self.type, players.names, values, base, inputs=inputs, errors=errors, exact=False, details=details)
        additive = bool((relative_residual(record) <= ADDS_UP).all())
        return replace(record, details={**record.details, "additive": additive})


@dataclass(frozen=True, slots=True)
class _Found:
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    base: float
    rows: int


def _estimate(score: TorchScore, starts: NDArray[np.float64], end: float, row: int, players: int, seed: int, rows: int) -> _Found:
    """Values of one row with at most `rows` model rows: all background rows where they fit, with half of the budget left for cutting, else some."""
    known = len(starts)
    count = min(known, max(2, rows // (2 * _COST)))
    chosen = np.arange(known) if count == known else np.sort(np.random.default_rng(seed).permutation(known)[:count])

    def slopes(path: NDArray[np.int64], at: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return score.slopes(row, players, chosen[path], at)

    scale = max(abs(end), float(abs(starts).mean()))
    found = path_integrals(slopes, starts[chosen], end, (rows - count) // 2, TOLERANCE * scale)
    sampled = student_95(count - 1) * found.values.std(axis=0, ddof=1) * np.sqrt((1 - count / known) / count)
    # What the pieces are off may have fallen to any player.
    errors = sampled + found.off.mean()
    return _Found(found.values.mean(axis=0), errors, float(starts[chosen].mean()), 2 * found.points + count)
