"""Mixtures of Gaussians: the privacy loss of a group of k records in a Poisson sample.

With each record in the sample with probability q, j of the k take part with binomial probability w_j, and they move the sum by at most j.
Let A(t) = log Σ w_j exp((j t - j²/2)/σ²), the log likelihood ratio of P = Σ w_j N(j, σ²) to N(0, σ²). Added or removed, the pairs
(P, N(0)) and (N(0), P) dominate: Charles et al. (2024), "Fine-tuning large language models with user-level differential privacy", after
Choquette-Choo et al. (2024), "Privacy amplification for matrix mechanisms".

Replaced, the pair P, P⁻ = Σ w_j N(-j, σ²) dominates, whatever the records contribute. For a set S of outcomes let β = N(0)(S), and let the j
sampled members of the group contribute x and, replaced, x', both of norm at most j. By the Neyman-Pearson lemma N(x)(S) ≤ Φ(Φ⁻¹(β) + j/σ)
and N(x')(S) ≥ Φ(Φ⁻¹(β) - j/σ), so that the mixture's P(S) - e^ε P'(S) is at most Σ w_j [Φ(z + j/σ) - e^ε Φ(z - j/σ)] with z = Φ⁻¹(β): the value
that half-lines attain for P and P⁻. What dominates in every hockey-stick divergence does so in every Rényi divergence and in composition
(Zhu, Dong and Wang 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.privacy.accounting.events import Event, scale

Floats = NDArray[np.float64]

TAIL = math.exp(-50)
"""Probability beyond the ends of the grid; it counts as infinite loss."""

DROPPED = 1e-20
"""Probability of the largest samples that may count as infinite loss instead of widening the grid."""

CELLS = 20_000
CHUNK = 2**20
POINTS = 2**21
"""Most points times components that one Rényi divergence may take; above them it is bounded by the one without sampling."""

REACH = 10.0
"""Standard deviations beyond which a normal variable has less than `TAIL`."""


def log_weights(event: Event) -> Floats:
    """Log probabilities of j = 0..k sampled members of the group, shape (k + 1,)."""
    from scipy.stats import binom

    if event.sampling_rate == 1:
        return np.append(np.full(event.group_size, -np.inf), 0.0)
    return np.asarray(binom.logpmf(np.arange(event.group_size + 1), event.group_size, event.sampling_rate), dtype=np.float64)


class Mixture:
    """A(t) and tail probabilities of one group's mixture, with the components of total probability below 1e-20 left out (`dropped`)."""

    def __init__(self, event: Event, *, drop: float = 0.0) -> None:
        weights = log_weights(event)
        above = np.cumsum(np.exp(weights)[::-1])[::-1]
        used = np.flatnonzero((above > drop) & np.isfinite(weights))
        self.sigma = event.noise_multiplier
        self.members = used.astype(np.float64)
        self.log_weights = weights[used]
        self.dropped = float(above[used[-1] + 1]) if used[-1] + 1 < len(above) else 0.0

    def log_ratio(self, t: Floats) -> Floats:
        """A(t), same shape."""
        return np.concatenate([_sum(terms)[0] for _, terms in self._terms(t)])

    def log_ratio_and_slope(self, t: Floats) -> tuple[Floats, Floats]:
        """A(t) and its derivative, same shapes."""
        parts = [(*_sum(terms), terms) for _, terms in self._terms(t)]
        value = np.concatenate([total for total, *_ in parts])
        slope = np.concatenate([shares @ self.members / self.sigma**2 for _, shares, _ in parts])
        return value, slope

    def above(self, t: Floats, sign: float = 1.0) -> Floats:
        """Probability that Σ w_j N(sign j, σ²) exceeds `t`, same shape."""
        from scipy.special import ndtr

        weights = np.exp(self.log_weights)
        parts = [ndtr((sign * self.members - part[:, None]) / self.sigma) @ weights for part in self._chunks(t)]
        return np.concatenate(parts)

    def _chunks(self, t: Floats) -> Iterator[Floats]:
        size = max(1, CHUNK // len(self.members))
        for start in range(0, len(t), size):
            yield t[start : start + size]

    def _terms(self, t: Floats) -> Iterator[tuple[Floats, Floats]]:
        for part in self._chunks(t):
            yield part, self.log_weights + (part[:, None] * self.members - self.members**2 / 2) / self.sigma**2


def _sum(terms: Floats) -> tuple[Floats, Floats]:
    """Log of the sum of the exponentials over the last axis, and each one's share."""
    largest = terms.max(axis=1, keepdims=True)
    shares = np.exp(terms - largest)
    total = shares.sum(axis=1, keepdims=True)
    return (np.log(total) + largest)[:, 0], shares / total


def privacy_loss(event: Event, width: float) -> Any:
    """The privacy loss distribution of one step of `event`, a Gaussian mechanism on a sample with the group's members in it.

    The hockey-stick divergence is found at all points of the grid together, and dp-accounting's connect-the-dots makes the distribution
    (Doroshenko et al. 2022). dp-accounting's own mechanisms give the same, one point after the other, and have no groups that are replaced.
    """
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
    from scipy.special import ndtr

    mixture = Mixture(event, drop=DROPPED)
    if event.relation == "replace-one":

        def both(t: Floats) -> tuple[Floats, Floats]:
            ahead, rise = mixture.log_ratio_and_slope(t)
            behind, fall = mixture.log_ratio_and_slope(-t)
            return ahead - behind, rise + fall

        return PrivacyLossDistribution(_connect(mixture, both, mixture.above, lambda t: mixture.above(t, -1.0), width))

    def without(t: Floats) -> Floats:
        return np.asarray(ndtr(-t / mixture.sigma))

    def added(t: Floats) -> tuple[Floats, Floats]:
        value, slope = mixture.log_ratio_and_slope(-t)
        return -value, slope

    removal = _connect(mixture, mixture.log_ratio_and_slope, mixture.above, without, width)
    addition = _connect(mixture, added, without, lambda t: mixture.above(t, -1.0), width)
    return PrivacyLossDistribution(removal, addition)


def whole_loss(event: Event, width: float) -> Any:
    """The privacy loss distribution of all steps of `event`, a Gaussian mechanism on all records.

    Its steps together are one Gaussian mechanism whose μ = sensitivity/σ is √steps times as large, and whose divergence has a closed form
    (Balle and Wang 2018, "Improving the Gaussian mechanism for differential privacy", theorem 8), so that the grid is rounded to once.
    """
    from dp_accounting.pld.pld_pmf import create_pmf_pessimistic_connect_dots_fixed_gap
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
    from scipy.special import log_ndtr, ndtr

    mu = scale(event) * math.sqrt(event.steps) / event.noise_multiplier
    low, high = math.floor((mu / 2 - REACH) * mu / width), math.ceil((mu / 2 + REACH) * mu / width)
    epsilons = np.arange(low, high + 1) * width
    deltas = ndtr(mu / 2 - epsilons / mu) - np.exp(epsilons + log_ndtr(-mu / 2 - epsilons / mu))
    deltas = np.clip(deltas, -np.expm1(np.minimum(epsilons, 0.0)), 1.0)
    return PrivacyLossDistribution(create_pmf_pessimistic_connect_dots_fixed_gap(width, low, high, np.minimum.accumulate(deltas)))


def _connect(
    mixture: Mixture,
    loss: Callable[[Floats], tuple[Floats, Floats]],
    upper: Callable[[Floats], Floats],
    lower: Callable[[Floats], Floats],
    width: float,
) -> Any:
    """Connect-the-dots over the hockey-stick divergences of `upper` to `lower`, whose log ratio `loss` increases in t."""
    from dp_accounting.pld import pld_pmf

    ends = np.linspace(-REACH * mixture.sigma, mixture.members[-1] + REACH * mixture.sigma, CELLS)
    cells = ends[: max(2, int(np.searchsorted(-upper(ends), -TAIL)) + 1)]
    losses = np.maximum.accumulate(loss(cells)[0])
    low, high = math.floor(losses[0] / width), math.ceil(losses[-1] / width)
    epsilons = np.arange(low, high + 1) * width
    # Where the set of outcomes ends that each ε compares: Newton's method inside the cell. An error there counts only in second order.
    at = np.clip(np.searchsorted(losses, epsilons), 1, len(cells) - 1)
    start, end = cells[at - 1], cells[at]
    t = np.interp(epsilons, losses, cells)
    for _ in range(4):
        value, slope = loss(t)
        t = np.clip(t - (value - epsilons) / np.maximum(slope, 1e-300), start, end)
    deltas = np.clip(upper(t) - np.exp(epsilons) * lower(t) + mixture.dropped, 0.0, 1.0)
    # Below the least possible loss everything is compared: δ = 1 - e^ε.
    deltas = np.maximum(deltas, -np.expm1(np.minimum(epsilons, 0.0)))
    return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(width, low, high, np.minimum.accumulate(deltas))


def renyi(event: Event, orders: Floats) -> Floats:
    """Rényi divergences of one step of `event` at `orders` (above 1), the larger one of both directions; same shape.

    By the trapezoidal rule, whose error falls exponentially for such integrands (Trefethen and Weideman 2014). Where it would take too many
    points, the bound without sampling stands for it.
    """
    mixture = Mixture(event)
    sigma, most = mixture.sigma, float(mixture.members[-1])
    step, factor = min(sigma, sigma**2) / 6, 2.0 if event.relation == "replace-one" else 1.0
    reach = np.ceil((factor * orders * most + (REACH + 2) * sigma) / step)
    within = 2 * reach * len(mixture.members) <= POINTS
    found: Floats = orders * (factor * most / sigma) ** 2 / 2
    if not within.any():
        return found
    middle = int(reach[within].max())
    t: Floats = step * np.arange(-middle, middle + 1, dtype=np.float64)
    ahead = mixture.log_ratio(t)
    normal = -(t**2) / (2 * sigma**2) + math.log(step / (sigma * math.sqrt(2 * math.pi)))
    for number in np.flatnonzero(within):
        order, used = orders[number], slice(middle - int(reach[number]), middle + int(reach[number]) + 1)
        lower = (1 - order) * ahead[::-1][used] if factor == 2 else 0.0
        logs = [_log_sum(normal[used] + order * ahead[used] + lower)]
        if factor == 1:
            logs.append(_log_sum(normal[used] + (1 - order) * ahead[used]))
        found[number] = max(0.0, *logs) / (order - 1)
    return found


def _log_sum(terms: Floats) -> float:
    """Log of the sum of the exponentials."""
    largest = float(terms.max())
    return largest + math.log(float(np.exp(terms - largest).sum()))
