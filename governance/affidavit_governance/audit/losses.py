"""Privacy losses of single mechanisms, cut into cells of a grid; standard library only.

Written from the papers and apart from `affidavit_governance.privacy.accounting`, so that two implementations stand against each other. A
mechanism is a pair of distributions P, Q, of data sets with and without the group in question; its privacy loss is L = log P/Q of an
outcome drawn from P (Sommer, Meiser and Mohammadi 2019). Which pairs dominate: Zhu, Dong and Wang (2022) for a record in a Poisson sample;
Charles et al. (2024) for k of them added or removed, P = Σ w_j N(j, σ²) with binomial weights and Q = N(0, σ²); for k of them replaced the
same P against Q = Σ w_j N(-j, σ²), since any contributions x, x' of j members have N(x)(S) ≤ Φ(Φ⁻¹(β) + j/σ) and
N(x')(S) ≥ Φ(Φ⁻¹(β) - j/σ) for every set S of outcomes with N(0)(S) = β.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

RELATIONS = ("add-or-remove-one", "replace-one")
MECHANISMS = ("gaussian", "laplace", "pure", "objective_perturbation")
LARGEST_GROUP = 1000
"""No statement is about larger ones; whoever reads a stranger's file must not count up to any number that it holds."""

MOST_MEMBERS = 32
"""Sizes of a group's sample that are worked with; larger groups are not recomputed."""

DROPPED = 1e-20
"""Probability of the sizes that may be left out; it is added to the bracket."""


class NotRecomputedError(Exception):
    """These events have no bracket; the message says why."""


class TooWideError(NotRecomputedError):
    """A step's loss has more cells than were allowed."""

    def __init__(self) -> None:
        super().__init__("the privacy loss is too wide for a grid")


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One event, read strictly: see `affidavit_governance.privacy.accounting.Event`, whose JSON this is."""

    kind: str
    noise: float
    rate: float
    steps: int
    relation: str
    members: int
    shift: float = 0.0

    @classmethod
    def read(cls, value: Any) -> Mechanism:
        """Raises ValueError where it is no event, NotRecomputedError where it is one without a loss distribution."""
        if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
            raise ValueError("no event")
        if value["type"] == "repeat_and_select":
            raise NotRecomputedError("repetition has a bound by RDP only, and no loss distribution")
        noise, rate, shift = (_finite(number) for number in (value.get("noise_multiplier"), value.get("sampling_rate"), value.get("shift", 0.0)))
        steps, members, relation = value.get("steps"), value.get("group_size", 1), value.get("relation", RELATIONS[0])
        if type(steps) is not int or type(members) is not int or value["type"] not in MECHANISMS or relation not in RELATIONS:
            raise ValueError("an event of another kind")
        if not (noise > 0 and 0 < rate <= 1 and shift >= 0 and steps >= 0 and 1 <= members <= LARGEST_GROUP):
            raise ValueError("a number out of its range")
        if rate < 1 and value["type"] != "gaussian":
            raise ValueError("a sampled mechanism without a known loss")
        return cls(value["type"], noise, rate, steps, relation, members, shift)

    @property
    def factor(self) -> int:
        """Largest change of the sum, in bounds of one record."""
        return self.members * (2 if self.relation == "replace-one" else 1)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no finite number")
    return float(value)


@dataclass(slots=True)
class Cells:
    """Probabilities of P and Q by the cells of a loss grid: cell number i holds the losses above o + i h, up to o + (i + 1) h.

    Attributes
    ----------
    first
        Number of the first cell.
    upper, lower
        Probabilities of P and of Q in each cell; no `lower` where only the distribution of a bound of the loss is known.
    above, below
        Probabilities (P, Q) beyond the last and before the first cell.
    offset
        The grid's point o of number 0.
    symmetric
        Whether adding and removing give the same losses.
    dropped
        Probability of what was left out.
    """

    first: int
    upper: list[float]
    lower: list[float]
    above: tuple[float, float]
    below: tuple[float, float]
    offset: float
    symmetric: bool
    dropped: float = 0.0

    def turned(self) -> Cells:
        """With P and Q exchanged: losses change their sign."""
        if self.symmetric:
            return self
        return Cells(
            -self.first - len(self.upper), self.lower[::-1], self.upper[::-1], self.below[::-1], self.above[::-1], -self.offset, False, self.dropped
        )


def weights(event: Mechanism) -> tuple[list[tuple[int, float]], float]:
    """Sizes j of the group's sample with their probabilities w_j, and the probability of the sizes left out."""
    k, q = event.members, event.rate
    if q == 1:
        return [(k, 1.0)], 0.0
    logs = [math.lgamma(k + 1) - math.lgamma(j + 1) - math.lgamma(k - j + 1) + j * math.log(q) + (k - j) * math.log1p(-q) for j in range(k + 1)]
    # From the smallest size on; the largest ones only have probability to be left out where it is negligible.
    used = [(j, math.exp(log)) for j, log in enumerate(logs)]
    dropped = 0.0
    while used[-1][1] + dropped < DROPPED:
        dropped += used.pop()[1]
    if len(used) > MOST_MEMBERS:
        raise NotRecomputedError(f"groups of {k} records in samples of rate {q:g} take too long")
    return used, dropped


