"""Kernel SHAP (Lundberg, Lee 2017) through the library, over raw fields."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import shap
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.outputs import relative_residual
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.methods.sampled import Leverage
from affidavit_governance.explain.players.base import Players
from affidavit_governance.explain.players.fields import FieldBlock

ADDS_UP = 1e-6
"""Relative residual from which shap's values are not believed."""

_global_random = threading.Lock()


@contextmanager
def seeded_numpy(seed: int) -> Iterator[None]:
    """Lend NumPy's global generator to a library that offers no other, seeded, and put it back as it was."""
    with _global_random:
        state = np.random.get_state()  # noqa: NPY002  # the library draws from it, and this gives it back
        np.random.seed(seed)  # noqa: NPY002  # see above
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002  # see above


class Kernel(Explainer):
    """shap's KernelExplainer with players for columns. Options: label, seed, budget, seconds, groups.

    The library sees places, not values (minus one for the row's own, else the background row), so text and gaps work. What it does silently
    is guarded: its default regularisation sets all but ten attributions to zero and is switched off; it draws from NumPy's global generator,
    which is lent to it and restored; attributions below 1e-10 it calls zero, so each row is checked against the model's own answer, and where
    one misses it `leverage` takes over and the record says so. A field that is the same in all background rows is no player of its row.
    It gives no intervals, so a width cannot be asked for.
    """

    type = "kernel"
    accepts = ACCEPTS
    default_budget = 2**14

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options, sampled=True)
        if read.width is not None:
            raise UsageError("Explainer 'kernel' gives no intervals, so their width cannot be asked for.", hint="Use 'leverage'.")
        case = Case.open(model, data, background, read)
        block = FieldBlock(case.data, case.background, case.grouping)
        players = Players(case.data.schema, [block], len(case.background))
        count, rows = len(block.players), len(case.data)
        values, base, spent, exact = np.zeros((rows, count)), np.zeros(rows), [0] * rows, True
        for row in range(rows):
            active = players.active(row)
            budget, least = read.row_budget(row, self.default_budget), _least(len(active)) * players.copies + _ends(players)
            if budget.rows < least:
                hint = f"Give at least {least}."
                raise UsageError(f"A budget of {budget.rows} model rows is too small for {len(active)} players.", hint=hint)
            try:
                found, spent[row] = budget.spend(least, partial(_kernel_shap, case, players, row))
            except (np.linalg.LinAlgError, AssertionError) as error:
                return self._fall_back(model, data, background, f"shap's KernelExplainer raised {type(error).__name__}", options)
            values[row, active], base[row], exact = found.values, found.base, exact and found.errors is None
            read.report(Progress(row + 1, rows, "explaining"))
        inputs = [block.labels(row) for row in range(rows)]
        details = {"library": f"shap {shap.__version__}", "rows_spent": spent}
        record = case.record(self.type, block.players, values, base, inputs=inputs, exact=exact, details=details)
        worst = float(relative_residual(record).max(initial=0.0))
        if not worst <= ADDS_UP:
            return self._fall_back(model, data, background, f"shap's KernelExplainer missed the model's answer by {worst:.1e}", options)
        return record

    def _fall_back(self, model: Model, data: Dataset, background: Dataset, why: str, options: dict[str, Any]) -> Explanation:
        found = Leverage().explain(model, data, background, **options)
        return replace(found, details={**found.details, "fallback": f"{why}; 'leverage' was used instead"})


@dataclass(frozen=True, slots=True)
class _Found:
    values: NDArray[np.float64]
    base: float
    errors: NDArray[np.float64] | None


def _least(players: int) -> int:
    """Coalitions of the least attempt besides nobody and everybody: all of a small game, else two for each unknown."""
    return min(2 * players, max(int(2**players) - 2, 0))


def _ends(players: Players) -> int:
    """Model rows of nobody and everybody, which the library asks for without counting them: the background and the explained row."""
    return players.copies + 1


def _kernel_shap(case: Case, players: Players, row: int, rows: int) -> _Found:
    """shap's values of the active players with at most `rows` model rows; the errors are unknown, or None where all coalitions were asked."""
    copies, count = players.copies, len(players.active(row))
    family = players.family(row, case.score)

    def answer(places: NDArray[np.float64]) -> NDArray[np.float64]:
        # shap takes all absent players of a coalition from one background row.
        return family(places < 0, np.maximum(places.max(axis=1, initial=0), 0).astype(np.int64))

    if not count:
        known = family(np.zeros((copies, 0), dtype=bool), np.arange(copies))
        return _Found(np.empty(0), float(known.mean()), None)
    explainer = shap.KernelExplainer(answer, np.tile(np.arange(copies, dtype=np.float64)[:, None], (1, count)))
    samples = (rows - _ends(players)) // copies
    with seeded_numpy(case.row_seed(row, "kernel") % 2**32):
        values = explainer.shap_values(np.full(count, -1.0), nsamples=samples, l1_reg=False, silent=True)
    everything = count < 30 and samples >= 2**count - 2
    found = np.asarray(values, dtype=np.float64).reshape(-1)
    return _Found(found, float(np.asarray(explainer.expected_value)), None if everything else np.full(count, np.inf))
