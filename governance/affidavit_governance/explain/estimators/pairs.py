"""Which pairs of a coalition and its complement are evaluated: equal shares for each size, without replacement.

The leverage score of a coalition of size s in the Shapley regression is the same for all of that size and sums to the same for each size
(Musco, Witter 2025, "Provably Accurate Shapley Value Estimation via Leverage Score Sampling", section 3), so each size gets the same number
of pairs, and a size with fewer pairs than that is taken whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

_LISTED = 4
"""A size with at most so many times the pairs that are wanted is listed and some of it chosen; of larger ones few draws have to be repeated."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of coalitions.

    Attributes
    ----------
    coalitions
        Pairs × players: the smaller coalition of each pair; of two of equal size the one with the first player.
    rarity
        Pairs: one over the number of pairs of this size that there are.
    share
        Pairs: the share of them that is here.
    """

    coalitions: NDArray[np.bool_]
    rarity: NDArray[np.float64]
    share: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.coalitions)

    def take(self, places: NDArray[np.int64]) -> Pairs:
        """Some of the pairs, as a sample of their own."""
        part = Pairs(self.coalitions[places], self.rarity[places], np.empty(0))
        return replace(part, share=part.alike * part.rarity)

    def beside(self, coalition: NDArray[np.bool_]) -> Pairs:
        """One more pair, which was not drawn but chosen: like a size that is taken whole, it is sure to be here."""
        rarity = 1 / pair_count(len(coalition), int(coalition.sum()))
        return Pairs(np.vstack([self.coalitions, coalition]), np.append(self.rarity, rarity), np.append(self.share, 1.0))

    @property
    def size(self) -> NDArray[np.int64]:
        """Of the smaller coalition of each pair."""
        size: NDArray[np.int64] = self.coalitions.sum(axis=1)
        return size

    @property
    def alike(self) -> NDArray[np.int64]:
        """For each pair, how many of its size are here."""
        return np.bincount(self.size)[self.size]


def pair_count(players: int, size: int) -> int:
    """How many pairs have a smaller coalition of this size."""
    return comb(players, size) if 2 * size < players else comb(players, size) // 2


def all_pairs(players: int) -> int:
    """How many pairs there are besides that of nobody and everybody."""
    return int(2 ** (players - 1)) - 1 if players else 0


def shapley_weights(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What Shapley values have of half the difference between each coalition and its complement, less an equal share: players × pairs."""
    players, size = coalitions.shape[1], coalitions.sum(axis=1)
    among = np.array([2 / comb(players, own) for own in range(players + 1)])
    weights: NDArray[np.float64] = np.where(coalitions.T, 1 / size, -1 / (players - size)) * among[size]
    return weights


def squared_weights(players: int) -> float:
    """The sum of the squares of `shapley_weights` over all pairs."""
    sizes = range(1, players // 2 + 1)
    return sum(4 * players * pair_count(players, size) / (comb(players, size) ** 2 * size * (players - size)) for size in sizes)


def allocation(players: int, pairs: int) -> dict[int, int]:
    """How many of `pairs` each size gets; sizes too small for an equal part are taken whole, and the others share what is left.

    The middle size stands for one size, every other for two.
    """
    left = {size: 2 if 2 * size < players else 1 for size in range(1, players // 2 + 1)}
    counts: dict[int, int] = {}
    rest = pairs
    while left:
        mass = sum(left.values())
        whole = [size for size, weight in left.items() if pair_count(players, size) * mass <= rest * weight]
        if not whole:
            break
        for size in whole:
            counts[size] = pair_count(players, size)
            rest -= counts[size]
            del left[size]
    mass = sum(left.values())
    counts |= {size: rest * weight // mass for size, weight in left.items()}
    short = pairs - sum(counts.values())
    for size in sorted(left, key=lambda size: (-(rest * left[size] % mass), size))[:short]:
        counts[size] += 1
    return dict(sorted(counts.items()))


def sampled_pairs(players: int, pairs: int, generator: np.random.Generator) -> Pairs:
    """Draw `pairs` distinct pairs, at most as many as there are."""
    return sampled_designs(players, pairs, 1, generator)[0]


def sampled_designs(players: int, pairs: int, designs: int, generator: np.random.Generator) -> list[Pairs]:
    """So many samples of `pairs` distinct pairs, independent of one another."""
    counts = {size: count for size, count in allocation(players, min(pairs, all_pairs(players))).items() if count}
    total, end = sum(counts.values()), 0
    coalitions = np.empty((designs, total, players), dtype=bool)
    to_draw = np.zeros(total, dtype=np.int64)
    for size, count in counts.items():
        start, end = end, end + count
        if pair_count(players, size) <= _LISTED * count:
            coalitions[:, start:end] = _chosen(players, size, count, designs, generator)
        else:
            to_draw[start:end] = size
    drawn = np.flatnonzero(to_draw)
    if len(drawn):
        of_design = np.repeat(np.arange(designs), len(drawn))
        coalitions[:, drawn] = _drawn(players, np.tile(to_draw[drawn], designs), of_design, generator).reshape(designs, len(drawn), players)
    rarity, share = (
        np.concatenate([np.full(count, part / pair_count(players, size)) for (size, count), part in zip(counts.items(), parts, strict=True)])
        for parts in ([1] * len(counts), counts.values())
    )
    return [Pairs(design, rarity, share) for design in coalitions]


def _chosen(players: int, size: int, count: int, designs: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Designs × count × players: pairs out of a list of them all."""
    everything = pair_count(players, size)
    members = np.zeros((everything, players), dtype=bool)
    np.put_along_axis(members, _listed(players, size), True, axis=1)
    if count == everything:
        return np.broadcast_to(members, (designs, count, players))
    chosen: NDArray[np.bool_] = members[np.sort(np.argsort(generator.random((designs, everything)), axis=1)[:, :count], axis=1)]
    return chosen


@lru_cache(maxsize=32)
def _listed(players: int, size: int) -> NDArray[np.int64]:
    """Every coalition of a size, by its members; of the middle size those with the first player, which come first."""
    places = np.array(list(combinations(range(players), size)), dtype=np.int64)[: pair_count(players, size)]
    places.flags.writeable = False
    return places


def _drawn(players: int, size: NDArray[np.int64], design: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.bool_]:
    """One random pair for each size, distinct within each design: the later of two alike is drawn again."""
    coalitions = _random(players, size, generator)
    while (again := _repeated(coalitions, design)).any():
        coalitions[again] = _random(players, size[again], generator)
    return coalitions


def _random(players: int, size: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.bool_]:
    coalitions = np.zeros((len(size), players), dtype=bool)
    order = np.argsort(generator.random(coalitions.shape), axis=1)
    np.put_along_axis(coalitions, order, np.arange(players) < size[:, None], axis=1)
    coalitions ^= (2 * size == players)[:, None] & ~coalitions[:, :1]
    return coalitions


def _repeated(coalitions: NDArray[np.bool_], design: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows have been there before in their design."""
    bits = np.packbits(coalitions, axis=1)
    used = bits.shape[1]
    keys = np.zeros((len(bits), -(-(used + 4) // 8) * 8), dtype=np.uint8)
    keys[:, :used] = bits
    keys[:, used : used + 4] = design.astype(np.uint32)[:, None].view(np.uint8)
    words = keys.view(np.uint64)
    order = np.lexsort(words.T)  # stable: of rows alike the first comes first
    repeated = np.zeros(len(design), dtype=bool)
    repeated[order[1:]] = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    return repeated
