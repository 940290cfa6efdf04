"""Mean |φ|: how much each player moves the answers of the rows, up or down (Lundberg and others 2020)."""

from __future__ import annotations

from importlib import import_module
from math import erf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation, GlobalExplanation
from affidavit.interfaces.model import Metric, Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Options
from affidavit_governance.explain.estimators.intervals import student_95
from affidavit_governance.explain.overall.opening import Whole
from affidavit_governance.explain.planner import choose

_NORMAL_95 = 1.959964

Floats = NDArray[np.float64]


def mean_magnitude(values: Floats, errors: Floats | None = None) -> list[Metric]:
    """The mean of ``|value|`` over rows, one a column, with 95 % intervals.

    The interval covers the rows, and the errors of the values in two ways: they scatter the values, which the spread over rows already
    holds; and ``|value + error|`` is larger than ``|value|`` on average, most where the value is near zero, which lowers the lower end
    (the mean of the folded normal distribution: Leone, Nelson, Nottingham 1961, at the near end of each value's own interval).

    Parameters
    ----------
    values, errors
        Rows × players; errors are half-widths of 95 % intervals.
    """
    size = abs(values)
    rows = len(size)
    mean = size.mean(axis=0)
    half = student_95(rows - 1) * size.std(axis=0, ddof=1) / np.sqrt(rows)
    bias = np.zeros(len(mean)) if errors is None else _folding(np.maximum(0.0, size - errors), errors / _NORMAL_95).mean(axis=0)
    ends = zip(mean.tolist(), np.maximum(0.0, mean - half - bias).tolist(), (mean + half).tolist(), strict=True)
    return [Metric(value, low, high) for value, low, high in ends]


def _folding(size: Floats, sigma: Floats) -> Floats:
    """By how much the mean of ``|N(size, sigma²)|`` is above `size`."""
    ratio = size / np.where(sigma > 0, sigma, 1.0)
    below = 0.5 * (1 - np.vectorize(erf, otypes=[float])(ratio / np.sqrt(2)))
    return np.where(sigma > 0, sigma * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) - 2 * size * below, 0.0)


class ShapleyImportance(Explainer):
    """Mean |φ| of each player over the rows, with intervals over rows and estimation error together. It needs no target.

    The attributions come from the planner's choice for the model, or from the bundled row method named by the option ``method``. Options
    besides the common ones go to it: ``budget``, ``seconds`` and ``width`` are for each explained row, as there.
    """

    type = "shapley-importance"
    scope = "model"
    accepts = ACCEPTS

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> GlobalExplanation:
        read = Options.read(self.type, options, sampled=True, own={"method": None})
        whole = Whole.open(model, data, read, self.type)
        name, reason = choose(model, background, read.own["method"], options)
        given = {key: value for key, value in options.items() if key != "method"}

        def report(progress: Progress) -> None:
            read.report(Progress(progress.done, progress.total, "attributing"))

        found = bundled(name).explain(model, data, background, **{**given, "report": report})
        assert isinstance(found, Explanation)
        importance = dict(zip(found.players, mean_magnitude(found.values, found.errors), strict=True))
        kept = {key: value for key, value in found.details.items() if key not in _ROWS_OWN}
        details = {**kept, "explainer": name, "explainer_reason": reason}
        return whole.record(len(found), importance=importance, output=found.output, details=details)


_ROWS_OWN = frozenset({"local_r2", "stability", "not_varied", "coefficients"})
"""Details of single rows, which a record of the model as a whole leaves out."""


def bundled(name: str) -> Explainer:
    """A bundled explainer of rows by name, without a workspace."""
    from affidavit_governance.explain.plugin import _EXPLAINERS, _HOME  # here: the plugin's table names this very module

    homes = {known: home for known, home, _ in _EXPLAINERS}
    if name not in homes:
        raise UsageError(f"There is no bundled explainer '{name}'.{nearest(name, homes)}")
    module, _, attribute = homes[name].partition(":")
    explainer: Explainer = getattr(import_module(f"{_HOME}.{module}"), attribute)()
    if explainer.scope != "rows":
        raise UsageError(f"Explainer '{name}' does not explain rows, so it gives no mean |φ|.")
    return explainer
