"""ε of what ran: numbers in, numbers out.

Two accountants of Google's dp-accounting, for neighbours that differ by one added or removed record. The privacy loss distribution (PLD;
Sommer, Meiser and Mohammadi 2019; Koskela, Jälkö and Honkela 2020) is rounded pessimistically by connect-the-dots (Doroshenko et al. 2022),
so that its ε is an upper bound and tight; Rényi differential privacy (RDP; Mironov 2017) stands beside it as a looser upper bound found
by another road. A central-limit (GDP) accountant is never used: its ε can be too low (7.40 where PLD gives 8.51).
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from affidavit.errors import InvalidInput, MissingExtra, UsageError

DISCRETIZATION = 1e-4
"""Width of the privacy loss grid. Finer grids change published values by less than 1e-3 and cost ten times the time per digit."""

COARSE = 1e-3
"""The grid on which `calibrate` looks first: ten times as quick, and still an upper bound."""

RDP_ORDERS = (*(1 + step / 10 for step in range(1, 100)), *range(11, 64), 128, 256, 512, 1024)
DIVERGENCE_LIMIT = 200.0
"""Rényi divergence of order 2 above which the RDP bound is returned: the PLD's grid would need gigabytes to say how little privacy is left."""

PRECISION = 1e-5
SMALLEST, LARGEST = math.log(0.02), math.log(1e6)
"""Between these `calibrate` looks for log σ."""

MECHANISMS = ("gaussian", "laplace")


