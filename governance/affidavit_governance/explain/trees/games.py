"""What the leaf at the end of one path gives to the players on it: the interventional game, and the path-dependent one.

A leaf's game is a product: it pays its value where every condition on its path is met. A player in the coalition meets its condition where the
explained row does; one outside it where a background row does (interventional: Lundberg and others 2020, section on independent feature
perturbation; Laberge, Pequignot 2022), or by the share of training cover (path-dependent: Lundberg, Erion, Lee 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.trees.paths import PathBlock, Patterns

PAIRS_AT_ONCE = 2**19
"""Meetings of a row's pattern with a background pattern that stand in memory together."""

FACTORS_AT_ONCE = 2**17
"""Factors of products that stand in memory together: about what a processor's cache holds."""

Numbers = NDArray[np.float64]


@cache
def product_integral(most: int) -> Numbers:
    """∫ tᵃ (1-t)ᵇ dt from 0 to 1, which is a! b! / (a+b+1)!, at [a, b] for a and b up to `most`: Shapley's weights of a product game."""
    a, b = np.arange(most + 1.0)[:, None], np.arange(1.0, most + 1)[None, :]
    # From b - 1 to b by a factor: factorials themselves leave float64's range.
    weights: Numbers = np.cumprod(np.concatenate([1 / (a + 1), b / (a + b + 1)], axis=1), axis=1)
    weights.setflags(write=False)
    return weights


@cache
def _quadrature(points: int) -> tuple[Numbers, Numbers]:
    """Points and weights of the Gauss-Legendre rule from 0 to 1, exact up to degree 2 points - 1."""
    places, weights = np.polynomial.legendre.leggauss(points)
    return (places + 1) / 2, weights / 2