class Gaussian:
    """The pair of a Gaussian mechanism, over the noisy sum t in bounds of one record."""

    def __init__(self, event: Mechanism) -> None:
        if event.rate == 1:
            # One Gaussian against another at the group's distance.
            self._sizes, self.dropped, self._replaced = [(1, 1.0)], 0.0, False
            self.sigma = event.noise / event.factor
        else:
            self._sizes, self.dropped = weights(event)
            self._replaced, self.sigma = event.relation == "replace-one", event.noise
        self.symmetric = self._replaced or event.rate == 1
        self._variance = self.sigma**2

    def ratio(self, t: float) -> tuple[float, float]:
        """log P/N(0) at t, and its slope."""
        terms = [math.log(weight) + (j * t - j * j / 2) / self._variance for j, weight in self._sizes]
        largest = max(terms)
        shares = [math.exp(term - largest) for term in terms]
        total = math.fsum(shares)
        slope = sum(j * share for (j, _), share in zip(self._sizes, shares, strict=True)) / total / self._variance
        return largest + math.log(total), slope

    def loss(self, t: float) -> tuple[float, float]:
        """log P/Q at t, and its slope."""
        ahead, rise = self.ratio(t)
        if not self._replaced:
            return ahead, rise
        behind, fall = self.ratio(-t)
        return ahead - behind, rise + fall

    def at(self, loss: float, near: float) -> float:
        """The t whose loss it is, by Newton's method from `near`, which lies below, kept in a bracket."""
        low, high = near, near + self.sigma
        while self.loss(high)[0] < loss:
            low, high = high, high + 2 * (high - near)
        t = low
        for _ in range(60):
            value, slope = self.loss(t)
            low, high = (t, high) if value < loss else (low, t)
            step = (value - loss) / slope if slope > 0 else math.inf
            t = t - step if low <= t - step <= high else (low + high) / 2
            if abs(step) < 1e-13 * max(self.sigma, abs(t)):
                break
        return t

    def ends(self, tail: float) -> tuple[float, float]:
        """Between these t lies all but `tail` of the probability of P and of Q, on either side."""
        reach = -NormalDist().inv_cdf(tail) * self.sigma
        # A large sample of the group is too improbable to reach as far as its noise would.
        rest, size = self.dropped, self._sizes[-1][0]
        for j, weight in reversed(self._sizes):
            size, rest = (j, rest + weight) if rest <= tail else (size, math.inf)
        high = reach + size
        return (-high if self._replaced else -reach), high

    def between(self, ends: list[float]) -> tuple[list[float], list[float], tuple[float, float], tuple[float, float]]:
        """Probabilities of P and Q between neighbouring `ends`, above the last and below the first."""
        upper = _mixture(self._sizes, ends, self.sigma)
        lower = _mixture([(-j, weight) for j, weight in self._sizes] if self._replaced else [(0, 1.0)], ends, self.sigma)
        return upper[0], lower[0], (upper[1], lower[1]), (upper[2], lower[2])


def _mixture(sizes: list[tuple[int, float]], ends: list[float], sigma: float) -> tuple[list[float], float, float]:
    cells, above, below = [0.0] * (len(ends) - 1), 0.0, 0.0
    scale = 1 / (sigma * math.sqrt(2))
    for j, weight in sizes:
        half = weight / 2
        right = [half * math.erfc((t - j) * scale) for t in ends]
        left = [half * math.erfc((j - t) * scale) for t in ends]
        # The difference of the smaller tails, which loses no digits far out.
        parts = [a - b if a < half else d - c for a, b, c, d in zip(right, right[1:], left, left[1:], strict=False)]
        cells = [cell + part for cell, part in zip(cells, parts, strict=True)]
        above, below = above + right[-1], below + left[0]
    return cells, above, below


