"""Kernel SHAP (Lundberg, Lee 2017) through the library, over raw fields."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import shap
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.players.base import ROWS_AT_ONCE
from affidavit_governance.explain.players.fields import FieldBlock

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
    """shap's KernelExplainer with players for columns.

    The library sees places, not values (minus one for the row's own, else the background row), so text and gaps work. Its default
    regularisation silently sets all but ten attributions to zero and is switched off; it draws from NumPy's global generator, which is lent
    to it and restored.
    """

    type = "kernel"
    accepts = ACCEPTS
    default_budget = 2**14

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options, sampled=True)
        case = Case.open(model, data, background, read)
        block = FieldBlock(case.data, case.background, case.grouping)
        count, rows, copies = len(block.players), len(case.data), len(case.background)
        values, base = np.zeros((rows, count)), np.zeros(rows)
        everything = 2**count - 2
        for row in range(rows):
            samples = read.row_budget(row, self.default_budget).rows // copies
            if samples < min(2 * count, everything):
                hint = f"Give at least {min(2 * count, everything) * copies}."
                raise UsageError(f"A budget of {samples * copies} model rows is too small for {count} players.", hint=hint)

            def answer(places: NDArray[np.float64], row: int = row) -> NDArray[np.float64]:
                whole = places.astype(np.int64)
                starts = range(0, len(whole), ROWS_AT_ONCE)
                return np.concatenate([case.score(block.mixture(row, whole[start : start + ROWS_AT_ONCE])) for start in starts])

            explainer = shap.KernelExplainer(answer, np.tile(np.arange(copies, dtype=np.float64)[:, None], (1, count)))
            with seeded_numpy(case.row_seed(row, self.type) % 2**32):
                values[row] = explainer.shap_values(np.full(count, -1.0), nsamples=samples, l1_reg=False, silent=True)
            base[row] = float(np.asarray(explainer.expected_value))
            read.report(Progress(row + 1, rows, "explaining"))
        inputs = [block.labels(row) for row in range(rows)]
        exact = all(read.row_budget(row, self.default_budget).rows // copies >= everything for row in range(rows))
        return case.record(self.type, block.players, values, base, inputs=inputs, exact=exact, details={"library": f"shap {shap.__version__}"})
