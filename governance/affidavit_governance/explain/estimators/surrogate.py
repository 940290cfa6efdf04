"""A surrogate of the odd part of a game: a Gaussian process over coalitions with interactions of order three, five and seven.

With ``x`` of plus one for a member and minus one for an absent player, the odd part ``(v(S) - v(Sᶜ)) / 2`` is a sum over sets A of odd size of
``c_A ∏ x_i``. A term gives each of its players ``2 c_A / |A|``, so the Shapley values of the surrogate are known in closed form. Its prior gives
the coefficient of A the variance ``∏ a_i``, the relevance of each of its players: an interaction is expected where its players matter alone.
The kernel of each order is then an elementary symmetric polynomial of ``a_i x_i x'_i``, worked out from power sums by Newton's identities, and
no feature is ever written down: there are C(n,3) of order three alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ORDERS = (3, 5, 7)
"""Order one is in the regression itself; what lies beyond order seven is left to its residual."""

_DECAY = 0.2
"""Prior variance of each order, all its terms together, relative to the order before; between 0.1 and 0.4 the error hardly moves."""

_BLOCK = 2**14
"""Numbers of a kernel worked out at a time."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The prior of the odd part beyond order one, seen from sampled coalitions.

    A linear term is taken off it, the same for each player, so that it gives the grand coalition nothing: its Shapley values sum to zero.

    Attributes
    ----------
    kernel
        Pairs × pairs: the covariance of the values of the coalitions, about one for a coalition with itself.
    shapley
        Pairs × players: the covariance of a coalition's value with each player's Shapley value.
    """

    kernel: Array
    shapley: Array


def surrogate(signs: Array, relevance: Array) -> Surrogate:
    """The prior for coalitions given as pairs × players of plus and minus one.

    Parameters
    ----------
    relevance
        Players: above 0, at most 1.
    """
    pairs, players = signs.shape
    orders = [order for order in _ORDERS if order <= players]
    if not orders:
        return Surrogate(np.zeros((pairs, pairs)), np.zeros((pairs, players)))
    whole = np.vstack([signs, np.ones(players)])  # the grand coalition last
    grand = _elementary([np.array([(relevance**power).sum()]) for power in range(1, orders[-1] + 1)])
    weights = _DECAY ** np.arange(len(orders))
    weights /= weights.sum() * np.array([grand[order][0] for order in orders])
    without = _elementary_without(whole * relevance, orders[-1] - 1)
    kernel = _kernel(whole, relevance, dict(zip(orders, weights, strict=True)))
    shapley = sum(weight * 2 / order * without[order - 1] for weight, order in zip(weights, orders, strict=True)) * (whole * relevance)
    return _less_linear(kernel, shapley, signs.mean(axis=1))


def _kernel(signs: Array, relevance: Array, weights: dict[int, float]) -> Array:
    """The sum of the kernels of some orders, each times its weight, for all rows of `signs`: below and on the diagonal, then mirrored.

    By blocks of rows that stay in the processor's cache together with what Newton's identities need of the orders between.
    """
    count, most = len(signs), max(weights)
    kernel = np.empty((count, count))
    step = max(1, _BLOCK // count)
    for start in range(0, count, step):
        rows, columns = signs[start : start + step], signs[: start + step]
        powers = [(rows * relevance**power) @ columns.T if power % 2 else np.array((relevance**power).sum()) for power in range(1, most + 1)]
        kernels = _elementary(powers)
        block = sum(weight * kernels[order] for order, weight in weights.items())
        kernel[start : start + step, : start + step] = block
        kernel[: start + step, start : start + step] = np.transpose(block)
    return kernel


def _less_linear(kernel: Array, shapley: Array, lean: Array) -> Surrogate:
    """Take ``f(N)`` times the mean sign off the process f, so that it is zero at the grand coalition N, the last row of both arrays."""
    grand, top, players = kernel[:-1, -1], float(kernel[-1, -1]), shapley.shape[1]
    less = kernel[:-1, :-1] - np.stack([lean, grand], axis=1) @ np.stack([grand - top * lean, lean])
    values = shapley[:-1] - 2 / players * grand[:, None] - lean[:, None] * (shapley[-1] - 2 / players * top)
    return Surrogate(less, values)


def _elementary(powers: list[Array]) -> list[Array]:
    """Elementary symmetric polynomials of order 0, 1, 2… from power sums of order 1, 2…, by Newton's identities."""
    found: list[Array] = [np.array(1.0)]
    for order in range(1, len(powers) + 1):
        total = found[order - 1] * powers[0]
        for place in range(2, order + 1):
            term = found[order - place] * powers[place - 1]
            total = total + term if place % 2 else total - term
        found.append(np.asarray(total / order))
    return found


def _elementary_without(numbers: Array, most: int) -> list[Array]:
    """For each of the numbers of a row, the elementary symmetric polynomials of the others, of order 0 to `most`."""
    totals = _elementary([(numbers**power).sum(axis=1, keepdims=True) for power in range(1, most + 1)])
    found = [np.ones_like(numbers)]
    for order in range(1, most + 1):
        found.append(totals[order] - numbers * found[order - 1])
    return found
