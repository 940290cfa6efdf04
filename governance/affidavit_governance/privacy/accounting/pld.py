"""ε by privacy loss distributions (PLD; Sommer, Meiser and Mohammadi 2019; Koskela, Jälkö and Honkela 2020).

By Google's dp-accounting, rounded pessimistically by connect-the-dots (Doroshenko et al. 2022), so that ε is an upper bound and tight; the
divergences of Gaussians, which it then takes, come from `accounting.mixture`. A central-limit (GDP) accountant is never used:
its ε can be too low (7.40 where PLD gives 8.51).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from affidavit.errors import MissingExtra, UsageError
from affidavit_governance.privacy.accounting.events import ADDITIVE, Event, merge, scale
from affidavit_governance.privacy.accounting.mixture import log_weights, privacy_loss, whole_loss
from affidavit_governance.privacy.accounting.objective import privacy_loss as objective_loss
from affidavit_governance.privacy.accounting.rdp import joint_rdp_delta, joint_rdp_epsilon

DISCRETIZATION = 1e-4
"""Width of the privacy loss grid. What rounding up adds grows with the steps: 0.0015 of ε = 0.48 after 50 000 of them, less than 0.001 in the
other published cases. Finer grids cost ten times the time per digit."""

DIVERGENCE_LIMIT = 200.0
"""Rényi divergence of order 2 above which the RDP bound is returned: the PLD's grid would need gigabytes to say how little privacy is left."""


def joint_epsilon(events: Iterable[Event], delta: float) -> float:
    """ε at `delta` of all `events` on the same data together, for the widest of their neighbours (see `merge`).

    With δ = 0 only pure mechanisms have a finite ε, and it is exact. A set with a repetition in it is accounted for by RDP.
    """
    if not 0 <= delta < 1:
        raise UsageError(f"delta = {delta} is no probability below 1.")
    return merged_epsilon(merge(events), delta, DISCRETIZATION)


def joint_delta(events: Iterable[Event], epsilon: float) -> float:
    """δ at `epsilon` of all `events` on the same data together."""
    if epsilon < 0:
        raise UsageError(f"epsilon = {epsilon} is negative.")
    merged = merge(events)
    if not merged:
        return 0.0
    if accountant(merged) == "RDP":
        return joint_rdp_delta(merged, epsilon)
    return float(_joint_pld(merged, DISCRETIZATION).get_delta_for_epsilon(epsilon))


def accountant(events: Iterable[Event]) -> str:
    """Which accountant `joint_epsilon` uses for these events at a positive δ: ``PLD`` or ``RDP``."""
    merged = merge(events)
    without_pld = any(event.repeated or (event.shift and scale(event) > 1) for event in merged)
    return "RDP" if without_pld or sum(map(_divergence, merged)) > DIVERGENCE_LIMIT else "PLD"


@lru_cache(maxsize=1024)
def merged_epsilon(merged: tuple[Event, ...], delta: float, width: float) -> float:
    """`joint_epsilon` of events that are merged already, on a loss grid of `width`."""
    if not merged:
        return 0.0
    if delta == 0:
        return math.fsum(event.steps * scale(event) / event.noise_multiplier if event.mechanism in ADDITIVE else math.inf for event in merged)
    if accountant(merged) == "RDP":
        return joint_rdp_epsilon(merged, delta)
    return float(_joint_pld(merged, width).get_epsilon_for_delta(delta))


def _divergence(event: Event) -> float:
    """Rényi divergence of order 2 of all steps, or a rough bound of it."""
    loss = scale(event) / event.noise_multiplier
    if event.mechanism in ADDITIVE:
        return event.steps * loss
    if event.sampling_rate == 1:
        return event.steps * (event.shift + loss**2)
    from scipy.special import logsumexp

    weights = log_weights(event)
    members = np.arange(len(weights))
    terms = weights + weights[:, None] + members * members[:, None] * (loss / event.group_size) ** 2
    return event.steps * float(logsumexp(terms))


def _joint_pld(events: tuple[Event, ...], width: float) -> Any:
    first, *rest = (_pld(event, width) for event in events)
    for other in rest:
        first = first.compose(other)
    return first


# Holds a run's own events and a budget's recent ones; an entry is up to a few megabytes.
@lru_cache(maxsize=16)
def _pld(event: Event, width: float) -> Any:
    _library()
    from dp_accounting.pld import common
    from dp_accounting.pld import privacy_loss_distribution as distribution

    if event.mechanism == "laplace":
        single = distribution.from_laplace_mechanism(event.noise_multiplier / scale(event), value_discretization_interval=width)
    elif event.mechanism == "pure":
        parameters = common.DifferentialPrivacyParameters(scale(event) / event.noise_multiplier)
        single = distribution.from_privacy_parameters(parameters, value_discretization_interval=width)
    elif event.mechanism == "objective_perturbation":
        single = objective_loss(event, width)
    elif event.sampling_rate == 1:
        return whole_loss(event, width)
    else:
        single = privacy_loss(replace(event, steps=1), width)
    return single if event.steps == 1 else single.self_compose(event.steps)


def _library() -> None:
    """dp-accounting, at first use: it takes most of a second to import."""
    try:
        import dp_accounting  # noqa: F401  # only to say what to install
    except ImportError as error:
        raise MissingExtra("The privacy accountant", extra="privacy", library=(error.name or "dp_accounting").partition(".")[0]) from error
