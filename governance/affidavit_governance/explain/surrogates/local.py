"""A linear surrogate around one row, fitted to well spread neighbours: the numerics of LIME, arrays only.

Sources: Ribeiro, Singh, Guestrin 2016 (LIME); Garreau, von Luxburg 2020 (what its coefficients converge to); Owen 2013, Monte Carlo theory,
methods and examples, chapter 8 (regression on controls of known mean); White 1980 (sandwich); MacKinnon, White 1985 (HC1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.estimators.intervals import student_95
from affidavit_governance.explain.surrogates.design import shifted_lattice

KERNEL_WIDTH = 0.75
"""Width of the exponential kernel in units of the square root of the number of players: the lime package's default."""

RIDGE = 1.0
"""Penalty on every coefficient but the intercept: the lime package's default."""

_CONTROLS = 1 / 3
"""Columns at most, as a share of the neighbours: more would fit noise."""

_PAIRS = 1 / 20
"""Pairs of players among the columns, as a share of the neighbours; measured on forests, more pairs do not lower the error further."""

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Rows around the explained one.

    Attributes
    ----------
    places
        Neighbours × players: the background row that each player's value comes from, -1 for the row's own value.
    present
        Neighbours × varied players: whether the player is in its own cell.
    within
        In the same shape, where its value stands among those inside or outside the cell, uniform in [0, 1).
    varied
        The players that have values both inside and outside their cell.
    chance
        The probability of being in the own cell.
    """

    places: Places
    present: NDArray[np.bool_]
    within: Floats
    varied: Places
    chance: float


@dataclass(frozen=True, slots=True)
class LocalSurrogate:
    """What `fit_local` found.

    Attributes
    ----------
    values
        One coefficient a player: what being in its own cell adds.
    base
        The surrogate's answer where no player is in its own cell; ``base + values.sum()`` is its answer at the explained row.
    errors
        Half-width of the 95 % interval of each coefficient.
    r2
        Share of the variance of the model's answers over the neighbourhood that the surrogate explains, adjusted for the coefficients.
    """

    values: Floats
    base: float
    errors: Floats | None
    r2: float


def least_rows(players: int) -> int:
    """The neighbours that a fit with intervals takes at least."""
    return 4 * (players + 1)


def draw_neighbours(pools: Sequence[tuple[Places, Places]], rows: int, generator: np.random.Generator) -> Neighbours:
    """Draw rows around the explained one, as the kernel weighs them.

    The paper puts each player in or out with even chances and weighs a neighbour at distance D by ``exp(-D²/width²)``, of which the package
    takes the square root. D² counts the players that are out, so the weight is a product over players, and the weighted neighbours are
    plain neighbours that are in with the chance ``1 / (1 + exp(-1 / (2 width²)))``. They are drawn with that chance, and all weigh the same.

    Parameters
    ----------
    pools
        For each player the places of the values inside its cell, and outside it.
    """
    varied = np.array([player for player, (_, outside) in enumerate(pools) if len(outside)], dtype=np.int64)
    width = KERNEL_WIDTH * np.sqrt(max(1, len(pools)))
    chance = float(1 / (1 + np.exp(-1 / (2 * width**2))))
    points = shifted_lattice(rows, len(varied), generator)
    present = points < chance
    within = np.where(present, points / chance, (points - chance) / (1 - chance))
    places = np.full((rows, len(pools)), -1, dtype=np.int64)
    for column, player in enumerate(varied):
        inside, outside = pools[player]
        place = within[:, column]
        places[:, player] = np.where(present[:, column], _at(inside, place), _at(outside, place))
    return Neighbours(places, present, within, varied, chance)


def _at(pool: Places, place: Floats) -> Places:
    return pool[np.minimum((place * len(pool)).astype(np.int64), len(pool) - 1)]


def fit_local(neighbours: Neighbours, answers: Floats) -> LocalSurrogate:
    """Fit the linear surrogate by ridge regression.

    Beside the coefficients that are asked for, the regression has controls: functions of where a player's value stands, and of pairs of
    players. Over the neighbourhood, in which players are independent, each has mean zero and no correlation with any player's being in or
    out. So they leave the coefficients what they are, and take away the noise that comes from what they explain.

    Raises
    ------
    ValueError
        There are fewer answers than `least_rows`.
    """
    rows, players = len(answers), neighbours.places.shape[1]
    count = len(neighbours.varied)
    if rows < least_rows(count):
        raise ValueError(f"{least_rows(count)} answers are due.")
    centred = neighbours.present - neighbours.chance
    columns = np.concatenate([np.ones((rows, 1)), centred, _shapes(neighbours, int(rows * _CONTROLS) - count - 1)], axis=1)
    coefficients, inverse = _ridge(columns, answers)
    pairs = _pairs(columns, coefficients, count, min(int(rows * _PAIRS), int(rows * _CONTROLS) - columns.shape[1]))
    if pairs.shape[1]:
        columns = np.concatenate([columns, pairs], axis=1)
        coefficients, inverse = _ridge(columns, answers)
    found = coefficients[1 : count + 1]
    values, errors = np.zeros(players), np.zeros(players)
    values[neighbours.varied] = found
    errors[neighbours.varied] = _half_widths(columns, answers - columns @ coefficients, inverse, count)
    surrogate = coefficients[0] + centred @ found
    base = float(coefficients[0] - neighbours.chance * found.sum())
    return LocalSurrogate(values, base, errors, _adjusted_r2(answers, surrogate, count))


def _shapes(neighbours: Neighbours, most: int) -> Floats:
    """Functions of where a value stands inside or outside its cell, mean zero in each: as many kinds of them as `most` columns hold."""
    place, out = neighbours.within, ~neighbours.present
    kinds = [
        out * (2 * place - 1),
        neighbours.present * (2 * place - 1),
        out * ((place >= 1 / 3) - 2 / 3),
        out * ((place >= 2 / 3) - 1 / 3),
    ]
    held = min(len(kinds), most // place.shape[1]) if place.shape[1] else 0
    return np.concatenate([np.empty((len(place), 0)), *kinds[: max(0, held)]], axis=1)


def _pairs(columns: Floats, coefficients: Floats, count: int, most: int) -> Floats:
    """Products of two players' own effects, for the pairs with the largest ones."""
    if most < 1 or count < 2:
        return np.empty((len(columns), 0))
    effects = (columns[:, 1:] * coefficients[1:]).reshape(len(columns), -1, count).sum(axis=1)
    spread = effects.std(axis=0)
    first, second = np.triu_indices(count, 1)
    size = spread[first] * spread[second]
    chosen = np.argsort(-size, kind="stable")[:most]
    chosen = chosen[size[chosen] > 0]
    scaled = effects / np.where(spread > 0, spread, 1.0)
    products: Floats = scaled[:, first[chosen]] * scaled[:, second[chosen]]
    return products


