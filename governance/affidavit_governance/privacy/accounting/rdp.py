"""ε by Rényi differential privacy (RDP; Mironov 2017): looser than PLD, and found by another road."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.privacy.accounting.events import Event, merge, scale
from affidavit_governance.privacy.accounting.mixture import renyi
from affidavit_governance.privacy.accounting.objective import renyi as objective_renyi

ORDERS: NDArray[np.float64] = np.asarray([*(1 + step / 10 for step in range(1, 100)), *range(11, 64), 128, 256, 512, 1024], dtype=np.float64)


def joint_rdp_epsilon(events: Iterable[Event], delta: float) -> float:
    """ε at `delta` of all `events` on the same data together, by RDP; infinite for δ = 0 unless nothing ran.

    The divergences are those of Mironov (2017) for Laplace, of randomized response for a pure mechanism, of Papernot and Steinke (2022)
    for repetition; those of sampled Gaussians are found by quadrature, for both neighbour relations and any group.
    """
    merged = merge(events)
    if not merged:
        return 0.0
    if not 0 < delta < 1:
        return math.inf
    return _epsilon(divergences(merged), delta)


def joint_rdp_delta(events: Iterable[Event], epsilon: float) -> float:
    """δ at `epsilon` of all `events` together, by RDP."""
    merged = merge(events)
    return _delta(divergences(merged), epsilon) if merged else 0.0


def divergences(events: Sequence[Event]) -> NDArray[np.float64]:
    """Rényi divergences of all `events` together at `ORDERS`, the larger of both directions, shape (orders,)."""
    return np.asarray(np.sum([event.steps * _one(replace(event, steps=1)) for event in events], axis=0))


@lru_cache(maxsize=256)
def _one(event: Event) -> NDArray[np.float64]:
    """Of one step."""
    if event.mechanism == "repeat_and_select":
        return _repeated(event)
    if event.mechanism == "laplace":
        # Mironov (2017), table II.
        loss = scale(event) / event.noise_multiplier
        terms = np.log(ORDERS / (2 * ORDERS - 1)) + (ORDERS - 1) * loss, np.log((ORDERS - 1) / (2 * ORDERS - 1)) - ORDERS * loss
        return np.asarray(np.logaddexp(*terms) / (ORDERS - 1))
    if event.mechanism == "pure":
        # Randomized response dominates every mechanism of pure ε (Kairouz, Oh and Viswanath 2015).
        loss = scale(event) / event.noise_multiplier
        yes = -np.logaddexp(0.0, -loss)
        terms = yes + (ORDERS - 1) * loss, yes - loss - (ORDERS - 1) * loss
        return np.asarray(np.logaddexp(*terms) / (ORDERS - 1))
    if event.mechanism == "objective_perturbation":
        return objective_renyi(event, ORDERS)
    if event.sampling_rate == 1:
        return ORDERS * (scale(event) / event.noise_multiplier) ** 2 / 2
    return renyi(event, ORDERS)


def _repeated(event: Event) -> NDArray[np.float64]:
    """Papernot and Steinke (2022): theorem 6 for Poisson repetitions, theorem 2 for the truncated negative binomial distribution."""
    base = divergences(merge(event.repeated))
    often = math.log(event.mean) / (ORDERS - 1)
    if math.isinf(event.shape):
        chance = [_delta(base, math.log1p(1 / (order - 1))) for order in ORDERS]
        found = base + event.mean * np.asarray(chance) + often
    else:
        found_gamma = gamma(event.mean, event.shape)
        best = (1 + event.shape) * np.min((1 - 1 / ORDERS) * base - math.log(found_gamma) / ORDERS)
        found = base + often + best
    # A divergence of lower order is at most one of higher order.
    return np.asarray(np.minimum.accumulate(np.maximum(found, 0.0)[::-1])[::-1])


def gamma(mean: float, shape: float) -> float:
    """The γ at which the truncated negative binomial distribution of this `shape` (η) has this mean (definition 1)."""
    if mean == 1:
        return 1.0
    from scipy.optimize import brentq

    def excess(log_gamma: float) -> float:
        odds = math.expm1(-log_gamma)  # (1 - γ)/γ
        found = odds / -log_gamma if shape == 0 else shape * odds / -math.expm1(shape * log_gamma)
        return math.log(found / mean)

    return math.exp(float(brentq(excess, -700.0, -1e-12, xtol=1e-14)))


def _epsilon(divergence: NDArray[np.float64], delta: float) -> float:
    """Canonne, Kamath and Steinke (2020), proposition 12; and 0 where the total variation distance is below δ (Bretagnolle and Huber 1979)."""
    if (-np.expm1(-divergence) < delta**2).any():
        return 0.0
    usable = ORDERS > 1.01
    orders, usual = ORDERS[usable], divergence[usable]
    with np.errstate(invalid="ignore"):
        found = usual + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
    return max(0.0, float(np.nanmin(found)))


def _delta(divergence: NDArray[np.float64], epsilon: float) -> float:
    with np.errstate(over="ignore"):
        found = (ORDERS - 1) * (divergence - epsilon + np.log1p(-1 / ORDERS)) - np.log(ORDERS)
    total_variation = 0.5 * np.log(np.maximum(-np.expm1(-divergence), 1e-300))
    return min(1.0, math.exp(min(0.0, float(np.min(found)), float(np.min(total_variation)))))
