"""The regression behind leverage sampling: a line, surrogates of higher orders, and what each of several games has of its own.

The numbers of a game are ``line + surrogate + residual``, for several games ``line + own line + own surrogate + residual``: a linear mixed
model (Henderson 1975, "Best Linear Unbiased Estimation and Prediction under a Selection Model"). The common line is not penalised, so
whatever the other parts are, the estimate tends to the Shapley values. How much they may explain is chosen by restricted likelihood
(Patterson, Thompson 1971); explaining nothing, which is the plain regression, is among the choices. One game alone may have a second surrogate,
of a weighted sum of its players.

Intervals are the jackknife over numbers, whose left-out residuals all follow from one inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.estimators.index import WAVES, Index, changes, waves
from affidavit_governance.explain.estimators.jackknife import LeftOut, correction, degrees_of_freedom, jackknife
from affidavit_governance.explain.estimators.surrogate import surrogate

_NOISES = (1e-6, 1e-2, 1e-1, 1.0, 10.0)
"""Variance that the surrogate leaves to the residual, relative to its own."""

_OWN_LINES = (1e-2, 1e-1, 1.0, 10.0, 100.0, 1e6)
"""Variance of the games' own lines relative to all the rest; the last all but leaves each game to itself, as fits games that are lines."""

_OWN_LINE_BESIDE = 1e3
"""The most of it beside a surrogate, whose covariance is inverted as a whole."""

_INDEX_SHARES = (0.1, 1.0, 10.0)
"""Variance of the surrogate of a weighted sum, relative to the other's."""

_INDEX_FALLS = (2, 4)
"""The power of its frequency that a wave's variance falls with: a step has two, smooth functions more."""

_LEAST_RELEVANCE = 0.05
"""Of a player whose linear value is zero: it may still matter together with others."""

_JUDGED = 256
"""Numbers from which the settings are chosen where there is one game: two or three settings need no more."""

_JUDGED_OF_EACH = 64
"""Numbers of each game where there are several, of so many games that they are twice `_JUDGED` in all."""

_SURROGATE_WORK = 2**20
"""Entries of several games' covariances up to which each gets a surrogate, some tens of milliseconds; beyond, the time is better spent on numbers."""

_NOTHING = 1e-24
"""Share of the numbers' squares that is rounding, not interaction: nothing is to be learnt from it."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is known of one game.

    Attributes
    ----------
    signs
        Coalitions × players: plus one for a member, minus one for an absent player.
    odd
        Half the difference between each coalition and its complement, less the same for each player, so that the grand coalition's is zero.
    residual
        Variance of each number's residual, up to a factor.
    unknown
        The share of the coalitions like this one that are not here: known pairs leave no error.
    part
        Of this game in the mean of all.
    """

    signs: Array
    odd: Array
    residual: Array
    unknown: Array
    part: float = 1.0

    def take(self, places: NDArray[np.int64], part: float = 1.0) -> Numbers:
        """Some of them."""
        return Numbers(self.signs[places], self.odd[places], self.residual[places], self.unknown[places], part)


@dataclass(frozen=True, slots=True)
class _Game:
    """The numbers of a game with their `line`: coalitions × (players - 1), what each basis vector of values gives each number."""

    known: Numbers
    line: Array

    def some(self, most: int) -> _Game:
        """At most so many of them, evenly."""
        size = len(self.line)
        if size <= most:
            return self
        places = np.arange(most) * size // most
        return _Game(self.known.take(places), self.line[places])


@dataclass(frozen=True, slots=True)
class Fit:
    """Values that sum to zero, their covariance, and the degrees of freedom of each one's variance."""

    values: Array
    covariance: Array
    freedom: Array


@dataclass(frozen=True, slots=True)
class _Prior:
    """What is expected of the games.

    Attributes
    ----------
    noise, own
        Variance of the residual and of a game's own line, relative to the surrogate's.
    relevance
        Of each player in the surrogate; None: no surrogate.
    index
        A second surrogate, for one game alone: functions whose coefficients have the surrogate's variance.
    """

    noise: float = 1.0
    own: float = 0.0
    relevance: Array | None = None
    index: Index | None = None

    @property
    def settings(self) -> int:
        """How many of them are chosen for one game: noise and relevance, share and fall of the second surrogate."""
        return 2 * (self.relevance is not None) + 2 * (self.index is not None)