def _ridge(columns: Floats, answers: Floats) -> tuple[Floats, Floats]:
    """Coefficients, and the inverse of the penalised cross products."""
    penalty = np.full(columns.shape[1], RIDGE)
    penalty[0] = 0.0
    inverse = np.asarray(np.linalg.inv(columns.T @ columns + np.diag(penalty)), dtype=np.float64)
    return inverse @ (columns.T @ answers), inverse


def _half_widths(columns: Floats, residual: Floats, inverse: Floats, count: int) -> Floats:
    """From the sandwich, with the factor for the columns fitted (HC1). On the even points of a lattice it errs on the wide side."""
    rows, fitted = columns.shape
    influence = columns @ inverse[:, 1 : count + 1]
    variance = (influence**2).T @ residual**2 * rows / (rows - fitted)
    half: Floats = student_95(rows - fitted) * np.sqrt(variance)
    return half


def _adjusted_r2(answers: Floats, surrogate: Floats, count: int) -> float:
    """One where the answers do not vary: then the surrogate misses nothing."""
    rows = len(answers)
    total = float(np.square(answers - answers.mean()).sum())
    if total <= rows * (1e-12 * float(abs(answers).max(initial=0.0))) ** 2:
        return 1.0
    missed = float(np.square(answers - surrogate).sum())
    return 1 - (missed / (rows - count - 1)) / (total / (rows - 1))
