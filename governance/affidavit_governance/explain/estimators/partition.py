"""Owen values of a cooperative game whose players stand in a hierarchy: exact by enumeration, or sampled with error bars.

Only those orders of arrival count in which the members of a group, at every level, come together. With one level of groups these are the
values of Owen (1977), "Values of games with a priori unions"; with several the levels value of Winter (1989), "A value for cooperative games
with levels structure of cooperation". Over a binary tree they are what shap's PartitionExplainer approaches. Each group as a whole gets its
Shapley value among the groups beside it (López, Saboya 2009, "On the relationship between Shapley and Owen values").

A group's value is split among its parts by contrasts alone: over the contexts C of what stands outside the group, two parts L and R differ by
the mean of v(C ∪ L) − v(C ∪ R), and their sum is the value that the level above gave. So the values add up whatever has been evaluated, and
a balanced binary tree of n players costs about ⅔ n² coalitions in all.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from affidavit.errors import UsageError
from affidavit_governance.explain.estimators.games import CHUNK, DEFAULT_BUDGET, Game, Shapley, evaluate
from affidavit_governance.explain.estimators.intervals import NORMAL_95, half_widths, student_95
from affidavit_governance.explain.estimators.splitting import Coalitions, Drawn, Enumerated, Group, Split, Values

Hierarchy: TypeAlias = "int | Sequence[Hierarchy]"
"""A player's number, or a group of players and groups: ``[[0, 1], [2, [3, 4]]]``."""

FIRST_DRAWS = 3
"""Draws at each group that is sampled, before the budget goes where it is needed: fewer leave Student's t without a usable quantile."""


class Owen(Shapley):
    """Owen values with what they rest on; the attributes are those of `Shapley`."""

    __slots__ = ()


def owen_values(game: Game, hierarchy: Hierarchy, budget: int | None = None, *, seed: int = 0) -> Values:
    """Owen values of `game` over a hierarchy of its players: exact where the coalitions that count fit `budget`, sampled otherwise.

    Parameters
    ----------
    game
        Takes a boolean array (coalitions × players) and gives the value of each coalition.
    hierarchy
        Groups within groups, with each player from 0 on in it once. ``[[0, 1], [2, 3]]`` are two groups of two.
    budget
        Coalitions that may be evaluated; default 65 536.
    seed
        Of the sampled contexts.

    Raises
    ------
    UsageError
        The hierarchy lacks a player or names one twice, or the budget is too small to split every group.
    InvalidInput
        The game gives another number of values than it was asked for, or one that is not finite.
    """
    return estimate_owen(game, hierarchy, budget, seed=seed).values


def estimate_owen(game: Game, hierarchy: Hierarchy, budget: int | None = None, *, seed: int = 0) -> Owen:
    """The same as `owen_values`, with base, total and error bars.

    Every group is split. Where not all contexts fit, each large group gets a few of them at random, and what is left of the budget goes,
    again and again, to the groups whose split adds most to the errors of the values.
    """
    budget = DEFAULT_BUDGET if budget is None else budget
    groups, players = _read(hierarchy)
    least = _least(groups)
    if budget < least:
        raise UsageError(f"A budget of {budget} coalitions is too small for {players} players in this hierarchy.", hint=f"Give at least {least}.")
    ends = evaluate(game, np.array([[False] * players, [True] * players]))
    base, total = float(ends[0]), float(ends[1])
    everything = 2 + sum(group.enumeration for group in groups)
    exact = everything <= budget
    seeds = np.random.SeedSequence(seed).spawn(len(groups))
    splits = [Enumerated(g) if exact or g.enumeration <= FIRST_DRAWS * g.draw else Drawn(g, s) for g, s in zip(groups, seeds, strict=True)]
    spent = 2 + _ask(game, [(split, FIRST_DRAWS) for split in splits])
    while planned := _plan(splits, _weights(groups), _spread(splits, total - base), min(budget - spent, spent)):
        spent += _ask(game, planned)
    values, errors, covariance = _assemble(splits, players, total - base)
    sampled = any(isinstance(split, Drawn) and not split.complete for split in splits)
    return Owen(values, base, total, errors if sampled else None, spent, covariance if sampled else None)


