"""Shapley values by regression on pairs of a coalition and its complement, with an odd-order surrogate as control variate.

Only the odd part of a game has Shapley values, so a pair gives one number, ``(v(S) - v(Sᶜ)) / 2``, and a game without interactions above order
two is a line in it (Covert, Lee 2021). Pairs are drawn by leverage score, without replacement (Musco, Witter 2025). What a surrogate explains
of the numbers beyond the line is taken off before the line is fitted, and its own Shapley values, known in closed form, are added back:
regression adjustment as in Witter, Liu, Musco 2025, "Regression-adjusted Monte Carlo Estimators for Shapley Values and Probabilistic Values".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit_governance.explain.estimators.games import CHUNK, Family, Shapley, evaluate
from affidavit_governance.explain.estimators.intervals import half_widths, widened
from affidavit_governance.explain.estimators.pairs import Pairs, all_pairs, sampled_designs, sampled_pairs
from affidavit_governance.explain.estimators.regression import Array, Numbers, regressed, zero_sum

_TOGETHER = 2048
"""Pairs in one regression at most, whose cost grows with their third power; more are split into several, and the estimates averaged."""

_DESIGNS = 16
"""Samples of pairs for several games, at least: fewer make the error larger, more cost time and lower it by little."""

_DRAWN = 4096
"""Pairs that are drawn for several games at least, so that few pairs in a sample go with many samples, up to one for each game."""

_SPARE = 2
"""Pairs beyond those that determine the line; with fewer there is no interval worth its name."""

_ESTIMABLE = 1e-9
"""A pair alone in determining a direction has a leverage of one; this is how near to it none may come."""


def least_budget(players: int, games: int) -> int:
    """Values that an estimate with intervals takes; where there are too few pairs for that, those of enumeration."""
    pairs = players + _SPARE
    return 2 * games + 2 * pairs if all_pairs(players) >= pairs else games * 2**players


def by_leverage(game: Family, players: int, games: int, budget: int, *, seed: int = 0) -> Shapley:
    """Estimate the Shapley values of the mean of several games, such as one for each background row.

    The empty and the grand coalition are put to every game. The games are dealt into groups, and each other pair is put to all games of one
    group: a game with pairs of its own tells more of the mean than one with the same pairs as others, but pairs have to be drawn and solved.
    Games without interactions above order two are exact with ``2 n`` pairs in a group; with fewer, a group's own line is predicted from its
    numbers and from the other groups.

    Parameters
    ----------
    game
        Takes coalitions × players and, for each coalition, the number of the game (from 0); gives the value of each.
    budget
        Single values that may be asked for.

    Raises
    ------
    UsageError
        The budget is below `least_budget`.
    InvalidInput
        The game gives another number of values than it was asked for, or one that is not finite.
    """
    if players < 2 or all_pairs(players) < players + _SPARE or budget < least_budget(players, games):
        what = f"A budget of {budget} coalitions is too small for {players} players" + (f" in {games} games." if games > 1 else ".")
        raise UsageError(what, hint=f"Give at least {least_budget(players, games)}, so that there is an error bar.")
    generator = np.random.default_rng(seed)
    number = np.arange(games)
    ends = evaluate(game, np.repeat([[False] * players, [True] * players], games, axis=0), np.tile(number, 2)).reshape(2, games)
    gain = ends[1] - ends[0]
    count = budget // 2 - games
    steered = games == 1 and 2 * players < count < all_pairs(players)
    pairs, groups = _design(players, games, count - steered, generator)
    odd = _odd_part(game, pairs.coalitions, groups)
    if steered and (farthest := _farthest(pairs, odd)) is not None:
        pairs = pairs.beside(farthest)
        groups = [_Group(number, np.arange(len(pairs)))]
        odd = np.append(odd, _odd_part(game, farthest[None], [_Group(number, number)]))
    lean = (2 * pairs.size - players) / players
    for group in groups:
        odd[group.pairs] -= gain[group.games].mean() * lean[group.pairs] / 2
    if games == 1:
        parts = _parts(pairs)
        fits = [regressed([_numbers(pairs.take(part), odd[part])], float(gain[0]) / players, alone=len(parts) == 1) for part in parts]
    else:
        known = _numbers(pairs, odd)
        fits = [regressed([known.take(group.pairs, len(group.games) / games) for group in groups])]
    values = np.mean([fit.values for fit in fits], axis=0)
    values += (gain.mean() - values.sum()) / players
    covariance = widened(np.sum([fit.covariance for fit in fits], axis=0) / len(fits) ** 2, np.sum([fit.freedom for fit in fits], axis=0))
    base, total = ends.mean(axis=1)
    asked = 2 * games + 2 * sum(len(group.pairs) * len(group.games) for group in groups)
    return Shapley(values, float(base), float(total), half_widths(covariance), asked, covariance)


@dataclass(frozen=True, slots=True)
class _Group:
    """The games to each of which the same pairs are put; both by their places."""

    games: NDArray[np.int64]
    pairs: NDArray[np.int64]


def _design(players: int, games: int, count: int, generator: np.random.Generator) -> tuple[Pairs, list[_Group]]:
    """Pairs and who plays them, `count` plays or a few less: all distinct, or within each group where that has enough for every size."""
    number = np.arange(games)
    if games == 1:
        pairs = _estimable(players, count, generator)
        return pairs, [_Group(number, np.arange(len(pairs)))]
    if count // games >= players or count > all_pairs(players):
        each = min(count // games, all_pairs(players))
        designs = min(games, max(_DESIGNS, _DRAWN // each))
        drawn = sampled_designs(players, each, designs, generator)
        joined = Pairs(*(np.concatenate(parts) for parts in zip(*((own.coalitions, own.rarity, own.share) for own in drawn), strict=True)))
        dealt = generator.permutation(games)
        return joined, [_Group(np.sort(dealt[own::designs]), np.arange(own * each, (own + 1) * each)) for own in range(designs)]
    pairs = _estimable(players, count, generator)
    which = np.concatenate([generator.permutation(games) for _ in range(-(-count // games))])[:count]
    return Pairs(pairs.coalitions, pairs.rarity, np.zeros(len(pairs))), [
        _Group(number[own : own + 1], np.flatnonzero(which == own)) for own in number
    ]


def _estimable(players: int, count: int, generator: np.random.Generator) -> Pairs:
    """Pairs of which none alone determines a direction of the line; a draw of a few pairs may have to be repeated."""
    while True:
        pairs = sampled_pairs(players, count, generator)
        if len(pairs) > 4 * players:
            return pairs
        line = np.where(pairs.coalitions, 1.0, -1.0) @ zero_sum(players)
        left, size, _ = np.linalg.svd(line, full_matrices=False)
        if size[-1] > _ESTIMABLE * size[0] and (left**2).sum(axis=1).max() < 1 - _ESTIMABLE:
            return pairs


def _farthest(pairs: Pairs, odd: Array) -> NDArray[np.bool_] | None:
    """The pair where a weighted sum of the players is largest, by the weights of a line; None where it is drawn already, or everybody.

    Where a game bends with such a sum, it bends most there. Whether or not a sample has this one pair would decide how right the surrogate is,
    and no number that is in the sample would tell.
    """
    signs, variance = np.where(pairs.coalitions, 1.0, -1.0), _residual_variance(pairs)
    weights = np.linalg.lstsq(signs / np.sqrt(variance)[:, None], odd / np.sqrt(variance), rcond=None)[0]
    members: NDArray[np.bool_] = weights > 0
    if 2 * members.sum() > len(members) or (2 * members.sum() == len(members) and not members[0]):
        members = ~members
    return None if not members.any() or (pairs.coalitions == members).all(axis=1).any() else members


def _odd_part(game: Family, coalitions: NDArray[np.bool_], groups: list[_Group]) -> Array:
    """Half the difference between each coalition and its complement, the mean over the games of its group."""
    place = np.concatenate([np.tile(group.pairs, len(group.games)) for group in groups])
    which = np.concatenate([np.repeat(group.games, len(group.pairs)) for group in groups])
    step = CHUNK // 2
    single = np.empty(len(place))
    for start in range(0, len(place), step):
        part, own = coalitions[place[start : start + step]], which[start : start + step]
        values = evaluate(game, np.concatenate([part, ~part]), np.tile(own, 2)).reshape(2, -1)
        single[start : start + step] = (values[0] - values[1]) / 2
    odd = np.bincount(place, single, len(coalitions))
    played: Array = odd / np.bincount(place, minlength=len(coalitions))
    return played


def _parts(pairs: Pairs) -> list[NDArray[np.int64]]:
    """The pairs of each regression: those of sizes that are taken whole in all of them, where they leave room, the others dealt out."""
    if len(pairs) <= _TOGETHER:
        return [np.arange(len(pairs))]
    common = (pairs.share == 1) & (np.arange(len(pairs)) < _TOGETHER // 2)
    size = pairs.size
    common &= ~np.isin(size, size[~common & (pairs.share == 1)])
    dealt = np.flatnonzero(~common)
    count = -(-len(dealt) // (_TOGETHER - int(common.sum())))
    return [np.sort(np.concatenate([np.flatnonzero(common), dealt[part::count]])) for part in range(count)]


def _numbers(pairs: Pairs, odd: Array) -> Numbers:
    return Numbers(np.where(pairs.coalitions, 1.0, -1.0), odd, _residual_variance(pairs), 1 - pairs.share)


def _residual_variance(pairs: Pairs) -> Array:
    """One over the weight of each pair in the Shapley regression, up to a factor: its Shapley kernel weight over its chance of being drawn."""
    size, players = pairs.size, pairs.coalitions.shape[1]
    variance = pairs.alike * np.where(2 * size == players, 2, 1) * size * (players - size)
    relative: Array = variance / variance.mean()
    return relative