def pair_places(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of all pairs among `count` conditions, the smaller first."""
    first, second = np.triu_indices(count, 1)
    return first.astype(np.int64), second.astype(np.int64)


class InterventionalLeaves:
    """The leaves of a block against background rows.

    With a players that only the explained row satisfies and b that only the background row does, the leaf's value v gives each of the former
    v (a-1)! b! / (a+b)! and each of the latter -v a! (b-1)! / (a+b)!, and nothing where a player is satisfied by neither. Background rows with
    the same pattern are counted once (as Nadel, Wettenstein 2025 do with tables of all patterns).
    """

    def __init__(self, block: PathBlock, background: Patterns) -> None:
        self.block = block
        rows = background.of.shape[1]
        failed = background.failed()
        self._share = np.bincount(background.of.reshape(-1), minlength=len(background.leaf)) / rows
        self._failed = np.ascontiguousarray(failed.T)
        self._size = failed.sum(axis=1, dtype=np.int64)
        number = np.bincount(background.leaf, minlength=len(block.value))
        self._start = np.cumsum(number) - number
        self._number = number
        place = np.minimum(np.arange(number.max()), number[:, None] - 1) + self._start[:, None]
        self._words = background.words()[:, place]
        reached = self._size == 0
        self.base = float((block.value[background.leaf[reached]] * self._share[reached]).sum())

    def values(self, patterns: Patterns) -> Numbers:
        """Patterns × conditions: what each player gets."""
        count = self.block.players.shape[1]
        weight = product_integral(count)
        unmet = patterns.failed()
        missed = unmet.sum(axis=1, dtype=np.int64)
        found = np.zeros((len(patterns.leaf), count))

        def add(low: int, high: int, own: NDArray[np.int64], other: NDArray[np.int64]) -> None:
            a, b, share = self._size[other], missed[low + own], self._share[other]
            gain = np.where(a > 0, weight[a - 1, b], 0.0) * share
            loss = np.where(b > 0, weight[a, b - 1], 0.0) * share
            for place in range(count):
                found[low:high, place] = np.bincount(own, gain * self._failed[place][other], high - low)
            found[low:high] -= np.bincount(own, loss, high - low)[:, None] * unmet[low:high]

        self._meet(patterns, add)
        return found * self.block.value[patterns.leaf][:, None]

    def interactions(self, patterns: Patterns) -> Numbers:
        """Patterns × pairs of conditions: half the Shapley interaction index (Grabisch, Roubens 1999) of the two players."""
        first, second = pair_places(self.block.players.shape[1])
        weight = product_integral(self.block.players.shape[1])
        unmet = patterns.failed()
        missed = unmet.sum(axis=1, dtype=np.int64)
        found = np.zeros((len(patterns.leaf), len(first)))

        def add(low: int, high: int, own: NDArray[np.int64], other: NDArray[np.int64]) -> None:
            a, b, share = self._size[other], missed[low + own], self._share[other]
            both = np.where(a > 1, weight[a - 2, b], 0.0) * share
            neither = np.bincount(own, np.where(b > 1, weight[a, b - 2], 0.0) * share, high - low)
            one = np.where((a > 0) & (b > 0), weight[a - 1, b - 1], 0.0) * share
            failed = unmet[low:high].astype(np.float64)
            met = np.stack([np.bincount(own, one * column, high - low) for column in self._failed[:, other]], axis=1)
            found[low:high] = neither[:, None] * failed[:, first] * failed[:, second]
            found[low:high] -= met[:, first] * failed[:, second] + failed[:, first] * met[:, second]
            for i in range(patterns.count - 1):
                some = np.flatnonzero(self._failed[i][other])
                whose, share_of, against = own[some], both[some], other[some]
                for place in np.flatnonzero(first == i):
                    found[low:high, place] += np.bincount(whose, share_of * self._failed[second[place]][against], high - low)

        self._meet(patterns, add)
        return found * (0.5 * self.block.value[patterns.leaf])[:, None]

    def _meet(self, patterns: Patterns, add: Callable[[int, int, NDArray[np.int64], NDArray[np.int64]], None]) -> None:
        """Call `add` with the background patterns that leave no condition unmet by both, for runs of patterns at a time.

        Its arguments are the run's first and last pattern, and for each meeting the pattern's place in the run and the background pattern.
        """
        words = patterns.words()
        widest = self._words.shape[2]
        step = max(1, PAIRS_AT_ONCE // widest)
        for low in range(0, len(patterns.leaf), step):
            leaf = patterns.leaf[low : low + step]
            clash = words[0, low : low + step, None] & self._words[0, leaf]
            for own_word, other_word in zip(words[1:], self._words[1:], strict=True):
                clash |= own_word[low : low + step, None] & other_word[leaf]
            own, place = np.divmod(np.flatnonzero(clash == 0), widest)
            real = place < self._number[leaf[own]]
            own, place = own[real], place[real]
            add(low, low + len(leaf), own, self._start[leaf[own]] + place)


class PathDependentLeaves:
    """The leaves of a block where an absent player goes both ways, by the share of training cover.

    The Shapley value of a product game is an integral over the chance t of each other player being in: with factors fⱼ(t), player i gets
    (oᵢ - rᵢ) ∫ Πⱼ≠ᵢ fⱼ(t) dt, where o is 1 for a met condition and r the share. The integrand is a polynomial of degree below the number of
    players, so Gauss-Legendre quadrature with half as many points is exact, and adds positive numbers only.
    """

    def __init__(self, block: PathBlock) -> None:
        self.block = block
        self.base = float((block.value * block.kept.prod(axis=1)).sum())
        self._points, self._weights = _quadrature(block.players.shape[1] // 2 + 1)

    def values(self, patterns: Patterns) -> Numbers:
        """Patterns × conditions: what each player gets."""
        found = np.empty((len(patterns.leaf), patterns.count))
        for part, change, factors in self._runs(patterns):
            found[part] = (change * self._integrals(factors)).T
        return found * self.block.value[patterns.leaf][:, None]

    def interactions(self, patterns: Patterns) -> Numbers:
        """Patterns × pairs of conditions: half the Shapley interaction index of the two players."""
        first, second = pair_places(patterns.count)
        found = np.empty((len(patterns.leaf), len(first)))
        for part, change, factors in self._runs(patterns):
            for i in range(patterns.count - 1):
                others = factors.copy()
                others[i] = 1.0
                found[part, first == i] = (change[i] * change * self._integrals(others))[second[first == i]].T
        return found * (0.5 * self.block.value[patterns.leaf])[:, None]

    def _runs(self, patterns: Patterns) -> Iterator[tuple[slice, Numbers, Numbers]]:
        """Runs of patterns, with o - r of each condition (conditions × patterns), and the factors (conditions × points × patterns)."""
        step = max(1, FACTORS_AT_ONCE // (patterns.count * len(self._points)))
        unmet = patterns.failed()
        for part in (slice(start, start + step) for start in range(0, len(unmet), step)):
            share = np.ascontiguousarray(self.block.kept[patterns.leaf[part]].T)
            change = (1.0 - unmet[part].T) - share
            yield part, change, share[:, None] + change[:, None] * self._points[:, None]

    def _integrals(self, factors: Numbers) -> Numbers:
        """Conditions × patterns: the integral of the product of all factors but the condition's own.

        Products from both ends meet there: no factor is divided out, since it may be zero. Sums are taken point by point, not as a
        matrix product, whose last bit depends on how many patterns stand side by side.
        """
        before = np.ones_like(factors)
        for place in range(1, len(factors)):
            np.multiply(before[place - 1], factors[place - 1], out=before[place])
        after = np.repeat(self._weights[:, None], factors.shape[2], axis=1)
        found = np.zeros((len(factors), factors.shape[2]))
        for place in range(len(factors) - 1, -1, -1):
            before[place] *= after
            for point in before[place]:
                found[place] += point
            after *= factors[place]
        return found
