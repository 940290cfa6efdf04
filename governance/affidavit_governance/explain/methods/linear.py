"""The closed form for linear models: `linear`."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import EncodedView, Model, Task
from affidavit.interfaces.training import Progress
from affidavit_governance.explain.case import ACCEPTS, Case, Options
from affidavit_governance.explain.estimators.gaussian import gaussian_values
from affidavit_governance.explain.estimators.intervals import half_widths
from affidavit_governance.explain.estimators.stability import as_details, stability
from affidavit_governance.explain.planner import linear_unfit
from affidavit_governance.explain.players.fields import FieldBlock

_GAMES = ("interventional", "conditional-gaussian")


class Linear(Explainer):
    """Shapley values of linear scores, for players that are fields or groups of them. Options: label, seed, groups, report.

    Own option: ``game``. ``"interventional"`` is the closed form φᵢ = wᵢ (xᵢ - μᵢ) over the encoded columns, summed to players; μ is the
    background's mean. ``"conditional-gaussian"`` expects the absent columns from the present ones, as if the encoded columns were Gaussian
    with the background's mean and shrunk covariance (Aas, Jullum, Løland 2021); with many players it is estimated, with intervals.

    What is explained is the linear score: a number, the log-odds of one of two classes, or the centred log-ratio of one of several.
    """

    type = "linear"
    accepts = ACCEPTS

    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        read = Options.read(self.type, options, own={"game": "interventional"})
        if read.own["game"] not in _GAMES:
            raise UsageError(f"Option 'game' of explainer 'linear' must be {' or '.join(repr(game) for game in _GAMES)}.")
        reason = linear_unfit(model)
        if reason:
            raise UsageError(f"Method 'linear' does not fit: {reason}.")
        several = model.fitted.task is Task.MULTICLASS
        case = Case.open(model, data, background, read, log_odds=model.fitted.task is Task.BINARY, log_ratio=several)
        view = model.encoded_view()
        weight, intercept = _score(view, case.score.label, model.fitted.classes)
        player = np.array([case.grouping.player_of(field) for field in view.players], dtype=np.int64)
        matrix, reference, count = view.encode(case.data), view.encode(case.background), len(case.grouping.names)
        details: dict[str, Any] = {"game": read.own["game"]}
        covariance: NDArray[np.float64] | None = None
        if read.own["game"] == "interventional":
            mean = reference.mean(axis=0)
            values, base = _summed((matrix - mean) * weight, player, count), float(intercept + mean @ weight)
        else:
            found = gaussian_values(weight, intercept, player, count, matrix, reference, seed=_orders_seed(case))
            values, base, covariance = found.values, found.base, found.covariance
            details |= {"covariance": "correlations of the background, Ledoit-Wolf shrinkage towards none", "shrinkage": found.shrinkage}
        block = FieldBlock(case.data, case.background, case.grouping)
        read.report(Progress(len(case.data), len(case.data), "explaining"))
        inputs = [block.labels(row) for row in range(len(case.data))]
        names, spread = case.grouping.names, covariance if covariance is not None else [None] * len(values)
        judged = [stability(each, own) for each, own in zip(values, spread, strict=True)]
        details["stability"] = as_details(judged, [names] * len(values))
        errors = None if covariance is None else np.array([half_widths(own) for own in covariance]).reshape(values.shape)
        return case.record(self.type, names, values, base, inputs=inputs, errors=errors, exact=errors is None, at_once=True, details=details)


def _score(view: EncodedView, label: str | None, classes: tuple[str, ...]) -> tuple[NDArray[np.float64], float]:
    """The coefficients and the intercept of what is explained."""
    assert view.coefficients is not None and view.intercept is not None
    if len(classes) > 2:
        # Scores behind a softmax are known up to a constant a row; less their mean, they are the centred log-ratio.
        share = np.array([1.0 if name == label else 0.0 for name in classes]) - 1.0 / len(classes)
        return share @ view.coefficients, float(share @ np.asarray(view.intercept))
    sign = -1.0 if classes and label != classes[-1] else 1.0
    return sign * view.coefficients.reshape(-1), sign * float(np.asarray(view.intercept).reshape(-1)[0])


def _summed(columns: NDArray[np.float64], player: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Columns added up by player. Not a matrix product: it gives a row other last bits when it stands in a batch."""
    place = np.arange(len(columns))[:, None] * count + player
    total: NDArray[np.float64] = np.bincount(place.reshape(-1), columns.reshape(-1), len(columns) * count).astype(np.float64)
    return total.reshape(-1, count)


def _orders_seed(case: Case) -> int:
    """The seed of the sampled orders: of model, background and configuration, the same for all rows."""
    parts = (
        case.score.model.type,
        case.options.model_digest,
        case.score.label,
        case.background.fingerprint,
        case.options.seed,
        case.grouping.members,
    )
    return int.from_bytes(hashlib.sha256("|".join(str(part) for part in parts).encode()).digest()[:16], "big")
