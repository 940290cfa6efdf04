"""Differentially private training: accountant, engine and the budget of each data set."""

from affidavit_governance.privacy.accounting import Event, calibrate, epsilon, joint_delta, joint_epsilon, rdp_epsilon

__all__ = ["Event", "calibrate", "epsilon", "joint_delta", "joint_epsilon", "rdp_epsilon"]
