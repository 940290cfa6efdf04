"""How far off the values of a regression are: the jackknife over its numbers, and what it has to be multiplied with.

Leaving a number out of a linear smoother moves the values by its weight times its left-out residual. With each number left out once, the squares
of the moves, times the share of pairs like it that is unknown, add up to a variance (HC3). It is too large. What the last number is worth, times
how many there are, is the variance only where that falls as one over their number, and under a surrogate it falls faster.

For one game, how much too large follows from the weights alone. Were its numbers independent and alike, known and unknown ones, but for the sizes
that are known whole, then the average of the jackknife and that of the squared error could be written down. Their ratio corrects the jackknife; the
game's own numbers still say how large it is. This is a bias-reduced sandwich (Bell, McCaffrey 2002, "Bias Reduction in Standard Errors for Linear
Regression with Multi-Stage Samples") with one factor for all numbers.

The degrees of freedom are theirs too: of a sum of squares of residuals that depend on each other (Satterthwaite 1946). Each setting that was chosen
with the same numbers takes one. Tails heavier than normal ones take more: a mean of squares varies with the kurtosis κ as ``(κ - 1) / 2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.estimators.pairs import shapley_weights, squared_weights

_NORMAL = 3.0
"""Kurtosis of the normal distribution."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The numbers of one game, each judged by the others.

    Attributes
    ----------
    weights
        Players × numbers: what the regression multiplies each number with.
    left
        Numbers: the left-out residual of each times `kept`.
    kept
        Numbers: the variance of `left` by the regression's model, up to one factor for all.
    unknown
        Numbers: the share of pairs like it that are unknown.
    """

    weights: Array
    left: Array
    kept: Array
    unknown: Array

    @property
    def moves(self) -> Array:
        """Players × numbers: how each number left out moves the values."""
        moves: Array = self.weights * (self.left / self.kept * np.sqrt(self.unknown))
        return moves

    @property
    def shares(self) -> Array:
        """Players × numbers: what the square of each number's `left` has of the players' variances."""
        shares: Array = self.weights**2 * (self.unknown / self.kept**2)
        return shares


def jackknife(games: Sequence[LeftOut]) -> Array:
    """The covariance of the values, before it is corrected."""
    covariance = np.zeros((len(games[0].weights), len(games[0].weights)))
    for game in games:
        moves = game.moves
        covariance += moves @ moves.T
    return covariance


def correction(game: LeftOut, products: Array, coalitions: NDArray[np.bool_]) -> float:
    """What the jackknife of one game has to be multiplied with.

    It is one at most. Where there are about as many numbers as the surrogate has terms, it blows up what has no structure, as no game is, and
    more in errors than in moves.

    Parameters
    ----------
    products
        Numbers × numbers: the covariance of `left` by the regression's model.
    coalitions
        Numbers × players: the smaller one of each pair.
    """
    drawn = game.unknown > 0
    exact = shapley_weights(coalitions)
    error = ((game.weights - exact)[:, drawn] ** 2).sum() + squared_weights(len(exact)) - (exact**2).sum()
    moved = (game.shares @ (products[:, drawn] ** 2).sum(axis=1)).sum()
    return min(float(error / moved), 1.0) if moved > 0 else 1.0  # nothing moves where all is known


def degrees_of_freedom(game: LeftOut, products: Array, freedom: int, settings: int) -> Array:
    """Of each player's variance in the jackknife of one game.

    Parameters
    ----------
    products
        As in `correction`.
    freedom
        Numbers, less those that determine the values.
    settings
        How many settings of the regression were chosen with these numbers.
    """
    shares = game.shares
    mean, square = shares @ game.kept, (shares @ products**2 * shares).sum(axis=1)
    independent = np.minimum(np.divide(mean**2, square, out=np.full(len(mean), np.inf), where=square > 0), freedom)
    residual = game.left**2 / game.kept
    kurtosis = len(residual) * float(residual @ residual) / max(float(residual.sum()) ** 2, np.finfo(np.float64).tiny)
    taken = max(freedom - settings, 1) / freedom * (_NORMAL - 1) / (max(kurtosis, _NORMAL) - 1)
    found: Array = np.maximum(independent * taken, 1.0)
    return found
