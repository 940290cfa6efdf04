"""Simple attackers that guess an input from what is released: nearest neighbours and ridge regression, on NumPy alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Attacker = Callable[[Matrix, Matrix, Matrix], Matrix]
"""Takes features and targets (rows × columns) to learn from, and features to guess for; gives the guessed targets."""

_PENALTIES = 10.0 ** np.arange(-10.0, 5.0)
"""Tried for the ridge, relative to the largest singular value; from as good as none, so that a linear relation comes out exactly."""


def mean(known: Matrix, targets: Matrix, asked: Matrix) -> Matrix:
    """Guess the mean: what the marginal distribution alone gives."""
    return np.tile(targets.mean(axis=0), (len(asked), 1))


def ridge(known: Matrix, targets: Matrix, asked: Matrix) -> Matrix:
    """Ridge regression on the features and their squares; the penalty is chosen by generalised cross-validation (Golub, Heath, Wahba 1979)."""
    train, test = _standard(np.hstack([known, known**2]), np.hstack([asked, asked**2]))
    middle = targets.mean(axis=0)
    left, sizes, right = np.linalg.svd(train, full_matrices=False)
    if not sizes.any():
        return mean(known, targets, asked)
    sizes = np.where(sizes > 1e-12 * sizes[0], sizes, 0.0)
    inside = left.T @ (targets - middle)
    best, score = inside * 0.0, np.inf
    for penalty in _PENALTIES * sizes[0] ** 2:
        shrink = sizes**2 / (sizes**2 + penalty)
        missed = ((targets - middle - left @ (shrink[:, None] * inside)) ** 2).sum()
        free = max(len(train) - 1 - shrink.sum(), 1e-9)
        if missed / free**2 < score:
            score = missed / free**2
            best = (sizes / (sizes**2 + penalty))[:, None] * inside
    guessed: Matrix = middle + test @ right.T @ best
    return guessed


def nearest(neighbours: int) -> Attacker:
    """The mean of the targets over the nearest rows; rows as near as the last of them count too, so that steps and orders are not torn apart."""

    def guess(known: Matrix, targets: Matrix, asked: Matrix) -> Matrix:
        train, test = _standard(known, asked)
        far = (test**2).sum(axis=1)[:, None] + (train**2).sum(axis=1)[None, :] - 2 * test @ train.T
        count = min(neighbours, len(train))
        edge = np.partition(far, count - 1, axis=1)[:, count - 1 : count]
        near = (far <= edge + 1e-9 * np.maximum(1.0, abs(edge))).astype(np.float64)
        guessed: Matrix = near @ targets / near.sum(axis=1, keepdims=True)
        return guessed

    return guess


def _standard(train: Matrix, test: Matrix) -> tuple[Matrix, Matrix]:
    middle, spread = train.mean(axis=0), train.std(axis=0)
    keep = spread > 1e-12 * np.maximum(abs(middle), 1e-300)
    spread = np.where(keep, spread, 1.0)
    return np.where(keep, (train - middle) / spread, 0.0), np.where(keep, (test - middle) / spread, 0.0)
