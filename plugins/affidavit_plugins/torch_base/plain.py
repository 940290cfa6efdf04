"""Statistics and releases without privacy. No torch here: models without it use them too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affidavit.interfaces.training import Release

Floats = NDArray[np.float64]

HUBER_KNEE = 2.0
"""Where the pseudo-Huber loss turns from squares to absolute values, in standard deviations of the target."""


class PlainStatistics:
    """Statistics and sums read from the data as they are."""

    private = False

    def center_and_scale(self, columns: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each column, missing values (NaN) left out; a constant or empty column gets scale 1."""
        present = ~np.isnan(columns)
        count = np.maximum(present.sum(axis=0), 1)
        with np.errstate(over="ignore", invalid="ignore"):  # numbers too large come out infinite, which the model refuses by column
            center = np.where(present, columns, 0.0).sum(axis=0) / count
            deviation = np.where(present, columns - center, 0.0)
            scale = np.sqrt((deviation**2).sum(axis=0) / count)
        # Rounding leaves a constant column of large numbers a tiny spread, which division would blow up.
        constant = scale <= 1e-12 * np.maximum(1.0, np.abs(center))
        return center, np.where(constant, 1.0, scale)

    def vocabulary(self, values: Sequence[str | None]) -> tuple[str, ...] | None:
        """The distinct values of one column, sorted."""
        return tuple(sorted({value for value in values if value is not None}))

    def releases(self, plan: Sequence[Release]) -> PlainReleases:
        """Exact releases; the plan is a matter of privacy only."""
        return PlainReleases()


class PlainReleases:
    """Sums and minimisers as they are, of rows clipped as in private training."""

    def sums(self, rows: Floats, *, bound: float, groups: NDArray[np.int64] | None = None, number: int = 1) -> tuple[Floats, float]:
        """Sum of the rows of each group, shape number × columns, and 0: there is no noise."""
        rows = _clipped(rows, bound)
        if groups is None:
            return rows.sum(axis=0, keepdims=True), 0.0
        known = (groups >= 0) & (groups < number)
        return np.stack([np.bincount(groups[known], weights=column[known], minlength=number) for column in rows.T], axis=1), 0.0

    def minimise(
        self,
        rows: Floats,
        targets: Floats,
        *,
        loss: Literal["logistic", "huber"],
        bound: float,
        l2: float = 0.0,
        weights: Floats | None = None,
    ) -> Floats:
        """The minimiser of the penalised sum of losses, shape (columns,)."""
        from scipy.optimize import minimize as descend

        rows = _clipped(rows, bound)
        weights = np.ones(len(rows)) if weights is None else weights
        losses = LOSSES[loss]

        def value_and_gradient(theta: Floats) -> tuple[float, Floats]:
            value, slope = losses(rows @ theta, targets)
            return float(weights @ value + l2 / 2 * theta @ theta), rows.T @ (weights * slope) + l2 * theta

        start = np.zeros(rows.shape[1])
        return np.asarray(descend(value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-6}).x)


def _logistic(scores: Floats, targets: Floats) -> tuple[Floats, Floats]:
    return np.logaddexp(0.0, scores) - targets * scores, 0.5 * (1.0 + np.tanh(0.5 * scores)) - targets


def _huber(scores: Floats, targets: Floats) -> tuple[Floats, Floats]:
    residual = scores - targets
    stretch = np.hypot(1.0, residual / HUBER_KNEE)
    return HUBER_KNEE**2 * (stretch - 1.0), residual / stretch


LOSSES: dict[str, Callable[[Floats, Floats], tuple[Floats, Floats]]] = {"logistic": _logistic, "huber": _huber}


def _clipped(rows: Floats, bound: float) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms / bound, 1.0))