@dataclass(frozen=True, slots=True)
class Event:
    """One mechanism, run `steps` times on independent Poisson samples of the data.

    Attributes
    ----------
    mechanism
        ``"gaussian"``, or ``"laplace"`` (without sampling).
    noise_multiplier
        Standard deviation σ of the noise over the L2 sensitivity; for Laplace the scale b over the L1 sensitivity.
    sampling_rate
        Probability q of each record to take part in a step; 1 means all records.
    steps
        How often it ran.

    Raises
    ------
    UsageError
        A number out of its range: no noise, a rate outside (0, 1], fewer than no steps.
    """

    mechanism: str
    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        if self.mechanism not in MECHANISMS:
            raise UsageError(f"There is no mechanism '{self.mechanism}'.", hint=f"Known: {', '.join(MECHANISMS)}.")
        if not (self.noise_multiplier > 0 and math.isfinite(self.noise_multiplier)):
            raise UsageError(f"A noise multiplier of {self.noise_multiplier} gives no differential privacy.", hint="It must be a positive number.")
        if not 0 < self.sampling_rate <= 1:
            raise UsageError(f"A sampling rate of {self.sampling_rate} is no probability.", hint="It must be above 0 and at most 1.")
        if self.mechanism == "laplace" and self.sampling_rate != 1:
            raise UsageError("A sampled Laplace mechanism is not accounted for.", hint="Use sampling_rate=1, or the Gaussian mechanism.")
        if self.steps < 0:
            raise UsageError(f"{self.steps} is no number of steps.")

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object."""
        return {"type": self.mechanism, "noise_multiplier": self.noise_multiplier, "sampling_rate": self.sampling_rate, "steps": self.steps}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Event:
        """Read what `to_json` wrote. Raises InvalidInput where it is no event."""
        try:
            return cls(str(value["type"]), float(value["noise_multiplier"]), float(value["sampling_rate"]), int(value["steps"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"A privacy event cannot be read: {type(error).__name__}.") from error


def epsilon(sampling_rate: float, noise_multiplier: float, steps: int, delta: float) -> float:
    """ε at `delta` of the Poisson-subsampled Gaussian mechanism, composed `steps` times: what DP-SGD spends.

    Parameters
    ----------
    sampling_rate
        q, the probability of each record to be in a batch.
    noise_multiplier
        σ, the noise's standard deviation over the clipping bound.
    delta
        δ, between 0 and 1.

    Returns
    -------
    float
        An upper bound by PLD, for add-or-remove-one neighbours. Zero steps cost nothing.

    Raises
    ------
    UsageError
        A number out of its range.
    """
    return joint_epsilon((Event("gaussian", noise_multiplier, sampling_rate, steps),), delta)


def rdp_epsilon(sampling_rate: float, noise_multiplier: float, steps: int, delta: float) -> float:
    """ε of the same mechanism as in `epsilon`, by RDP: looser, and found by another road."""
    return joint_rdp_epsilon((Event("gaussian", noise_multiplier, sampling_rate, steps),), delta)


def joint_epsilon(events: Iterable[Event], delta: float) -> float:
    """ε at `delta` of all `events` on the same data together, by PLD.

    With δ = 0 only Laplace mechanisms have a finite ε, and it is exact.
    """
    if not 0 <= delta < 1:
        raise UsageError(f"delta = {delta} is no probability below 1.")
    return _joint_epsilon(_merge(events), delta, DISCRETIZATION)


@lru_cache(maxsize=1024)
def _joint_epsilon(merged: tuple[Event, ...], delta: float, width: float) -> float:
    if not merged:
        return 0.0
    if delta == 0:
        return sum(event.steps / event.noise_multiplier if event.mechanism == "laplace" else math.inf for event in merged)
    if sum(map(_divergence, merged)) > DIVERGENCE_LIMIT:
        return joint_rdp_epsilon(merged, delta)
    return float(_joint_pld(merged, width).get_epsilon_for_delta(delta))


def joint_delta(events: Iterable[Event], epsilon: float) -> float:
    """δ at `epsilon` of all `events` on the same data together, by PLD."""
    if epsilon < 0:
        raise UsageError(f"epsilon = {epsilon} is negative.")
    merged = _merge(events)
    return float(_joint_pld(merged, DISCRETIZATION).get_delta_for_epsilon(epsilon)) if merged else 0.0


def joint_rdp_epsilon(events: Iterable[Event], delta: float) -> float:
    """ε at `delta` of all `events` together, by RDP; infinite for δ = 0."""
    merged = _merge(events)
    if not merged:
        return 0.0
    if not 0 < delta < 1:
        return math.inf
    accounting = _library()
    accountant = accounting.rdp.RdpAccountant(RDP_ORDERS)
    with _quiet():
        for event in merged:
            if event.mechanism == "laplace":
                mechanism = accounting.LaplaceDpEvent(event.noise_multiplier)
            else:
                mechanism = accounting.PoissonSampledDpEvent(event.sampling_rate, accounting.GaussianDpEvent(event.noise_multiplier))
            accountant.compose(mechanism, event.steps)
        return float(accountant.get_epsilon(delta))


def calibrate(epsilon: float, *, sampling_rate: float, steps: int, delta: float, extra: Iterable[Event] = ()) -> float:
    """The smallest noise multiplier σ with which `steps` steps, together with `extra`, cost at most `epsilon` at `delta`.

    The inverse of `epsilon`, by root finding on log σ to a relative precision of 1e-4; the result is checked, so that it never
    costs more than asked for.

    Parameters
    ----------
    extra
        What is spent on the same data besides, for example on statistics; composed jointly.

    Raises
    ------
    UsageError
        `extra` alone costs `epsilon` or more, a number is out of its range, or no σ below a million is enough.
    """
    if not epsilon > 0:
        raise UsageError(f"epsilon = {epsilon} is not positive.", hint="No training reaches it.")
    if not 0 < delta < 1:
        raise UsageError(f"delta = {delta} is not between 0 and 1.")
    if steps < 1:
        raise UsageError(f"{steps} steps need no noise.")
    return _calibrate(epsilon, sampling_rate, steps, delta, _merge(extra))


@lru_cache(maxsize=256)
def _calibrate(epsilon: float, sampling_rate: float, steps: int, delta: float, others: tuple[Event, ...]) -> float:
    from scipy.optimize import brentq

    spent = joint_epsilon(others, delta)
    if spent >= epsilon:
        raise UsageError(f"The other releases alone cost epsilon {spent:.4g} of {epsilon:g}.", hint="Allow a larger epsilon, or release less.")

    def cost(log_sigma: float, width: float = DISCRETIZATION) -> float:
        event = Event("gaussian", math.exp(log_sigma), sampling_rate, steps)
        return _joint_epsilon(_merge((*others, event)), delta, width)

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


def _divergence(event: Event) -> float:
    """Rényi divergence of order 2 of all steps; for Laplace an upper bound of it."""
    if event.mechanism == "laplace":
        return event.steps / event.noise_multiplier
    exponent = 1 / event.noise_multiplier**2
    if exponent > 500:
        return math.inf
    return event.steps * math.log1p(event.sampling_rate**2 * math.expm1(exponent))


def _merge(events: Iterable[Event]) -> tuple[Event, ...]:
    """The same events in canonical order: equal ones as one with more steps, unsampled Gaussians as one of the same loss.

    n Gaussian mechanisms with multipliers σᵢ are exactly one with 1/σ² = Σ 1/σᵢ².
    """
    steps: dict[tuple[str, float, float], int] = defaultdict(int)
    precision = 0.0
    for event in events:
        if event.mechanism == "gaussian" and event.sampling_rate == 1:
            precision += event.steps / event.noise_multiplier**2
        elif event.steps:
            steps[event.mechanism, event.noise_multiplier, event.sampling_rate] += event.steps
    merged = [Event(mechanism, multiplier, rate, count) for (mechanism, multiplier, rate), count in sorted(steps.items())]
    if precision:
        merged.append(Event("gaussian", precision**-0.5))
    return tuple(merged)


def _joint_pld(events: tuple[Event, ...], width: float) -> Any:
    first, *rest = (_pld(event, width) for event in events)
    for other in rest:
        first = first.compose(other)
    return first


# Holds a run's own events and a budget's recent ones; an entry is up to a few megabytes.
@lru_cache(maxsize=16)
def _pld(event: Event, width: float) -> Any:
    _library()
    from dp_accounting.pld import privacy_loss_distribution as distribution

    if event.mechanism == "laplace":
        single = distribution.from_laplace_mechanism(event.noise_multiplier, value_discretization_interval=width)
    else:
        single = distribution.from_gaussian_mechanism(event.noise_multiplier, value_discretization_interval=width, sampling_prob=event.sampling_rate)
    return single if event.steps == 1 else single.self_compose(event.steps)


def _library() -> Any:
    """dp-accounting, at first use: it takes most of a second to import."""
    try:
        import dp_accounting
        import dp_accounting.rdp
    except ImportError as error:
        raise MissingExtra("The privacy accountant", extra="privacy", library=(error.name or "dp_accounting").partition(".")[0]) from error
    return dp_accounting


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence dp-accounting's notes that it leaves out an order whose series did not converge: without it the bound is still a bound."""

    def keep(record: logging.LogRecord) -> bool:
        return "failed to converge" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