def regressed(games: Sequence[Numbers], same: float = 0.0, *, alone: bool = True) -> Fit:
    """The Shapley values of the mean of several games, less what they are if each player has the same.

    Parameters
    ----------
    same
        What each player then has.
    alone
        Whether this is the whole estimate. One that is averaged with others shares known pairs with them, and its covariance is not corrected.
    """
    players = games[0].signs.shape[1]
    basis = zero_sum(players)
    seen = [_Game(game, game.signs @ basis / 2) for game in games]
    prior = _chosen(seen, basis, same)
    total, information, projected = np.zeros((players, players - 1)), np.zeros((players - 1, players - 1)), np.zeros(players - 1)
    solved = [_solved(game, prior) for game in seen]
    shift = prior.own * _own_scale(players) * basis
    for game, own in zip(seen, solved, strict=True):
        of_game = game.line.T @ own.against
        information += of_game
        projected += own.against.T @ game.known.odd
        total += game.known.part * (shift @ of_game + own.beyond @ game.line)
    middle = np.linalg.inv(information)
    slope, outer = middle @ projected, (sum(game.part for game in games) * basis - total) @ middle
    values, judged = np.zeros(players), []
    for known, own in zip(games, solved, strict=True):
        weights = (outer + known.part * shift) @ own.against.T + known.part * own.beyond
        values += weights @ known.odd
        judged.append(LeftOut(weights, own.answered - own.against @ slope, own.diagonal - _form(own.against, middle), known.unknown))
    covariance, freedom = jackknife(judged), sum(len(game.odd) for game in games) - players + 1
    if len(games) > 1 or not alone:  # errors of several samples share a part that the jackknife does not see: nothing is taken off
        return Fit(values, covariance, np.full(players, float(freedom)))
    only = solved[0]
    inverse = np.diag(only.diagonal) if only.whole is None else only.whole  # one game has no line of its own beside the common one
    products = inverse - only.against @ middle @ only.against.T
    covariance *= correction(judged[0], products, games[0].signs > 0)
    return Fit(values, covariance, degrees_of_freedom(judged[0], products, freedom, prior.settings))


def zero_sum(players: int) -> Array:
    """Players × (players - 1): an orthonormal basis of values that sum to zero (Helmert's)."""
    below = np.triu(np.ones((players, players - 1)))
    count = np.arange(1, players)
    below[count, count - 1] = -count
    basis: Array = below / np.sqrt(count * (count + 1))
    return basis


@dataclass(frozen=True, slots=True)
class _Solved:
    """With V the covariance of a game's numbers and C that of its values and the surrogate: V⁻¹ line, V⁻¹ odd, the diagonal of V⁻¹, and C V⁻¹.

    `whole` is V⁻¹ itself; None where V is diagonal but for a few directions.
    """

    against: Array
    answered: Array
    diagonal: Array
    beyond: Array
    whole: Array | None = None


def _own_scale(players: int) -> float:
    """A game's own line has about the variance one in each number with this factor."""
    return 4 / max(players - 1, 1)


def _solved(game: _Game, prior: _Prior) -> _Solved:
    line, odd, noise = game.line, game.known.odd, prior.noise * game.known.residual
    own = prior.own * _own_scale(line.shape[1] + 1)
    if prior.relevance is not None:
        seen = surrogate(game.known.signs, prior.relevance)
        covariance, shapley = seen.kernel + own * (line @ line.T) + np.diag(noise), seen.shapley
        if prior.index is not None:
            covariance += prior.index.columns @ prior.index.columns.T
            shapley = shapley + prior.index.columns @ prior.index.shapley
        inverse = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        return _Solved(inverse @ line, inverse @ odd, np.diag(inverse), shapley.T @ inverse, inverse)
    # Woodbury's identity: without a surrogate the covariance is diagonal but for as many directions as there are players.
    scaled = line / noise[:, None]
    gram = line.T @ scaled
    shrunk: Array = own * np.asarray(np.linalg.inv(np.eye(len(gram)) + own * gram), dtype=np.float64)
    against = scaled @ (np.eye(len(gram)) - shrunk @ gram)
    answered = odd / noise - scaled @ (shrunk @ (scaled.T @ odd))
    return _Solved(against, answered, 1 / noise - _form(scaled, shrunk), np.zeros((1, len(odd))))


def _form(rows: Array, middle: Array) -> Array:
    """``row middle rowᵀ`` for each row."""
    form: Array = np.einsum("ij,ij->i", rows @ middle, rows)
    return form


