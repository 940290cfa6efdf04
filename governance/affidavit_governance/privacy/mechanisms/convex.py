"""Convex problems that one record can move only so far: losses of bounded slope and curvature, and their noisy minimisers.

Approximate minima: the solver stops at a gradient of norm τ, so that its answer lies within τ/λ of the exact minimiser, and a Gaussian
mechanism of sensitivity 2τ/λ hides which of the answers in that ball it is (Iyengar et al. 2019, "Towards practical differentially private
convex optimization", algorithm 1; Redberg, Koskela and Wang 2023, section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput

Floats = NDArray[np.float64]

TOLERANCE = 1e-6
"""τ, the largest norm of the gradient at which the solver may stop."""

DENSE = 0.25
"""Share of non-zero entries above which a matrix is worked on as it is."""


@dataclass(frozen=True, slots=True)
class Loss:
    """f(score; target) of one row.

    Attributes
    ----------
    slope, curvature
        Bounds of |f′| and of f″ over all scores and targets.
    value, first, second
        f and its derivatives by the score, of arrays of scores and targets.
    """

    slope: float
    curvature: float
    value: Callable[[Floats, Floats], Floats]
    first: Callable[[Floats, Floats], Floats]
    second: Callable[[Floats, Floats], Floats]


def _sigmoid(scores: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * scores)))


KNEE = 2.0
"""Where the pseudo-Huber loss turns from squares to absolute values, in standard deviations of the target."""


def _stretch(residual: Floats) -> Floats:
    return np.asarray(np.hypot(1.0, residual / KNEE))


LOSSES = {
    # Targets are 0 or 1: log(1 + e^s) - t s.
    "logistic": Loss(
        slope=1.0,
        curvature=0.25,
        value=lambda score, target: np.logaddexp(0.0, score) - target * score,
        first=lambda score, target: _sigmoid(score) - target,
        second=lambda score, _: _sigmoid(score) * _sigmoid(-score),
    ),
    # k² (√(1 + (r/k)²) - 1), Charbonnier et al. 1997: smooth everywhere, which Huber's own loss is not, and the proofs need.
    "huber": Loss(
        slope=KNEE,
        curvature=1.0,
        value=lambda score, target: KNEE**2 * (_stretch(score - target) - 1.0),
        first=lambda score, target: (score - target) / _stretch(score - target),
        second=lambda score, target: _stretch(score - target) ** -3.0,
    ),
}


def clipped(rows: Floats, bound: float) -> Floats:
    """Each row, scaled down to an L2 norm of at most `bound`; a row that is not finite becomes zero."""
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    kept = np.where(finite[:, None], rows, 0.0)
    # Divided by its largest entry first: neither the square of a huge number nor its inverse leaves the range of floating point.
    largest = np.abs(kept).max(axis=1, initial=0.0)
    direction = kept / np.where(largest > 0, largest, 1.0)[:, None]
    length = np.linalg.norm(direction, axis=1)
    short = largest <= bound / np.maximum(length, 1.0)
    return np.asarray(np.where(short[:, None], kept, direction * (bound / np.maximum(length, 1.0))[:, None]))


def minimise(rows: Floats, targets: Floats, weights: Floats, loss: Loss, penalty: float, linear: Floats) -> Floats:
    """The θ of Σ wᵢ f(xᵢᵀθ; yᵢ) + penalty/2 ‖θ‖² + linearᵀθ, up to a gradient of norm `TOLERANCE`.

    L-BFGS comes near; Newton's method with conjugate gradients (Dembo, Eisenstat and Steihaug 1982) does the rest.

    Raises
    ------
    InvalidInput
        The gradient did not become small enough, so that the answer must not be used.
    """
    from scipy.optimize import minimize as descend
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import LinearOperator, cg

    # Any: a dense or a sparse matrix, which answer to the same operators.
    matrix: Any = csr_array(rows) if np.count_nonzero(rows) < DENSE * rows.size else rows
    back = matrix.T

    def value_and_gradient(theta: Floats) -> tuple[float, Floats]:
        scores = matrix @ theta
        value = weights @ loss.value(scores, targets) + penalty / 2 * theta @ theta + linear @ theta
        return float(value), back @ (weights * loss.first(scores, targets)) + penalty * theta + linear

    size = rows.shape[1]
    near = descend(value_and_gradient, np.zeros(size), jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-4})
    theta = np.asarray(near.x, dtype=np.float64)
    for _ in range(50):
        gradient = value_and_gradient(theta)[1]
        norm = float(np.linalg.norm(gradient))
        if norm <= TOLERANCE:
            return theta
        bend = weights * loss.second(matrix @ theta, targets)
        hessian = LinearOperator((size, size), matvec=lambda v, bend=bend: back @ (bend * (matrix @ v)) + penalty * v, dtype=np.float64)
        direction, _ = cg(hessian, -gradient, rtol=1e-4, maxiter=10 * size)
        step = 1.0
        while step > 1e-10 and np.linalg.norm(value_and_gradient(theta + step * direction)[1]) >= norm:
            step /= 2
        theta = theta + step * direction
    raise InvalidInput("The private solver did not reach its minimum.", hint="Scale the features, or raise l2.")
