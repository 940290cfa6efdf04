"""The closed form for linear models: `linear`."""

from __future__ import annotations

from typing import Any

import numpy as np

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Model
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.planner import linear_unfit
from affidavit_governance.explain.players.fields import FieldBlock


class Linear(Explainer):
    """The closed form φᵢ = wᵢ (xᵢ - μᵢ) over the encoded columns, summed to fields. Options: label, seed, report.

    Exact for the linear score: a number, or the log-odds of one of two classes. μ is the background's mean.
    """

    type = "linear"
    accepts = ACCEPTS

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options)
        reason = linear_unfit(model)
        if reason:
            raise UsageError(f"Method 'linear' does not fit: {reason}.")
        case = Case.open(model, data, background, read, log_odds=model.fitted.task.classifies)
        view = model.encoded_view()
        assert view.coefficients is not None and view.intercept is not None
        weight, intercept = view.coefficients.reshape(-1), float(np.asarray(view.intercept).reshape(-1)[0])
        if case.score.label is not None and case.score.label != model.fitted.classes[-1]:
            weight, intercept = -weight, -intercept
        mean = view.encode(case.background).mean(axis=0)
        matrix = view.encode(case.data)
        players = case.grouping.names
        values = ((matrix - mean) * weight) @ case.grouping.membership(view.players)
        block = FieldBlock(case.data, case.background, case.grouping)
        read.report(Progress(len(case.data), len(case.data), "explaining"))
        inputs = [block.labels(row) for row in range(len(case.data))]
        return case.record(self.type, players, values, float(intercept + mean @ weight), inputs=inputs, exact=True)