def smallest_budget(hierarchy: Hierarchy) -> int:
    """Coalitions of the least estimate over `hierarchy`."""
    return _least(_read(hierarchy)[0])


def _least(groups: Sequence[Group]) -> int:
    return 2 + sum(min(group.enumeration, FIRST_DRAWS * group.draw) for group in groups)


# -- the hierarchy ------------------------------------------------------------------------------------------------------------------


def players_in(hierarchy: Hierarchy) -> list[int]:
    """The players of a hierarchy from left to right."""
    return [hierarchy] if isinstance(hierarchy, int) else [player for part in hierarchy for player in players_in(part)]


def _read(hierarchy: Hierarchy) -> tuple[list[Group], int]:
    """The groups of a hierarchy, each before the groups in it, and how many players there are."""
    found = players_in(hierarchy)
    if sorted(found) != list(range(len(found))):
        raise UsageError(f"A hierarchy of {len(found)} entries must have each player from 0 to {len(found) - 1} in it once.")
    groups: list[Group] = []

    def members(part: Hierarchy) -> Coalitions:
        inside = np.zeros(len(found), dtype=bool)
        inside[players_in(part)] = True
        return inside

    def add(part: Hierarchy, beside: tuple[Coalitions, ...]) -> int:
        parts = [] if isinstance(part, int) else [each for each in part if players_in(each)]
        while len(parts) == 1 and not isinstance(parts[0], int):  # a group of one group is that group
            parts = [each for each in parts[0] if players_in(each)]
        if len(parts) < 2:
            return -1 - players_in(part)[0]
        place = len(groups)
        masks = np.array([members(each) for each in parts])
        groups.append(Group(masks, (), beside))
        homes = tuple(add(each, (*beside, np.delete(masks, index, axis=0))) for index, each in enumerate(parts))
        groups[place] = Group(masks, homes, beside)
        return place

    if found:
        add(hierarchy, ())
    return groups, len(found)


# -- the whole ----------------------------------------------------------------------------------------------------------------------


def _ask(game: Game, planned: Sequence[tuple[Split, int]]) -> int:
    """Evaluate the draws planned for each split, all in one stream; how many coalitions that took."""
    parts = [split.coalitions(draws) for split, draws in planned]
    if not parts:
        return 0
    coalitions = np.concatenate(parts)
    values = np.concatenate([evaluate(game, coalitions[start : start + CHUNK]) for start in range(0, len(coalitions), CHUNK)] or [np.empty(0)])
    for (split, _), found in zip(planned, np.split(values, np.cumsum([len(part) for part in parts])[:-1]), strict=True):
        split.take(found)
    return len(coalitions)


def _weights(groups: Sequence[Group]) -> list[Values]:
    """For each part of each group: by how much its variance adds to the variances of all the values together."""
    weights: list[Values] = [np.zeros(0)] * len(groups)
    for place in range(len(groups) - 1, -1, -1):
        homes = groups[place].homes
        weights[place] = np.array([1.0 if home < 0 else weights[home].sum() / len(groups[home].parts) ** 2 for home in homes])
    return weights


def _amounts(splits: Sequence[Split], whole: float) -> list[float]:
    """What each group gets in all."""
    amounts = [whole] * len(splits)
    for place, split in enumerate(splits):
        for home, more in zip(split.group.homes, split.samples(amounts[place]).mean(axis=0), strict=True):
            if home >= 0:
                amounts[home] = amounts[place] / len(split.group.parts) + more
    return amounts


