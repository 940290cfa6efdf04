"""A second implementation of the privacy accountant: a bracket around ε from the events of a certificate; standard library only.

Losses of single steps are put on a grid twice. From above: each cell's probability is split between the cell's ends so that P and Q keep
theirs, which dominates (connect-the-dots, Doroshenko et al. 2022). From below: outcomes are merged, which is post-processing and tells less,
and what cannot be merged onto the grid is rounded down (Koskela, Jälkö and Honkela 2020). Both are composed by fast Fourier transform
(Koskela et al. 2020; Gopi, Lee and Wutschitz 2021). What lies beyond the window is bounded by Chernoff's inequality and, with the rounding
of floating-point numbers, added to the bracket. Nothing here is taken from the first implementation.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from affidavit_governance.audit.losses import Cells, Mechanism, NotRecomputedError, TooWideError, cells

SIZES = (2**13, 2**15, 2**16)
"""Grid sizes, tried until the bracket is narrow enough."""

WIDTH, LEAST_WIDTH = 0.01, 1e-4
"""Width of a bracket that is narrow enough, relative to ε or in itself."""

WIDEST = 0.5
"""Relative width above which a bracket says nothing."""

SHARE = 1e-4
"""Share of δ that the probability beyond the window, and beyond each step's cells, may have."""

FARTHEST = 64
"""Cells between outcomes that are still merged: farther ones would lose more than rounding down does."""

LOWEST_DELTA = 1e-13
MOST_MECHANISMS = 24
"""Different mechanisms in one statement: each takes some tenths of a second, and a run has a handful."""

WEAK = {"noise": 0.3, "steps": 1000, "members": 4, "shift": 5.0, "delta": 1e-10}
"""For a lower bound where there is no bracket: less noise and a smaller δ count as these, and more of the others."""

LAMBDAS = tuple(2.0**power for power in range(-10, 13))
FLOAT = 2.0**-52


@dataclass(frozen=True, slots=True)
class Bracket:
    """Bounds of the smallest ε of some events at one δ.

    Attributes
    ----------
    low, high
        The true ε lies between them.
    grid
        Points of the grid that was used.
    """

    low: float
    high: float
    grid: int


def bracket(events: Iterable[Mechanism], delta: float) -> Bracket:
    """A two-sided bound of ε at `delta` of all `events` together.

    Raises
    ------
    NotRecomputedError
        There is no bracket for these; the message says why.
    """
    merged = _merge(events)
    if not merged:
        return Bracket(0.0, 0.0, 0)
    if delta == 0 and all(event.kind in ("laplace", "pure") for event in merged):
        exact = math.fsum(event.steps * event.factor / event.noise for event in merged)
        return Bracket(exact, exact, 0)
    if not LOWEST_DELTA <= delta < 1:
        raise NotRecomputedError(f"delta = {delta:g} is too small for double precision")
    if len(merged) > MOST_MECHANISMS:
        raise NotRecomputedError(f"{len(merged)} different mechanisms take too long")
    try:
        return _bracket(merged, delta)
    except (ArithmeticError, ValueError) as error:
        raise NotRecomputedError("its numbers are too large or too small for double precision") from error


def least(events: Iterable[Mechanism], delta: float) -> float:
    """A lower bound of ε at `delta` of all `events` together, for what has no bracket; 0 where there is nothing to be said.

    It is that of fewer and weaker mechanisms at a larger δ, each of which costs at most as much.
    """
    merged = _merge(events)
    if delta == 0 and any(event.kind not in ("laplace", "pure") for event in merged):
        return math.inf  # noise without end hides nothing for certain
    weaker = [
        replace(
            event,
            noise=max(event.noise, WEAK["noise"]),
            steps=min(event.steps, int(WEAK["steps"])),
            members=min(event.members, int(WEAK["members"])),
            shift=min(event.shift, WEAK["shift"]),
        )
        for event in merged[:MOST_MECHANISMS]
    ]
    try:
        return bracket(weaker, max(delta, WEAK["delta"])).low
    except NotRecomputedError:
        return 0.0


