"""How the value of one group is split among its parts: over all contexts, or over some that are drawn at random.

A context is a set of groups beside the group, at each level above, that came before it. Splits give contrasts only: how much more each part gets
than an equal share, so that the parts add up to the group's value whatever that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, prod

import numpy as np
from numpy.typing import NDArray

_SHUFFLED = 2**16
"""Pairs of contexts up to which they are drawn without replacement; beyond, the same pair twice is too rare to matter."""

Coalitions = NDArray[np.bool_]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Group:
    """A group with several parts.

    Attributes
    ----------
    parts
        Parts × players: who is in each.
    homes
        For each part the number of its own group, or minus one less the number of the player that it is.
    beside
        For each level above, from the top: groups beside the one that holds this group × players.
    """

    parts: Coalitions
    homes: tuple[int, ...]
    beside: tuple[Coalitions, ...]

    @property
    def contexts(self) -> int:
        """How many unions of groups beside it there are."""
        return prod(2 ** len(groups) for groups in self.beside)

    @property
    def enumeration(self) -> int:
        """Coalitions that all contexts and all sets of parts take."""
        return int(self.contexts * (2 ** len(self.parts) - 2))

    @property
    def draw(self) -> int:
        """Coalitions of one draw: a context and its complement, an order of the parts and its reverse."""
        return (2 if self.beside else 1) * 2 * (len(self.parts) - 1)

    @property
    def pairs(self) -> int | None:
        """How many draws there are where all are equally likely; None where they are not."""
        binary = len(self.parts) == 2 and all(len(groups) == 1 for groups in self.beside)
        return self.contexts // 2 if binary and self.beside else None


class Enumerated:
    """A group split over all its contexts and all sets of its parts."""

    complete = True

    def __init__(self, group: Group) -> None:
        self.group = group
        self._contrast: Values | None = None

    def coalitions(self, draws: int) -> Coalitions:
        if self._contrast is not None:
            return np.empty((0, self.group.parts.shape[1]), dtype=bool)
        contexts, self._context_weights = _contexts(self.group)
        sets = _subsets(len(self.group.parts))[1:-1]
        inside = _union(sets, self.group.parts)
        whole: Coalitions = (contexts[:, None] | inside[None]).reshape(-1, contexts.shape[1])
        return whole

    def take(self, values: Values) -> None:
        if self._contrast is None:
            sets = _subsets(len(self.group.parts))[1:-1]
            weight = _order_weights(len(self.group.parts))
            size = sets.sum(axis=1)
            share = np.where(sets, weight[size - 1][:, None], -weight[size][:, None])
            self._contrast = self._context_weights @ values.reshape(len(self._context_weights), len(sets)) @ share

    def samples(self, amount: float) -> Values:
        """One row: how much more each part gets than an equal share of the group's amount."""
        assert self._contrast is not None
        return self._contrast[None]


class Drawn:
    """A group split over contexts and orders of its parts that are drawn at random."""

    def __init__(self, group: Group, seed: np.random.SeedSequence) -> None:
        self.group = group
        self.drawn = 0
        self._generator = np.random.default_rng(seed)
        pairs = group.pairs
        self.pairs = pairs if pairs is not None and pairs <= _SHUFFLED else None
        self._shuffled = None if self.pairs is None else self._generator.permutation(self.pairs)
        parts = len(group.parts)
        self._orders = np.empty((0, parts), dtype=np.int64)
        self._values = np.empty((0, 2 if group.beside else 1, 2, parts - 1))

    @property
    def complete(self) -> bool:
        return self.drawn == self.pairs

    def coalitions(self, draws: int) -> Coalitions:
        """The coalitions of that many new draws."""
        group, parts = self.group, len(self.group.parts)
        orders = self._generator.permuted(np.tile(np.arange(parts), (draws, 1)), axis=1)
        rank = np.argsort(np.stack([orders, orders[:, ::-1]], axis=1), axis=2)
        chain = rank[:, :, None] < np.arange(1, parts)[:, None]
        inside = _union(chain.reshape(-1, parts), group.parts).reshape(draws, 1, 2, parts - 1, -1)
        self._orders = np.concatenate([self._orders, orders])
        outside = self._contexts(draws)
        self.drawn += draws
        whole: Coalitions = (inside | outside[:, :, None, None]).reshape(-1, inside.shape[-1])
        return whole

    def _contexts(self, draws: int) -> Coalitions:
        """Draws × (context, complement) × players."""
        players = self.group.parts.shape[1]
        if not self.group.beside:
            return np.zeros((draws, 1, players), dtype=bool)
        both = np.zeros((draws, 2, players), dtype=bool)
        for level, groups in enumerate(self.group.beside):
            before = self._before(level, len(groups), draws)
            both |= _union(np.stack([before, ~before], axis=1).reshape(-1, len(groups)), groups).reshape(draws, 2, players)
        return both

    def _before(self, level: int, groups: int, draws: int) -> Coalitions:
        """Draws × the groups beside: which come before in a random order."""
        if self._shuffled is not None:  # contexts and their complements share a number, so that the highest bit stays unset
            codes = self._shuffled[self.drawn : self.drawn + draws]
            return (codes[:, None] >> level & 1).astype(bool)
        times = self._generator.random((draws, groups + 1))
        return times[:, :groups] < times[:, groups:]

    def take(self, values: Values) -> None:
        self._values = np.concatenate([self._values, values.reshape(-1, *self._values.shape[1:])])

    def samples(self, amount: float) -> Values:
        """Draws × parts: how much more each part gets than an equal share of the group's amount.

        The ends of a chain are no coalitions that were asked for: they stand as zero and `amount`, whose shares of an order cancel on average.
        """
        draws, contexts, _, inner = self._values.shape
        chain = np.zeros((draws, contexts, 2, inner + 2))
        chain[..., 1:-1], chain[..., -1] = self._values, amount
        steps = np.diff(chain, axis=3).mean(axis=1)
        rank = np.argsort(np.stack([self._orders, self._orders[:, ::-1]], axis=1), axis=2)
        gained: Values = np.take_along_axis(steps, rank, axis=2).mean(axis=1) - amount / (inner + 1)
        return gained


Split = Enumerated | Drawn


def _contexts(group: Group) -> tuple[Coalitions, Values]:
    """All contexts of a group, contexts × players, and the probability of each in a random order."""
    contexts, weights = np.zeros((1, group.parts.shape[1]), dtype=bool), np.ones(1)
    for groups in group.beside:
        sets = _subsets(len(groups))
        chance = _order_weights(len(groups) + 1)[sets.sum(axis=1)]
        contexts = (contexts[:, None] | _union(sets, groups)[None]).reshape(-1, contexts.shape[1])
        weights = np.outer(weights, chance).ravel()
    return contexts, weights


def _subsets(count: int) -> Coalitions:
    return (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(bool)


def _union(chosen: Coalitions, members: Coalitions) -> Coalitions:
    """Who is in the union of the chosen groups: sets × players from sets × groups and groups × players."""
    return chosen.astype(np.uint8) @ members.astype(np.uint8) > 0


def _order_weights(count: int) -> Values:
    """By size: the chance that one given set of that size comes right before one given player of `count`."""
    return np.array([1 / (count * comb(count - 1, size)) for size in range(count)])
