"""Attacks on trained models: what an adversary finds out, as a lower bound beside the accountant's upper one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affidavit_governance.privacy.attacks.membership import (
        MembershipReport,
        OperatingPoint,
        assess,
        attack_membership,
        largest_true_positive_rate,
        lira,
        rmia,
        same_type,
    )
    from affidavit_governance.privacy.attacks.noise_check import NoiseReport, check_noise
    from affidavit_governance.privacy.attacks.one_run import (
        AuditReport,
        Plan,
        audit_scores,
        detectable_epsilon,
        epsilon_lower_bound,
        guess,
        p_value,
    )
    from affidavit_governance.privacy.attacks.replay import ReplayReport, neighbour_replay
    from affidavit_governance.privacy.attacks.training_audit import audit_engine, audit_training

__all__ = [
    "AuditReport",
    "MembershipReport",
    "NoiseReport",
    "OperatingPoint",
    "Plan",
    "ReplayReport",
    "assess",
    "attack_membership",
    "audit_engine",
    "audit_scores",
    "audit_training",
    "check_noise",
    "detectable_epsilon",
    "epsilon_lower_bound",
    "guess",
    "largest_true_positive_rate",
    "lira",
    "neighbour_replay",
    "p_value",
    "rmia",
    "same_type",
]

_HOMES = {
    **dict.fromkeys(("AuditReport", "Plan", "audit_scores", "detectable_epsilon", "epsilon_lower_bound", "guess", "p_value"), "one_run"),
    **dict.fromkeys(
        ("MembershipReport", "OperatingPoint", "assess", "attack_membership", "largest_true_positive_rate", "lira", "rmia", "same_type"), "membership"
    ),
    **dict.fromkeys(("NoiseReport", "check_noise"), "noise_check"),
    **dict.fromkeys(("ReplayReport", "neighbour_replay"), "replay"),
    **dict.fromkeys(("audit_engine", "audit_training"), "training_audit"),
}


def __getattr__(name: str) -> Any:
    """Import on first use: half of these need torch."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