@lru_cache(maxsize=256)
def _bracket(events: tuple[Mechanism, ...], delta: float) -> Bracket:
    found = Bracket(0.0, math.inf, 0)
    failure: NotRecomputedError | None = None
    for size in SIZES:
        try:
            tried = _on_grid(events, delta, size)
        except NotRecomputedError as error:
            failure = error
            continue
        found = Bracket(max(found.low, tried.low), min(found.high, tried.high), size)
        if found.high - found.low <= WIDTH * found.high + LEAST_WIDTH:
            break
    if not math.isfinite(found.high) or found.high - found.low > WIDEST * found.high + LEAST_WIDTH:
        raise failure or NotRecomputedError("the bracket is too wide to say anything")
    return found


def _merge(events: Iterable[Mechanism]) -> tuple[Mechanism, ...]:
    """Equal mechanisms as one with more steps, unsampled Gaussians as one, all for the widest neighbours that one of them names."""
    given = [event for event in events if event.steps]
    if not given:
        return ()
    relation = max(event.relation for event in given)  # alphabetically: replace-one after add-or-remove-one
    members = max(event.members for event in given)
    steps: dict[tuple[str, float, float, float], int] = {}
    precision = 0.0
    for event in given:
        if event.kind == "gaussian" and event.rate == 1:
            precision += event.steps / event.noise**2
        else:
            key = (event.kind, event.noise, event.rate, event.shift)
            steps[key] = steps.get(key, 0) + event.steps
    merged = [Mechanism(kind, noise, rate, count, relation, members, shift) for (kind, noise, rate, shift), count in sorted(steps.items())]
    if precision:
        merged.append(Mechanism("gaussian", precision**-0.5, 1.0, 1, relation, members))
    return tuple(merged)


# -- one grid ------------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Rounded:
    """One step's loss on the grid: probabilities by grid number, from `first` on, rounded up and rounded down."""

    first: int
    offset: float
    up: list[float]
    down: list[float]
    infinite: float
    lost: float


def _on_grid(events: Sequence[Mechanism], delta: float, size: int) -> Bracket:
    tail, counts = SHARE * delta / sum(event.steps for event in events), [event.steps for event in events]
    # A first look on few points tells how wide the window must be.
    looks = [_look(event, tail) for event in events]
    one_way = all(look.symmetric for _, look in looks)
    ways = [looks] if one_way else [looks, [(width, look.turned()) for width, look in looks]]
    windows = [_window(way, counts, SHARE * delta) for way in ways]
    bottom, top = min(window[0] for window in windows), max(window[1] for window in windows)
    width = (top - bottom) / (size - 2)
    found = [cells(event, width, tail, 2 * size) for event in events]
    low = high = 0.0
    for turned in (False, True)[: len(ways)]:
        rounded = [_round(cell.turned() if turned else cell, width) for cell in found]
        least, most = _compose(rounded, counts, width, bottom, size, delta)
        low, high = max(low, least), max(high, most)
    return Bracket(low, high, size)


def _look(event: Mechanism, tail: float) -> tuple[float, Cells]:
    """Some hundreds of cells of one step, and their width."""
    width = 1.0
    for _ in range(60):
        try:
            found = cells(event, width, tail, 1000)
        except TooWideError:
            width *= 4
            continue
        if len(found.upper) >= 200:
            return width, found
        width /= 4
    raise TooWideError


def _window(looks: Sequence[tuple[float, Cells]], counts: Sequence[int], tail: float) -> tuple[float, float]:
    """Where the composed loss lies but for about `tail`: Chernoff's bound from the first look."""
    top = min((_cumulant(looks, counts, slope) - math.log(tail)) / slope for slope in LAMBDAS)
    bottom = max((math.log(tail) - _cumulant(looks, counts, -slope)) / slope for slope in LAMBDAS)
    if not (math.isfinite(top) and math.isfinite(bottom)):
        raise TooWideError
    return min(bottom, 0.0), max(top, 1e-6)


def _cumulant(looks: Sequence[tuple[float, Cells]], counts: Sequence[int], slope: float) -> float:
    """log E exp(slope loss) of the composed loss, with each cell's outcomes merged."""
    total = 0.0
    for (width, look), steps in zip(looks, counts, strict=True):
        ends = [look.offset + (look.first + i + 1) * width for i in range(len(look.upper))]
        middle = [math.log(p / q) if p > 0 and q > 0 else end for p, q, end in zip(look.upper, look.lower or [0.0] * len(ends), ends, strict=True)]
        total += steps * _log_sum([math.log(p) + slope * loss for p, loss in zip(look.upper, middle, strict=True) if p > 0])
    return total