def _chosen(games: Sequence[_Game], basis: Array, same: float) -> _Prior:
    """The settings that make these numbers likeliest, judged on some of them where a surrogate is among the choices."""
    players = len(basis)
    if sum(len(game.line) for game in games) < 2 * players:
        return _Prior()
    judged = _judged(games)
    with_surrogate = len(games) == 1 or sum(len(game.line) ** 2 for game in games) <= _SURROGATE_WORK
    linear, left_over = _linear(games if with_surrogate else judged, basis)
    if left_over <= _NOTHING:
        return _Prior()
    lines = _Lines.of(judged)
    choices = [_Prior(own=own) for own in ((0.0, *_OWN_LINES) if len(games) > 1 else (0.0,))]
    found = [lines.unlikelihood(choice.own * _own_scale(players)) for choice in choices]
    best, chosen = min(found), choices[int(np.argmin(found))]
    if not with_surrogate:
        return chosen
    share = min(chosen.own, _OWN_LINE_BESIDE)
    weights = linear + same
    columns, variances = np.zeros((0, 0)), [np.zeros(0)]
    if len(games) == 1 and weights.any():
        weights /= abs(weights).sum()
        columns = waves(judged[0].known.signs, weights).columns
        variances = [np.zeros(WAVES), *_wave_variances()]
    of_waves = variances[0]
    alike, strength = np.ones(players), abs(linear)
    for relevance in (alike, np.maximum(strength / strength.max(), _LEAST_RELEVANCE)) if strength.any() else (alike,):
        kernels = [surrogate(game.known.signs, relevance).kernel for game in judged]
        before = np.inf
        for noise in _NOISES:
            prior = _Prior(noise, share * (1 + noise), relevance)
            unlikely = _unlikelihoods(judged, kernels, prior, columns, variances)
            least = min(unlikely)
            if least < best:
                best, chosen, of_waves = least, prior, variances[int(np.argmin(unlikely))]
            if least > before:
                break
            before = least
    return replace(chosen, index=_index(games[0], judged[0], chosen, weights, of_waves)) if of_waves.any() else chosen


def _wave_variances() -> list[Array]:
    """The choices: each a variance for every wave."""
    falls = [np.arange(1.0, WAVES + 1) ** -fall for fall in _INDEX_FALLS]
    return [2 * share / fall.sum() * fall for share in _INDEX_SHARES for fall in falls]


def _index(game: _Game, judged: _Game, prior: _Prior, weights: Array, variances: Array) -> Index:
    """Waves with these variances, and how they change with the weights, which may be off by as much as they are large."""
    seen = waves(judged.known.signs, weights).scaled(np.sqrt(variances))
    solved = _solved(judged, replace(prior, index=seen))
    slope = np.linalg.solve(judged.line.T @ solved.against, judged.line.T @ solved.answered)
    left = solved.answered - solved.against @ slope
    heights = np.sqrt(variances) * (seen.columns.T @ left)
    odd = judged.known.odd
    variance = max(float(odd @ left) / (len(left) - len(slope)), _NOTHING * float(np.mean(odd**2)))
    apart = np.sqrt(np.mean(weights**2) / variance)
    signs = game.known.signs
    return waves(signs, weights).scaled(np.sqrt(variances)).beside(changes(signs, weights, heights).scaled(np.full(len(weights), apart)))


