"""LIME (Ribeiro, Singh, Guestrin 2016) over raw fields: a local linear surrogate with intervals, not an additive attribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from affidavit.errors import MissingExtra, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.players.base import ROWS_AT_ONCE
from affidavit_governance.explain.players.fields import FieldBlock
from affidavit_governance.explain.surrogates.cells import Cells
from affidavit_governance.explain.surrogates.local import KERNEL_WIDTH, LocalSurrogate, Places, draw_neighbours, fit_local, least_rows

_OWN = {"engine": "native", "min_r2": None}
MOST_NEIGHBOURS = 2**17
"""Neighbours that a surrogate is fitted to at most, whatever the budget: its columns already take half a gigabyte at thirty players."""

_NOTE = "a local linear surrogate: attributions need not add up to the answer"


class Lime(Explainer):
    """What being in its own cell adds to the answer, player by player, in a linear surrogate around each row.

    A cell is a quartile bin of the background for numbers and dates, the value itself for categories, and gaps are a cell too; a group of
    fields is in its cell where all its fields are. The record's residual is the surrogate's miss, and `details` holds each row's local R².
    A player without any other value in the background stands in ``details["not_varied"]`` for that row: its coefficient is zero because
    nothing could be compared.

    Own options: ``engine`` (``"native"``, or ``"lime"`` for the library, which samples on its own and gives no intervals) and ``min_r2`` (the
    least local R²; below it the explanation is refused).
    """

    type = "lime"
    accepts = ACCEPTS
    default_budget = 5000

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options, sampled=True, own=_OWN)
        engine, least_r2 = _checked(read)
        case = Case.open(model, data, background, read)
        block = FieldBlock(case.data, case.background, case.grouping)
        cells = Cells(block, case.grouping)
        rows, count = len(case.data), len(block.players)
        values, errors, base = np.zeros((rows, count)), np.zeros((rows, count)), np.zeros(rows)
        r2: list[float] = []
        spent: list[int] = []
        not_varied: list[list[str]] = []
        for row in range(rows):
            pools = cells.pools(row)
            not_varied.append([block.players[player] for player, (_, outside) in enumerate(pools) if not len(outside)])
            budget = read.row_budget(row, self.default_budget)
            _check_budget(budget.rows, count)

            def attempt(limit: int, row: int = row, pools: list[tuple[Places, Places]] = pools) -> LocalSurrogate:
                if engine == "lime":
                    return _with_library(case, block, cells, row, pools, limit)
                neighbours = draw_neighbours(pools, limit, np.random.default_rng(case.row_seed(row, self.type)))
                return fit_local(neighbours, _answers(case, block, row, neighbours.places))

            found, cost = budget.spend(least_rows(count), attempt, most=MOST_NEIGHBOURS)
            if least_r2 is not None and found.r2 < least_r2:
                raise _refusal(row, found.r2, least_r2)
            values[row], base[row] = found.values, found.base
            errors[row] = found.errors if found.errors is not None else np.nan
            r2.append(found.r2)
            spent.append(cost)
            read.report(Progress(row + 1, rows, "explaining"))
        details: dict[str, Any] = {"local_r2": r2, "rows_spent": spent, "engine": engine, "kernel_width": KERNEL_WIDTH * count**0.5, "note": _NOTE}
        if any(not_varied):
            details["not_varied"] = not_varied
        inputs = [block.labels(row) for row in range(rows)]
        shown = errors if engine == "native" else None
        return case.record(self.type, block.players, values, base, inputs=inputs, errors=shown, exact=False, additive=False, details=details)


def _checked(read: Options) -> tuple[str, float | None]:
    engine, least = read.own["engine"], read.own["min_r2"]
    if engine not in ("native", "lime"):
        raise UsageError("Option 'engine' of explainer 'lime' must be 'native' or 'lime'.")
    if engine == "lime" and (read.seconds is not None or read.width is not None):
        raise UsageError("The lime library gives no intervals, so it takes no seconds and no width.", hint="Pass budget=, or engine='native'.")
    if least is not None and (isinstance(least, bool) or not isinstance(least, (int, float)) or not -np.inf < least <= 1):
        raise UsageError("Option 'min_r2' of explainer 'lime' must be a number, one at most.")
    return engine, None if least is None else float(least)


def _check_budget(rows: int, players: int) -> None:
    least = least_rows(players)
    if rows < least:
        raise UsageError(f"A budget of {rows} model rows is too small for a surrogate of {players} players.", hint=f"Give at least {least}.")


def _refusal(row: int, r2: float, least: float) -> Refused:
    return Refused(
        f"The 'lime' surrogate of row {row} has a local R² of {r2:.2g} only, less than {least:.2g}.",
        by="policy",
        line="min_r2",
        measured=r2,
        bound=least,
        satisfy="Use another method, give a larger budget, or lower the bound.",
    )


def _answers(case: Case, block: FieldBlock, row: int, places: Places) -> np.ndarray[Any, np.dtype[np.float64]]:
    starts = range(0, len(places), ROWS_AT_ONCE)
    return np.concatenate([case.score(block.mixture(row, places[start : start + ROWS_AT_ONCE])) for start in starts])


def _with_library(case: Case, block: FieldBlock, cells: Cells, row: int, pools: list[tuple[Places, Places]], rows: int) -> LocalSurrogate:
    try:
        from affidavit_governance.explain.surrogates.library import library_surrogate
    except ImportError as error:
        raise MissingExtra("Option engine='lime' of explainer 'lime'", extra="explain", library=str(error.name)) from None
    seed = case.row_seed(row, "lime-library")
    return library_surrogate(cells.background, cells.own[row], pools, rows, seed, lambda places: _answers(case, block, row, places))