def _log_moment(probabilities: Sequence[float], start: float, width: float, slope: float) -> float:
    """log Σ p e^(slope loss), without overflow."""
    return _log_sum([math.log(p) + slope * (start + i * width) for i, p in enumerate(probabilities) if p > 0])


def _log_sum(terms: Sequence[float]) -> float:
    """log Σ exp(term)."""
    largest = max(terms, default=-math.inf)
    return largest + math.log(math.fsum(math.exp(term - largest) for term in terms)) if terms else largest


def _round(found: Cells, width: float) -> _Rounded:
    """Put cells on their ends: split from above, merged from below."""
    number = len(found.upper)
    up, down = [0.0] * (number + 1), [0.0] * (number + 1)
    if not found.lower:
        return _Rounded(found.first, found.offset, [0.0, *found.upper], [*found.upper, 0.0], found.above[0], 0.0)
    ratio = math.expm1(-width)
    kept = list(found.upper)
    odds = []  # e^(i h) Q/P of each cell: between e^-h and 1
    for i, (p, q) in enumerate(zip(found.upper, found.lower, strict=True)):
        if p <= 0:
            odds.append(1.0)
            kept[i] = 0.0
            continue
        odd = math.exp(min(0.0, max(-width, math.log(q) - math.log(p) + found.offset + (found.first + i) * width)) if q > 0 else -width)
        odds.append(odd)
        above = min(p, max(0.0, p * (odd - 1) / ratio))
        up[i] += p - above
        up[i + 1] += above
    _merge_down(kept, odds, down, width)
    up[min(1, number)] += found.below[0]
    down[max(0, number - 1)] += found.above[0]
    return _Rounded(found.first, found.offset, up, down, found.above[0] + found.dropped, found.dropped)