def _judged(games: Sequence[_Game]) -> list[_Game]:
    """Some of the numbers, of games evenly spread: always more than there are players, or there is no line to judge."""
    most = max(_JUDGED, 2 * games[0].known.signs.shape[1])
    if len(games) == 1:
        return [games[0].some(most)]
    each = min(_JUDGED_OF_EACH, max(1, min(len(game.line) for game in games)))
    return [game.some(_JUDGED_OF_EACH) for game in games[:: max(1, len(games) * each // (2 * most))]]


def _linear(games: Sequence[_Game], basis: Array) -> tuple[Array, float]:
    """Each player's linear value, and the share of the numbers' squares that a line leaves over."""
    line, odd = np.concatenate([game.line for game in games]), np.concatenate([game.known.odd for game in games])
    scaled = line / np.concatenate([game.known.residual for game in games])[:, None]
    slope = np.linalg.solve(scaled.T @ line, scaled.T @ odd)
    left = odd - line @ slope
    return basis @ slope, float(left @ left) / max(float(odd @ odd), np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class _Lines:
    """What the likelihood of lines alone takes of several games, whatever the variance of their own lines.

    With R the residuals' variances, ``R^(-1/2) line = U S Wᵀ`` in each game, and all games' parts one below the other:

    Attributes
    ----------
    turned
        ``S Wᵀ``: directions × (players - 1).
    squares
        ``S²``, and `seen` is ``Uᵀ R^(-1/2) odd``.
    rest
        What is in no direction of ``R^(-1/2) odd``, squared and summed.
    size
        Sum of the squares of the numbers.
    logs
        Sum of the logarithms of R.
    freedom
        Numbers, less those that the common line takes.
    """

    turned: Array
    squares: Array
    seen: Array
    rest: float
    size: float
    logs: float
    freedom: int

    @classmethod
    def of(cls, games: Sequence[_Game]) -> _Lines:
        """Decomposed game by game."""
        turned, squares, seen, rest, size, logs = [], [], [], 0.0, 0.0, 0.0
        for game in games:
            odd, deviation = game.known.odd, np.sqrt(game.known.residual)
            left, roots, right = np.linalg.svd(game.line / deviation[:, None], full_matrices=False)
            turned.append(roots[:, None] * right)
            squares.append(roots**2)
            seen.append((odd / deviation) @ left)
            rest += float(((odd / deviation - left @ seen[-1]) ** 2).sum())
            size += float(odd @ odd)
            logs += 2 * float(np.log(deviation).sum())
        freedom = sum(len(game.line) for game in games) - turned[0].shape[1]
        return cls(np.concatenate(turned), np.concatenate(squares), np.concatenate(seen), rest, size, logs, freedom)

    def unlikelihood(self, own: float) -> float:
        """As `_unlikelihoods`, without a surrogate and with own lines of this variance."""
        kept = 1 / (1 + own * self.squares)
        information, projected = (self.turned.T * kept) @ self.turned, self.turned.T @ (kept * self.seen)
        square, logs = self.rest + float(kept @ self.seen**2), self.logs - float(np.log(kept).sum())
        return _restricted(information, projected, square, logs, self.size, self.freedom)


def _unlikelihoods(games: Sequence[_Game], kernels: Sequence[Array], prior: _Prior, columns: Array, variances: Sequence[Array]) -> list[float]:
    """Minus the logarithm of the restricted likelihood, less a constant, with the variance at its best value: one for each choice of variances.

    Those are of functions beside the kernel, `columns`, which belong to one game alone; several games have none.
    """
    less = games[0].line.shape[1]
    width = less + 1 + columns.shape[1]
    products, logs, size = np.zeros((width, width)), 0.0, 0.0
    for game, kernel in zip(games, kernels, strict=True):
        line, odd = game.line, game.known.odd
        covariance = kernel + np.diag(prior.noise * game.known.residual) + prior.own * _own_scale(less + 1) * (line @ line.T)
        right = np.column_stack([line, odd, columns] if columns.size else [line, odd])
        products += right.T @ np.linalg.solve(covariance, right)
        logs += float(np.linalg.slogdet(covariance)[1])
        size += float(odd @ odd)
    freedom = sum(len(game.line) for game in games) - less
    fixed, beside, within = products[: less + 1, : less + 1], products[: less + 1, less + 1 :], products[less + 1 :, less + 1 :]
    found = []
    for variance in variances:
        deviation = np.sqrt(variance)
        more = np.eye(len(deviation)) + deviation[:, None] * within * deviation  # Woodbury's identity, and the determinant's lemma
        scaled = beside * deviation
        left = fixed - scaled @ np.linalg.solve(more, scaled.T)
        found.append(
            _restricted(left[:less, :less], left[:less, less], float(left[less, less]), logs + float(np.linalg.slogdet(more)[1]), size, freedom)
        )
    return found


def _restricted(information: Array, projected: Array, square: float, logs: float, size: float, freedom: int) -> float:
    """From ``Σ lineᵀ V⁻¹ line``, ``Σ lineᵀ V⁻¹ odd``, ``Σ oddᵀ V⁻¹ odd``, the logarithms of V's determinants and the size of the numbers."""
    square -= float(projected @ np.linalg.solve(information, projected))
    floor = np.finfo(np.float64).eps ** 2 * size + np.finfo(np.float64).tiny
    return float(0.5 * (freedom * np.log(max(square / freedom, floor)) + logs + np.linalg.slogdet(information)[1]))
