"""Shapley values of a linear score where absent players are not drawn from the background, but expected from the present ones.

Under a Gaussian the expectation is linear: with coalition S, E[wᵀx | x_S] = wᵀμ + uᵀ(x - μ) with u_S = Σ_SS⁻¹ (Σ w)_S and zero elsewhere. The
values of a row are then a matrix times (x - μ), and the matrix depends on no row.

Sources: Aas, Jullum, Løland 2021 (conditional Shapley values, Gaussian); Ledoit, Wolf 2004 (shrinkage).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.explain.estimators.intervals import widened

Numbers = NDArray[np.float64]

LEAST_SHRINKAGE = 1e-4
"""Columns that repeat each other have no inverse covariance; this much of the identity gives them one."""

MOST_COALITIONS = 2**13
"""Coalitions whose coefficients are solved for: up to 13 players are enumerated, and above it the intervals are narrow."""

MOST_WORK = 2**34
"""Coalitions times columns cubed, a few seconds on one core."""


@dataclass(frozen=True, slots=True)
class GaussianValues:
    """Attributions of rows to players.

    Attributes
    ----------
    values
        Rows × players.
    covariance
        Rows × players × players, as in `Shapley`: of the normal distribution that has the values' 95 % intervals; None where all coalitions
        were enumerated.
    base
        The score's mean.
    shrinkage
        Share of the identity in the correlation matrix, between 0 and 1.
    """

    values: Numbers
    covariance: Numbers | None
    base: float
    shrinkage: float


def gaussian_values(
    weight: Numbers, intercept: float, player_of_column: NDArray[np.int64], players: int, rows: Numbers, background: Numbers, *, seed: int = 0
) -> GaussianValues:
    """Conditional Shapley values of ``rows @ weight + intercept`` under a Gaussian with the background's mean and shrunk covariance.

    Exact for that Gaussian where 2ⁿ coalitions can be solved for; else from antithetic orders of the players, the same for all rows.

    Parameters
    ----------
    player_of_column
        For each column the number of its player, from 0.
    rows, background
        Rows × columns.

    Raises
    ------
    InvalidInput
        A number is missing or infinite.
    UsageError
        There are too many columns.
    """
    if not (np.isfinite(rows).all() and np.isfinite(background).all()):
        raise InvalidInput("The conditional game needs numbers: some encoded values are missing or infinite.", hint="Use game='interventional'.")
    mean, scale = background.mean(axis=0), background.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    correlation, shrinkage = shrunk_correlation((background - mean) / scale)
    matrices = _player_matrices(weight * scale, correlation, player_of_column, players, seed)
    away = (rows - mean) / scale
    values = np.zeros((len(rows), players))
    covariance = np.zeros((len(rows), players, players)) if len(matrices) > 1 else None
    for row, each in enumerate(away):
        # Row by row: a product of matrices gives a row other last bits when it stands in a batch.
        samples = matrices @ each
        values[row] = samples.mean(axis=0)
        if covariance is not None:
            covariance[row] = widened(np.cov(samples, rowvar=False) / len(samples), len(samples) - 1)
    return GaussianValues(values, covariance, float(intercept + mean @ weight), shrinkage)


def shrunk_correlation(standardised: Numbers) -> tuple[Numbers, float]:
    """The correlation matrix of standardised columns, drawn towards the identity by Ledoit and Wolf's share (2004, their lemma 3.2 to 3.4).

    A constant column, all zeros here, is uncorrelated with the others.
    """
    rows, columns = standardised.shape
    sample = standardised.T @ standardised / rows
    np.fill_diagonal(sample, 1.0)
    spread = float(((sample - np.eye(columns)) ** 2).sum())
    noise = float(((standardised**2).sum(axis=1) ** 2).sum() - rows * (sample**2).sum()) / rows**2
    share = 1.0 if spread == 0 else min(1.0, max(LEAST_SHRINKAGE, noise / spread))
    return (1 - share) * sample + share * np.eye(columns), share


def conditional_coefficients(weight: Numbers, correlation: Numbers, player_of_column: NDArray[np.int64], coalitions: NDArray[np.bool_]) -> Numbers:
    """For each coalition the coefficients u of the expected score given its columns, coalitions × columns."""
    inside = coalitions[:, player_of_column].astype(np.float64)
    identity = np.eye(len(weight))
    target = correlation @ weight
    found = np.empty(inside.shape)
    step = max(1, 2**22 // len(weight) ** 2)
    for start in range(0, len(inside), step):
        kept = inside[start : start + step]
        systems = correlation * kept[:, :, None] * kept[:, None, :] + identity * (1 - kept)[:, None, :]
        found[start : start + step] = np.linalg.solve(systems, (kept * target)[:, :, None])[:, :, 0]
    return found


def _player_matrices(weight: Numbers, correlation: Numbers, player_of_column: NDArray[np.int64], players: int, seed: int) -> Numbers:
    """Samples × players × columns: matrices whose mean turns a row into its values; a single one where it is exact."""
    columns = len(weight)
    most = min(MOST_COALITIONS, MOST_WORK // max(1, columns**3))
    if 2**players <= most:
        return _enumerated(weight, correlation, player_of_column, players)[None]
    pairs = (most - 2) // (2 * (players - 1))
    if pairs < 2:
        raise UsageError(
            f"The conditional game of {players} players over {columns} columns costs too much.",
            hint="Put fields into groups, or use game='interventional'.",
        )
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(players), (pairs, 1)), axis=1)
    rank = np.argsort(np.stack([order, order[:, ::-1]], axis=1), axis=2)
    before = rank[:, :, None, :] < np.arange(players + 1)[:, None]
    inner = conditional_coefficients(weight, correlation, player_of_column, before[:, :, 1:-1].reshape(-1, players))
    chain = np.zeros((pairs, 2, players + 1, columns))
    chain[:, :, 1:-1] = inner.reshape(pairs, 2, players - 1, columns)
    chain[:, :, -1] = weight
    matrices: Numbers = np.take_along_axis(np.diff(chain, axis=2), rank[..., None], axis=2).mean(axis=1)
    return matrices


def _enumerated(weight: Numbers, correlation: Numbers, player_of_column: NDArray[np.int64], players: int) -> Numbers:
    """The exact matrix, players × columns; coalition number c holds player i where bit i of c is set."""
    coalitions = (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)
    found = conditional_coefficients(weight, correlation, player_of_column, coalitions)
    share = np.array([1 / (players * comb(players - 1, size)) for size in range(players)])
    matrix = np.zeros((players, len(weight)))
    for player in range(players):
        without = np.flatnonzero(~coalitions[:, player])
        gained = found[without | 1 << player] - found[without]
        matrix[player] = (share[coalitions[without].sum(axis=1)][:, None] * gained).sum(axis=0)
    return matrix
