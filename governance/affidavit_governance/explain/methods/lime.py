"""LIME (Ribeiro, Singh, Guestrin 2016) through the library, over raw fields: a local linear surrogate, not an additive attribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
from lime.lime_tabular import LimeTabularExplainer
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.schema import FieldType
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.players.fields import FieldBlock

_ORDERED = frozenset({FieldType.NUMERIC, FieldType.DATETIME})


class Lime(Explainer):
    """lime's tabular explainer. Options: label, seed, budget (perturbed rows a row), report.

    Numbers and dates become quartile bins of the background, with a bin for gaps; categories stay what they are. The library perturbs bins,
    and a bin becomes a value of a background row in it, so strings, gaps and dates work. Weights say what being in the row's own bin adds.
    The record's residual is the surrogate's miss, and `details` holds its local R².
    """

    type = "lime"
    accepts = ACCEPTS
    default_budget = 5000

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options, sampled=True)
        samples = read.row_budget(0, self.default_budget).rows
        case = Case.open(model, data, background, read)
        block = FieldBlock(case.data, case.background, case.grouping)
        count, rows = len(block.players), len(case.data)
        if samples < 2 * count + 2:
            raise UsageError(f"A budget of {samples} rows is too small for {count} fields.", hint=f"Give at least {2 * count + 2}.")
        bins = _Bins(block)
        values, base, r2 = np.zeros((rows, count)), np.zeros(rows), np.zeros(rows)
        for row in range(rows):
            seed = case.row_seed(row, self.type)
            generator = np.random.default_rng(seed)
            lime = LimeTabularExplainer(
                bins.background.astype(np.float64),
                mode="regression",
                categorical_features=list(range(count)),
                discretize_continuous=False,
                feature_selection="none",
                random_state=np.random.RandomState(seed % 2**32),
            )

            def answer(drawn: NDArray[np.float64], row: int = row, generator: np.random.Generator = generator) -> NDArray[np.float64]:
                codes = bins.codes(drawn.astype(np.int64), generator)
                codes[0] = block.codes[row]
                return case.score(block.dataset(codes))

            found = lime.explain_instance(bins.own[row].astype(np.float64), answer, num_features=count, num_samples=samples)
            for field, weight in found.local_exp[1]:
                values[row, field] = weight
            base[row], r2[row] = float(found.intercept[1]), float(found.score)
            read.report(Progress(row + 1, rows, "explaining"))
        inputs = [block.labels(row) for row in range(rows)]
        details = {"local_r2": r2.tolist(), "note": "a local linear surrogate: attributions need not add up to the answer"}
        return case.record(self.type, block.players, values, base, inputs=inputs, exact=False, additive=False, details=details)


class _Bins:
    """Quartile bins of the ordered fields, over the codes of a block; the other fields keep their codes."""

    def __init__(self, block: FieldBlock) -> None:
        self.background = block.background_codes.copy()
        self.own = block.codes.copy()
        self._block = block
        self._binned = [i for i, field in enumerate(block.schema) if field.type in _ORDERED]
        for index in self._binned:
            bin_of_code = _quartiles(block.pools[index], block.background_codes[:, index])
            self.background[:, index] = bin_of_code[block.background_codes[:, index]]
            self.own[:, index] = bin_of_code[block.codes[:, index]]

    def codes(self, drawn: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Codes for drawn bins: each bin gives a random background row's value. The first row is the explained one and is not looked at."""
        codes = drawn.copy()
        for index in self._binned:
            for number in np.unique(drawn[1:, index]):
                at = np.flatnonzero(drawn[:, index] == number)
                candidates = self._block.background_codes[self.background[:, index] == number, index]
                if len(candidates):
                    codes[at, index] = generator.choice(candidates, len(at))
        return codes


def _quartiles(pool: Any, background: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bin (0 to 3, 4 for a gap) of each code of an ordered field."""
    gap = pc.is_null(pool, nan_is_null=True).to_numpy(zero_copy_only=False)
    rank = np.empty(len(pool), dtype=np.int64)
    rank[pc.sort_indices(pool).to_numpy()] = np.arange(len(pool))
    present = rank[background][~gap[background]]
    edges = np.quantile(present, [0.25, 0.5, 0.75], method="lower") if len(present) else np.zeros(3)
    bins: NDArray[np.int64] = np.where(gap, 4, np.searchsorted(edges, rank, side="left"))
    return bins
