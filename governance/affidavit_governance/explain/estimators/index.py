"""A surrogate of the odd part of a game that depends on one weighted sum of the players: a vote, a logistic or log-linear model, a narrow network.

With ``x`` of plus one for a member and minus one for an absent player, an odd function of ``u = Σ w_i x_i`` is a sum of sine waves. A wave is the
imaginary part of ``∏ (cos ω w_i + i x_i sin ω w_i)``, a product of players, so its Shapley values are an integral over the multilinear extension
(Owen 1972, "Multilinear Extensions of Games") of a polynomial, which Gauss-Legendre quadrature gets exactly.

The weights are those of a line, which points along them (Brillinger 1983, "A Generalized Linear Model with Gaussian Regressor Variables"), but not
quite: a first-order change of each weight is part of the surrogate, as in projection pursuit (Friedman, Stuetzle 1981). Leaving a number out then
moves the weights too, which intervals from left-out residuals have to see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WAVES = 12
"""Sine waves; twice as many change the error by little."""

_REACH = 1.1
"""Half a period of the longest wave: every wave is zero at this sum, and no coalition has more than one."""

_NODES = 40
"""Of the quadrature, at most: waves turn by less than 35 radians over the whole range, so more change nothing whatever the number of players."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Index:
    """Functions of coalitions, each less a linear term, so that it gives the grand coalition nothing and its Shapley values sum to zero.

    Attributes
    ----------
    columns
        Coalitions × functions: their values.
    shapley
        Functions × players.
    """

    columns: Array
    shapley: Array

    def scaled(self, deviations: Array) -> Index:
        """Each function times a number."""
        return Index(self.columns * deviations, self.shapley * deviations[:, None])

    def beside(self, other: Index) -> Index:
        """The functions of both."""
        return Index(np.hstack([self.columns, other.columns]), np.vstack([self.shapley, other.shapley]))


def waves(signs: Array, weights: Array) -> Index:
    """Sine waves of the weighted sum.

    Parameters
    ----------
    signs
        Coalitions × players, of plus and minus one.
    weights
        Players; their sizes sum to one.
    """
    whole, turns = _with_grand(signs), _frequencies()
    factors, product, shares = _extension(weights)
    shapley = 2 * ((1j * np.sin(np.outer(turns, weights))[:, :, None] * product[:, None] / factors).imag @ shares)
    return _less_linear(np.sin(np.outer(whole @ weights, turns)), shapley, signs)


def changes(signs: Array, weights: Array, heights: Array) -> Index:
    """For each player, how the sum of the waves with these heights changes with the player's weight."""
    whole, turns, players = _with_grand(signs), _frequencies(), len(weights)
    factors, product, shares = _extension(weights)
    angles, nodes = np.outer(turns, weights)[:, :, None], _quadrature(players)[0]
    outer = 2 * (heights * turns)[:, None] * product * shares
    own = 1j * np.cos(angles) / factors * outer[:, None]
    changed = (1j * nodes * np.cos(angles) - np.sin(angles)) / factors * outer[:, None]
    gained = 1j * np.sin(angles) / factors
    values = (changed.transpose(1, 0, 2).reshape(players, -1) @ gained.transpose(1, 0, 2).reshape(players, -1).T).imag
    np.fill_diagonal(values, own.imag.sum(axis=(0, 2)))
    slope = np.cos(np.outer(whole @ weights, turns)) @ (heights * turns)
    return _less_linear(slope[:, None] * whole, values, signs)


def _with_grand(signs: Array) -> Array:
    """The grand coalition last."""
    return np.vstack([signs, np.ones(signs.shape[1])])


def _frequencies() -> Array:
    turns: Array = np.arange(1.0, WAVES + 1) * (np.pi / _REACH)
    return turns


def _quadrature(players: int) -> tuple[Array, Array]:
    """Nodes between zero and one, and their weights: exact for the polynomials of so many players, unless they are more than it takes."""
    points, shares = np.polynomial.legendre.leggauss(min(players // 2 + 1, _NODES))
    nodes: Array = (points + 1) / 2
    halves: Array = shares / 2
    return nodes, halves


def _extension(weights: Array) -> tuple[NDArray[np.complex128], NDArray[np.complex128], Array]:
    """Each player's factor, waves × players × nodes, where a sign has the mean of a node; their products, waves × nodes; the nodes' weights."""
    nodes, shares = _quadrature(len(weights))
    angles = np.outer(_frequencies(), weights)[:, :, None]
    factors = np.cos(angles) + 1j * nodes * np.sin(angles)
    return factors, factors.prod(axis=1), shares


def _less_linear(columns: Array, shapley: Array, signs: Array) -> Index:
    """Take each function's value at the grand coalition, the last row, times the mean sign off it."""
    top, players = columns[-1], signs.shape[1]
    return Index(columns[:-1] - np.outer(signs.mean(axis=1), top), shapley - 2 / players * top[:, None])
