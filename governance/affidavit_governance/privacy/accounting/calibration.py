"""From a wanted ε back to noise, steps or batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from affidavit.errors import UsageError
from affidavit_governance.privacy.accounting.events import Event, merge
from affidavit_governance.privacy.accounting.pld import DISCRETIZATION, joint_epsilon, merged_epsilon

COARSE = 1e-3
"""The grid on which `calibrate` looks first: ten times as quick, and still an upper bound."""

PRECISION = 1e-5
SMALLEST, LARGEST = math.log(0.02), math.log(1e6)
"""Between these `calibrate` looks for log σ."""

MOST_STEPS = 10**8


def calibrate(
    epsilon: float,
    *,
    sampling_rate: float,
    steps: int,
    delta: float,
    extra: Iterable[Event] = (),
    relation: str = "add-or-remove-one",
    group_size: int = 1,
) -> float:
    """The smallest noise multiplier σ with which `steps` steps, together with `extra`, cost at most `epsilon` at `delta`.

    The inverse of `epsilon`, by root finding on log σ to a relative precision of 1e-4; the result is checked, so that it never
    costs more than asked for.

    Parameters
    ----------
    extra
        What is spent on the same data besides, for example on statistics; composed jointly.
    relation, group_size
        What a neighbouring data set differs in, see `Event`.

    Raises
    ------
    UsageError
        `extra` alone costs `epsilon` or more, a number is out of its range, or no σ below a million is enough.
    """
    _check(epsilon, delta)
    if steps < 1:
        raise UsageError(f"{steps} steps need no noise.")
    return _calibrate(epsilon, Event("gaussian", 1.0, sampling_rate, steps, relation, group_size), delta, merge(extra))


def calibrate_steps(
    epsilon: float,
    *,
    sampling_rate: float,
    noise_multiplier: float,
    delta: float,
    extra: Iterable[Event] = (),
    relation: str = "add-or-remove-one",
    group_size: int = 1,
) -> int:
    """The largest number of steps that, together with `extra`, cost at most `epsilon` at `delta`.

    Parameters and errors are those of `calibrate`; UsageError also where not even one step fits.
    """
    _check(epsilon, delta)
    others = tuple(extra)

    def cost(steps: int, width: float) -> float:
        wanted = Event("gaussian", noise_multiplier, sampling_rate, steps, relation, group_size)
        return merged_epsilon(merge((*others, wanted)), delta, width)

    return _largest(cost, MOST_STEPS, "step", epsilon)


def calibrate_batch(
    epsilon: float,
    *,
    records: int,
    noise_multiplier: float,
    steps: int,
    delta: float,
    extra: Iterable[Event] = (),
    relation: str = "add-or-remove-one",
    group_size: int = 1,
) -> int:
    """The largest expected batch size, out of `records`, with which `steps` steps and `extra` cost at most `epsilon` at `delta`.

    Parameters and errors are those of `calibrate`; UsageError also where not even a batch of one record fits.
    """
    _check(epsilon, delta)
    if records < 1:
        raise UsageError(f"{records} records make no batch.")
    others = tuple(extra)

    def cost(batch: int, width: float) -> float:
        wanted = Event("gaussian", noise_multiplier, batch / records, steps, relation, group_size)
        return merged_epsilon(merge((*others, wanted)), delta, width)

    return _largest(cost, records, "record in a batch", epsilon)


def _check(epsilon: float, delta: float) -> None:
    if not 0 < epsilon < math.inf:
        raise UsageError(f"epsilon = {epsilon} is not positive and finite.", hint="No training reaches it.")
    if not 0 < delta < 1:
        raise UsageError(f"delta = {delta} is not between 0 and 1.")


def _largest(cost: Callable[[int, float], float], most: int, what: str, epsilon: float) -> int:
    """The largest number up to `most` that costs at most `epsilon`: sought on the coarse grid, then from there on the fine one."""
    found = _gallop(lambda number: cost(number, COARSE) <= epsilon, 0, most)
    found = _gallop(lambda number: cost(number, DISCRETIZATION) <= epsilon, found, most)
    if found < 1:
        raise UsageError(f"Not even one {what} fits into epsilon = {epsilon:g}.", hint="Use more noise, or allow a larger epsilon.")
    return found


def _gallop(fits: Callable[[int], bool], start: int, most: int) -> int:
    """The largest number from 0 to `most` that fits, in growing steps from `start` and then by halving; 0 always fits."""
    step, low, high = 1, start, start
    if low == 0 or fits(low):
        high = low + 1
        while high <= most and fits(high):
            step *= 2
            low, high = high, high + step
        high = min(high, most + 1)
    else:
        while low > 0 and not fits(low):
            low, high = max(0, low - step), low
            step *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@lru_cache(maxsize=256)
def _calibrate(epsilon: float, wanted: Event, delta: float, others: tuple[Event, ...]) -> float:
    from scipy.optimize import brentq

    spent = joint_epsilon(others, delta)
    if spent >= epsilon:
        raise UsageError(f"The other releases alone cost epsilon {spent:.4g} of {epsilon:g}.", hint="Allow a larger epsilon, or release less.")

    def cost(log_sigma: float, width: float = DISCRETIZATION) -> float:
        event = Event("gaussian", math.exp(log_sigma), wanted.sampling_rate, wanted.steps, wanted.relation, wanted.group_size)
        return merged_epsilon(merge((*others, event)), delta, width)

    def gap(log_sigma: float, width: float = DISCRETIZATION) -> float:
        return math.log(max(cost(log_sigma, width), 1e-12) / epsilon)

    # The coarse grid overstates ε, mostly by very little: then its σ is the answer, once the fine grid has said so. Otherwise the fine one seeks.
    low, high = _bracket(partial(gap, width=COARSE), start=0.0, step=math.log(2.0))
    root = float(brentq(partial(gap, width=COARSE), low, high, xtol=PRECISION)) + 2 * PRECISION if low < high else high
    if low < high and not -1e-4 < gap(root) <= 0:
        low, high = _bracket(gap, start=root, step=0.002)
        root = float(brentq(gap, low, high, xtol=PRECISION)) if low < high else high
    while cost(root) > epsilon:
        root += PRECISION
    return math.exp(root)


def _bracket(gap: Callable[[float], float], *, start: float, step: float) -> tuple[float, float]:
    """Two values of log σ around the root, in growing steps from `start`; the same value twice where even very little noise is enough."""
    if gap(start) > 0:
        low, high = start, start + step
        while gap(high) > 0:
            if high > LARGEST:
                raise UsageError("No noise multiplier below a million is enough.", hint="Allow a larger epsilon, or take fewer steps.")
            step *= 2
            low, high = high, high + step
        return low, high
    low, high = start - step, start
    while gap(low) <= 0:
        if low < SMALLEST:
            return low, low
        step *= 2
        low, high = low - step, low
    return low, high
