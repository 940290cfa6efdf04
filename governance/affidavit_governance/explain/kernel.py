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
from affidavit.interfaces.model import Explanation, Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.base import Case, Options
from affidavit_governance.explain.maskers import FieldMasker

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
    """shap's KernelExplainer with fields as players. Options: label, seed, budget (model rows a row), report.

    The library sees codes, not values, so text and gaps work. Its default regularisation silently sets all but ten attributions to zero
    and is switched off; it draws from NumPy's global generator, which is lent to it and restored.
    """

    type = "kernel"
    default_budget = 2**14

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options, takes=("label", "seed", "budget", "report"))
        case = Case.open(model, data, background, read)
        masker = FieldMasker(case.data, case.background)
        count, rows = len(masker.players), len(case.data)
        samples = (self.default_budget if read.budget is None else read.budget) // masker.copies
        if samples < 2 * count and samples < 2**count - 2:
            needed = 2 * count * masker.copies
            raise UsageError(f"A budget of {samples * masker.copies} model rows is too small for {count} fields.", hint=f"Give at least {needed}.")

        def answer(codes: NDArray[np.float64]) -> NDArray[np.float64]:
            whole = codes.astype(np.int64)
            return np.concatenate([case.score(masker.decode(whole[start : start + 2**15])) for start in range(0, len(whole), 2**15)])

        values = np.zeros((rows, count))
        explainer = shap.KernelExplainer(answer, masker.background_codes.astype(np.float64))
        for row in range(rows):
            with seeded_numpy(case.row_seed(row, self.type)):
                values[row] = explainer.shap_values(masker.codes[row].astype(np.float64), nsamples=samples, l1_reg=False, silent=True)
            read.report(Progress(row + 1, rows, "explaining"))
        exact = samples >= 2**count - 2
        inputs = [masker.labels(row) for row in range(rows)]
        base = float(np.asarray(explainer.expected_value))
        return case.record(self.type, masker.players, values, base, inputs=inputs, exact=exact, details={"library": f"shap {shap.__version__}"})