def _merge_down(kept: list[float], odds: Sequence[float], down: list[float], width: float) -> None:
    """Merge outcomes of two cells so that their joint loss is a grid point between them; what is left is rounded down.

    Amounts from below and from above the point that have its ratio of P to Q together are in inverse proportion to how far theirs are from
    it. First the share of a cell that belongs to its upper end, as the split tells it, meets its neighbour's share of its lower end; then
    what is left meets the nearest that is left below it.
    """
    grow, ratio = math.exp(width), math.expm1(-width)
    upward = [amount * (odd - 1) / ratio for amount, odd in zip(kept, odds, strict=True)]
    downward = [amount - part for amount, part in zip(kept, upward, strict=True)]

    def merge(lower: int, upper: int, at: int, offered: float, wanted: float) -> None:
        short, over = odds[lower] * grow ** (at - lower) - 1, 1 - odds[upper] * grow ** (at - upper)
        # On the point but for rounding: it needs no partner.
        short, over = (0.0 if part < 1e-9 * width else part for part in (short, over))
        first = min(offered, wanted * over / short) if short else offered
        second = min(wanted, offered * short / over) if over else wanted
        down[at] += first + second
        kept[lower] = max(0.0, kept[lower] - first)
        kept[upper] = max(0.0, kept[upper] - second)

    for i in range(1, len(kept)):
        merge(i - 1, i, i, upward[i - 1], downward[i])
    waiting: list[int] = []
    for i in range(len(kept)):
        while waiting and kept[i] > 0 and i - waiting[-1] <= FARTHEST:
            lower = waiting[-1]
            merge(lower, i, (i + lower + 1) // 2, kept[lower], kept[i])
            if kept[lower] > 0:
                break
            waiting.pop()
        if kept[i] > 0:
            waiting.append(i)
    for i, rest in enumerate(kept):
        down[i] += rest


# -- composition -----------------------------------------------------------------------------------------------------------------------


def _compose(rounded: Sequence[_Rounded], counts: Sequence[int], width: float, start: float, size: int, delta: float) -> tuple[float, float]:
    """Lower and upper bound of ε in one direction, over a window of `size` points from about `start` on."""
    offset = math.fsum(count * step.offset for step, count in zip(rounded, counts, strict=True))
    bottom = math.floor((start - offset) / width)
    turns = _roots(size)
    product_up, product_down = [1 + 0j] * (size // 2 + 1), [1 + 0j] * (size // 2 + 1)
    for step, count in zip(rounded, counts, strict=True):
        packed = [0j] * size
        for i, (a, b) in enumerate(zip(step.up, step.down, strict=True)):
            packed[(step.first + i) % size] += complex(a, b)
        spectrum = _transform(packed, turns)
        for k in range(size // 2 + 1):
            one, other = spectrum[k], spectrum[-k].conjugate()
            product_up[k] *= ((one + other) / 2) ** count
            product_down[k] *= ((one - other) / 2j) ** count
    half = [a + 1j * b for a, b in zip(product_up, product_down, strict=True)]
    rest = [product_up[k].conjugate() + 1j * product_down[k].conjugate() for k in range(size // 2 - 1, 0, -1)]
    # The inverse transform is the conjugate of the transform of the conjugate.
    composed = _transform([value.conjugate() for value in half + rest], turns)
    ordered = [composed[(bottom + i) % size] for i in range(size)]
    up, down = [value.real / size for value in ordered], [-value.imag / size for value in ordered]
    steps = sum(counts)
    # Each power has about steps · log₂ size relative roundings. By Parseval they change the sum of squares by as much, which is at most the
    # largest probability; and the sum over all points by √size times its root.
    noise = math.sqrt(size) * 2 * (steps + 1) * math.log2(size) * FLOAT * math.sqrt(max(max(up), max(down)))
    infinite = -math.expm1(math.fsum(count * math.log1p(-step.infinite) for step, count in zip(rounded, counts, strict=True)))
    lost = math.fsum(count * step.lost for step, count in zip(rounded, counts, strict=True))
    top, last = offset + (bottom + size) * width, offset + bottom * width
    starts = [step.offset + step.first * width for step in rounded]
    beyond = _tail([step.up for step in rounded], starts, counts, width, top, 1.0)
    before = _tail([step.down for step in rounded], starts, counts, width, last, -1.0)
    high = _epsilon(up, last, width, delta - infinite - beyond - noise)
    low = _epsilon(down, last, width, delta + before + noise + (lost * math.exp(min(700.0, high)) if lost else 0.0))
    return low, high


def _tail(parts: Sequence[Sequence[float]], starts: Sequence[float], counts: Sequence[int], width: float, end: float, sign: float) -> float:
    """Chernoff's bound of the composed loss beyond `end`, above it or below it as `sign` says."""

    def exponent(slope: float) -> float:
        steps = zip(parts, starts, counts, strict=True)
        return math.fsum(count * _log_moment(part, start, width, sign * slope) for part, start, count in steps) - sign * slope * end

    # Convex in the slope: the least of the list is where it stops falling.
    best = 0.0
    for slope in LAMBDAS:
        tried = exponent(slope)
        if tried > best:
            break
        best = tried
    return math.exp(best)


def _epsilon(probabilities: Sequence[float], start: float, width: float, delta: float) -> float:
    """The smallest ε ≥ 0 at which Σ p (1 - e^(ε - loss)) over larger losses is at most `delta`; infinite for none.

    The losses are `start`, `start` + `width` and so on.
    """
    if delta <= 0:
        return math.inf
    mass = weighted = 0.0  # of the losses above: Σ p, and Σ p e^-(loss - point)
    decay = math.exp(-width)
    for i in range(len(probabilities) - 1, -1, -1):
        point = start + i * width
        # At the point, all losses above count with 1 - e^(point - loss).
        if mass - weighted > delta:
            return max(0.0, point + math.log((mass - delta) / weighted))
        if point <= 0:
            break
        mass += probabilities[i]
        weighted = (weighted + probabilities[i]) * decay
    return 0.0


# -- Fourier transform -------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _roots(size: int) -> list[complex]:
    return [cmath.rect(1.0, -2 * math.pi * k / size) for k in range(size // 2)]


def _transform(values: list[complex], turns: list[complex]) -> list[complex]:
    """Fast Fourier transform of a power of two of values (Cooley and Tukey 1965)."""
    if len(values) == 1:
        return values
    if len(values) == 2:
        return [values[0] + values[1], values[0] - values[1]]
    halves = turns[::2]
    even = _transform(values[::2], halves)
    odd = [turn * value for turn, value in zip(turns, _transform(values[1::2], halves), strict=True)]
    return [a + b for a, b in zip(even, odd, strict=True)] + [a - b for a, b in zip(even, odd, strict=True)]