def _spread(splits: Sequence[Split], whole: float) -> list[Values]:
    """For each split the covariance of one draw, parts × parts; zero for what was enumerated.

    A few draws that happen to agree do not show that there is no spread, and the budget goes elsewhere for it: where the mean over all groups
    is larger, it counts as one draw more.
    """
    found = [np.zeros((len(split.group.parts),) * 2) for split in splits]
    for place, (split, amount) in enumerate(zip(splits, _amounts(splits, whole), strict=True)):
        if isinstance(split, Drawn):
            found[place] = np.cov(split.samples(amount), rowvar=False, ddof=1)
    drawn = {place: split.drawn for place, split in enumerate(splits) if isinstance(split, Drawn)}
    mean = float(np.mean([found[place].diagonal().mean() for place in drawn])) if drawn else 0.0
    for place, draws in drawn.items():
        parts = len(found[place])
        if mean > found[place].diagonal().mean():
            alike = mean * (parts * np.eye(parts) - 1) / (parts - 1)  # contrasts sum to zero, and so do their errors
            found[place] = (found[place] * (draws - 1) + alike) / draws
    return found


def _plan(splits: Sequence[Split], weights: Sequence[Values], spread: Sequence[Values], room: int) -> list[tuple[Split, int]]:
    """Draws worth making next within `room` coalitions: always one more where it lowers the variance most for its cost."""
    open_ = {place: split for place, split in enumerate(splits) if isinstance(split, Drawn) and not split.complete}
    variance = {place: float(weights[place] @ spread[place].diagonal()) for place in open_}
    planned = dict.fromkeys(open_, 0)

    def urgency(place: int) -> tuple[float, int, int]:
        made = open_[place].drawn + planned[place]
        return (-variance[place] / (made * (made + 1)) / open_[place].group.draw, made, place)

    queue = [urgency(place) for place in open_]
    heapq.heapify(queue)
    while queue:
        _, made, place = heapq.heappop(queue)
        if open_[place].group.draw > room or made == open_[place].pairs:
            continue
        planned[place] += 1
        room -= open_[place].group.draw
        heapq.heappush(queue, urgency(place))
    return [(splits[place], draws) for place, draws in planned.items() if draws]


def _assemble(splits: Sequence[Split], players: int, whole: float) -> tuple[Values, Values, Values]:
    """Values, half-widths and covariance of the players.

    The errors of different groups' contrasts are independent; each player bears those of the groups that it is in, by its equal share of the
    part that it is in. Degrees of freedom follow Satterthwaite.
    """
    values, covariance, squares = np.full(players, whole), np.zeros((players, players)), np.zeros(players)
    amounts, spread = _amounts(splits, whole), _spread(splits, whole)
    shares = _shares([split.group for split in splits], players)
    for split, amount, share, each in zip(splits, amounts, shares, spread, strict=True):
        samples = split.samples(amount)
        parts, draws = samples.shape[1], len(samples)
        for home, more in zip(split.group.homes, samples.mean(axis=0), strict=True):
            if home < 0:
                values[-1 - home] = amount / parts + more
        if isinstance(split, Drawn):
            left = 1.0 if split.pairs is None else 1 - draws / split.pairs
            own = share @ (each * left / draws) @ share.T
            covariance += own
            squares += own.diagonal() ** 2 / (draws - 1)
    variance = covariance.diagonal()
    freedom = np.divide(variance**2, squares, out=np.ones(players), where=squares > 0)
    wider = np.array([student_95(max(1, int(each))) for each in freedom]) / NORMAL_95
    covariance = covariance * np.outer(wider, wider)
    return values, half_widths(covariance), covariance


def _shares(groups: Sequence[Group], players: int) -> list[Values]:
    """For each group, players × parts: the equal share that a player has in what its part gets."""
    shares = [np.zeros((players, len(group.parts))) for group in groups]
    for place in range(len(groups) - 1, -1, -1):
        for part, home in enumerate(groups[place].homes):
            if home < 0:
                shares[place][-1 - home, part] = 1.0
            else:
                shares[place][:, part] = shares[home].sum(axis=1) / len(groups[home].parts)
    return shares
