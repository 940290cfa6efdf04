"""Differentially private training: accountant, engine and the budget of each data set."""

from affidavit_governance.privacy.accounting import (
    Event,
    calibrate,
    calibrate_batch,
    calibrate_steps,
    epsilon,
    joint_delta,
    joint_epsilon,
    joint_rdp_epsilon,
    rdp_epsilon,
    repeat_and_select,
)

__all__ = [
    "Event",
    "calibrate",
    "calibrate_batch",
    "calibrate_steps",
    "epsilon",
    "joint_delta",
    "joint_epsilon",
    "joint_rdp_epsilon",
    "rdp_epsilon",
    "repeat_and_select",
]
