"""Objective perturbation of generalised linear models: what one record can change of a noisy minimiser.

The minimiser of Σ f(xᵢᵀθ; yᵢ) + λ/2 ‖θ‖² + bᵀθ with b ~ N(0, σ²I) (Chaudhuri, Monteleoni and Sarwate 2011; Kifer, Smith and Thakurta 2012).
For L-Lipschitz losses of curvature at most β < λ, the privacy loss of one record is at most U = c + μ²/2 + μ|Z| with Z standard normal,
μ = L/σ and c = -log(1 - β/λ): theorems 3.1 and 3.2 of Redberg, Koskela and Wang (2023), "Improving the privacy and practicality of objective
perturbation for differentially private linear learners". The bound holds for each outcome, so that losses of adaptive runs add.

A group of k records moves the gradient by u = Σ uⱼ with |uⱼ·b| ≤ L σ|Zⱼ|, where the Zⱼ may depend on each other. By Hölder's inequality
E exp(t Σ|Zⱼ|) ≤ E exp(t k|Z|): the group's Rényi divergence is that of k μ and k c. A record that is replaced is a group of two.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.privacy.accounting.events import Event, scale

REACH = 11.0
"""Standard deviations beyond which |Z| has a probability below 1e-27; it counts as infinite loss."""


def privacy_loss(event: Event, width: float) -> Any:
    """Distribution of U for one record added or removed, each loss rounded up to the grid."""
    from dp_accounting.pld.pld_pmf import DensePLDPmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
    from scipy.special import erf, erfc

    mu = 1.0 / event.noise_multiplier
    least = event.shift + mu**2 / 2
    low = math.ceil(least / width)
    ends = np.arange(low, math.ceil((least + REACH * mu) / width) + 1) * width
    below = erf(np.maximum(ends - least, 0.0) / (mu * math.sqrt(2.0)))
    rest = float(erfc((ends[-1] - least) / (mu * math.sqrt(2.0))))
    return PrivacyLossDistribution(DensePLDPmf(width, low, np.diff(below, prepend=0.0), rest, True))


def renyi(event: Event, orders: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rényi divergences of one run at `orders` (above 1), same shape."""
    from scipy.special import log_ndtr

    members = scale(event)
    mu = members / event.noise_multiplier
    # E exp(t|Z|) = 2 exp(t²/2) Φ(t)
    over = orders - 1
    folded = math.log(2.0) + (over * mu) ** 2 / 2 + log_ndtr(over * mu)
    return np.asarray(members * event.shift + mu**2 / 2 + folded / over)