def _gaussian(event: Mechanism, width: float, tail: float, most: int) -> Cells:
    pair = Gaussian(event)
    low, high = pair.ends(tail)
    offset = _usual(pair, low, high, width)
    first, last = math.floor((pair.loss(low)[0] - offset) / width), math.ceil((pair.loss(high)[0] - offset) / width)
    if last - first > most:
        raise TooWideError
    ends, t = [], low
    for number in range(first, last + 1):
        target = offset + number * width
        if pair.loss(t)[0] < target:
            t = pair.at(target, t)
        ends.append(t)
    upper, lower, above, below = pair.between(ends)
    return Cells(first, upper, lower, above, below, offset, pair.symmetric, pair.dropped)


def _usual(pair: Gaussian, low: float, high: float, width: float) -> float:
    """Where the grid is laid, less its whole widths: at the joint loss of the outcomes about the middle one.

    Where nearly all losses are much narrower than a cell, they can then be merged onto one point.
    """
    start, end = low, high
    for _ in range(60):
        middle = (start + end) / 2
        _, _, (more, _), (less, _) = pair.between([middle, middle + pair.sigma])
        more += pair.between([middle, middle + pair.sigma])[0][0]
        start, end = (middle, end) if less < more else (start, middle)
    usual = pair.loss(start)[0]
    sides = [low if pair.loss(low)[0] >= loss else pair.at(loss, low) for loss in (usual - width / 2, usual + width / 2)]
    (upper,), (lower,), _, _ = pair.between(sides)
    if upper > 0 and lower > 0:
        usual = min(usual + width / 2, max(usual - width / 2, math.log(upper / lower)))
    return math.remainder(usual, width)


def cells(event: Mechanism, width: float, tail: float, most: int) -> Cells:
    """Cells of width `width` of one step, but for about `tail` of the probability. Raises TooWideError for more than `most` of them."""
    if event.kind == "gaussian":
        return _gaussian(event, width, tail, most)
    if event.kind == "objective_perturbation":
        return _objective_perturbation(event, width, tail, most)
    loss = event.factor / event.noise
    offset = math.remainder(loss, width)
    first, last = math.floor((-loss - offset) / width) - 1, round((loss - offset) / width)
    if last - first > most:
        raise TooWideError
    tails = _laplace(loss) if event.kind == "laplace" else _two_valued(loss)
    ends = [tails(offset + number * width) for number in range(first, last)] + [(0.0, 0.0)]
    upper, lower = ([one[side] - other[side] for one, other in pairwise(ends)] for side in (0, 1))
    return Cells(first, upper, lower, (0.0, 0.0), (0.0, 0.0), offset, True)


def _objective_perturbation(event: Mechanism, width: float, tail: float, most: int) -> Cells:
    """Of the bound c + μ²/2 + μ|Z| of the loss, Z standard normal (Redberg, Koskela and Wang 2023, theorems 3.1 and 3.2)."""
    if event.factor > 1:
        raise NotRecomputedError("objective perturbation of groups has a bound by RDP only")
    mu = 1 / event.noise
    least = event.shift + mu**2 / 2
    first, last = math.floor(least / width), math.ceil((least - NormalDist().inv_cdf(tail / 2) * mu) / width)
    if last - first > most:
        raise TooWideError
    beyond = [math.erfc(max(0.0, number * width - least) / (mu * math.sqrt(2))) for number in range(first, last + 1)]
    upper = [one - other for one, other in pairwise(beyond)]
    return Cells(first, upper, [], (beyond[-1], 0.0), (0.0, 0.0), 0.0, True)


def _laplace(loss: float) -> Callable[[float], tuple[float, float]]:
    """Probabilities under P and Q that the Laplace mechanism's loss exceeds a value."""

    def tails(value: float) -> tuple[float, float]:
        if value < -loss:
            return 1.0, 1.0
        if value >= loss:
            return 0.0, 0.0
        outcome = (loss - value) / 2
        return 1 - math.exp(-outcome) / 2, math.exp(outcome - loss) / 2

    return tails


def _two_valued(loss: float) -> Callable[[float], tuple[float, float]]:
    """The same for randomized response, which dominates every mechanism of pure ε (Kairouz, Oh and Viswanath 2015)."""
    yes = 1 / (1 + math.exp(-loss))

    def tails(value: float) -> tuple[float, float]:
        return (1.0, 1.0) if value < -loss else (0.0, 0.0) if value >= loss else (yes, 1 - yes)

    return tails
